//! How a subscription stands: what came into its jobs, and what was lost there.

use super::completeness::Seen;
use super::{Progress, Subscription, SubscriptionEvent};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::notice::Notice;

impl Subscription {
    /// Results of windows that lack rows come behind the share that they are made of.
    pub(super) fn tell_completeness(&mut self, batch: &StreamBatch) {
        if !self.info.windowed || self.completeness.told >= 1.0 && self.lost() == 0 {
            return;
        }
        let Some(first) = batch.event_times().iter().min() else { return };
        let (_, seen) = self.seen();
        if !self.completeness.tell(EventTime(*first), seen) {
            return;
        }
        let progress = self.standing();
        self.last_progress = Some(progress.clone());
        self.ready.push_back(SubscriptionEvent::Progress(progress));
    }

    pub(super) fn note_seen(&mut self) {
        let sources = self.chain.iter().filter(|job| job.inputs().branches.is_empty());
        let latest = sources.map(|job| job.output.facts().max_event_time).min().unwrap_or(EventTime::MIN);
        let (_, seen) = self.seen();
        self.completeness.note(latest, seen);
    }

    /// Rows that were lost in the whole chain.
    fn lost(&self) -> u64 {
        self.gap_rows + self.chain.iter().map(|job| job.counters.lost()).sum::<u64>()
    }

    /// Late rows of the whole chain; and what came into it, with what was lost.
    fn seen(&self) -> (u64, Seen) {
        let (mut late, mut seen) = (0, Seen { came: 0, lost: self.gap_rows });
        for job in &self.chain {
            let counts = job.counters.snapshot();
            late += counts.late + counts.late_idle;
            seen.lost +=
                counts.undecodable + counts.without_event_time + counts.failed + counts.dropped + counts.skipped;
            if job.inputs().branches.is_empty() {
                seen.came += counts.rows_in;
            }
        }
        (late, seen)
    }

    pub(super) fn standing(&self) -> Progress {
        let now = self.clock.now();
        let facts = self.lease.job().output.facts();
        let known = facts.watermark > EventTime::MIN && facts.watermark < EventTime::MAX;
        let (late, seen) = self.seen();
        let own = self.rest.resting.then(|| Notice::of_query(&self.info.query));
        let lag_ns = if self.last_arrival == EventTime::MIN { 0 } else { now.0.saturating_sub(self.last_arrival.0) };
        Progress {
            watermark: known.then_some(facts.watermark),
            position: self.reader.position(),
            lag_ms: u64::try_from(lag_ns / 1_000_000).unwrap_or_default(),
            late,
            dropped: seen.lost,
            completeness: if self.info.windowed { self.completeness.told } else { seen.share() },
            notices: own.into_iter().chain(Notice::of_jobs(&self.chain)).collect(),
        }
    }
}
