//! cuBLASLt on one device: a handle, and descriptions of products.

use std::ffi::c_int;
use std::ffi::c_void;
use std::fmt;
use std::sync::Arc;

use super::calls::{self, Found, Handle, Object};
use super::error::Error;
use super::library::Library;
use super::shape::Shape;
use crate::backend::cuda::door::Door;

/// A handle of cuBLASLt's.
pub struct Session {
    lt: Library,
    handle: Handle,
}

// SAFETY: cuBLASLt's handles may be used by several threads (cuBLAS documentation, thread safety).
unsafe impl Send for Session {}
// SAFETY: as above.
unsafe impl Sync for Session {}

impl Session {
    /// On the device behind `door`.
    pub fn open(lt: Library, door: &dyn Door) -> Result<Arc<Self>, Error> {
        if door.stream().is_none() {
            return Err(Error::NoStream { device: door.describe() });
        }
        door.bind_thread()?;
        Self::on_bound_device(lt)
    }

    /// On the calling thread's device.
    pub(super) fn on_bound_device(lt: Library) -> Result<Arc<Self>, Error> {
        let mut handle = std::ptr::null_mut();
        // SAFETY: room for one handle; the thread's device is the one meant.
        let status = unsafe { (lt.calls.create)(&mut handle) };
        lt.check("cublasLtCreate", status)?;
        Ok(Arc::new(Self { lt, handle }))
    }

    /// The library.
    pub fn lt(&self) -> &Library {
        &self.lt
    }

    pub(super) fn handle(&self) -> Handle {
        self.handle
    }

    /// Algorithms that the library would take for `product`, best first, with at most
    /// `workspace_bytes` bytes of workspace and nothing summed by more than one block.
    pub(super) fn heuristics(
        &self,
        product: &Described,
        workspace_bytes: usize,
    ) -> Result<Vec<Found>, Error> {
        let wish = preferences(&self.lt, workspace_bytes)?;
        let mut found = [Found::default(); ASKED_FOR];
        let mut count: c_int = 0;
        let (operation, [x, y, out]) = product.objects();
        // SAFETY: live objects, and room for as many results as asked for.
        let status = unsafe {
            let (room, asked) = (found.as_mut_ptr(), ASKED_FOR as c_int);
            (self.lt.calls.heuristic)(
                self.handle,
                operation,
                x,
                y,
                out,
                out,
                wish.object,
                asked,
                room,
                &mut count,
            )
        };
        self.lt.check("cublasLtMatmulAlgoGetHeuristic", status)?;
        let count = usize::try_from(count).unwrap_or(0).min(ASKED_FOR);
        Ok(found[..count].to_vec())
    }

    /// An attribute of `N` bytes of an algorithm.
    pub(super) fn config<const N: usize>(
        &self,
        found: &Found,
        attribute: c_int,
    ) -> Result<[u8; N], Error> {
        let (mut value, mut written) = ([0; N], 0usize);
        // SAFETY: room for as many bytes as said, and for their count; an algorithm of the library's.
        let status = unsafe {
            let room: *mut c_void = value.as_mut_ptr().cast();
            (self.lt.calls.config_get)(&found.algorithm, attribute, room, N, &mut written)
        };
        self.lt.check("cublasLtMatmulAlgoConfigGetAttribute", status)?;
        Ok(value)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lt.fmt(f)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: made by `open`; who uses it holds `self`. A failure means that the device has
        // failed, which was told before.
        let _ = unsafe { (self.lt.calls.destroy)(self.handle) };
    }
}

/// What algorithms may be: with at most `workspace_bytes` bytes of workspace, for matrices whose rows
/// are whole runs of 16 bytes, and with nothing summed by more than one block.
pub(super) fn preferences(lt: &Library, workspace_bytes: usize) -> Result<Owned, Error> {
    let wish = Owned::preference(lt)?;
    let set = |attribute, value: &[u8]| {
        // SAFETY: a live preference, and as many bytes as said, of the type of the attribute.
        let set = unsafe {
            let (at, bytes) = (value.as_ptr().cast(), value.len());
            (lt.calls.preference_set)(wish.object, attribute, at, bytes)
        };
        lt.check("cublasLtMatmulPreferenceSetAttribute", set)
    };
    set(calls::PREFER_WORKSPACE, &(workspace_bytes as u64).to_ne_bytes())?;
    set(calls::PREFER_REDUCTIONS, &calls::NO_REDUCTION.to_ne_bytes())?;
    for attribute in calls::PREFER_ALIGNMENT {
        set(attribute, &ALIGNMENT_BYTES.to_ne_bytes())?;
    }
    Ok(wish)
}

/// A product as cuBLASLt sees it: by columns. There `out` has N rows and M columns, and is
/// `op(B) · op(A)`: its first factor X is our B, its second factor Y our A.
pub(super) struct Described {
    operation: Owned,
    /// X, Y and out.
    layouts: [Owned; 3],
}

impl Described {
    /// The product `shape` of cuBLASLt's `lt`.
    pub fn new(lt: &Library, shape: &Shape) -> Result<Self, Error> {
        let operation = Owned::operation(lt)?;
        let [along_a, along_b] = shape.layout.along();
        // What runs along k has k as its rows: X must be transposed then, and Y must not.
        for (attribute, transposed) in calls::DESC_TRANSPOSE.into_iter().zip([along_b, !along_a]) {
            let value = calls::TRANSPOSED[usize::from(transposed)].to_ne_bytes();
            // SAFETY: a live description, and four bytes of an `int32_t`.
            let set = unsafe {
                (lt.calls.desc_set)(operation.object, attribute, value.as_ptr().cast(), 4)
            };
            lt.check("cublasLtMatmulDescSetAttribute", set)?;
        }
        let [m, n, k] = shape.extents.map(|extent| extent as u64);
        let factor = |outer, along| if along { (k, outer) } else { (outer, k) };
        let (x, y) = (factor(n, along_b), factor(m, along_a));
        let out = if shape.is_f32() { calls::F32 } else { calls::BF16 };
        let layouts = [
            Owned::layout(lt, calls::BF16, x)?,
            Owned::layout(lt, calls::BF16, y)?,
            Owned::layout(lt, out, (n, m))?,
        ];
        Ok(Self { operation, layouts })
    }

    /// The operation, and the layouts of X, Y and out.
    pub fn objects(&self) -> (Object, [Object; 3]) {
        (self.operation.object, std::array::from_fn(|i| self.layouts[i].object))
    }
}

/// An object of cuBLASLt's, given back when dropped.
pub(super) struct Owned {
    object: Object,
    destroy: unsafe extern "C" fn(Object) -> c_int,
}

// SAFETY: descriptions are memory of the host that nobody changes after they are made.
unsafe impl Send for Owned {}
// SAFETY: as above.
unsafe impl Sync for Owned {}

impl Owned {
    fn operation(lt: &Library) -> Result<Self, Error> {
        let mut object = std::ptr::null_mut();
        // SAFETY: room for one object.
        let made = unsafe { (lt.calls.desc_create)(&mut object, calls::COMPUTE_F32, calls::F32) };
        lt.check("cublasLtMatmulDescCreate", made)?;
        Ok(Self { object, destroy: lt.calls.desc_destroy })
    }

    /// Of `rows` by `columns`, one column after the other.
    fn layout(lt: &Library, kind: c_int, (rows, columns): (u64, u64)) -> Result<Self, Error> {
        let mut object = std::ptr::null_mut();
        // SAFETY: room for one object.
        let made =
            unsafe { (lt.calls.layout_create)(&mut object, kind, rows, columns, rows as i64) };
        lt.check("cublasLtMatrixLayoutCreate", made)?;
        Ok(Self { object, destroy: lt.calls.layout_destroy })
    }

    fn preference(lt: &Library) -> Result<Self, Error> {
        let mut object = std::ptr::null_mut();
        // SAFETY: room for one object.
        let made = unsafe { (lt.calls.preference_create)(&mut object) };
        lt.check("cublasLtMatmulPreferenceCreate", made)?;
        Ok(Self { object, destroy: lt.calls.preference_destroy })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by the library, and not used again.
        let _ = unsafe { (self.destroy)(self.object) };
    }
}

/// Of every matrix: rows are whole runs of so many bytes.
const ALIGNMENT_BYTES: u32 = 16;
/// Algorithms asked for.
const ASKED_FOR: usize = 16;
