//! Instruction sets, detected once. The only file that asks what the CPU can do.

use std::fmt;

#[cfg(target_arch = "x86_64")]
use crate::ops::Precision;

/// An instruction set this machine has: a value is proof of that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level(pub(super) Isa);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Isa {
    Portable,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    #[cfg(target_arch = "x86_64")]
    Avx512Bf16,
}

impl Level {
    /// Plain Rust: the canonical level, present everywhere.
    pub const PORTABLE: Self = Self(Isa::Portable);

    /// Every level this machine has, worst first.
    pub fn available() -> Vec<Self> {
        #[allow(unused_mut, reason = "other architectures have the portable level only")]
        let mut levels = vec![Self::PORTABLE];
        #[cfg(target_arch = "x86_64")]
        {
            use std::is_x86_feature_detected as has;
            if has!("avx2") && has!("fma") {
                levels.push(Self(Isa::Avx2));
                if has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl") {
                    levels.push(Self(Isa::Avx512));
                    if has!("avx512bf16") {
                        levels.push(Self(Isa::Avx512Bf16));
                    }
                }
            }
        }
        levels
    }

    /// The fastest of [`Self::available`]: the last one, but `avx512bf16` only where its products
    /// are faster than those of `avx512`: measured, since some CPUs run as many `vdpbf16ps` a cycle
    /// as FMAs (Zen 4) and some a quarter (Sapphire Rapids). Takes about a millisecond there.
    pub fn best() -> Self {
        let mut levels = Self::available();
        let best = levels.pop().unwrap_or(Self::PORTABLE);
        #[cfg(target_arch = "x86_64")]
        if best.0 == Isa::Avx512Bf16 {
            let pairs = super::peak::flops_per_s(best, Precision::Bf16);
            if pairs <= super::peak::fma_flops_per_s(best) {
                return levels.pop().unwrap_or(Self::PORTABLE);
            }
        }
        best
    }

    /// The level called `name` in a run file; `auto` is the fastest one.
    pub fn by_name(name: &str) -> Result<Self, String> {
        let available = Self::available();
        if name == "auto" {
            return Ok(Self::best());
        }
        if let Some(level) = available.iter().find(|l| l.name() == name) {
            return Ok(*level);
        }
        let have: Vec<_> = available.iter().map(|l| l.name()).collect();
        let have = have.join(", ");
        if NAMES.contains(&name) {
            return Err(format!("this CPU has no `{name}`; it has {have}; `auto` takes the best"));
        }
        Err(format!("no level is called `{name}`; this CPU has {have}; `auto` takes the best"))
    }

    /// Its name in a run file.
    pub fn name(self) -> &'static str {
        match self.0 {
            Isa::Portable => NAMES[0],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => NAMES[1],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => NAMES[2],
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512Bf16 => NAMES[3],
        }
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

const NAMES: [&str; 4] = ["portable", "avx2", "avx512", "avx512bf16"];

/// Calls the generic kernel `$f::<V>`, or `$f::<V, E>` with types `E` of the caller that the
/// arguments name (written `$f<E: Bound>`), compiled for `$level`; `$f` is an `unsafe fn` that requires
/// only that `V`'s instruction set is available (and what its own SAFETY section names, which the
/// caller of this macro states). May return a value.
macro_rules! at_level {
    ($level:expr, $f:ident $(<$($e:ident: $bound:path),*>)? ($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)?) => {{
        #[allow(unused_imports, reason = "lanes of other architectures are not there")]
        use $crate::backend::cpu::{lanes, level::Isa};

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma")]
        unsafe fn avx2 $(<$($e: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: avx2 and fma are enabled in this function; the rest is the caller's.
            unsafe { $f::<lanes::Avx2 $($(, $e)*)?>($($arg),*) }
        }

        #[cfg(target_arch = "x86_64")]
        #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
        unsafe fn avx512 $(<$($e: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: these features are enabled in this function; the rest is the caller's.
            unsafe { $f::<lanes::Avx512 $($(, $e)*)?>($($arg),*) }
        }

        unsafe fn portable $(<$($e: $bound),*>)? ($($arg: $ty),*) $(-> $ret)? {
            // SAFETY: the caller's.
            unsafe { $f::<lanes::Portable $($(, $e)*)?>($($arg),*) }
        }

        match $level.0 {
            // SAFETY: plain Rust has no requirement on the CPU.
            Isa::Portable => unsafe { portable($($arg),*) },
            // SAFETY: a `Level` holding this value is only made after detecting the features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2($($arg),*) },
            // SAFETY: a `Level` holding either value is only made after detecting the features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 | Isa::Avx512Bf16 => unsafe { avx512($($arg),*) },
        }
    }};
}
pub(super) use at_level;
