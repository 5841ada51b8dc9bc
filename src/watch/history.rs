//! What the lines of a run's metrics add up to.

use std::collections::VecDeque;

use super::thinned::Thinned;
use crate::metrics::Kind;
use crate::metrics::Line;

/// What is known of the steps so far.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    /// Loss, over steps.
    pub loss: Thinned,
    /// Tokens a second, over steps.
    pub speed: Thinned,
    /// Norm of the gradient, over steps.
    pub grad_norm: Thinned,
    /// Held-out loss, over steps.
    pub held_out: Thinned,
    /// The last step.
    pub last: Option<Line>,
    /// The last evaluation.
    pub evaluated: Option<Line>,
    /// Steps whose update was left out.
    pub skipped: usize,
    /// Seconds of training, evaluations included.
    pub seconds: f64,
    /// Milliseconds of the newest steps, and of their exchange.
    recent: VecDeque<[f64; 2]>,
}

impl History {
    /// Adds a line. A step that was told already (by a line of before a resume) is left out.
    pub fn add(&mut self, line: Line) {
        match line.kind {
            Kind::Step => self.step(line),
            Kind::Eval => {
                self.seconds += line.eval_ms.unwrap_or(0.0) / 1e3;
                let step = line.step.unwrap_or(f64::NAN);
                self.held_out.push(step, line.loss.unwrap_or(f64::NAN));
                self.evaluated = Some(line);
            }
            Kind::Other => {}
        }
    }

    fn step(&mut self, line: Line) {
        let Some(step) = line.step else { return };
        if self.steps_done() >= step {
            return;
        }
        let value = |x: Option<f64>| x.unwrap_or(f64::NAN);
        self.loss.push(step, value(line.loss));
        self.speed.push(step, value(line.tokens_per_s));
        self.grad_norm.push(step, value(line.grad_norm));
        self.skipped += usize::from(line.skipped == Some(true));
        if let Some(ms) = line.step_ms {
            self.seconds += ms / 1e3;
            self.recent.push_back([ms, line.exchange_ms.unwrap_or(0.0)]);
            if self.recent.len() > RECENT {
                self.recent.pop_front();
            }
        }
        self.last = Some(line);
    }

    /// Steps done.
    pub fn steps_done(&self) -> f64 {
        self.last.and_then(|line| line.step).unwrap_or(0.0)
    }

    /// Milliseconds of a step now, and of its exchange: the mean of the newest.
    pub fn step_ms(&self) -> Option<[f64; 2]> {
        let count = self.recent.len() as f64;
        let sum = |i: usize| self.recent.iter().map(|ms| ms[i]).sum::<f64>();
        (count > 0.0).then(|| [sum(0) / count, sum(1) / count])
    }

    /// Seconds until `steps` are done, with an evaluation every `eval_every` (0: none before the end).
    pub fn seconds_left(&self, steps: f64, eval_every: f64) -> Option<f64> {
        let left = (steps - self.steps_done()).max(0.0);
        let evaluations = match (left > 0.0, eval_every > 0.0) {
            (false, _) => 0.0,
            (true, false) => 1.0,
            (true, true) => (left / eval_every).ceil(),
        };
        let of_evaluation = self.evaluated.and_then(|line| line.eval_ms).unwrap_or(0.0);
        Some((left * self.step_ms()?[0] + evaluations * of_evaluation) / 1e3)
    }
}

/// Steps that tell the speed of now.
const RECENT: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &[&str]) -> History {
        let mut history = History::default();
        lines.iter().for_each(|text| history.add(serde_json::from_str(text).unwrap()));
        history
    }

    #[test]
    fn times_add_up_and_the_end_is_reckoned() {
        let history = of(&[
            r#"{"kind":"step","step":1,"loss":5,"step_ms":900,"exchange_ms":90}"#,
            r#"{"kind":"step","step":2,"loss":null,"step_ms":1100,"skipped":true}"#,
            r#"{"kind":"eval","step":2,"loss":4.5,"eval_ms":3000}"#,
            r#"{"kind":"step","step":2,"loss":9,"step_ms":1}"#,
            r#"{"kind":"news"}"#,
        ]);
        assert_eq!((history.seconds, history.skipped), (5.0, 1));
        assert_eq!(history.step_ms(), Some([1000.0, 45.0]));
        assert_eq!(history.loss.points(), [(1.0, 5.0)]);
        // Eight steps, and two evaluations.
        assert_eq!(history.seconds_left(10.0, 4.0), Some(8.0 + 2.0 * 3.0));
        assert_eq!(history.seconds_left(10.0, 0.0), Some(8.0 + 3.0));
        assert_eq!(history.seconds_left(2.0, 4.0), Some(0.0));
        assert_eq!(of(&[]).seconds_left(5.0, 1.0), None);
    }
}
