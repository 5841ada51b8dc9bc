//! The wrapper against a stand-in with the same C functions.

use std::sync::Arc;
use std::time::Duration;

use super::communicator::NcclCommunicator;
use super::fake::{FakeGpu, MOOD, Mood, asked_for, calls};
use super::library::{Library, Version};
use super::{Error, link_by};
use crate::backend::cuda::door::{Address, Door};
use crate::collective::device::{DeviceLink, Span, Turn};
use crate::collective::{Communicator, threads};

fn library() -> Result<Library, Error> {
    Library::from_calls(calls(), "a stand-in".into())
}

fn span(at: u64, bytes: usize) -> Span {
    Span { at: Address(at), bytes }
}

/// One rank that is alone, in this mood.
fn alone(mood: Mood) -> Result<NcclCommunicator, Error> {
    MOOD.set(mood);
    let gpu = FakeGpu::holding(vec![0; 64], "0");
    let id = NcclCommunicator::id(&library()?)?;
    NcclCommunicator::start(&library()?, gpu, id, (0, 1), None, Duration::from_millis(50))
}

/// Runs `body` on ranks with a GPU each, whose 16 bytes are their rank's number.
fn on_ranks(
    bus_id: impl Fn(usize) -> String + Sync,
    body: impl Fn(&dyn Communicator, &Arc<dyn Door>, Result<Arc<dyn DeviceLink>, Error>) + Sync,
) {
    std::thread::scope(|scope| {
        for comm in threads(2) {
            let (bus_id, body) = (&bus_id, &body);
            scope.spawn(move || {
                let gpu = FakeGpu::holding(vec![comm.rank() as u8; 16], &bus_id(comm.rank()));
                let name = 10 + comm.rank();
                body(comm.as_ref(), &gpu, link_by(comm.as_ref(), &gpu, name, library));
            });
        }
    });
}

#[test]
fn bytes_go_from_device_to_device() {
    on_ranks(
        |rank| rank.to_string(),
        |comm, gpu, link| {
            let link = link.unwrap();
            assert_eq!((link.rank(), link.size()), (comm.rank(), 2));
            assert_eq!(link.describe(), "NCCL 2.30.3");
            let (give, take) = ([span(0, 1), span(2, 3)], [span(8, 1), span(10, 3)]);
            let turn = Turn { peer: 1 - comm.rank(), give: &give, take: &take };
            link.exchange(gpu.as_ref(), &turn).unwrap();
            link.check().unwrap();
            let mut bytes = [0; 16];
            gpu.read(&mut bytes, Address(0)).unwrap();
            let (me, other) = (comm.rank() as u8, 1 - comm.rank() as u8);
            let came = |i| i == 8 || (10..13).contains(&i);
            let want = std::array::from_fn(|i| if came(i) { other } else { me });
            assert_eq!(bytes, want);
            drop(link);
            assert!(asked_for("finalize") && asked_for("destroy") && !asked_for("abort"));
        },
    );
}

#[test]
fn who_is_never_ready_is_not_waited_for() {
    let error = alone(Mood::NeverReady).unwrap_err();
    assert!(matches!(error, Error::TimedOut { call: "ncclCommInitRankConfig", .. }), "{error}");
    assert!(asked_for("abort") && !asked_for("finalize"));
}

#[test]
fn a_refused_send_ends_its_group_and_tells_why() {
    let communicator = alone(Mood::SendFails).unwrap();
    let gpu = FakeGpu::holding(vec![0; 64], "0");
    let turn = Turn { peer: 0, give: &[span(0, 4)], take: &[] };
    let error = communicator.exchange(gpu.as_ref(), &turn, Duration::from_secs(1)).unwrap_err();
    let want = "ncclSend: invalid argument (code 4): net.cc:12 the other end has closed";
    assert_eq!(error.to_string(), want);
    assert!(asked_for("end"));
}

#[test]
fn a_later_failure_shows_and_ends_in_abort() {
    let communicator = alone(Mood::FailsLater).unwrap();
    let gpu = FakeGpu::holding(vec![0; 64], "0");
    let turn = Turn { peer: 0, give: &[span(0, 4)], take: &[] };
    let error = communicator.exchange(gpu.as_ref(), &turn, Duration::from_secs(1)).unwrap_err();
    assert!(error.to_string().contains("remote process exited"), "{error}");
    assert!(communicator.check().is_err());
    communicator.abort();
    let after = communicator.check().unwrap_err();
    assert!(after.to_string().contains("has ended after a failure"), "{after}");
    drop(communicator);
    assert!(asked_for("abort") && !asked_for("finalize"));
}

#[test]
fn a_finalize_that_fails_is_followed_by_abort() {
    drop(alone(Mood::EndsBadly).unwrap());
    assert!(asked_for("finalize") && asked_for("abort") && !asked_for("destroy"));
}

#[test]
fn what_one_rank_lacks_all_are_told() {
    std::thread::scope(|scope| {
        for comm in threads(2) {
            scope.spawn(move || {
                let gpu = FakeGpu::holding(vec![0; 16], &comm.rank().to_string());
                let load = || match comm.rank() {
                    0 => library(),
                    _ => Err(Error::NotFound { tried: "nothing".into() }),
                };
                let error = link_by(comm.as_ref(), &gpu, 10 + comm.rank(), load).unwrap_err();
                let (text, alone) = (error.to_string(), comm.rank() == 1);
                assert_eq!(text.starts_with("rank 11: NCCL was not found"), !alone, "{text}");
            });
        }
    });
}

#[test]
fn two_ranks_on_one_gpu_are_told_what_to_set() {
    on_ranks(
        |_| "0000:1b:00.0".into(),
        |_, _, link| {
            let error = link.unwrap_err().to_string();
            assert!(error.contains("ranks 10, 11 share GPU 0000:1b:00.0"), "{error}");
            assert!(error.contains("NCCL_MULTI_RANK_GPU_ENABLE=1"), "{error}");
        },
    );
}

#[test]
fn an_old_library_is_refused() {
    unsafe extern "C" fn old(version: *mut std::ffi::c_int) -> std::ffi::c_int {
        // SAFETY: the caller's result.
        unsafe { *version = 21_701 };
        0
    }
    let calls = super::calls::Calls { get_version: old, ..calls() };
    let error = Library::from_calls(calls, "libnccl.so.2".into()).unwrap_err();
    assert!(matches!(error, Error::TooOld { have: Version(2, 17, 1), .. }), "{error}");
}

/// Where there is a real NCCL its functions are found, and say what they do.
#[test]
fn the_library_that_is_here_answers() {
    let library = match super::probe() {
        Ok(library) => library,
        Err(why) => return println!("SKIPPED LOUDLY: no NCCL was asked. {why}"),
    };
    let id = NcclCommunicator::id(&library).unwrap();
    assert!(id.0.iter().any(|byte| *byte != 0));
    // Without a GPU this fails, in NCCL's own words; with one it is a group of one rank.
    let gpu = FakeGpu::holding(vec![0; 64], "0");
    let started = NcclCommunicator::start(&library, gpu, id, (0, 1), None, Duration::from_secs(60));
    match started {
        Ok(communicator) => communicator.check().unwrap(),
        Err(Error::Call { cause, .. }) => {
            assert!(cause.contains("(code "), "{cause}");
            println!("{cause}");
        }
        Err(error) => panic!("{error}"),
    }
}
