//! A stand-in for cuBLASLt, for tests: its C functions, computing by the exact model in host memory.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::{c_char, c_int, c_void};

use half::bf16;

use super::calls::{self, Algorithm, Calls, Found, Handle, Object, SUCCESS};
use crate::backend::cpu::tc::sum::chain;
use crate::ops::TensorCore;

/// How an algorithm behaves that the stand-in names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// As the contract says.
    Exact,
    /// One bit of one output is another, where that is not zero.
    OneBit,
    /// Two blocks share k, and nobody is told (stream-K).
    Shared,
    /// It sums downward.
    Downward,
    /// Small results become zero.
    Flushes,
    /// It leaves the output as it is.
    Idle,
    /// It adds to the output, or does not, the other way round.
    Otherwise,
    /// The call is refused.
    Fails,
    /// It says that it splits k; it must not be called.
    Splits,
    /// It says that blocks add to the output; it must not be called.
    Reduces,
    /// It needs more workspace than there is; it must not be called.
    Large,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Exact,
        Self::OneBit,
        Self::Shared,
        Self::Downward,
        Self::Flushes,
        Self::Idle,
        Self::Otherwise,
        Self::Fails,
        Self::Splits,
        Self::Reduces,
        Self::Large,
    ];
}

thread_local! {
    /// The algorithms that heuristics of this thread find, best first.
    pub(super) static OFFERED: RefCell<Vec<Kind>> = const { RefCell::new(Vec::new()) };
    /// Whether handles can be had.
    pub(super) static STARTS: Cell<bool> = const { Cell::new(true) };
    /// The algorithms called, in order, and on which stream.
    pub(super) static CALLED: RefCell<Vec<(Kind, usize)>> = const { RefCell::new(Vec::new()) };
    /// Objects that are alive, and handles.
    static ALIVE: RefCell<HashMap<usize, Thing>> = RefCell::new(HashMap::new());
    static NEXT: Cell<usize> = const { Cell::new(0x1000) };
}

/// How many objects and handles this thread's stand-in has given out and not got back.
pub(super) fn alive() -> usize {
    ALIVE.with_borrow(HashMap::len)
}

#[derive(Clone, Copy, Debug)]
enum Thing {
    Handle,
    Operation {
        transposed: [c_int; 2],
    },
    Layout {
        kind: c_int,
        rows: u64,
        columns: u64,
        stride: i64,
    },
    /// Workspace, reductions and alignments asked for.
    Preference {
        workspace: u64,
        reductions: u32,
        alignments: [u32; 4],
    },
}

/// Library functions of version 13.0.2.
pub(super) fn calls() -> Calls {
    Calls {
        get_version,
        get_status_string,
        create,
        destroy: give_back,
        desc_create,
        desc_set,
        desc_destroy: give_back,
        layout_create,
        layout_destroy: give_back,
        preference_create,
        preference_set,
        preference_destroy: give_back,
        heuristic,
        config_get,
        matmul,
    }
}

fn made(thing: Thing) -> Object {
    let number = NEXT.get();
    NEXT.set(number + 16);
    ALIVE.with_borrow_mut(|alive| alive.insert(number, thing));
    std::ptr::without_provenance_mut(number)
}

fn thing(object: Object) -> Option<Thing> {
    ALIVE.with_borrow(|alive| alive.get(&object.addr()).copied())
}

unsafe extern "C" fn get_version() -> usize {
    130_002
}

unsafe extern "C" fn get_status_string(status: c_int) -> *const c_char {
    match status {
        NOT_STARTED => c"the library was not initialized",
        INVALID => c"an unsupported value or parameter was passed",
        _ => c"the function failed to launch on the GPU",
    }
    .as_ptr()
}

unsafe extern "C" fn create(handle: *mut Handle) -> c_int {
    if !STARTS.get() {
        return NOT_STARTED;
    }
    // SAFETY: the caller's result.
    unsafe { *handle = made(Thing::Handle) };
    SUCCESS
}

unsafe extern "C" fn give_back(object: Object) -> c_int {
    let gone = ALIVE.with_borrow_mut(|alive| alive.remove(&object.addr()));
    if gone.is_some() { SUCCESS } else { INVALID }
}

unsafe extern "C" fn desc_create(object: *mut Object, compute: c_int, scale: c_int) -> c_int {
    if (compute, scale) != (68, 0) {
        return INVALID;
    }
    // SAFETY: the caller's result.
    unsafe { *object = made(Thing::Operation { transposed: [0; 2] }) };
    SUCCESS
}

unsafe extern "C" fn desc_set(
    object: Object,
    attribute: c_int,
    value: *const c_void,
    bytes: usize,
) -> c_int {
    ALIVE.with_borrow_mut(|alive| match (alive.get_mut(&object.addr()), attribute, bytes) {
        (Some(Thing::Operation { transposed }), 3 | 4, 4) => {
            // SAFETY: the caller has as many bytes as it says.
            transposed[attribute as usize - 3] = unsafe { value.cast::<c_int>().read_unaligned() };
            SUCCESS
        }
        _ => INVALID,
    })
}

unsafe extern "C" fn layout_create(
    object: *mut Object,
    kind: c_int,
    rows: u64,
    columns: u64,
    stride: i64,
) -> c_int {
    // SAFETY: the caller's result.
    unsafe { *object = made(Thing::Layout { kind, rows, columns, stride }) };
    SUCCESS
}

unsafe extern "C" fn preference_create(object: *mut Object) -> c_int {
    let usual = Thing::Preference { workspace: 0, reductions: 7, alignments: [256; 4] };
    // SAFETY: the caller's result.
    unsafe { *object = made(usual) };
    SUCCESS
}

unsafe extern "C" fn preference_set(
    object: Object,
    attribute: c_int,
    value: *const c_void,
    bytes: usize,
) -> c_int {
    ALIVE.with_borrow_mut(|alive| {
        let Some(Thing::Preference { workspace, reductions, alignments }) =
            alive.get_mut(&object.addr())
        else {
            return INVALID;
        };
        // SAFETY: the caller has as many bytes as it says.
        let word = || unsafe { value.cast::<u32>().read_unaligned() };
        match (attribute, bytes) {
            // SAFETY: as above.
            (1, 8) => *workspace = unsafe { value.cast::<u64>().read_unaligned() },
            (3, 4) => *reductions = word(),
            (5..=8, 4) => alignments[attribute as usize - 5] = word(),
            _ => return INVALID,
        }
        SUCCESS
    })
}

unsafe extern "C" fn heuristic(
    handle: Handle,
    _operation: Object,
    _x: Object,
    _y: Object,
    _c: Object,
    _d: Object,
    preference: Object,
    asked: c_int,
    room: *mut Found,
    count: *mut c_int,
) -> c_int {
    let (Some(Thing::Handle), Some(Thing::Preference { workspace, reductions, alignments })) =
        (thing(handle), thing(preference))
    else {
        return INVALID;
    };
    assert_eq!((reductions, alignments), (0, [16; 4]), "what is asked for");
    let offered = OFFERED.with_borrow(Vec::clone);
    let offered = &offered[..offered.len().min(asked as usize)];
    for (i, kind) in offered.iter().enumerate() {
        let number = Kind::ALL.iter().position(|x| x == kind).unwrap() as u64;
        let large = usize::from(*kind == Kind::Large);
        let found = Found {
            algorithm: Algorithm([number; 8]),
            workspace_bytes: workspace as usize * (1 + large) / (2 - large),
            ..Found::default()
        };
        // SAFETY: room for as many as the caller asks for.
        unsafe { *room.add(i) = found };
    }
    // SAFETY: the caller's result.
    unsafe { *count = offered.len() as c_int };
    SUCCESS
}

unsafe extern "C" fn config_get(
    algorithm: *const Algorithm,
    attribute: c_int,
    value: *mut c_void,
    bytes: usize,
    written: *mut usize,
) -> c_int {
    // SAFETY: the caller's, alive for this call.
    let number = unsafe { (*algorithm).0[0] };
    let kind = Kind::ALL[number as usize];
    let answer = match attribute {
        0 => number as u32,
        2 => 1 + 3 * u32::from(kind == Kind::Splits),
        3 => 2 * u32::from(kind == Kind::Reduces),
        _ => 20,
    };
    if bytes != 4 {
        return INVALID;
    }
    // SAFETY: room for four bytes, and for their count.
    unsafe {
        value.cast::<u32>().write_unaligned(answer);
        *written = 4;
    }
    SUCCESS
}

unsafe extern "C" fn matmul(
    handle: Handle,
    operation: Object,
    alpha: *const c_void,
    x: *const c_void,
    x_layout: Object,
    y: *const c_void,
    y_layout: Object,
    beta: *const c_void,
    c: *const c_void,
    c_layout: Object,
    out: *mut c_void,
    out_layout: Object,
    algorithm: *const Algorithm,
    _workspace: *mut c_void,
    _workspace_bytes: usize,
    stream: *mut c_void,
) -> c_int {
    // SAFETY: the caller's, alive for this call.
    let (kind, alpha, beta) = unsafe {
        let number = (*algorithm).0[0] as usize;
        (Kind::ALL[number], *alpha.cast::<f32>(), *beta.cast::<f32>())
    };
    CALLED.with_borrow_mut(|called| called.push((kind, stream.addr())));
    assert!(
        !matches!(kind, Kind::Splits | Kind::Reduces | Kind::Large),
        "{kind:?} was not to be called"
    );
    let (Some(Thing::Handle), Some(Thing::Operation { transposed })) =
        (thing(handle), thing(operation))
    else {
        return INVALID;
    };
    if kind == Kind::Fails || alpha != 1.0 || c != out || c_layout != out_layout {
        return EXECUTION_FAILED;
    }
    let (Some(x), Some(y), Some(out)) = (
        Columns::of(x, x_layout, transposed[0]),
        Columns::of(y, y_layout, transposed[1]),
        Columns::of(out, out_layout, 0),
    ) else {
        return INVALID;
    };
    if x.columns != y.rows || (out.rows, out.columns) != (x.rows, y.columns) {
        return INVALID;
    }
    compute(kind, &x, &y, &out, beta);
    SUCCESS
}

/// A matrix as it enters a product, its columns one after the other unless it is transposed.
struct Columns {
    at: *mut c_void,
    kind: c_int,
    rows: usize,
    columns: usize,
    /// Elements from a row to the next, and from a column to the next.
    strides: [usize; 2],
}

impl Columns {
    fn of(at: *const c_void, layout: Object, transposed: c_int) -> Option<Self> {
        let Some(Thing::Layout { kind, rows, columns, stride }) = thing(layout) else {
            return None;
        };
        let (at, stride) = (at.cast_mut(), usize::try_from(stride).ok()?);
        let [rows, columns] = [rows, columns].map(|x| x as usize);
        Some(match transposed {
            0 => Self { at, kind, rows, columns, strides: [1, stride] },
            _ => Self { at, kind, rows: columns, columns: rows, strides: [stride, 1] },
        })
    }

    fn bf16(&self, row: usize, column: usize) -> bf16 {
        assert_eq!(self.kind, calls::BF16);
        // SAFETY: inside a matrix of the caller's.
        unsafe { *self.at.cast::<bf16>().add(row * self.strides[0] + column * self.strides[1]) }
    }

    /// Puts down `sum`, added to what is there if `beta` is 1.
    fn put(&self, row: usize, column: usize, sum: f32, beta: f32, flip: u32) {
        let place = row * self.strides[0] + column * self.strides[1];
        // SAFETY: inside a matrix of the caller's.
        unsafe {
            if self.kind == calls::F32 {
                let at = self.at.cast::<f32>().add(place);
                let sum = if beta == 1.0 { *at + sum } else { sum };
                *at = f32::from_bits(sum.to_bits() ^ flip);
            } else {
                let at = self.at.cast::<bf16>().add(place);
                let sum = if beta == 1.0 { (*at).to_f32() + sum } else { sum };
                *at = bf16::from_bits(bf16::from_f32(sum).to_bits() ^ flip as u16);
            }
        }
    }
}

fn compute(kind: Kind, x: &Columns, y: &Columns, out: &Columns, beta: f32) {
    let (core, k) = (TensorCore::Hopper, x.columns);
    let beta = if kind == Kind::Otherwise { 1.0 - beta } else { beta };
    for column in 0..out.columns {
        let mut b: Vec<bf16> = (0..k).map(|i| y.bf16(i, column)).collect();
        for row in 0..out.rows {
            let mut a: Vec<bf16> = (0..k).map(|i| x.bf16(row, i)).collect();
            let half = k / 32 * 16;
            let sum = match kind {
                Kind::Idle => continue,
                Kind::Shared => {
                    chain(core, 0.0, &a[..half], &b[..half])
                        + chain(core, 0.0, &a[half..], &b[half..])
                }
                Kind::Downward => {
                    a.reverse();
                    b.reverse();
                    let sum = chain(core, 0.0, &a, &b);
                    b.reverse();
                    sum
                }
                _ => chain(core, 0.0, &a, &b),
            };
            let sum = if kind == Kind::Flushes && sum.is_subnormal() { 0.0 } else { sum };
            let last = (row + 1, column + 1) == (out.rows, out.columns);
            out.put(row, column, sum, beta, u32::from(kind == Kind::OneBit && last));
        }
    }
}

const NOT_STARTED: c_int = 1;
const INVALID: c_int = 7;
const EXECUTION_FAILED: c_int = 13;
