//! A line on the terminal while a run takes long.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use squilla_engine::Engine;

use super::stats::Totals;

/// How often the line is drawn, and aligned columns shown.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// A run shorter than this shows no line.
const SILENT: Duration = Duration::from_secs(1);

/// The line, when there is somebody to see it.
pub(super) struct ProgressLine {
    started: Instant,
    wanted: bool,
    bar: Option<ProgressBar>,
    last: (Instant, u64),
}

impl ProgressLine {
    /// A line if standard error is a terminal and rows do not go to one.
    pub(super) fn new(started: Instant, rows_shown: bool) -> Self {
        let rows_on_terminal = rows_shown && std::io::stdout().is_terminal();
        let wanted = std::io::stderr().is_terminal() && !rows_on_terminal;
        Self { started, wanted, bar: None, last: (started, 0) }
    }

    /// Draws it anew.
    pub(super) fn tick(&mut self, engine: &Engine, rows_out: u64, watermark: Option<&str>) {
        if !self.wanted || self.started.elapsed() < SILENT {
            return;
        }
        let events_in = Totals::of(engine, &[]).events_in;
        let now = Instant::now();
        let seconds = now.duration_since(self.last.0).as_secs_f64().max(1e-9);
        let per_second = events_in.saturating_sub(self.last.1) as f64 / seconds;
        self.last = (now, events_in);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(ProgressStyle::with_template("{spinner} {msg}").expect("the template is right"));
            bar
        });
        let watermark = watermark.map(|text| format!(", event time {text}")).unwrap_or_default();
        bar.set_message(format!("{events_in} rows in ({per_second:.0}/s), {rows_out} rows out{watermark}"));
        bar.tick();
    }

    /// Takes it away.
    pub(super) fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
