//! The compiled kernels inside this program; none where it was built without nvcc.

include!(concat!(env!("OUT_DIR"), "/kernels/embedded.rs"));
