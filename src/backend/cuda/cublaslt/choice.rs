//! Who computes which product, decided once for each shape, and why: for the records of a run.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::OnceLock;
use std::time::Duration;

use super::error::Error;
use super::library::Library;
use super::plan::Plan;
use super::probe::Probe;
use super::session::Session;
use super::shape::Shape;
use crate::backend::cuda::Cuda;
use crate::backend::cuda::buffer::Buffer;
use crate::backend::cuda::door::ForeignCall;
use crate::backend::cuda::matmul::Product;
use crate::backend::tuning::Products;
use crate::ops::OpError;

/// Plans of one device.
#[derive(Debug, Default)]
pub(in crate::backend::cuda) struct Plans {
    /// A library that is not to be looked for.
    given: Option<Library>,
    /// Opened when the first product asks; none where cuBLASLt cannot be had.
    opened: OnceLock<Option<Opened>>,
    /// By what is shown of a shape, so that records have an order.
    decisions: Mutex<BTreeMap<String, Decision>>,
}

#[derive(Debug)]
struct Opened {
    session: Arc<Session>,
    /// For all plans: they run one after the other.
    workspace: Buffer,
}

/// Who computes a shape.
#[derive(Clone, Debug)]
enum Decision {
    /// Our kernels, because of this.
    Ours(String),
    /// Whoever is faster: `took` is the time of ours and of the plan.
    Either { plan: Arc<Plan>, took: [Duration; 2] },
}

impl Decision {
    /// The plan, if it is to serve.
    fn plan(&self, wish: Products) -> Option<&Arc<Plan>> {
        match self {
            Self::Either { plan, took: [ours, theirs] } => match wish {
                Products::Ours => None,
                Products::Cublaslt => Some(plan),
                Products::Auto => (theirs < ours).then_some(plan),
            },
            Self::Ours(_) => None,
        }
    }

    /// For the records, where `wish` is in force.
    fn words(&self, wish: Products) -> String {
        match self {
            Self::Ours(why) => format!("ours ({why})"),
            Self::Either { plan, took: [ours, theirs] } => {
                let who = if self.plan(wish).is_some() { "cublaslt" } else { "ours" };
                let [ours, theirs] = [ours, theirs].map(|took| took.as_secs_f64() * 1e6);
                format!("{who} ({plan}: bits equal; {theirs:.1} us, ours {ours:.1} us)")
            }
        }
    }
}

impl Plans {
    /// With this library.
    #[cfg(test)]
    pub(super) fn given(lt: Library) -> Self {
        Self { given: Some(lt), ..Self::default() }
    }

    fn opened(&self, cuda: &Cuda) -> Option<&Opened> {
        let opened = self.opened.get_or_init(|| match self.open(cuda) {
            Ok(opened) => Some(opened),
            Err(error) => {
                tracing::info!("products of the tc profile are this program's own: {error}");
                None
            }
        });
        opened.as_ref()
    }

    fn open(&self, cuda: &Cuda) -> Result<Opened, Error> {
        if cuda.door.stream().is_none() {
            return Err(Error::NoStream { device: cuda.door.describe() });
        }
        let lt = self.given.clone().map_or_else(Library::load, Ok)?;
        let session = Session::open(lt, cuda.door.as_ref())?;
        let workspace = Buffer::new(cuda.door.clone(), cuda.door.alloc(WORKSPACE_BYTES)?);
        Ok(Opened { session, workspace })
    }

    fn decisions(&self) -> MutexGuard<'_, BTreeMap<String, Decision>> {
        // Entries are inserted whole.
        self.decisions.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// What was decided so far, a line for each shape.
    pub fn lines(&self, wish: Products) -> Vec<String> {
        let decisions = self.decisions();
        decisions.iter().map(|(shape, who)| format!("{shape}: {}", who.words(wish))).collect()
    }
}

impl Cuda {
    /// `product` by cuBLASLt, if that is to serve; all operands lie in whole runs of 16 bytes.
    pub(in crate::backend::cuda) fn planned(
        &self,
        op: &'static str,
        product: &Product,
    ) -> Result<Option<ForeignCall>, OpError> {
        let wish = self.launches.product;
        if wish == Products::Ours || !product.out.0.is_multiple_of(16) {
            return Ok(None);
        }
        let Some(opened) = self.plans.opened(self) else { return Ok(None) };
        let shape = Shape::of(product);
        let mut decisions = self.plans.decisions();
        let name = shape.to_string();
        let decision = match decisions.get(&name) {
            Some(decision) => decision.clone(),
            None => {
                let decision = self.decide(op, shape, opened)?;
                tracing::info!("{name}: {}", decision.words(wish));
                decisions.insert(name, decision.clone());
                decision
            }
        };
        let Product { out, a, b, .. } = *product;
        let at = [out, a, b, opened.workspace.address()];
        Ok(decision.plan(wish).map(|plan| ForeignCall { work: plan.clone(), at }))
    }

    /// Probes what cuBLASLt has for `shape`. Only a failure of the device is an error.
    fn decide(&self, op: &'static str, shape: Shape, opened: &Opened) -> Result<Decision, OpError> {
        // Heuristics are those of the calling thread's device.
        self.door.bind_thread().map_err(|fault| self.failed(op, fault))?;
        let plans = match Plan::candidates(&opened.session, &shape, WORKSPACE_BYTES) {
            Ok(plans) => plans,
            Err(error) => return Ok(Decision::Ours(error.to_string())),
        };
        let workspace = opened.workspace.address();
        let Some(probe) = Probe::new(self, op, shape, workspace)? else {
            return Ok(Decision::Ours("no memory to probe cuBLASLt".into()));
        };
        let tried = probe.run(plans)?;
        for why in &tried.refused {
            tracing::info!("{shape}: refused: {why}");
        }
        match tried.plan {
            Some(plan) => {
                let took = probe.times(&plan)?;
                Ok(Decision::Either { plan, took })
            }
            None => Ok(Decision::Ours(tried.refused.join("; "))),
        }
    }
}

/// Memory that plans may use between their blocks: NVIDIA's advice for Hopper.
pub(in crate::backend::cuda) const WORKSPACE_BYTES: usize = 32 << 20;
