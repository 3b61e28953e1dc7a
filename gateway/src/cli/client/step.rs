//! `--step`: what the user types lets rows come.

use std::io::BufRead;

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::wire::Pace;

/// The id of the only subscription of the socket.
pub(super) const ID: &str = "1";
/// Lines that were typed and not looked at; then no more are read.
const WAITING_LINES: usize = 16;
const HELP: &str = "Enter: the next row; a number: so many; c: go on; p: pause; q: end";

/// A replay that comes step by step.
pub(super) struct Steps {
    lines: mpsc::Receiver<String>,
    /// Rows come by themselves.
    goes_on: bool,
    /// The server has yet to say that what was asked last is done.
    asked: bool,
    /// The user knows what can be typed.
    helped: bool,
}

impl Steps {
    /// Steps by the lines of standard input.
    pub(super) fn from_stdin() -> Self {
        let (sender, lines) = mpsc::channel(WAITING_LINES);
        // Reading from a terminal cannot be interrupted: the thread ends with its next line, or with the process.
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if sender.blocking_send(line).is_err() {
                    return;
                }
            }
        });
        Self { lines, goes_on: false, asked: true, helped: false }
    }

    /// Whether a subscription, the first or one after the connection was lost, begins with a pause.
    pub(super) fn begins_paused(&self) -> bool {
        !self.goes_on
    }

    /// The server says where it stands.
    pub(super) fn told(&mut self, pace: &Pace) {
        self.asked = false;
        self.goes_on = !pace.paused;
        if !pace.paused {
            return;
        }
        let moment = pace.event_time.as_deref().map_or_else(String::new, |moment| format!(", {moment}"));
        eprintln!("paused at {}{moment}", pace.position);
        if !std::mem::replace(&mut self.helped, true) {
            eprintln!("{HELP}");
        }
    }

    /// The message that a line stands for; null: none. `None`: the user has enough.
    fn message(&mut self, line: &str) -> Option<Value> {
        let line = line.trim();
        let rows = line.strip_prefix("n ").unwrap_or(line).trim().parse::<u64>();
        let message = match (line, rows) {
            ("", _) => json!({"type": "step", "id": ID}),
            (_, Ok(rows)) => json!({"type": "step", "id": ID, "rows": rows}),
            ("n", _) => json!({"type": "step", "id": ID}),
            ("c", _) => json!({"type": "continue", "id": ID}),
            ("p", _) => json!({"type": "pause", "id": ID}),
            ("q", _) => return None,
            _ => {
                eprintln!("{HELP}");
                return Some(Value::Null);
            }
        };
        self.asked = true;
        Some(message)
    }
}

/// The next message that the user wants sent; `None`: the user has enough. Without steps, and while the last ones are
/// not done, it waits for ever.
pub(super) async fn typed(steps: &mut Option<Steps>) -> Option<Value> {
    let Some(steps) = steps.as_mut().filter(|steps| !steps.asked) else { return std::future::pending().await };
    loop {
        let Some(line) = steps.lines.recv().await else {
            if steps.goes_on {
                // Nothing more is typed; the rest comes by itself.
                return std::future::pending().await;
            }
            return None;
        };
        match steps.message(&line) {
            Some(Value::Null) => {}
            message => return message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_be_typed() {
        let (_sender, lines) = mpsc::channel(1);
        let mut steps = Steps { lines, goes_on: false, asked: false, helped: true };
        assert_eq!(steps.message(""), Some(json!({"type": "step", "id": "1"})));
        assert!(steps.asked);
        assert_eq!(steps.message("n 10"), Some(json!({"type": "step", "id": "1", "rows": 10})));
        assert_eq!(steps.message(" 3 "), Some(json!({"type": "step", "id": "1", "rows": 3})));
        assert_eq!(steps.message("c"), Some(json!({"type": "continue", "id": "1"})));
        assert_eq!(steps.message("what?"), Some(Value::Null));
        assert_eq!(steps.message("q"), None);
    }
}
