//! Compiles `kernels/*.cu` with nvcc to one fatbin a file, to be embedded in the program.
//!
//! nvcc is the one that NVCC names, else that of `scripts/setup-cuda.sh`, else the one on PATH.
//! Without any the set of kernels is empty, with a warning: the program then runs on CPUs only.

use std::env;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Mutex;
use std::time::SystemTime;

/// Machine code for Ampere (and Ada) and for Hopper, where `a` admits wgmma and TMA; PTX for all
/// others, compiled by their driver.
const ARCHITECTURES: &[(&str, &str)] =
    &[("compute_80", "sm_80"), ("compute_90a", "sm_90a"), ("compute_80", "compute_80")];

/// No contraction, no flush to zero, IEEE division and root: docs/ARITHMETIC.md section 1.
const FLAGS: &[&str] = &[
    "-std=c++17",
    "-O3",
    "--fmad=false",
    "-ftz=false",
    "-prec-div=true",
    "-prec-sqrt=true",
    "-Xptxas",
    "-v",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=kernels");
    println!("cargo::rerun-if-env-changed=NVCC");
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or("OUT_DIR is not set")?).join("kernels");
    fs::create_dir_all(&out)?;
    let sources = files("kernels", "cu")?;
    let (built, compiler) = match nvcc() {
        None => {
            println!(
                "cargo::warning=built without kernels for GPUs: there is no nvcc; \
                 scripts/setup-cuda.sh installs one"
            );
            (Vec::new(), String::new())
        }
        Some(nvcc) => {
            println!("cargo::rerun-if-changed={}", nvcc.display());
            compile(&nvcc, &sources, &out)?;
            (sources, version(&nvcc))
        }
    };
    fs::write(out.join("embedded.rs"), embedded(&built, &out, &compiler))?;
    Ok(())
}

/// The compiler to use.
fn nvcc() -> Option<PathBuf> {
    if let Some(named) = env::var_os("NVCC").filter(|name| !name.is_empty()) {
        return Some(named.into());
    }
    let installed = Path::new("target/cuda/nvidia/cu13/bin/nvcc");
    let on_path = env::var_os("PATH").unwrap_or_default();
    let on_path = env::split_paths(&on_path).map(|folder| folder.join("nvcc"));
    [installed.to_owned()].into_iter().chain(on_path).find(|nvcc| nvcc.is_file())
}

/// `13.0.88`, as nvcc says it.
fn version(nvcc: &Path) -> String {
    let said = Command::new(nvcc).arg("--version").output();
    let said = said.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    let number = said.split(", V").nth(1).and_then(|rest| rest.split_whitespace().next());
    number.unwrap_or("of unknown version").to_owned()
}

/// Compiles what has changed, as many files at a time as cargo allows.
fn compile(nvcc: &Path, sources: &[PathBuf], out: &Path) -> Result<(), Box<dyn Error>> {
    let mut newest = changed(Path::new("build.rs"))?.max(changed(nvcc)?);
    for header in files("kernels", "cuh")? {
        newest = newest.max(changed(&header)?);
    }
    let stale = |source: &&PathBuf| {
        let fatbin = changed(&out.join(stem(source)).with_extension("fatbin"));
        let source = changed(source).unwrap_or(SystemTime::now()).max(newest);
        fatbin.map_or(true, |fatbin| fatbin <= source)
    };
    let left = Mutex::new(sources.iter().filter(stale).collect::<Vec<_>>());
    let failures = Mutex::new(Vec::new());
    let jobs = env::var("NUM_JOBS").ok().and_then(|n| n.parse().ok()).unwrap_or(1usize);
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some(source) = pop(&left) {
                    if let Err(why) = compile_one(nvcc, source, out) {
                        push(&failures, format!("{}: {why}", source.display()));
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap_or_default();
    if failures.is_empty() { Ok(()) } else { Err(failures.join("\n").into()) }
}

/// One file; what the compiler reports is kept beside its output, for scripts/check-kernels.sh.
fn compile_one(nvcc: &Path, source: &Path, out: &Path) -> Result<(), Box<dyn Error>> {
    let fatbin = out.join(stem(source)).with_extension("fatbin");
    let unfinished = out.join(stem(source)).with_extension("unfinished");
    let mut command = Command::new(nvcc);
    command.args(FLAGS).arg("-fatbin").arg("-o").arg(&unfinished).arg(source);
    for (virtual_machine, code) in ARCHITECTURES {
        command.arg(format!("-gencode=arch={virtual_machine},code={code}"));
    }
    let output = command.output().map_err(|e| format!("{} does not start: {e}", nvcc.display()))?;
    let report = String::from_utf8_lossy(&output.stderr);
    fs::write(out.join(stem(source)).with_extension("report"), report.as_bytes())?;
    if !output.status.success() {
        return Err(format!("{command:?}\n{report}").into());
    }
    fs::rename(unfinished, fatbin)?;
    Ok(())
}

/// The Rust source that embeds the fatbins.
fn embedded(built: &[PathBuf], out: &Path, compiler: &str) -> String {
    let entries: String = built
        .iter()
        .map(|source| {
            let name = stem(source);
            let fatbin = out.join(&name).with_extension("fatbin");
            format!("    ({name:?}, include_bytes!({fatbin:?})),\n")
        })
        .collect();
    let architectures: Vec<_> = ARCHITECTURES.iter().map(|(_, code)| code).collect();
    format!(
        "/// Each file of kernels/, without its extension, and its fatbin.\n\
         pub const FATBINS: &[(&str, &[u8])] = &[\n{entries}];\n\
         /// What they hold code for.\n\
         pub const ARCHITECTURES: &[&str] = &{architectures:?};\n\
         /// Version of the nvcc that compiled them; empty without one.\n\
         pub const COMPILER: &str = {compiler:?};\n"
    )
}

/// The files of `folder` with `extension`, sorted.
fn files(folder: &str, extension: &str) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(|e| format!("{folder}: {e}"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn stem(path: &Path) -> String {
    path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn changed(path: &Path) -> Result<SystemTime, Box<dyn Error>> {
    let time = fs::metadata(path).and_then(|m| m.modified());
    time.map_err(|e| format!("{}: {e}", path.display()).into())
}

fn pop<T>(list: &Mutex<Vec<T>>) -> Option<T> {
    list.lock().ok()?.pop()
}

fn push<T>(list: &Mutex<Vec<T>>, item: T) {
    if let Ok(mut list) = list.lock() {
        list.push(item);
    }
}
