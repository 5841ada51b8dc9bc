//! The rules of ARCHITECTURE.md that a machine can check.

use std::fs;
use std::path::Path;
use std::path::PathBuf;

/// Modules from the bottom up. A module may import those on earlier lines.
const LAYERS: &[&[&str]] = &[
    &["crypto", "metrics", "plot", "rng", "tensor"],
    &["codec", "ops", "protocol"],
    &["aggregate", "backend", "data", "model", "privacy"],
    &["collective", "optim"],
    &["bench", "checkpoint", "export"],
    &["shard"],
    &["train"],
    &["audit", "diloco", "gossip"],
    &["launch", "node", "report", "watch"],
    &["simulate"],
    &["config"],
    &["cli"],
];

/// Modules with few doors: who may import them.
const ONLY_FROM: &[(&str, &[&str])] = &[("backend", &["collective", "cli"])];

/// Modules with few needs: what they may import.
const ONLY_IMPORTS: &[(&str, &[&str])] = &[("protocol", &["crypto", "rng"]), ("ops", &["tensor"])];

/// Exceptions to the layers: (importer, imported, why).
const ALSO_ALLOWED: &[(&str, &str, &str)] =
    &[("config", "backend", "only the type of its own [device] table")];

/// Where `unsafe` may stand, and `target_arch` or cargo features.
const UNSAFE: &[&str] = &["src/backend/", "src/collective/", "src/data/shard.rs", "src/crypto/"];
const CFG: &[&str] = &["src/backend/", "src/collective/", "src/lib.rs"];

/// Files that may exceed [`MAX_LINES`], and why.
const LONG_FILES: &[(&str, &str)] = &[];
const MAX_LINES: usize = 500;
const MAX_TEST_LINES: usize = 800;

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &["utils", "util", "common", "helpers", "misc", "manager", "types"];

fn sources(dir: &str, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![PathBuf::from(dir)];
    while let Some(dir) = dirs.pop() {
        let Ok(entries) = fs::read_dir(&dir) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Top-level module of a file under src/, or `None` for lib.rs and main.rs.
fn module_of(path: &Path) -> Option<String> {
    let first = path.strip_prefix("src").unwrap().components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!["lib", "main"].contains(&name)).then(|| name.to_owned())
}

fn layer_of(module: &str) -> usize {
    LAYERS
        .iter()
        .position(|layer| layer.contains(&module))
        .unwrap_or_else(|| panic!("module `{module}` has no layer in tests/architecture.rs"))
}

fn allowed(module: &str, used: &str) -> bool {
    if ALSO_ALLOWED.iter().any(|(from, to, _)| *from == module && *to == used) {
        return true;
    }
    let listed = |table: &[(&str, &[&str])], key: &str, value: &str| {
        table.iter().find(|(k, _)| *k == key).is_none_or(|(_, list)| list.contains(&value))
    };
    layer_of(used) < layer_of(module)
        && listed(ONLY_FROM, used, module)
        && listed(ONLY_IMPORTS, module, used)
}

fn inside(path: &Path, places: &[&str]) -> bool {
    places.iter().any(|p| path.to_str().unwrap().starts_with(p))
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for path in sources("src", "rs") {
        let Some(module) = module_of(&path) else { continue };
        for (i, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap();
            // `$crate::` stands in macros that expand within their own module.
            for used in code.replace("$crate::", "").split("crate::").skip(1) {
                let word = |c: &char| c.is_alphanumeric() || *c == '_';
                let used: String = used.chars().take_while(word).collect();
                if used.is_empty() {
                    wrong.push(format!("{}:{}: one module per import", path.display(), i + 1));
                } else if used != module && !allowed(&module, &used) {
                    wrong.push(format!("{}:{}: {module} imports {used}", path.display(), i + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_and_cfg_stay_behind_the_doors() {
    let mut wrong = Vec::new();
    for path in sources("src", "rs") {
        for (i, line) in read(&path).lines().enumerate() {
            let code = line.split("//").next().unwrap();
            let has = |what: &str| code.contains(what);
            let unsafe_code = ["unsafe {", "unsafe fn", "unsafe impl"].iter().any(|w| has(w));
            if unsafe_code && !inside(&path, UNSAFE) {
                wrong.push(format!("{}:{}: unsafe", path.display(), i + 1));
            }
            let cfg = has("cfg(feature") || has("cfg(not(feature") || has("target_arch");
            if cfg && !inside(&path, CFG) {
                wrong.push(format!("{}:{}: cfg", path.display(), i + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_operation_has_its_mirrors() {
    let mut missing = Vec::new();
    for contract in sources("src/ops", "rs") {
        let name = contract.file_stem().unwrap().to_str().unwrap().to_owned();
        if name == "mod" {
            continue;
        }
        for places in [
            vec![format!("src/backend/cpu/{name}.rs"), format!("src/backend/cpu/{name}/mod.rs")],
            vec![format!("tests/ops/{name}.rs"), format!("tests/ops/{name}/mod.rs")],
            vec![format!("src/bench/{name}.rs")],
        ] {
            if !places.iter().any(|p| Path::new(p).exists()) {
                missing.push(format!("{} lacks {}", contract.display(), places.join(" or ")));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

#[test]
fn files_stay_short() {
    let long = |dirs: &[(&str, &str)], max: usize| -> Vec<String> {
        dirs.iter()
            .flat_map(|(dir, extension)| sources(dir, extension))
            .filter(|p| !LONG_FILES.iter().any(|(file, _)| Path::new(file) == p))
            .map(|p| (read(&p).lines().count(), p))
            .filter(|(lines, _)| *lines > max)
            .map(|(lines, p)| format!("{} has {lines} lines; at most {max}", p.display()))
            .collect()
    };
    let mut wrong = long(&[("src", "rs"), ("kernels", "cu"), ("kernels", "cuh")], MAX_LINES);
    wrong.extend(long(&[("tests", "rs"), ("benches", "rs")], MAX_TEST_LINES));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn names_say_something() {
    for path in sources("src", "rs") {
        for part in path.components() {
            let part = part.as_os_str().to_str().unwrap();
            let name = part.strip_suffix(".rs").unwrap_or(part);
            assert!(!EMPTY_NAMES.contains(&name), "{}: choose a telling name", path.display());
        }
    }
}

#[test]
fn protocol_numbers_and_global_state_stay_out() {
    for path in sources("src", "rs") {
        let text = read(&path);
        for word in ["static mut", "lazy_static!", "thread_rng", "rand::random"] {
            assert!(!text.contains(word), "{}: `{word}`", path.display());
        }
    }
}
