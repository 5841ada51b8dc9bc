//! Pictures on a terminal, until somebody has seen enough. The terminal is left as it was, whatever ends
//! it: a key, a signal, an error or a panic.

use std::env;
use std::io;
use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;
use std::time::Instant;

use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use ratatui::crossterm::event::Event;
use ratatui::crossterm::event::KeyCode;
use ratatui::crossterm::event::KeyModifiers;
use signal_hook::consts::SIGHUP;
use signal_hook::consts::SIGINT;
use signal_hook::consts::SIGTERM;

use super::Error;
use super::Watched;
use super::frame;

/// Shows `watched` until q, Esc or Ctrl-C, or a signal, which then ends the process as it would have.
pub fn live(watched: &mut Watched) -> Result<(), Error> {
    check()?;
    let signal = Arc::new(AtomicUsize::new(0));
    for number in [SIGINT, SIGTERM, SIGHUP] {
        let registered = signal_hook::flag::register_usize(number, signal.clone(), number as usize);
        registered.map_err(Error::Terminal)?;
    }
    // Before the terminal is taken: it can wait for a GPU's driver, or fail.
    watched.refresh()?;
    let mut screen = Screen::take().map_err(Error::Terminal)?;
    let shown = show(watched, &mut screen, &signal);
    drop(screen);
    let number = signal.load(Ordering::Relaxed);
    if number != 0 {
        signal_hook::low_level::emulate_default_handler(number as i32).map_err(Error::Terminal)?;
    }
    shown
}

/// Whether there is a terminal to draw on and to take keys from.
fn check() -> Result<(), Error> {
    let why = match () {
        _ if !io::stdout().is_terminal() => "standard output is no terminal",
        _ if !io::stdin().is_terminal() => "standard input is no terminal",
        _ if env::var_os("TERM").is_some_and(|name| name == "dumb") => {
            "this terminal (TERM=dumb) cannot draw"
        }
        _ => return Ok(()),
    };
    Err(Error::NoTerminal { why })
}

/// The terminal while it is ours.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        // A panic gives the terminal back before it prints.
        match ratatui::try_init() {
            Ok(terminal) => Ok(Self(terminal)),
            Err(error) => {
                let _ = ratatui::try_restore();
                Err(error)
            }
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Where the terminal is gone, there is nothing to give back.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}

fn show(watched: &mut Watched, screen: &mut Screen, signal: &AtomicUsize) -> Result<(), Error> {
    let mut read = Instant::now();
    while signal.load(Ordering::Relaxed) == 0 {
        if read.elapsed() >= PERIOD {
            watched.refresh()?;
            read = Instant::now();
        }
        let draw = |f: &mut ratatui::Frame<'_>| frame::draw(&watched.now, f.area(), f.buffer_mut());
        screen.0.draw(draw).map_err(Error::Terminal)?;
        let until = Instant::now() + PERIOD;
        while signal.load(Ordering::Relaxed) == 0 {
            let left = until.saturating_duration_since(Instant::now()).min(BLINK);
            match event::poll(left) {
                Ok(false) if Instant::now() >= until => break,
                Ok(false) => continue,
                Ok(true) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(Error::Terminal(e)),
            }
            match event::read().map_err(Error::Terminal)? {
                event if is_end(&event) => return Ok(()),
                Event::Resize(..) => break,
                _ => {}
            }
        }
    }
    Ok(())
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    match key.code {
        KeyCode::Char('q' | 'Q') | KeyCode::Esc => true,
        KeyCode::Char('c') => key.modifiers.contains(KeyModifiers::CONTROL),
        _ => false,
    }
}

/// Between two readings.
const PERIOD: Duration = Duration::from_millis(500);
/// So soon a signal is noticed.
const BLINK: Duration = Duration::from_millis(100);
