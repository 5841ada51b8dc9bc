//! A panic on any thread ends the whole job.
//!
//! Without that a rank that unwinds leaves the others waiting for it, with MPI even inside its own
//! MPI_Finalize.

use std::panic;
use std::sync::{Arc, Weak};

use super::Link;

/// From now on, and while `link` lives, a panic is reported as before and then aborts all ranks with
/// [`CODE`].
pub fn end_job(link: &Arc<dyn Link>) {
    let link: Weak<dyn Link> = Arc::downgrade(link);
    let before = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        before(info);
        if let Some(link) = link.upgrade() {
            link.abort(CODE);
        }
    }));
}

/// The exit code of a job that a panic ended: Rust's own.
pub const CODE: i32 = 101;
