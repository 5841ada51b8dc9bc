//! The part of NCCL's interface in use, as C declares it (nccl.h of 2.18 and later).

use std::ffi::{c_char, c_int, c_uint, c_void};

/// An `ncclComm_t`.
pub(super) type Comm = *mut c_void;

/// An `ncclUniqueId`; it is passed by value.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(C)]
pub(super) struct Id(pub [u8; 128]);

/// An `ncclConfig_t` as 2.18 had it: later ones have more at the end, and take this by its size.
#[repr(C)]
pub(super) struct Config {
    size: usize,
    magic: c_uint,
    version: c_uint,
    blocking: c_int,
    cga_cluster_size: c_int,
    min_ctas: c_int,
    max_ctas: c_int,
    net_name: *const c_char,
    split_share: c_int,
}

impl Config {
    /// Calls that do not wait; at most `max_ctas` blocks on the GPU if given.
    pub fn waiting_for_nothing(max_ctas: Option<u16>) -> Self {
        Self {
            size: size_of::<Self>(),
            magic: 0xcafe_beef,
            version: CONFIG_VERSION,
            blocking: 0,
            cga_cluster_size: UNDEFINED,
            min_ctas: UNDEFINED,
            max_ctas: max_ctas.map_or(UNDEFINED, c_int::from),
            net_name: std::ptr::null(),
            split_share: UNDEFINED,
        }
    }

    /// What stands in it of calls that wait, and of blocks; for the stand-in of the tests.
    #[cfg(test)]
    pub fn told(&self) -> (usize, c_uint, c_int, c_int) {
        (self.size, self.magic, self.blocking, self.max_ctas)
    }
}

macro_rules! calls {
    ($($field:ident = $name:literal: fn($($argument:ty),*) -> $result:ty;)*) => {
        /// The functions in use, by their addresses.
        #[derive(Clone, Copy)]
        pub(super) struct Calls {
            $(pub $field: unsafe extern "C" fn($($argument),*) -> $result,)*
        }

        impl Calls {
            /// Finds them; `Err` names the first that is missing.
            ///
            /// # Safety
            /// The library is NCCL 2.18 or later, whose functions of these names have these
            /// signatures, and it is never unloaded.
            pub unsafe fn find(library: &libloading::Library) -> Result<Self, String> {
                Ok(Self { $($field: {
                    // SAFETY: the caller vouches for the signature.
                    let symbol = unsafe {
                        library.get::<unsafe extern "C" fn($($argument),*) -> $result>($name)
                    };
                    *symbol.map_err(|_| format!("it lacks `{}`", $name))?
                },)* })
            }
        }
    };
}

calls! {
    get_version = "ncclGetVersion": fn(*mut c_int) -> c_int;
    get_unique_id = "ncclGetUniqueId": fn(*mut Id) -> c_int;
    comm_init_rank_config = "ncclCommInitRankConfig":
        fn(*mut Comm, c_int, Id, c_int, *mut Config) -> c_int;
    comm_get_async_error = "ncclCommGetAsyncError": fn(Comm, *mut c_int) -> c_int;
    comm_finalize = "ncclCommFinalize": fn(Comm) -> c_int;
    comm_destroy = "ncclCommDestroy": fn(Comm) -> c_int;
    comm_abort = "ncclCommAbort": fn(Comm) -> c_int;
    get_error_string = "ncclGetErrorString": fn(c_int) -> *const c_char;
    get_last_error = "ncclGetLastError": fn(Comm) -> *const c_char;
    group_start = "ncclGroupStart": fn() -> c_int;
    group_end = "ncclGroupEnd": fn() -> c_int;
    send = "ncclSend": fn(*const c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int;
    receive = "ncclRecv": fn(*mut c_void, usize, c_int, c_int, Comm, *mut c_void) -> c_int;
}

/// `ncclSuccess`.
pub(super) const SUCCESS: c_int = 0;
/// `ncclInProgress`.
pub(super) const IN_PROGRESS: c_int = 7;
/// `ncclUint8`.
pub(super) const UINT8: c_int = 1;
/// `NCCL_CONFIG_UNDEF_INT`.
const UNDEFINED: c_int = c_int::MIN;
/// Of [`Config`]: 2.18.0.
const CONFIG_VERSION: c_uint = 21_800;
