//! `EXPLAIN`: what a query would run; `EXPLAIN ANALYZE`: what it did.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, RecordBatch, StringArray, UInt64Array};
use squilla_engine::{JobInfo, SubscribeOptions, SubscriptionEvent};
use squilla_query::{Diagnostic, Emit, Query};
use tokio::time::{Instant, timeout_at};

use super::table::{moments, strings, table};
use super::{Refusal, Service};

impl Service {
    /// The chain of jobs: a row a job, inputs first, and one for the client.
    pub(super) fn explain(&self, query: &Query) -> Result<RecordBatch, Refusal> {
        let jobs = self.engine.explain(query).map_err(Refusal::Engine)?;
        let last = jobs.len();
        let client = |of: &str| std::iter::once(of.to_owned());
        let steps = |inputs: &[usize]| inputs.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        Ok(table(vec![
            ("step", Arc::new(UInt64Array::from_iter_values(1..=last as u64 + 1))),
            ("job", strings(jobs.iter().map(|job| job.kind.clone()).chain(client("client")))),
            ("reads", strings(jobs.iter().map(|job| steps(&job.inputs)).chain(client(&last.to_string())))),
            ("description", strings(jobs.iter().map(|job| job.description.clone()).chain(client("whoever asks")))),
            ("state", strings(jobs.iter().map(|job| job.state.clone()).chain(client("")))),
            ("emits", strings(jobs.iter().map(|job| job.emits.clone()).chain(client(&self.emission(query))))),
            ("shares", Arc::new(jobs.iter().map(|job| job.shared.clone()).chain([None]).collect::<StringArray>())),
            ("users", strings(jobs.iter().map(|job| job.users.join(", ")).chain(client("")))),
        ]))
    }

    /// Runs the query for so long, or until its bounded inputs have ended, and tells of each of its jobs what it did
    /// meanwhile.
    pub(super) async fn explain_analyze(&self, query: &Query, time: Duration) -> Result<RecordBatch, Refusal> {
        let before: HashMap<String, JobInfo> =
            self.engine.jobs().into_iter().map(|job| (job.id.clone(), job)).collect();
        let until = Instant::now() + time;
        let subscribed = self.engine.subscribe(query, SubscribeOptions::default()).await;
        let mut subscription = subscribed.map_err(Refusal::Engine)?;
        // In a script, sources wait until all is set up.
        self.engine.start_sources();
        let mut told = 0;
        loop {
            match timeout_at(until, subscription.next()).await {
                Err(_) | Ok(SubscriptionEvent::Complete(_)) => break,
                Ok(SubscriptionEvent::Rows { batch, skip, .. }) => told += batch.rows.num_rows() - skip,
                Ok(SubscriptionEvent::Failed(error)) => {
                    return Err(Refusal::mistake(Diagnostic::new(error.code(), error.to_string()).help(error.help())));
                }
                Ok(SubscriptionEvent::Gap(_) | SubscriptionEvent::Progress(_)) => {}
            }
        }
        let jobs = subscription.jobs();
        let since = |job: &JobInfo, of: &dyn Fn(&JobInfo) -> u64| of(job) - before.get(&job.id).map_or(0, of);
        let number = |of: &dyn Fn(&JobInfo) -> u64, client: Option<u64>| {
            let values = jobs.iter().map(|job| Some(since(job, of))).chain([client]);
            Arc::new(values.collect::<UInt64Array>()) as ArrayRef
        };
        let now = self.sources.clock.now();
        let lag = |job: &JobInfo| {
            let behind = now.0 - job.watermark.filter(|_| !job.replay)?.0;
            Some(behind as f64 / 1e6)
        };
        let client = |of: &str| std::iter::once(of.to_owned());
        Ok(table(vec![
            ("step", Arc::new(UInt64Array::from_iter_values(1..=jobs.len() as u64 + 1))),
            ("job", strings(jobs.iter().map(|job| job.kind.clone()).chain(client("client")))),
            ("id", strings(jobs.iter().map(|job| job.id.clone()).chain(client(&subscription.info().query)))),
            (
                "description",
                strings(jobs.iter().map(|job| job.description.clone()).chain(client(&self.emission(query)))),
            ),
            ("rows_in", number(&|job| job.counters.rows_in, Some(told as u64))),
            ("rows_out", number(&|job| job.counters.rows_out, None)),
            ("bytes_out", number(&|job| job.bytes_out, None)),
            ("busy_us", number(&|job| job.busy_us, None)),
            ("late", number(&|job| job.counters.late + job.counters.late_idle, None)),
            ("failed", number(&|job| job.counters.failed, None)),
            ("pairs_failed", number(&|job| job.counters.pairs_failed, None)),
            ("dropped", number(&|job| job.counters.dropped, None)),
            ("forgotten", number(&|job| job.counters.forgotten, None)),
            (
                "state_bytes",
                Arc::new(jobs.iter().map(|job| Some(job.state_bytes as u64)).chain([None]).collect::<UInt64Array>()),
            ),
            ("watermark", moments(jobs.iter().map(|job| job.watermark).chain([None]))),
            ("lag_ms", Arc::new(jobs.iter().map(lag).chain([None]).collect::<Float64Array>())),
        ]))
    }

    /// What the reader is told and when, in words.
    fn emission(&self, query: &Query) -> String {
        match (query.told(self.engine.config().lossless), query.limit) {
            (Emit::OnWindowClose, _) if query.plan.is_changing() => "final rows, at the end of bounded input".into(),
            (Emit::OnWindowClose, Some(limit)) => format!("the first {limit} rows as the last job tells them"),
            (Emit::OnWindowClose, None) => "rows as the last job tells them".into(),
            (Emit::Changes, _) => "every change, then final rows".into(),
            (Emit::Every(interval), _) => format!("running results every {interval:?}, then final ones"),
        }
    }
}
