//! Launches in batches: what a step asks of a device, handed over as one CUDA graph.
//!
//! Launches, copies and clears are written down instead of being run at once. Where somebody waits
//! for a result (a read, a write, `synchronize`), the batch is run; a batch that comes a second time
//! becomes a graph of the device, and from then on it costs one call. Steps of a training are the
//! same from step to step, so all of them but the first two run as graphs; what is not the same
//! merely runs as it would have. Nobody above the door sees any of this, and no result changes.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::time::Duration;

use super::door::Address;
use super::door::Door;
use super::door::Fault;
use super::door::ForeignCall;
use super::door::GraphId;
use super::door::Launch;
use super::door::Mark;
use super::door::Matrix;
use super::door::Memory;
use super::door::Stream;
use super::door::Work;

/// A door that runs work in batches.
#[derive(Debug)]
pub struct Graphs {
    door: Arc<dyn Door>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// What has been asked for and not begun.
    pending: Vec<Work>,
    /// Batches by their hash.
    known: HashMap<u64, Batch>,
    /// Batches run so far: the time of [`Batch::used`].
    clock: u64,
}

/// A batch that has been run before.
#[derive(Debug)]
struct Batch {
    work: Vec<Work>,
    /// None until it comes a second time.
    graph: Option<GraphId>,
    /// A library's work in it could not be captured.
    never: bool,
    used: u64,
}

impl Graphs {
    /// In front of `door`.
    pub fn new(door: Arc<dyn Door>) -> Self {
        Self { door, state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere left a list that is still in order.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn add(&self, work: Work) -> Result<(), Fault> {
        let mut state = self.state();
        state.pending.push(work);
        if state.pending.len() >= BATCH_AT_MOST { self.flush(&mut state) } else { Ok(()) }
    }

    /// Hands over what is pending.
    fn flush(&self, state: &mut State) -> Result<(), Fault> {
        let work = std::mem::take(&mut state.pending);
        if work.len() < BATCH_AT_LEAST {
            return self.door.run(&work);
        }
        state.clock += 1;
        let clock = state.clock;
        let mut hasher = DefaultHasher::new();
        work.hash(&mut hasher);
        let key = hasher.finish();
        match state.known.get_mut(&key) {
            Some(batch) if batch.work == work => {
                batch.used = clock;
                if batch.graph.is_none() && !batch.never {
                    batch.graph = match self.door.record(&work) {
                        Err(fault) if is_refused_capture(&fault, &work) => {
                            tracing::warn!("work of a library runs without a graph: {fault}");
                            batch.never = true;
                            None
                        }
                        recorded => recorded?,
                    };
                }
                match batch.graph {
                    Some(graph) => self.door.replay(graph),
                    None => self.door.run(&work),
                }
            }
            _ => {
                self.door.run(&work)?;
                if state.known.len() >= KNOWN_AT_MOST {
                    self.forget_oldest(state);
                }
                let replaced =
                    state.known.insert(key, Batch { work, graph: None, never: false, used: clock });
                self.forget(replaced);
                Ok(())
            }
        }
    }

    fn forget_oldest(&self, state: &mut State) {
        let oldest = state.known.iter().min_by_key(|(_, batch)| batch.used).map(|(key, _)| *key);
        self.forget(oldest.and_then(|key| state.known.remove(&key)));
    }

    fn forget(&self, batch: Option<Batch>) {
        if let Some(graph) = batch.and_then(|batch| batch.graph) {
            self.door.forget(graph);
        }
    }
}

impl Door for Graphs {
    fn describe(&self) -> String {
        self.door.describe()
    }

    fn compute_capability(&self) -> (u32, u32) {
        self.door.compute_capability()
    }

    fn memory(&self) -> Result<Memory, Fault> {
        self.door.memory()
    }

    fn alloc(&self, bytes: usize) -> Result<Address, Fault> {
        // Memory comes zeroed, in the order of everything else.
        self.flush(&mut self.state())?;
        self.door.alloc(bytes)
    }

    fn free(&self, address: Address) {
        let mut state = self.state();
        // What is pending may still use it; a failure shows at the next call.
        let _ = self.flush(&mut state);
        self.door.free(address);
    }

    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        self.flush(&mut self.state())?;
        self.door.write(to, from)
    }

    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        self.flush(&mut self.state())?;
        self.door.read(to, from)
    }

    fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Fault> {
        self.add(Work::Copy { to, from, bytes })
    }

    fn clear(&self, to: Address, bytes: usize) -> Result<(), Fault> {
        self.add(Work::Clear { to, bytes })
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        let Launch { kernel, grid, block, shared_bytes, args } = *launch;
        self.add(Work::Launch { kernel, grid, block, shared_bytes, args: args.into() })
    }

    fn issue(&self, call: &ForeignCall) -> Result<(), Fault> {
        self.add(Work::Foreign(call.clone()))
    }

    fn synchronize(&self) -> Result<(), Fault> {
        self.flush(&mut self.state())?;
        self.door.synchronize()
    }

    /// Without batches: what runs there is between work of others.
    fn beside(&self) -> Result<Arc<dyn Door>, Fault> {
        self.door.beside()
    }

    fn mark(&self) -> Result<Mark, Fault> {
        // Another stream may wait for it while nothing more is asked of this one.
        self.flush(&mut self.state())?;
        self.door.mark()
    }

    fn wait_for(&self, mark: &Mark) -> Result<(), Fault> {
        self.flush(&mut self.state())?;
        self.door.wait_for(mark)
    }

    fn passed(&self, mark: &Mark) -> Result<bool, Fault> {
        self.door.passed(mark)
    }

    fn time(&self, work: &mut dyn FnMut()) -> Result<Duration, Fault> {
        self.flush(&mut self.state())?;
        let mut handed_over = Ok(());
        let took = self.door.time(&mut || {
            work();
            handed_over = self.flush(&mut self.state());
        });
        handed_over.and(took)
    }

    fn tensor_map(&self, matrix: &Matrix) -> Result<Option<[u8; 128]>, Fault> {
        self.door.tensor_map(matrix)
    }

    fn stream(&self) -> Option<Stream> {
        self.door.stream()
    }

    fn bind_thread(&self) -> Result<(), Fault> {
        self.door.bind_thread()
    }
}

impl Drop for Graphs {
    fn drop(&mut self) {
        let mut state = self.state();
        let _ = self.flush(&mut state);
        let graphs: Vec<_> = state.known.drain().filter_map(|(_, batch)| batch.graph).collect();
        drop(state);
        graphs.into_iter().for_each(|graph| self.door.forget(graph));
    }
}

impl Hash for Work {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        match self {
            Self::Launch { kernel, grid, block, shared_bytes, args } => {
                (kernel, grid, block, shared_bytes).hash(hasher);
                args.iter().for_each(|arg| arg.word().hash(hasher));
            }
            Self::Copy { to, from, bytes } => (to, from, bytes).hash(hasher),
            Self::Clear { to, bytes } => (to, bytes).hash(hasher),
            Self::Foreign(call) => (call.identity(), call.at).hash(hasher),
        }
    }
}

/// Whether a graph failed for a library's sake, and the work itself may still be done.
fn is_refused_capture(fault: &Fault, work: &[Work]) -> bool {
    !matches!(fault, Fault::Sticky { .. })
        && work.iter().any(|work| matches!(work, Work::Foreign(_)))
}

/// Fewer pieces of work are handed over one by one: a graph would not pay.
const BATCH_AT_LEAST: usize = 8;
/// More pieces than this are handed over without waiting, so that the device does not idle while a
/// long list is written down.
const BATCH_AT_MOST: usize = 512;
/// Batches remembered.
const KNOWN_AT_MOST: usize = 256;

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::super::door::Arg;
    use super::*;

    /// Writes down what it is asked for.
    #[derive(Debug, Default)]
    struct Diary {
        lines: Mutex<Vec<String>>,
        graphs: Mutex<HashMap<u64, Vec<Work>>>,
        next: AtomicU64,
    }

    impl Diary {
        fn note(&self, line: String) -> Result<(), Fault> {
            self.lines.lock().unwrap().push(line);
            Ok(())
        }
    }

    impl Door for Diary {
        fn describe(&self) -> String {
            "diary".into()
        }
        fn compute_capability(&self) -> (u32, u32) {
            (9, 0)
        }
        fn memory(&self) -> Result<Memory, Fault> {
            Ok(Memory { free_bytes: 1, total_bytes: 1 })
        }
        fn alloc(&self, _: usize) -> Result<Address, Fault> {
            Ok(Address(256))
        }
        fn free(&self, _: Address) {}
        fn write(&self, _: Address, _: &[u8]) -> Result<(), Fault> {
            self.note("write".into())
        }
        fn read(&self, _: &mut [u8], _: Address) -> Result<(), Fault> {
            self.note("read".into())
        }
        fn copy(&self, to: Address, _: Address, _: usize) -> Result<(), Fault> {
            self.note(format!("copy to {}", to.0))
        }
        fn clear(&self, to: Address, _: usize) -> Result<(), Fault> {
            self.note(format!("clear {}", to.0))
        }
        fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
            self.note(format!("{} {}", launch.kernel, launch.args[0].word()))
        }
        fn synchronize(&self) -> Result<(), Fault> {
            Ok(())
        }
        fn record(&self, work: &[Work]) -> Result<Option<GraphId>, Fault> {
            let id = self.next.fetch_add(1, Ordering::Relaxed);
            self.graphs.lock().unwrap().insert(id, work.to_vec());
            Ok(Some(GraphId(id)))
        }
        fn replay(&self, graph: GraphId) -> Result<(), Fault> {
            let work = self.graphs.lock().unwrap()[&graph.0].clone();
            self.note("graph".into())?;
            self.run(&work)
        }
        fn forget(&self, graph: GraphId) {
            self.graphs.lock().unwrap().remove(&graph.0);
        }
    }

    /// Ten launches with `first` and the numbers after it, a clear and a copy, then a read.
    fn step(door: &dyn Door, first: u32) {
        for i in first..first + 10 {
            let (grid, block, args) = ([1; 3], [32, 1, 1], [Arg::U32(i)]);
            let launch = Launch { kernel: "k", grid, block, shared_bytes: 0, args: &args };
            door.launch(&launch).unwrap();
        }
        door.clear(Address(8), 8).unwrap();
        door.copy(Address(16), Address(8), 8).unwrap();
        door.read(&mut [0; 8], Address(16)).unwrap();
    }

    #[test]
    fn what_comes_again_is_a_graph_and_does_the_same() {
        let (plain, behind) = (Diary::default(), Arc::new(Diary::default()));
        let graphs = Graphs::new(behind.clone());
        // The second kind of step comes twice in between, the third once.
        for first in [0, 0, 100, 0, 100, 0, 200] {
            step(&plain, first);
            step(&graphs, first);
        }
        let lines = behind.lines.lock().unwrap().clone();
        let replayed = lines.iter().filter(|line| *line == "graph").count();
        assert_eq!(replayed, 4, "three of the first kind, one of the second: {lines:?}");
        let without: Vec<_> = lines.into_iter().filter(|line| line != "graph").collect();
        assert_eq!(without, *plain.lines.lock().unwrap());
        assert_eq!(behind.graphs.lock().unwrap().len(), 2);
        drop(graphs);
        assert!(behind.graphs.lock().unwrap().is_empty(), "graphs are given up");
    }

    #[test]
    fn memory_is_given_back_and_marks_are_set_after_what_uses_it() {
        let behind = Arc::new(Diary::default());
        let graphs = Graphs::new(behind.clone());
        graphs.clear(Address(8), 8).unwrap();
        assert!(behind.lines.lock().unwrap().is_empty(), "nothing is run before it must be");
        graphs.free(Address(8));
        assert_eq!(*behind.lines.lock().unwrap(), ["clear 8"]);
        // Another stream waits for what was asked before the mark.
        graphs.clear(Address(16), 8).unwrap();
        graphs.mark().unwrap();
        assert_eq!(*behind.lines.lock().unwrap(), ["clear 8", "clear 16"]);
    }

    #[test]
    fn batches_that_do_not_come_again_are_forgotten() {
        let behind = Arc::new(Diary::default());
        let graphs = Graphs::new(behind.clone());
        for first in 0..2 * KNOWN_AT_MOST as u32 {
            step(&graphs, 1000 * first);
            step(&graphs, 1000 * first);
        }
        assert!(graphs.state().known.len() <= KNOWN_AT_MOST);
        assert!(behind.graphs.lock().unwrap().len() <= KNOWN_AT_MOST);
    }
}
