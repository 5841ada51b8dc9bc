//! A product with one of cuBLASLt's algorithms: what is put on a stream, once it is admitted.

use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use super::calls::{self, Found, SUCCESS};
use super::error::Error;
use super::session::{Described, Session};
use super::shape::Shape;
use crate::backend::cuda::door::Address;
use crate::backend::cuda::door::Fault;
use crate::backend::cuda::door::Foreign;
use crate::ops::matmul::Start;

/// An algorithm for a product. Its addresses are out, A, B and the workspace.
pub struct Plan {
    session: Arc<Session>,
    product: Arc<Described>,
    found: Found,
    /// What the output is multiplied by before the chain is added: 0 or 1.
    beta: f32,
    words: String,
}

impl Plan {
    /// Plans for `shape`, in the order of the library's heuristics. Those are left out that more than
    /// one block sums for: the bits would depend on how many (split k), or on which comes first.
    pub fn candidates(
        session: &Arc<Session>,
        shape: &Shape,
        workspace_bytes: usize,
    ) -> Result<Vec<Self>, Error> {
        let product = Arc::new(Described::new(session.lt(), shape)?);
        let all = session.heuristics(&product, workspace_bytes)?;
        let beta = if shape.start == Start::Existing { 1.0 } else { 0.0 };
        let mut plans = Vec::new();
        for found in &all {
            if found.state == SUCCESS
                && found.workspace_bytes <= workspace_bytes
                && is_one_chain(session, found)?
            {
                let (session, product) = (session.clone(), product.clone());
                let words = words(&session, found)?;
                plans.push(Self { session, product, found: *found, beta, words });
            }
        }
        if plans.is_empty() {
            let product = shape.to_string();
            return Err(Error::NoAlgorithm { product, refused: all.len() });
        }
        Ok(plans)
    }

    fn issued(&self, stream: u64, at: &[Address; 4]) -> Result<(), Error> {
        let [out, a, b, workspace] = at.map(|address| pointer(address.0));
        let (operation, [x, y, layout]) = self.product.objects();
        let one = 1.0f32;
        let lt = self.session.lt();
        // SAFETY: live objects and numbers; the addresses are those of matrices with the extents
        // that `product` describes and of a workspace as large as `candidates` was told, by the
        // contract of `Door::issue`. C and D are one matrix with one layout, as is allowed.
        let status = unsafe {
            (lt.calls.matmul)(
                self.session.handle(),
                operation,
                (&raw const one).cast(),
                b,
                x,
                a,
                y,
                (&raw const self.beta).cast(),
                out,
                layout,
                out,
                layout,
                &self.found.algorithm,
                workspace,
                self.found.workspace_bytes,
                pointer(stream),
            )
        };
        lt.check("cublasLtMatmul", status)
    }
}

impl Foreign for Plan {
    fn issue(&self, stream: u64, at: &[Address; 4]) -> Result<(), Fault> {
        self.issued(stream, at).map_err(|error| match error {
            Error::Call { call, status, cause } => {
                let cause = format!("{cause} (status {status}); {self}");
                Fault::Foreign { call, cause }
            }
            other => Fault::Foreign { call: "cuBLASLt", cause: other.to_string() },
        })
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cuBLASLt {}, {}", self.session.lt().version(), self.words)
    }
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plan({self})")
    }
}

/// Whether one block sums for an output, as far as the library tells. Of an algorithm that shares k
/// among blocks without saying so (stream-K) the probe sees it in the bits.
fn is_one_chain(session: &Session, found: &Found) -> Result<bool, Error> {
    let splits = i32::from_ne_bytes(session.config(found, calls::CONFIG_SPLIT_K)?);
    let reduction = u32::from_ne_bytes(session.config(found, calls::CONFIG_REDUCTION)?);
    Ok(splits <= 1 && reduction == calls::NO_REDUCTION)
}

/// An algorithm in the library's numbers.
fn words(session: &Session, found: &Found) -> Result<String, Error> {
    let [id, tile, stages] = [calls::CONFIG_ID, calls::CONFIG_TILE, calls::CONFIG_STAGES];
    let number = |attribute| session.config(found, attribute).map(u32::from_ne_bytes);
    Ok(format!("algorithm {}, tile {}, stages {}", number(id)?, number(tile)?, number(stages)?))
}

/// A device's address or a stream as the library takes it.
fn pointer(address: u64) -> *mut c_void {
    std::ptr::with_exposed_provenance_mut(address as usize)
}
