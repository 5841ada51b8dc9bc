//! Whether a plan gives the bits of our own kernel, on the device and at the extents it is for.

use std::sync::Arc;
use std::time::Duration;

use super::numbers::{Factor, Numbers, leftovers};
use super::plan::Plan;
use super::shape::Shape;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::door::Address;
use crate::backend::cuda::door::Fault;
use crate::backend::cuda::door::ForeignCall;
use crate::backend::cuda::matmul::Product;
use crate::ops::OpError;
use crate::ops::digest::SUBTREE_BYTES;

/// Memory of a product's extents, and what computes in it.
pub(super) struct Probe<'a> {
    cuda: &'a Cuda,
    op: &'static str,
    shape: Shape,
    a: Buffer,
    b: Buffer,
    /// What lies in `out` before each try: never what the last one left there.
    before: Buffer,
    out: Buffer,
    workspace: Address,
}

/// What a probe found.
pub(super) struct Tried {
    /// The first plan that gives the right bits.
    pub plan: Option<Arc<Plan>>,
    /// Why those before it, or all, do not serve.
    pub refused: Vec<String>,
}

impl<'a> Probe<'a> {
    /// Takes memory; none if there is not enough.
    pub fn new(
        cuda: &'a Cuda,
        op: &'static str,
        shape: Shape,
        workspace: Address,
    ) -> Result<Option<Self>, OpError> {
        let [m, n, k] = shape.extents;
        let alloc = |bytes| match cuda.door.alloc(bytes) {
            Ok(address) => Ok(Some(Buffer::new(cuda.door.clone(), address))),
            Err(Fault::OutOfMemory { .. }) => Ok(None),
            Err(fault) => Err(cuda.failed(op, fault)),
        };
        // Hashed in whole subtrees.
        let out_bytes = shape.out_bytes().next_multiple_of(SUBTREE_BYTES);
        let (Some(a), Some(b)) = (alloc(2 * m * k)?, alloc(2 * n * k)?) else { return Ok(None) };
        let (Some(before), Some(out)) = (alloc(out_bytes)?, alloc(out_bytes)?) else {
            return Ok(None);
        };
        let written = cuda.door.write(before.address(), &leftovers(shape.out_bytes()));
        written.map_err(|fault| cuda.failed(op, fault))?;
        Ok(Some(Self { cuda, op, shape, a, b, before, out, workspace }))
    }

    /// The product, in this memory.
    fn product(&self) -> Product {
        let (out, a, b) = (self.out.address(), self.a.address(), self.b.address());
        Product {
            out,
            a,
            b,
            extents: self.shape.extents,
            layout: self.shape.layout,
            start: self.shape.start,
        }
    }

    fn call(&self, plan: &Arc<Plan>) -> ForeignCall {
        let Product { out, a, b, .. } = self.product();
        ForeignCall { work: plan.clone(), at: [out, a, b, self.workspace] }
    }

    /// Tries `plans` on all kinds of numbers; the first that is right on all of them serves.
    pub fn run(&self, plans: Vec<Plan>) -> Result<Tried, OpError> {
        let mut left: Vec<Arc<Plan>> = plans.into_iter().map(Arc::new).collect();
        let mut refused = Vec::new();
        for numbers in Numbers::ALL {
            if left.is_empty() {
                break;
            }
            self.fill(numbers)?;
            self.product().by_mma(self.cuda, self.op, true)?;
            let want = self.taken_away()?;
            let mut right = Vec::new();
            for plan in left {
                match self.outcome_of(&plan)? {
                    Ok(got) if got == want => right.push(plan),
                    Ok(_) => refused.push(format!("{plan}: other bits ({numbers:?})")),
                    Err(fault) => refused.push(fault.to_string()),
                }
            }
            left = right;
        }
        Ok(Tried { plan: left.into_iter().next(), refused })
    }

    /// New factors, and in `out` what was there before.
    fn fill(&self, numbers: Numbers) -> Result<(), OpError> {
        let [a, b] = self.product().operands();
        let [along_a, along_b] = self.shape.layout.along();
        for (factor, matrix, along) in [(Factor::A, a, along_a), (Factor::B, b, along_b)] {
            let bytes = numbers.fill(factor, &matrix, along);
            self.cuda
                .door
                .write(matrix.address, &bytes)
                .map_err(|fault| self.cuda.failed(self.op, fault))?;
        }
        self.restore()
    }

    fn restore(&self) -> Result<(), OpError> {
        let (to, from) = (self.out.address(), self.before.address());
        let copied = self.cuda.door.copy(to, from, self.shape.out_bytes());
        copied.map_err(|fault| self.cuda.failed(self.op, fault))
    }

    /// The hash of `out`, which is then as before.
    fn taken_away(&self) -> Result<Vec<[u8; 32]>, OpError> {
        let mut values = vec![[0; 32]; self.shape.out_bytes().div_ceil(SUBTREE_BYTES)];
        self.cuda.digest_at(self.op, self.out.address(), &mut values, &[0; 32], 0)?;
        self.restore()?;
        Ok(values)
    }

    /// What `plan` computes, or the library's refusal. Other failures are the device's.
    fn outcome_of(&self, plan: &Arc<Plan>) -> Result<Result<Vec<[u8; 32]>, Fault>, OpError> {
        let door = &self.cuda.door;
        // Waited for, so that a failure is this plan's.
        let issued = door.issue(&self.call(plan)).and_then(|()| door.synchronize());
        match issued {
            Ok(()) => self.taken_away().map(Ok),
            Err(fault @ Fault::Foreign { .. }) => {
                // Unless it was the device that failed: then this tells.
                door.synchronize().map_err(|fault| self.cuda.failed(self.op, fault))?;
                self.restore()?;
                Ok(Err(fault))
            }
            Err(fault) => Err(self.cuda.failed(self.op, fault)),
        }
    }

    /// How long our kernel and `plan` take: medians.
    pub fn times(&self, plan: &Arc<Plan>) -> Result<[Duration; 2], OpError> {
        let mut times: [Vec<Duration>; 2] = Default::default();
        for round in 0..=TIMED {
            for (which, times) in times.iter_mut().enumerate() {
                let mut outcome = Ok(());
                let took = self.cuda.door.time(&mut || {
                    outcome = match which {
                        0 => self.product().by_ours(self.cuda, self.op),
                        _ => {
                            let issued = self.cuda.door.issue(&self.call(plan));
                            issued.map_err(|fault| self.cuda.failed(self.op, fault))
                        }
                    };
                });
                let took = took.map_err(|fault| self.cuda.failed(self.op, fault));
                outcome?;
                // The first round warms up.
                if round > 0 {
                    times.push(took?);
                }
            }
        }
        Ok(times.map(|mut times| {
            times.sort();
            times[times.len() / 2]
        }))
    }
}

/// Rounds that count.
const TIMED: usize = 5;
