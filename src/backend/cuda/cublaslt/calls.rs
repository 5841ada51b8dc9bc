//! The functions of cuBLASLt that are used, and what goes through them (cuBLAS documentation,
//! "Using the cuBLASLt API"; `cublasLt.h` of CUDA 12 and 13).

use std::ffi::{c_char, c_int, c_void};

/// `cublasLtHandle_t`.
pub(super) type Handle = *mut c_void;
/// `cublasLtMatmulDesc_t`, `cublasLtMatrixLayout_t` or `cublasLtMatmulPreference_t`.
pub(super) type Object = *mut c_void;

/// `cublasLtMatmulAlgo_t`: how a product is to be computed, in the library's own words.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Algorithm(pub [u64; 8]);

/// `cublasLtMatmulHeuristicResult_t`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Found {
    pub algorithm: Algorithm,
    pub workspace_bytes: usize,
    /// Whether the algorithm can do it.
    pub state: c_int,
    /// Blocks over multiprocessors.
    pub waves: f32,
    pub reserved: [c_int; 4],
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
            /// The library is cuBLASLt 12 or later, whose functions of these names have these
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
    get_version = "cublasLtGetVersion": fn() -> usize;
    get_status_string = "cublasLtGetStatusString": fn(c_int) -> *const c_char;
    create = "cublasLtCreate": fn(*mut Handle) -> c_int;
    destroy = "cublasLtDestroy": fn(Handle) -> c_int;
    desc_create = "cublasLtMatmulDescCreate": fn(*mut Object, c_int, c_int) -> c_int;
    desc_set = "cublasLtMatmulDescSetAttribute": fn(Object, c_int, *const c_void, usize) -> c_int;
    desc_destroy = "cublasLtMatmulDescDestroy": fn(Object) -> c_int;
    layout_create = "cublasLtMatrixLayoutCreate": fn(*mut Object, c_int, u64, u64, i64) -> c_int;
    layout_destroy = "cublasLtMatrixLayoutDestroy": fn(Object) -> c_int;
    preference_create = "cublasLtMatmulPreferenceCreate": fn(*mut Object) -> c_int;
    preference_set = "cublasLtMatmulPreferenceSetAttribute":
        fn(Object, c_int, *const c_void, usize) -> c_int;
    preference_destroy = "cublasLtMatmulPreferenceDestroy": fn(Object) -> c_int;
    heuristic = "cublasLtMatmulAlgoGetHeuristic":
        fn(Handle, Object, Object, Object, Object, Object, Object, c_int, *mut Found, *mut c_int)
            -> c_int;
    config_get = "cublasLtMatmulAlgoConfigGetAttribute":
        fn(*const Algorithm, c_int, *mut c_void, usize, *mut usize) -> c_int;
    matmul = "cublasLtMatmul":
        fn(Handle, Object, *const c_void, *const c_void, Object, *const c_void, Object,
            *const c_void, *const c_void, Object, *mut c_void, Object, *const Algorithm,
            *mut c_void, usize, *mut c_void) -> c_int;
}

/// `CUBLAS_STATUS_SUCCESS`.
pub(super) const SUCCESS: c_int = 0;
/// `CUDA_R_32F`.
pub(super) const F32: c_int = 0;
/// `CUDA_R_16BF`.
pub(super) const BF16: c_int = 14;
/// `CUBLAS_COMPUTE_32F`.
pub(super) const COMPUTE_F32: c_int = 68;
/// `CUBLAS_OP_N` and `CUBLAS_OP_T`.
pub(super) const TRANSPOSED: [c_int; 2] = [0, 1];
/// `CUBLASLT_MATMUL_DESC_TRANSA` and `_TRANSB`: `int32_t`.
pub(super) const DESC_TRANSPOSE: [c_int; 2] = [3, 4];
/// `CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES`: `uint64_t`.
pub(super) const PREFER_WORKSPACE: c_int = 1;
/// `CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK`: `uint32_t`.
pub(super) const PREFER_REDUCTIONS: c_int = 3;
/// `CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_{A,B,C,D}_BYTES`: `uint32_t`.
pub(super) const PREFER_ALIGNMENT: [c_int; 4] = [5, 6, 7, 8];
/// `CUBLASLT_REDUCTION_SCHEME_NONE`.
pub(super) const NO_REDUCTION: u32 = 0;
/// `CUBLASLT_ALGO_CONFIG_ID`: `int32_t`.
pub(super) const CONFIG_ID: c_int = 0;
/// `CUBLASLT_ALGO_CONFIG_TILE_ID`: `uint32_t`.
pub(super) const CONFIG_TILE: c_int = 1;
/// `CUBLASLT_ALGO_CONFIG_SPLITK_NUM`: `int32_t`.
pub(super) const CONFIG_SPLIT_K: c_int = 2;
/// `CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME`: `uint32_t`.
pub(super) const CONFIG_REDUCTION: c_int = 3;
/// `CUBLASLT_ALGO_CONFIG_STAGES_ID`: `uint32_t`.
pub(super) const CONFIG_STAGES: c_int = 6;
