//! Commands to a running switch.
//!
//!     set NAME|all [delay=MS] [jitter=MS] [loss=FRACTION] [rate=MBIT] [queue=MS]
//!     cut A         nothing passes to or from A
//!     cut A B       nothing passes between A and B
//!     oneway A B    nothing passes from A to B
//!     heal          undoes every cut
//!     stat          prints what became of each host's frames

use super::switch::{Port, Switch};

/// Carries out a command; the answer is for its sender.
pub fn apply(text: &str, switch: &mut Switch) -> Result<String, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words.as_slice() {
        ["set", "all", settings @ ..] => {
            switch.ports.iter_mut().try_for_each(|port| set(port, settings))?;
        }
        ["set", name, settings @ ..] => {
            let port = find(switch, name)?;
            set(&mut switch.ports[port], settings)?;
        }
        ["cut", name] => {
            let port = find(switch, name)?;
            switch.ports[port].cut = true;
        }
        ["cut", a, b] => {
            let (a, b) = (find(switch, a)?, find(switch, b)?);
            switch.blocked.extend([(a, b), (b, a)]);
        }
        ["oneway", a, b] => {
            let pair = (find(switch, a)?, find(switch, b)?);
            switch.blocked.insert(pair);
        }
        ["heal"] => {
            switch.blocked.clear();
            switch.ports.iter_mut().for_each(|port| port.cut = false);
        }
        ["stat"] => return Ok(switch.ports.iter().map(line).collect()),
        _ => return Err(format!("`{text}` is none of set, cut, oneway, heal, stat")),
    }
    Ok(String::new())
}

fn find(switch: &Switch, name: &str) -> Result<usize, String> {
    let found = switch.ports.iter().position(|port| port.name == name);
    found.ok_or_else(|| format!("no host is called {name}"))
}

fn set(port: &mut Port, settings: &[&str]) -> Result<(), String> {
    for setting in settings {
        let parsed =
            setting.split_once('=').and_then(|(key, v)| Some((key, v.parse::<f64>().ok()?)));
        let (key, value) = parsed.ok_or_else(|| format!("`{setting}` is not KEY=NUMBER"))?;
        match key {
            "delay" => port.delay_s = value / 1e3,
            "jitter" => port.jitter_s = value / 1e3,
            "loss" => port.loss = value,
            "rate" => port.rate = value * 1e6,
            "queue" => port.queue_s = value / 1e3,
            _ => return Err(format!("`{key}` is none of delay, jitter, loss, rate, queue")),
        }
    }
    Ok(())
}

fn line(port: &Port) -> String {
    let c = &port.counts;
    format!(
        "{} sent {} received {} lost {} queue-full {} blocked {}\n",
        port.name, c.sent, c.received, c.lost, c.queue_full, c.blocked
    )
}
