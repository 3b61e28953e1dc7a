//! What is counted, for Prometheus.

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use squilla_engine::{CountersSnapshot, EventTime};

use super::Shared;
use crate::server::App;

/// The text format's name.
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What is counted, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "operation", responses((status = OK, body = String)))]
pub(super) async fn metrics(State(app): Shared) -> impl IntoResponse {
    ([(CONTENT_TYPE, FORMAT)], text(&app))
}

fn text(app: &App) -> String {
    let mut out = Metrics::default();
    jobs(app, &mut out);
    streams(app, &mut out);
    losses(app, &mut out);
    canary(app, &mut out);
    out.one("squilla_queries", "gauge", "Live queries.", app.service.queries().len());
    let traffic = &app.traffic;
    let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Relaxed);
    out.one("squilla_sockets", "gauge", "Open WebSockets.", traffic.sockets.load(Relaxed));
    let subscriptions = traffic.subscriptions.load(Relaxed);
    out.one("squilla_subscriptions", "gauge", "Subscriptions of clients, over any protocol.", subscriptions);
    out.one("squilla_sent_frames_total", "counter", "Frames of rows handed to clients.", count(&traffic.frames));
    out.one("squilla_sent_rows_total", "counter", "Rows handed to clients.", count(&traffic.rows));
    out.one("squilla_sent_bytes_total", "counter", "Bytes of rows handed to clients.", count(&traffic.bytes));
    out.one("squilla_encoded_frames_total", "counter", "Frames encoded; others were shared.", count(&traffic.encoded));
    out.one("squilla_gaps_total", "counter", "Gaps told to clients.", count(&traffic.gaps));
    out.one("squilla_gap_rows_total", "counter", "Rows in gaps of known size.", count(&traffic.gap_rows));
    let turned_away = count(&traffic.turned_away);
    out.one("squilla_connections_refused_total", "counter", "Connections beyond the limit.", turned_away);
    if let Some(bytes) = resident_bytes() {
        out.one("process_resident_memory_bytes", "gauge", "Memory of the process.", bytes);
    }
    out.text
}

fn jobs(app: &App, out: &mut Metrics) {
    let jobs = app.service.jobs();
    let labels = |job: &squilla_engine::JobInfo| vec![("job", job.id.clone()), ("kind", job.kind.clone())];
    out.family("squilla_job_rows_total", "counter", "Rows by what became of them.");
    for job in &jobs {
        for (outcome, rows) in outcomes(&job.counters) {
            let labels = [labels(job), vec![("outcome", outcome.to_owned())]].concat();
            out.sample("squilla_job_rows_total", &labels, rows);
        }
    }
    out.family("squilla_job_state_bytes", "gauge", "State of a job.");
    for job in &jobs {
        out.sample("squilla_job_state_bytes", &labels(job), job.state_bytes);
    }
    out.family("squilla_job_restarts_total", "counter", "How often a job was started again after a crash.");
    for job in &jobs {
        out.sample("squilla_job_restarts_total", &labels(job), job.restarts);
    }
    out.family("squilla_job_quarantined", "gauge", "1: the job stopped at rows at which it crashed again and again.");
    for job in &jobs {
        out.sample("squilla_job_quarantined", &labels(job), u8::from(job.quarantined));
    }
    out.family("squilla_job_users", "gauge", "Users of a job.");
    for job in &jobs {
        out.sample("squilla_job_users", &labels(job), job.users.len());
    }
}

fn streams(app: &App, out: &mut Metrics) {
    let streams = app.service.streams();
    let labels = |stream: &squilla_engine::StreamInfo| vec![("stream", stream.name.clone())];
    out.family("squilla_stream_rows_total", "counter", "Rows committed to a stream.");
    for stream in &streams {
        out.sample("squilla_stream_rows_total", &labels(stream), stream.rows);
    }
    out.family("squilla_stream_in_bytes_total", "counter", "Bytes read from outside.");
    for stream in &streams {
        out.sample("squilla_stream_in_bytes_total", &labels(stream), stream.counters.bytes_in);
    }
    out.family("squilla_stream_log_bytes", "gauge", "Bytes kept to be read again.");
    for stream in &streams {
        out.sample("squilla_stream_log_bytes", &labels(stream), stream.log_bytes);
    }
    out.family("squilla_stream_unstored_rows_total", "counter", "Rows that readers saw and the disk did not take.");
    for stream in &streams {
        out.sample("squilla_stream_unstored_rows_total", &labels(stream), stream.unstored_rows);
    }
    out.family("squilla_stream_damaged_rows", "gauge", "Rows on disk that were found damaged.");
    for stream in &streams {
        out.sample("squilla_stream_damaged_rows", &labels(stream), stream.damaged_rows);
    }
    if let Some((used, limit)) = app.service.engine().disk_bytes() {
        out.family("squilla_disk_bytes", "gauge", "Bytes of all logs on disk.");
        out.sample("squilla_disk_bytes", &[], used);
        out.family("squilla_disk_limit_bytes", "gauge", "Bytes that all logs on disk may have.");
        out.sample("squilla_disk_limit_bytes", &[], limit);
    }
    out.family("squilla_stream_watermark_seconds", "gauge", "Watermark, in seconds since 1970.");
    for stream in &streams {
        let told = stream.watermark.filter(|moment| *moment != EventTime::MIN && *moment != EventTime::MAX);
        if let Some(moment) = told {
            out.sample("squilla_stream_watermark_seconds", &labels(stream), moment.0 as f64 / 1e9);
        }
    }
}

fn losses(app: &App, out: &mut Metrics) {
    let lost = app.service.engine().lost();
    let label = |reason: &squilla_engine::LossReason| [("reason", reason.word().to_owned())];
    out.family("squilla_lost_rows_total", "counter", "Rows that did not come to where they were wanted, by reason.");
    for (reason, lost) in &lost {
        out.sample("squilla_lost_rows_total", &label(reason), lost.rows);
    }
    out.family("squilla_lost_unknown_gaps_total", "counter", "Gaps whose rows nobody could count, by reason.");
    for (reason, lost) in &lost {
        out.sample("squilla_lost_unknown_gaps_total", &label(reason), lost.gaps);
    }
}

fn canary(app: &App, out: &mut Metrics) {
    let measured = app.canary.measured();
    if measured.sent == 0 {
        return;
    }
    let delay = "squilla_canary_delay_seconds";
    out.family(delay, "histogram", "From the publishing of a row to its encoding for a subscription.");
    for (bound, rows) in measured.buckets() {
        out.sample("squilla_canary_delay_seconds_bucket", &[("le", bound)], rows);
    }
    out.sample("squilla_canary_delay_seconds_sum", &[], measured.sum());
    out.sample("squilla_canary_delay_seconds_count", &[], measured.seen());
    out.one("squilla_canary_sent_rows_total", "counter", "Rows that the canary has sent, one a second.", measured.sent);
    out.one("squilla_canary_lost_rows_total", "counter", "Of those, rows that did not come.", measured.lost);
}

/// The ledger, name by name.
fn outcomes(counters: &CountersSnapshot) -> [(&'static str, u64); 16] {
    [
        ("in", counters.rows_in),
        ("out", counters.rows_out),
        ("passed", counters.passed),
        ("absorbed", counters.absorbed),
        ("filtered", counters.filtered),
        ("late", counters.late),
        ("late_idle", counters.late_idle),
        ("undecodable", counters.undecodable),
        ("without_event_time", counters.without_event_time),
        ("failed", counters.failed),
        ("pairs_failed", counters.pairs_failed),
        ("dropped", counters.dropped),
        ("skipped", counters.skipped),
        ("missed", counters.missed),
        ("before_start", counters.before_start),
        ("forgotten", counters.forgotten),
    ]
}

/// Memory of this process, where the system tells it as Linux does.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// Text in the making.
#[derive(Default)]
struct Metrics {
    text: String,
}

impl Metrics {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        self.line(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}"));
    }

    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, String)], value: impl std::fmt::Display) {
        let shown: Vec<String> =
            labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
        if shown.is_empty() {
            self.line(format_args!("{name} {value}"));
        } else {
            self.line(format_args!("{name}{{{}}} {value}", shown.join(",")));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.text, "{line}").expect("a string takes all that is written");
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut out = Metrics::default();
        out.sample("m", &[("stream", "a\"b\\c\nd".to_owned())], 1.5);
        assert_eq!(out.text, "m{stream=\"a\\\"b\\\\c\\nd\"} 1.5\n");
    }
}
