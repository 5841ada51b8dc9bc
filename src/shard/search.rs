//! The fastest of all stages and zero levels that fit.

use super::config::Zero;
use super::forecast::{Forecast, Machine};
use super::memory::Job;
use super::placement::{Placement, PlacementInput, place};
use super::remedy::DoesNotFit;

/// Why there is no fastest way to run a job.
#[derive(Debug, thiserror::Error)]
pub enum NoChoice {
    /// No number of stages goes with these ranks; why the first one tried does not.
    #[error("{0}")]
    Invalid(String),
    /// Nothing fits.
    #[error(transparent)]
    DoesNotFit(Box<DoesNotFit>),
}

/// A way to run a job on some ranks.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// What was placed: stages and zero are decided.
    pub input: PlacementInput,
    /// Where.
    pub placement: Placement,
    /// What it costs.
    pub forecast: Forecast,
}

/// The way with the shortest step among `stages` and `zeros`; the earlier of equals. Stages that
/// do not go with the ranks are passed over.
pub fn fastest(
    job: &Job,
    memory_bytes: &[u64],
    stages: &[usize],
    zeros: &[Zero],
    machine: &Machine,
) -> Result<Choice, NoChoice> {
    let mut best: Option<Choice> = None;
    let (mut invalid, mut too_large) = (None, None);
    for &stages in stages {
        for &zero in zeros {
            let job = Job { zero, ..job.clone() };
            let input = match PlacementInput::new(job, stages, memory_bytes.to_vec()) {
                Ok(input) => input,
                Err(why) => {
                    invalid.get_or_insert(why);
                    continue;
                }
            };
            let Some(placement) = input.fitting() else {
                too_large.get_or_insert(input);
                continue;
            };
            let forecast = Forecast::of(&input, &placement, machine);
            if best.as_ref().is_none_or(|best| forecast.step_s < best.forecast.step_s) {
                best = Some(Choice { input, placement, forecast });
            }
        }
    }
    match (best, too_large) {
        (Some(best), _) => Ok(best),
        (None, Some(input)) => match place(&input) {
            Err(why) => Err(NoChoice::DoesNotFit(Box::new(why))),
            Ok(_) => unreachable!("it did not fit"),
        },
        (None, None) => {
            Err(NoChoice::Invalid(invalid.unwrap_or_else(|| "no stages to try".into())))
        }
    }
}
