//! Completions in a real bash, and manual pages through a real `man` formatter.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::process::Output;

use crate::process::PROGRAM;
use crate::process::neuroshard;

/// Runs a tool if this machine has it; says loudly that it has not.
fn tool(name: &str, args: &[&str]) -> Option<Output> {
    let ran = Command::new(name).args(args).env("PROGRAM", PROGRAM).output();
    if ran.is_err() {
        eprintln!("SKIPPED: there is no {name} here, and what it would say is not checked");
    }
    ran.ok()
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(err));
    assert!(err.is_empty(), "{}", String::from_utf8_lossy(err));
    String::from_utf8_lossy(out).into_owned()
}

/// What bash offers for a line, whose last word is under way.
fn offered(script: &Path, words: &[&str]) -> Option<Vec<String>> {
    let ask = r#"
        source "$1"; shift
        complete -p neuroshard | grep -q -- '-F _neuroshard' || { echo "nothing is registered" >&2; exit 1; }
        COMP_WORDS=(neuroshard "$@"); COMP_CWORD=$#
        _neuroshard neuroshard "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    let args = ["--noprofile", "--norc", "-c", ask, "bash", script.to_str().unwrap()];
    let output = tool("bash", &[&args, words].concat())?;
    Some(said(&output).lines().map(str::to_owned).collect())
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let temp = tempfile::tempdir().unwrap();
    let script = temp.path().join("neuroshard.bash");
    fs::write(&script, neuroshard(&["completions", "bash"]).ok().stdout).unwrap();
    let cases: [(&[&str], &[&str]); 5] = [
        (&["tr"], &["train"]),
        (&["train", "--res"], &["--resume"]),
        (&["checkpoint", "ve"], &["verify"]),
        (&["data", "prepare", "--voc"], &["--vocab-size"]),
        (&["completions", "f"], &["fish"]),
    ];
    for (words, expected) in cases {
        let Some(offered) = offered(&script, words) else { return };
        assert_eq!(offered, expected, "{words:?}");
    }
}

#[test]
fn every_shell_is_served() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = neuroshard(&["completions", shell]).ok().stdout;
        for word in ["neuroshard", "simulate", "tensor-core", "micro-batch", "reference"] {
            assert!(script.contains(word), "{shell}: no {word}");
        }
    }
    neuroshard(&["completions", "tcsh"]).refused(2, &["tcsh", "bash", "fish"]);
}

#[test]
fn every_command_has_a_manual_page() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("share/man1");
    neuroshard(&["man", "--out", dir.to_str().unwrap()]).ok();
    let mut commands = vec![Vec::new()];
    let mut pages = Vec::new();
    while let Some(command) = commands.pop() {
        let help = neuroshard(
            &[&command[..], &["--help".to_owned()]]
                .concat()
                .iter()
                .map(|s| &s[..])
                .collect::<Vec<_>>(),
        );
        let help = help.ok().stdout;
        let page =
            ["neuroshard".to_owned()].iter().chain(&command).cloned().collect::<Vec<_>>().join("-");
        check_page(&dir.join(format!("{page}.1")), &page, &help);
        pages.push(format!("{page}.1"));
        for below in listed(&help, "Commands:") {
            if below != "help" {
                commands.push([&command[..], &[below]].concat());
            }
        }
    }
    let mut there: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    pages.sort();
    assert_eq!(there, pages);
    assert!(
        pages.len() > 20 && pages.contains(&"neuroshard-data-prepare.1".to_owned()),
        "{pages:?}"
    );
}

/// The first words of the lines of a section of a help text.
fn listed(help: &str, section: &str) -> Vec<String> {
    let lines = help.lines().skip_while(|line| *line != section).skip(1);
    let lines = lines
        .take_while(|line| !line.is_empty())
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    lines.map(|line| line.split_whitespace().next().unwrap().to_owned()).collect()
}

/// A page names its command, and shows every flag that the help has.
fn check_page(path: &Path, name: &str, help: &str) {
    let source = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    for heading in [".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH DESCRIPTION", ".SH OPTIONS"] {
        assert!(source.contains(heading), "{name}: no {heading}");
    }
    // Wide lines with nothing hyphenated or stretched, so that words can be found.
    let wide = ["-rLL=300n", "-rHY=0", "-dAD=l"];
    let plain = ["-man", "-Tutf8", "-ww", "-P-cbou"];
    let args = [&plain[..], &wide, &[path.to_str().unwrap()]].concat();
    let Some(output) = tool("groff", &args) else { return };
    let page = said(&output);
    let flags = help
        .lines()
        .filter(|line| line.trim_start().starts_with("--") || line.trim_start().starts_with("-h"));
    for flag in flags.filter_map(|line| line.split_whitespace().find(|word| word.starts_with("--")))
    {
        assert!(page.contains(flag), "{name}: no {flag} in\n{page}");
    }
    assert!(page.contains(&format!("{name} - ")), "{page}");
}

#[test]
fn pages_that_cannot_be_written_are_named() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("a-file");
    fs::write(&file, "").unwrap();
    let under = file.join("man1");
    neuroshard(&["man", "--out", under.to_str().unwrap()])
        .refused(1, &["cannot make", "a-file/man1"]);
    neuroshard(&["man"]).refused(2, &["--out"]);
}
