//! A stand-in for NCCL and for GPUs, for tests: the same C functions, in this process.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{c_char, c_int, c_void};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::calls::{Calls, Comm, Config, IN_PROGRESS, Id, SUCCESS};
use crate::backend::cuda::door::{Address, Door, Fault, Launch, Memory, Stream};

/// How the communicators behave that a thread makes from now on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// As they should.
    Well,
    /// They are never ready.
    NeverReady,
    /// A send is refused.
    SendFails,
    /// What an exchange began fails in the background.
    FailsLater,
    /// Finalize fails.
    EndsBadly,
}

thread_local! {
    /// Of this thread.
    pub static MOOD: Cell<Mood> = const { Cell::new(Mood::Well) };
    /// What this thread has asked for, in order, but for looks.
    pub static LOG: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Whether this thread's log has `call`.
pub fn asked_for(call: &str) -> bool {
    LOG.with_borrow(|log| log.contains(&call))
}

#[derive(Default)]
struct World {
    /// Names are given once.
    next: usize,
    members: BTreeMap<usize, Member>,
    /// By group, sender and receiver.
    messages: BTreeMap<(usize, c_int, c_int), VecDeque<Vec<u8>>>,
    devices: BTreeMap<usize, Arc<Mutex<Vec<u8>>>>,
}

struct Member {
    group: usize,
    rank: c_int,
    mood: Mood,
    /// Looks until what goes on in the background has ended.
    looks: usize,
    failed: bool,
    /// Sender, device, place and length.
    receives: VecDeque<(c_int, usize, usize, usize)>,
}

static WORLD: Mutex<World> = Mutex::new(World {
    next: 1,
    members: BTreeMap::new(),
    messages: BTreeMap::new(),
    devices: BTreeMap::new(),
});

fn world(call: &'static str) -> MutexGuard<'static, World> {
    LOG.with_borrow_mut(|log| log.push(call));
    WORLD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Library functions of version 2.30.3 that behave by [`MOOD`].
pub fn calls() -> Calls {
    Calls {
        get_version,
        get_unique_id,
        comm_init_rank_config,
        comm_get_async_error,
        comm_finalize,
        comm_destroy,
        comm_abort,
        get_error_string,
        get_last_error,
        group_start,
        group_end,
        send,
        receive,
    }
}

unsafe extern "C" fn get_version(version: *mut c_int) -> c_int {
    // SAFETY: the caller's result.
    unsafe { *version = 23_003 };
    SUCCESS
}

unsafe extern "C" fn get_unique_id(id: *mut Id) -> c_int {
    let mut world = world("id");
    let mut bytes = [0xee; 128];
    bytes[..8].copy_from_slice(&world.next.to_ne_bytes());
    world.next += 1;
    // SAFETY: the caller's result.
    unsafe { *id = Id(bytes) };
    SUCCESS
}

unsafe extern "C" fn comm_init_rank_config(
    comm: *mut Comm,
    size: c_int,
    id: Id,
    rank: c_int,
    config: *mut Config,
) -> c_int {
    // SAFETY: the caller's, alive for this call.
    let told = unsafe { (*config).told() };
    let id_is_whole = id.0[8..].iter().all(|byte| *byte == 0xee);
    if (told.0, told.1, told.2) != (48, 0xcafe_beef, 0)
        || !(0..size).contains(&rank)
        || !id_is_whole
    {
        return INVALID_ARGUMENT;
    }
    let mut world = world("init");
    let group = usize::from_ne_bytes(std::array::from_fn(|i| id.0[i]));
    let number = world.next;
    world.next += 1;
    let (mood, receives) = (MOOD.get(), VecDeque::new());
    world.members.insert(number, Member { group, rank, mood, looks: 3, failed: false, receives });
    // SAFETY: the caller's result.
    unsafe { *comm = std::ptr::without_provenance_mut(number) };
    IN_PROGRESS
}

unsafe extern "C" fn comm_get_async_error(comm: Comm, state: *mut c_int) -> c_int {
    let mut guard = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    let world = &mut *guard;
    let Some(member) = world.members.get_mut(&comm.addr()) else { return INVALID_ARGUMENT };
    while let Some((from, device, at, len)) = member.receives.front().copied() {
        let key = (member.group, from, member.rank);
        let Some(bytes) = world.messages.get_mut(&key).and_then(VecDeque::pop_front) else { break };
        assert_eq!(bytes.len(), len, "a send meets a receive of another length");
        world.devices[&device].lock().unwrap()[at..at + len].copy_from_slice(&bytes);
        member.receives.pop_front();
    }
    let busy = member.looks > 0 || !member.receives.is_empty();
    member.looks = member.looks.saturating_sub(usize::from(member.mood != Mood::NeverReady));
    let now = if member.failed { REMOTE_ERROR } else { [SUCCESS, IN_PROGRESS][usize::from(busy)] };
    // SAFETY: the caller's result.
    unsafe { *state = now };
    SUCCESS
}

unsafe extern "C" fn comm_finalize(comm: Comm) -> c_int {
    let mut world = world("finalize");
    let Some(member) = world.members.get_mut(&comm.addr()) else { return INVALID_ARGUMENT };
    member.looks = 2;
    if member.mood == Mood::EndsBadly {
        member.failed = true;
    }
    IN_PROGRESS
}

unsafe extern "C" fn comm_destroy(comm: Comm) -> c_int {
    world("destroy").members.remove(&comm.addr()).map_or(INVALID_ARGUMENT, |_| SUCCESS)
}

unsafe extern "C" fn comm_abort(comm: Comm) -> c_int {
    world("abort").members.remove(&comm.addr()).map_or(INVALID_ARGUMENT, |_| SUCCESS)
}

unsafe extern "C" fn get_error_string(code: c_int) -> *const c_char {
    let text = match code {
        INVALID_ARGUMENT => c"invalid argument",
        REMOTE_ERROR => c"remote process exited or there was a network error",
        _ => c"no error",
    };
    text.as_ptr()
}

unsafe extern "C" fn get_last_error(_: Comm) -> *const c_char {
    c"net.cc:12 the other end has closed\n".as_ptr()
}

unsafe extern "C" fn group_start() -> c_int {
    drop(world("start"));
    SUCCESS
}

unsafe extern "C" fn group_end() -> c_int {
    drop(world("end"));
    IN_PROGRESS
}

unsafe extern "C" fn send(
    at: *const c_void,
    len: usize,
    kind: c_int,
    peer: c_int,
    comm: Comm,
    stream: *mut c_void,
) -> c_int {
    let mut guard = world("send");
    let world = &mut *guard;
    let Some(member) = world.members.get_mut(&comm.addr()) else { return INVALID_ARGUMENT };
    if member.mood == Mood::SendFails || kind != 1 {
        return INVALID_ARGUMENT;
    }
    member.failed |= member.mood == Mood::FailsLater;
    let bytes = world.devices[&stream.addr()].lock().unwrap()[at.addr()..at.addr() + len].to_vec();
    let key = (member.group, member.rank, peer);
    world.messages.entry(key).or_default().push_back(bytes);
    SUCCESS
}

unsafe extern "C" fn receive(
    at: *mut c_void,
    len: usize,
    kind: c_int,
    peer: c_int,
    comm: Comm,
    stream: *mut c_void,
) -> c_int {
    let mut world = world("receive");
    let Some(member) = world.members.get_mut(&comm.addr()) else { return INVALID_ARGUMENT };
    if kind != 1 {
        return INVALID_ARGUMENT;
    }
    member.receives.push_back((peer, stream.addr(), at.addr(), len));
    SUCCESS
}

const INVALID_ARGUMENT: c_int = 4;
const REMOTE_ERROR: c_int = 6;

/// Some bytes that believe to be a GPU, with a stream of their own.
#[derive(Debug)]
pub struct FakeGpu {
    stream: usize,
    bus_id: String,
    memory: Arc<Mutex<Vec<u8>>>,
}

impl FakeGpu {
    /// With these bytes.
    pub fn holding(bytes: Vec<u8>, bus_id: &str) -> Arc<dyn Door> {
        let memory = Arc::new(Mutex::new(bytes));
        let mut world = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
        let stream = world.next;
        world.next += 1;
        world.devices.insert(stream, memory.clone());
        Arc::new(Self { stream, bus_id: bus_id.into(), memory })
    }
}

impl Door for FakeGpu {
    fn describe(&self) -> String {
        "a stand-in for a GPU".into()
    }

    fn compute_capability(&self) -> (u32, u32) {
        (9, 0)
    }

    fn memory(&self) -> Result<Memory, Fault> {
        Ok(Memory { free_bytes: 0, total_bytes: 0 })
    }

    fn alloc(&self, _: usize) -> Result<Address, Fault> {
        Ok(Address::default())
    }

    fn free(&self, _: Address) {}

    fn write(&self, to: Address, from: &[u8]) -> Result<(), Fault> {
        self.memory.lock().unwrap()[to.0 as usize..][..from.len()].copy_from_slice(from);
        Ok(())
    }

    fn read(&self, to: &mut [u8], from: Address) -> Result<(), Fault> {
        to.copy_from_slice(&self.memory.lock().unwrap()[from.0 as usize..][..to.len()]);
        Ok(())
    }

    fn copy(&self, _: Address, _: Address, _: usize) -> Result<(), Fault> {
        Ok(())
    }

    fn clear(&self, _: Address, _: usize) -> Result<(), Fault> {
        Ok(())
    }

    fn launch(&self, launch: &Launch<'_>) -> Result<(), Fault> {
        Err(Fault::NoKernel(launch.kernel.into()))
    }

    fn synchronize(&self) -> Result<(), Fault> {
        Ok(())
    }

    fn stream(&self) -> Option<Stream> {
        Some(Stream { handle: self.stream as u64, bus_id: self.bus_id.clone() })
    }
}
