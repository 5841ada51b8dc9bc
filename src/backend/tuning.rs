//! Launch parameters that change speed and never bits, and the files that hold them.
//!
//! `neuroshard bench kernels --sweep` measures which are fastest on a GPU and writes such a file;
//! `device.tuning` names it.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde::Serialize;

use crate::crypto::Domain;
use crate::crypto::Hash;

/// What a tuning file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tuning {
    /// The device it was measured on, as it describes itself.
    pub device: String,
    /// Version of the program that measured.
    pub version: String,
    /// The launch parameters.
    pub launch: Launches,
}

/// A launch parameter.
#[derive(Clone, Copy, Debug)]
pub struct Knob {
    /// Its key in the table `[launch]`.
    pub key: &'static str,
    /// The operation whose kernels it starts.
    pub op: &'static str,
    /// What it may be.
    pub values: &'static [usize],
}

/// Who computes matrix products of the `tc` profile; all give the same bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Products {
    /// The kernels of this program.
    Ours,
    /// cuBLASLt, wherever one of its algorithms has given the bits of ours.
    Cublaslt,
    /// Of these two the faster, measured when a shape first comes.
    #[default]
    Auto,
}

/// Each parameter: `key: operation, default of [values]`.
macro_rules! knobs {
    ($($(#[$doc:meta])* $key:ident: $op:literal, $default:literal of [$($value:literal),*];)*) => {
        /// The launch parameters: `[launch]` of a tuning file.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        pub struct Launches {
            $($(#[$doc])* pub $key: usize,)*
            /// Who computes matrix products of the `tc` profile.
            pub product: Products,
        }

        impl Default for Launches {
            fn default() -> Self {
                Self { $($key: $default,)* product: Products::default() }
            }
        }

        /// All launch parameters.
        pub const KNOBS: &[Knob] =
            &[$(Knob { key: stringify!($key), op: $op, values: &[$($value),*] },)*];

        impl Launches {
            /// The parameter called `key`; none if there is no such.
            pub fn get(&self, key: &str) -> Option<usize> {
                match key {
                    $(stringify!($key) => Some(self.$key),)*
                    _ => None,
                }
            }

            /// The same with another value of `key`, if there is such a parameter.
            pub fn with(mut self, key: &str, value: usize) -> Self {
                match key {
                    $(stringify!($key) => self.$key = value,)*
                    _ => {}
                }
                self
            }
        }
    };
}

knobs! {
    /// Rows, and warps, of a block of RMSNorm.
    rmsnorm_rows: "rmsnorm", 8 of [1, 2, 4, 8, 16];
    /// Threads of a block of SwiGLU.
    swiglu_threads: "swiglu", 256 of [64, 128, 256, 512, 1024];
    /// Threads of a block of rotary positions.
    rope_threads: "rope", 256 of [64, 128, 256, 512, 1024];
    /// Threads of a block of fill, add and the conversions.
    elementwise_threads: "elementwise", 256 of [64, 128, 256, 512, 1024];
    /// Threads of a block of AdamW, which has 4,096 elements.
    adamw_threads: "adamw", 256 of [64, 128, 256, 512, 1024];
    /// A row of bf16 logits up to so many KiB is kept in shared memory; 0: never.
    cross_entropy_cache_kib: "cross_entropy", 100 of [0, 50, 64, 100, 200];
    /// Threads of a block, a row, of the embedding's forward pass.
    embedding_threads: "embedding", 128 of [64, 128, 256, 512];
    /// Blocks of the embedding's backward pass at most, each with a class of tokens.
    embedding_blocks: "embedding", 256 of [64, 128, 256, 512, 1024];
}

impl Tuning {
    /// Reads the file at `path`; refuses unknown keys and impossible values.
    pub fn load(path: &Path) -> Result<Self, String> {
        let failed = |why: String| format!("{}: {why}; {REMEDY}", path.display());
        let size_bytes = fs::metadata(path).map_err(|e| failed(e.to_string()))?.len();
        if size_bytes > MAX_BYTES {
            return Err(failed(format!("{size_bytes} bytes; at most {MAX_BYTES}")));
        }
        let text = fs::read_to_string(path).map_err(|e| failed(e.to_string()))?;
        Self::from_toml(&text).map_err(failed)
    }

    /// Reads the text of a file.
    pub fn from_toml(text: &str) -> Result<Self, String> {
        let tuning: Self = toml::from_str(text).map_err(|e| e.message().replace('\n', "; "))?;
        for knob in KNOBS {
            let value = tuning.launch.get(knob.key).unwrap_or_default();
            if !knob.values.contains(&value) {
                return Err(format!("launch.{} = {value}; one of {:?}", knob.key, knob.values));
            }
        }
        Ok(tuning)
    }

    /// The text of a file.
    pub fn to_toml(&self) -> Result<String, String> {
        toml::to_string(self).map_err(|e| e.to_string())
    }

    /// Its identity, for the records of a run.
    pub fn hash(&self) -> Hash {
        Hash::of(Domain::Bench, format!("{self:?}").as_bytes())
    }

    /// Whether it was measured on a device that describes itself so, whatever its number.
    pub fn is_for(&self, device: &str) -> bool {
        name(&self.device) == name(device)
    }
}

/// `NVIDIA H200` of `cuda:0 NVIDIA H200`.
fn name(device: &str) -> &str {
    match device.split_once(' ') {
        Some((place, name)) if place.starts_with("cuda:") => name,
        _ => device,
    }
}

/// Longer files are no tuning files.
const MAX_BYTES: u64 = 1 << 16;
const REMEDY: &str = "`neuroshard bench kernels --sweep` writes one";

#[cfg(test)]
mod tests {
    use super::*;

    fn tuning() -> Tuning {
        let launch = Launches::default().with("rope_threads", 512);
        Tuning { device: "cuda:0 NVIDIA H200".into(), version: "1".into(), launch }
    }

    #[test]
    fn a_file_is_read_as_written() {
        let text = tuning().to_toml().unwrap();
        assert_eq!(Tuning::from_toml(&text).unwrap(), tuning());
        assert_ne!(tuning().hash(), Tuning { launch: Launches::default(), ..tuning() }.hash());
    }

    #[test]
    fn unknown_keys_and_impossible_values_are_refused() {
        let text = tuning().to_toml().unwrap();
        let wrong = Tuning::from_toml(&text.replace("rope_threads", "rope_thread")).unwrap_err();
        assert!(wrong.contains("rope_thread"), "{wrong}");
        let wrong = Tuning::from_toml(&text.replace("= 512", "= 500")).unwrap_err();
        assert!(wrong.contains("launch.rope_threads = 500"), "{wrong}");
    }

    #[test]
    fn who_computes_products_is_a_word() {
        let file = |line: &str| {
            Tuning::from_toml(&format!("device = \"x\"\nversion = \"1\"\n[launch]\n{line}\n"))
        };
        assert_eq!(file("").unwrap().launch.product, Products::Auto);
        assert_eq!(file("product = \"ours\"").unwrap().launch.product, Products::Ours);
        assert_eq!(file("product = \"cublaslt\"").unwrap().launch.product, Products::Cublaslt);
        let wrong = file("product = \"cublas\"").unwrap_err();
        assert!(wrong.contains("cublas"), "{wrong}");
    }

    #[test]
    fn defaults_are_among_the_values_and_devices_have_names() {
        for knob in KNOBS {
            let default = Launches::default().get(knob.key).unwrap();
            assert!(knob.values.contains(&default), "{knob:?}");
        }
        assert!(tuning().is_for("cuda:3 NVIDIA H200"));
        assert!(!tuning().is_for("cuda:0 NVIDIA H100"));
    }
}
