//! The binary interfaces that MPI libraries have, and their constants.
//!
//! Open MPI's handles are addresses of its data, those of the MPICH family 32-bit numbers, those of
//! the standard interface of MPI 5 small pointers. All are kept as `usize`: on the little-endian
//! 64-bit machines that this module is built for, a callee that wants 32 bits looks at the lower half of the
//! register only, and one that writes 32 bits writes the lower half of a zeroed `usize`. Arrays of
//! handles have different layouts and are never passed.

use std::ffi::{c_int, c_void};
use std::fmt;
use std::ptr;

use libloading::os::unix::Library;

use super::library::Api;

/// A handle of MPI: a communicator, a type, an operation, a request.
pub type Handle = usize;

/// One of the three binary interfaces in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Abi {
    /// Open MPI 3 to 5 (`libmpi.so.40`).
    OpenMpi,
    /// MPICH, Intel MPI, MVAPICH, Cray MPICH (`libmpi.so.12`, `libmpich.so.12`).
    Mpich,
    /// The standard interface of MPI 5 (`libmpi_abi.so.1`).
    Standard,
}

/// What mpi.h would say.
#[derive(Clone, Copy, Debug)]
pub struct Constants {
    /// `MPI_COMM_WORLD`.
    pub world: Handle,
    /// `MPI_BYTE`.
    pub byte: Handle,
    /// `MPI_FLOAT`.
    pub float: Handle,
    /// `MPI_SUM`.
    pub sum: Handle,
    /// `MPI_ERRORS_RETURN`.
    pub errors_return: Handle,
    /// `MPI_IN_PLACE`.
    pub in_place: *const c_void,
    /// `MPI_TAG_UB`.
    pub tag_bound_key: c_int,
    /// `MPI_THREAD_FUNNELED`.
    pub funneled: c_int,
}

impl Abi {
    /// Tells the interface of a loaded library, which calls itself `version`.
    pub fn detect(library: &Library, version: &str) -> Option<Self> {
        if symbol(library, "ompi_mpi_comm_world").is_some() {
            return Some(Self::OpenMpi);
        }
        if Api::standard_abi_major(library).is_some_and(|major| major >= 1) {
            return Some(Self::Standard);
        }
        let version = version.to_ascii_uppercase();
        let kin = ["MPICH", "INTEL", "MVAPICH", "CRAY"];
        kin.iter().any(|name| version.contains(name)).then_some(Self::Mpich)
    }

    /// Its constants; `Err` names a symbol that the library lacks.
    pub fn constants(self, library: &Library) -> Result<Constants, String> {
        let address = |name| symbol(library, name).ok_or_else(|| format!("it lacks `{name}`"));
        Ok(match self {
            Self::OpenMpi => Constants {
                world: address("ompi_mpi_comm_world")?,
                byte: address("ompi_mpi_byte")?,
                float: address("ompi_mpi_float")?,
                sum: address("ompi_mpi_op_sum")?,
                errors_return: address("ompi_mpi_errors_return")?,
                in_place: ptr::without_provenance(1),
                tag_bound_key: 0,
                funneled: 1,
            },
            Self::Mpich => Constants {
                world: 0x4400_0000,
                byte: 0x4c00_010d,
                float: 0x4c00_040a,
                sum: 0x5800_0003,
                errors_return: 0x5400_0001,
                in_place: ptr::without_provenance(usize::MAX),
                tag_bound_key: 0x6440_0001,
                funneled: 1,
            },
            Self::Standard => Constants {
                world: 0x101,
                byte: 0x247,
                float: 0x210,
                sum: 0x21,
                errors_return: 0x143,
                in_place: ptr::without_provenance(1),
                tag_bound_key: 501,
                funneled: 1024,
            },
        })
    }
}

impl fmt::Display for Abi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::OpenMpi => "Open MPI's ABI",
            Self::Mpich => "MPICH's ABI",
            Self::Standard => "the standard ABI",
        })
    }
}

/// The address of a symbol of the library.
fn symbol(library: &Library, name: &str) -> Option<usize> {
    // SAFETY: the symbol is only asked for its address; nothing is read through it or called.
    let found = unsafe { library.get::<*const c_void>(name) };
    found.ok().map(|symbol| symbol.into_raw() as usize)
}
