//! The opposite of what was learned.

use super::Attack;
use super::Sent;
use super::View;

/// Sends its own update with the sign turned.
#[derive(Clone, Copy, Debug)]
pub struct SignFlip {
    /// Factor.
    pub scale: f32,
}

impl Attack for SignFlip {
    fn update(&mut self, view: &View<'_>) -> Sent {
        Sent::Dense(view.own.iter().map(|x| -self.scale * x).collect())
    }
}
