//! `watch` on a real pseudo-terminal, and in a pipe.

use std::fs;
use std::fs::File;
use std::fs::OpenOptions;
use std::io::Read;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::Mutex;
use std::thread::sleep;
use std::time::Duration;
use std::time::Instant;

use rustix::pty;
use rustix::pty::OpenptFlags;
use rustix::termios;
use rustix::termios::Termios;
use rustix::termios::Winsize;

use crate::process::PROGRAM;
use crate::process::neuroshard;
use crate::process::train;

/// A line of a step.
fn line(step: u64, loss: f64) -> String {
    format!("{{\"kind\":\"step\",\"step\":{step},\"loss\":{loss},\"step_ms\":10.0}}\n")
}

/// A run whose lines a test writes.
fn made(dir: &Path, steps: u64) -> PathBuf {
    fs::write(dir.join("config.toml"), "[train]\nsteps = 50\neval_every = 0\n").unwrap();
    let lines: String = (1..=steps).map(|step| line(step, 555.55)).collect();
    fs::write(dir.join("metrics.jsonl"), lines).unwrap();
    dir.join("metrics.jsonl")
}

/// The program on a terminal of its own.
struct OnTerminal {
    child: Child,
    keys: File,
    /// The other end, as the program has it.
    tty: File,
    before: Termios,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl OnTerminal {
    fn start(folder: &Path) -> Self {
        let main = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        pty::grantpt(&main).unwrap();
        pty::unlockpt(&main).unwrap();
        let name = pty::ptsname(&main, Vec::new()).unwrap();
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(0o400); // O_NOCTTY
        let tty = options.open(name.to_str().unwrap()).unwrap();
        let size = Winsize { ws_row: 30, ws_col: 110, ws_xpixel: 0, ws_ypixel: 0 };
        termios::tcsetwinsize(&tty, size).unwrap();
        let before = termios::tcgetattr(&tty).unwrap();
        let end = || Stdio::from(tty.try_clone().unwrap());
        let mut command = Command::new(PROGRAM);
        command.arg("watch").arg(folder).env("TERM", "xterm-256color");
        let child = command.stdin(end()).stdout(end()).stderr(Stdio::piped()).spawn().unwrap();
        let (keys, seen) = (File::from(main), Arc::new(Mutex::new(Vec::new())));
        let (mut screen, into) = (keys.try_clone().unwrap(), seen.clone());
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = screen.read(&mut piece) {
                into.lock().unwrap().extend(&piece[..read]);
            }
        });
        Self { child, keys, tty, before, seen }
    }

    /// Everything that was written so far.
    fn written(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits for a word; spaces between words are leaps of the cursor.
    #[track_caller]
    fn wait_for(&self, words: &str) {
        let started = Instant::now();
        while !self.written().contains(words) {
            let late = started.elapsed() > Duration::from_secs(20);
            assert!(!late, "waited in vain for {words}: {:?}", self.written());
            sleep(Duration::from_millis(5));
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.keys.write_all(keys).unwrap();
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// How it ended, with what it said; the terminal must be as it was.
    #[track_caller]
    fn end(mut self) -> (std::process::ExitStatus, String) {
        let status = self.child.wait().unwrap();
        let mut words = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut words).unwrap();
        assert!(!words.contains("panicked"), "{words}");
        self.wait_for("\u{1b}[?1049l");
        let written = self.written();
        let place = |what: &str| written.rfind(what);
        assert!(place("\u{1b}[?1049l") > place("\u{1b}[?1049h"), "the other screen stays");
        assert!(place("\u{1b}[?25h") > place("\u{1b}[?25l"), "the cursor is hidden");
        let after = termios::tcgetattr(&self.tty).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes, "echo and lines");
        assert_eq!(after.input_modes, self.before.input_modes);
        assert_eq!(after.output_modes, self.before.output_modes);
        (status, words)
    }
}

#[test]
fn keys_end_it_and_the_terminal_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), 20);
    for keys in [&b"q"[..], b"\x03", b"\x1b", b"xQ"] {
        let mut watch = OnTerminal::start(dir.path());
        watch.wait_for("(40%)");
        watch.press(keys);
        let (status, words) = watch.end();
        assert_eq!((status.code(), words.as_str()), (Some(0), ""), "{keys:?}");
    }
}

#[test]
fn signals_end_it_as_they_would_and_the_terminal_is_as_it_was() {
    use std::os::unix::process::ExitStatusExt;
    let dir = tempfile::tempdir().unwrap();
    made(dir.path(), 20);
    for (name, number) in [("-INT", 2), ("-TERM", 15), ("-HUP", 1)] {
        let watch = OnTerminal::start(dir.path());
        watch.wait_for("(40%)");
        watch.signal(name);
        assert_eq!(watch.end().0.signal(), Some(number), "{name}");
    }
}

#[test]
fn an_error_ends_it_with_words_and_the_terminal_is_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = made(dir.path(), 20);
    let watch = OnTerminal::start(dir.path());
    watch.wait_for("(40%)");
    fs::remove_file(&metrics).unwrap();
    fs::create_dir(&metrics).unwrap();
    let (status, words) = watch.end();
    assert_eq!(status.code(), Some(1));
    assert!(words.contains("cannot read") && words.contains("metrics.jsonl"), "{words}");
}

#[test]
fn it_follows_the_file_across_a_resume() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = made(dir.path(), 8);
    let mut file = OpenOptions::new().append(true).open(&metrics).unwrap();
    file.write_all((line(9, 444.44) + &line(10, 222.22)).as_bytes()).unwrap();
    let mut watch = OnTerminal::start(dir.path());
    watch.wait_for("222.22");
    // From here on only cells that change are written; all digits of the next losses do.
    file.write_all(line(11, 333.33).as_bytes()).unwrap();
    watch.wait_for("333");
    // A resume cuts the end off and goes on from there.
    file.set_len(8 * line(1, 555.55).len() as u64 + line(9, 444.44).len() as u64).unwrap();
    watch.wait_for("444");
    file.write_all(line(10, 777.77).as_bytes()).unwrap();
    watch.wait_for("777");
    watch.press(b"q");
    assert!(watch.end().0.success());
}

#[test]
fn one_picture_goes_into_a_pipe() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("run");
    train(&dir, &["train.eval_every=20"]).ok();
    let folder = dir.to_str().unwrap();
    let ran = neuroshard(&["watch", "--once", folder]).ok();
    for words in [
        "step 40 of 40 (100%), done",
        "held out    loss ",
        "checkpoint  00000040",
        "cpu ",
        "ms a step",
    ] {
        assert!(ran.stdout.contains(words), "no `{words}` in\n{}", ran.stdout);
    }
    assert!(!ran.stdout.contains('\u{1b}'), "{}", ran.stdout);
    let narrow = neuroshard(&["watch", "--once", "--width", "60", "--height", "20", folder]).ok();
    assert_eq!(narrow.stdout.lines().count(), 20);
    assert!(narrow.stdout.lines().all(|line| line.chars().count() <= 60));
}

#[test]
fn gpus_are_told_where_the_driver_tells() {
    let temp = tempfile::tempdir().unwrap();
    made(temp.path(), 3);
    let fake = temp.path().join("nvidia-smi");
    fs::write(&fake, "#!/bin/sh\necho '0, NVIDIA H200, 97, 61234, 143771'\n").unwrap();
    Command::new("chmod").arg("+x").arg(&fake).status().unwrap();
    let path = format!("{}:{}", temp.path().display(), std::env::var("PATH").unwrap());
    let mut command = Command::new(PROGRAM);
    let output = command.args(["watch", "--once"]).arg(temp.path()).env("PATH", path).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(text.contains("GPU 0       NVIDIA H200: 97% busy, 59.8 of 140.4 GiB"), "{text}");
}

#[test]
fn without_a_terminal_or_a_run_it_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_str().unwrap();
    neuroshard(&["watch", folder]).refused(1, &["has no run", "name the run.dir"]);
    neuroshard(&["watch", "--once", "no/such"]).refused(1, &["cannot read no/such"]);
    neuroshard(&["watch", "--width", "50", folder]).refused(2, &["--once"]);
    made(dir.path(), 1);
    neuroshard(&["watch", folder]).refused(1, &["no terminal", "watch --once"]);
}
