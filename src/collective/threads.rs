//! Groups within one process: of one rank, and of a rank per thread.

use std::sync::Arc;

use super::{Communicator, channels, group};

/// A group of one rank.
pub fn single() -> Arc<dyn Communicator> {
    threads(1).remove(0)
}

/// A group of `ranks` ranks in this process; each must be used by a thread of its own. A rank whose
/// last handle is dropped is lost to the others.
///
/// # Panics
/// If `ranks` is 0 (a bug of the caller).
pub fn threads(ranks: usize) -> Vec<Arc<dyn Communicator>> {
    assert!(ranks > 0, "a group of nobody");
    let form = |link| move || group(link, vec![0; ranks]);
    std::thread::scope(|scope| {
        let forming: Vec<_> =
            channels(ranks).into_iter().map(|link| scope.spawn(form(link))).collect();
        let formed = forming.into_iter().map(|thread| match thread.join() {
            Ok(Ok(rank)) => rank,
            Ok(Err(error)) => panic!("ranks of one process that agree form a group: {error}"),
            Err(panic) => std::panic::resume_unwind(panic),
        });
        formed.collect()
    })
}
