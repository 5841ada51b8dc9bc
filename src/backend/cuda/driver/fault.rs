//! The driver's errors as [`Fault`]s. Called only where the driver is known to be there.

use std::sync::Mutex;
use std::sync::MutexGuard;

use cudarc::driver::DriverError;

use super::context::Context;
use crate::backend::cuda::door::Fault;

impl Context {
    /// The failure of a call.
    pub(super) fn fault(&self, call: &'static str, error: DriverError) -> Fault {
        if is_sticky(error) {
            let after_kernel = self.last_kernel();
            return Fault::Sticky { after_kernel, cause: words(error) };
        }
        Fault::Driver { call, cause: words(error) }
    }

    /// The failure of a launch: its own, or one of the device that shows there.
    pub(super) fn launch_fault(&self, kernel: &'static str, error: DriverError) -> Fault {
        if is_sticky(error) {
            return self.fault("cuLaunchKernel", error);
        }
        Fault::Launch { kernel, cause: words(error) }
    }
}

/// What the driver says of its error.
pub(super) fn words(error: DriverError) -> String {
    let said = error.error_string().map(|text| text.to_string_lossy().into_owned());
    let said = said.unwrap_or_else(|_| "unknown error".into());
    format!("{said} (CUDA error {})", error.0 as u32)
}

/// Errors after which a context takes no more work (CUDA driver API, `CUresult`).
fn is_sticky(error: DriverError) -> bool {
    // ECC (214), hardware and launch failures (700, 702, 709 to 720).
    matches!(error.0 as u32, 214 | 700 | 702 | 709 | 710 | 714..=720)
}

/// The value inside; a panic elsewhere does not spoil it.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
