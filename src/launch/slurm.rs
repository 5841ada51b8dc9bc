//! A Slurm job script: `slurm/train.sbatch` with a job's own requests and settings.
//!
//! What the script does once it runs is taken from that file word by word, so that there is one
//! text to read, to test and to repair.

use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::Path;
use std::path::PathBuf;

use super::Error;
use super::quote::quote;

/// What a job asks for and runs.
#[derive(Clone, Debug)]
pub struct Job {
    /// In `squeue`, and at the start of the names of the job's files.
    pub name: String,
    /// Hosts.
    pub nodes: usize,
    /// Ranks on each host.
    pub tasks_per_node: usize,
    /// Cores of each rank.
    pub cpus_per_task: usize,
    /// GPUs of each host; 0: none.
    pub gpus_per_node: usize,
    /// Queue; none: the cluster's default.
    pub partition: Option<String>,
    /// Who pays; none: the user's default.
    pub account: Option<String>,
    /// Limit, as Slurm writes times: `30`, `12:00:00`, `2-00`.
    pub time: String,
    /// Image to run the ranks in.
    pub container: Option<PathBuf>,
    /// Environment modules to load, in order.
    pub modules: Vec<String>,
    /// The program.
    pub program: PathBuf,
    /// Folder of the run.
    pub run_dir: PathBuf,
    /// The run file.
    pub config: Option<PathBuf>,
    /// Settings over it, each `section.key=value`.
    pub sets: Vec<String>,
    /// One run for each line of a file.
    pub sweep: Option<Sweep>,
}

/// A file with the settings of one run on each line.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Where it is.
    pub file: PathBuf,
    /// Its lines to run, from 1.
    pub lines: RangeInclusive<usize>,
}

/// The text of the job's script. Refuses words that Slurm would misread, naming their option.
pub fn script(job: &Job) -> Result<String, Error> {
    let mut text = String::from("#!/usr/bin/env bash\n");
    let (program, version) = (env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let _ = writeln!(text, "# Written by `{program} launch slurm`, version {version}.\n");
    for directive in directives(job)? {
        let _ = writeln!(text, "#SBATCH --{directive}");
    }
    text.push('\n');
    let settings = settings(job)?;
    for (name, line) in template_settings() {
        match settings.iter().find(|(own, _)| *own == name) {
            Some((_, value)) => _ = writeln!(text, "{name}={}", quote(value)),
            None => _ = writeln!(text, "{line}"),
        }
    }
    let _ = writeln!(text, "set -- {} \"$@\"\n", arguments(job)?.join(" "));
    text.push_str(body());
    Ok(text)
}

/// Names and lines of the settings in `slurm/train.sbatch`: `NAME=${NAME:-default}`.
fn template_settings() -> impl Iterator<Item = (&'static str, &'static str)> {
    let head = &TEMPLATE[..TEMPLATE.len() - body().len()];
    head.lines().filter_map(|line| {
        let (name, value) = line.split_once('=')?;
        value.strip_prefix("${")?.strip_prefix(name)?.starts_with(":-").then_some((name, line))
    })
}

/// What `slurm/train.sbatch` does after its settings.
fn body() -> &'static str {
    let begin = TEMPLATE.find(BODY).unwrap_or(TEMPLATE.len());
    &TEMPLATE[begin..]
}

const TEMPLATE: &str = include_str!("../../slurm/train.sbatch");

/// The line of the template at which its body begins.
const BODY: &str = "# ---- What runs.";

/// The job's requests, without `#SBATCH --`.
fn directives(job: &Job) -> Result<Vec<String>, Error> {
    let mut lines = vec![
        format!("job-name={}", word("--name", &job.name)?),
        format!("nodes={}", job.nodes),
        format!("ntasks-per-node={}", job.tasks_per_node),
        format!("cpus-per-task={}", job.cpus_per_task),
    ];
    if job.gpus_per_node > 0 {
        lines.push(format!("gpus-per-node={}", job.gpus_per_node));
    }
    if let Some(partition) = &job.partition {
        lines.push(format!("partition={}", word("--partition", partition)?));
    }
    if let Some(account) = &job.account {
        lines.push(format!("account={}", word("--account", account)?));
    }
    lines.push(format!("time={}", time(&job.time)?));
    lines.push("signal=B:USR1@120".into());
    lines.push("requeue".into());
    let output = match &job.sweep {
        None => "output=%x-%j.out",
        Some(sweep) => {
            lines.push(format!("array={}-{}", sweep.lines.start(), sweep.lines.end()));
            "output=%x-%A-%a.out"
        }
    };
    lines.push(output.into());
    lines.push("open-mode=append".into());
    Ok(lines)
}

/// The settings of the template, by name.
fn settings(job: &Job) -> Result<Vec<(&'static str, String)>, Error> {
    let modules: Result<Vec<_>, _> = job.modules.iter().map(|m| word("--module", m)).collect();
    let path = |field, path: &Option<PathBuf>| match path {
        None => Ok(String::new()),
        Some(path) => utf8(field, path),
    };
    let sweep = job.sweep.as_ref().map(|sweep| sweep.file.clone());
    Ok(vec![
        ("NEUROSHARD", utf8("the program's path", &job.program)?),
        // The run file and its settings stand in the arguments below.
        ("CONFIG", String::new()),
        ("SETS", String::new()),
        ("RUN_DIR", utf8("run.dir", &job.run_dir)?),
        ("SWEEP", path("--array", &sweep)?),
        ("MODULES", modules?.join(" ")),
        ("CONTAINER", path("--container", &job.container)?),
    ])
}

/// The arguments of `neuroshard train`, quoted.
fn arguments(job: &Job) -> Result<Vec<String>, Error> {
    let mut words = Vec::new();
    if let Some(config) = &job.config {
        words.extend(["--config".to_owned(), quote(&utf8("--config", config)?)]);
    }
    for set in &job.sets {
        // The folder is a setting of the script, which must know it to find checkpoints.
        if !set.starts_with("run.dir=") {
            words.extend(["--set".to_owned(), quote(set)]);
        }
    }
    Ok(words)
}

/// A word that Slurm and the shell read as it stands.
fn word<'a>(field: &'static str, value: &'a str) -> Result<&'a str, Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "_-+./,:@%=".contains(c);
    if !value.is_empty() && value.chars().all(fits) && !value.starts_with('-') {
        return Ok(value);
    }
    let why = "is not a name that can stand in a job script: letters, digits and _-+./,:@%= only";
    Err(Error::Field { field, value: value.to_owned(), why: why.into() })
}

/// A time limit as Slurm writes it: minutes, minutes:seconds, hours:minutes:seconds, or days-hours
/// with minutes and seconds behind them.
fn time(value: &str) -> Result<&str, Error> {
    let number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let (days, rest) = value.split_once('-').unwrap_or(("0", value));
    let parts: Vec<&str> = rest.split(':').collect();
    if number(days) && parts.len() <= 3 && parts.iter().all(|part| number(part)) {
        return Ok(value);
    }
    let why = "is not a time limit; write minutes, H:MM:SS or D-HH, such as 90, 12:00:00 or 2-00";
    Err(Error::Field { field: "--time", value: value.to_owned(), why: why.into() })
}

fn utf8(field: &'static str, path: &Path) -> Result<String, Error> {
    path.to_str().map(str::to_owned).ok_or_else(|| Error::Field {
        field,
        value: path.display().to_string(),
        why: "is not valid UTF-8".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_has_every_setting_and_request() {
        assert!(body().starts_with(BODY) && body().contains("scontrol requeue"));
        let job = Job {
            name: "a".into(),
            nodes: 2,
            tasks_per_node: 2,
            cpus_per_task: 1,
            gpus_per_node: 2,
            partition: Some("gpu".into()),
            account: Some("project".into()),
            time: "01:00:00".into(),
            container: None,
            modules: vec![],
            program: "neuroshard".into(),
            run_dir: "runs/a".into(),
            config: None,
            sets: vec![],
            sweep: None,
        };
        let found: Vec<_> = template_settings().map(|(name, _)| name).collect();
        for (name, _) in settings(&job).unwrap() {
            assert!(found.contains(&name), "{name}");
        }
        // What the job does not know it leaves to the environment.
        let script = script(&job).unwrap();
        assert!(script.contains("\nLAUNCH=${LAUNCH:-}\n"), "{script}");
        assert!(script.contains("\nON_STOP=${ON_STOP:-requeue}\n"), "{script}");
        // The name of the job and its folder are the job's own.
        for line in directives(&job).unwrap().iter().skip(1) {
            assert!(TEMPLATE.contains(&format!("#SBATCH --{line}\n")), "{line}");
        }
    }

    #[test]
    fn times_are_those_of_slurm() {
        for good in ["30", "30:00", "12:00:00", "2-00", "2-12:30", "2-12:30:15"] {
            assert_eq!(time(good).unwrap(), good);
        }
        for bad in ["", "1h", "-1", "2-", "1:2:3:4", "1 2", "1:"] {
            assert!(time(bad).unwrap_err().to_string().starts_with("--time: "), "{bad}");
        }
    }
}
