//! What was lost, by whom and why: gathered from all that counts, for `SHOW LOSSES`.
//!
//! Who runs tells what it has lost since it started; of those that have ended the sums are kept. Losses of a reader that
//! was away are known from offsets: the gap that it is told when it comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::clock::EventTime;
use crate::job::Job;
use crate::shared::Shared;
use crate::stream::{Gap, GapReason};
use crate::subscription::LiveQuery;

/// Why rows did not come to where they were wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// Late for all their windows, by the watermark.
    Late,
    /// Late for all their windows, since their partition was taken for idle.
    Idle,
    /// No record of the stream's format and columns.
    Rejected,
    /// Without an event time.
    NoEventTime,
    /// An expression failed on them.
    Failed,
    /// No longer kept when they were to be read.
    Retention,
    /// Skipped, since who rested was told to go on with the latest rows.
    Skipped,
    /// Skipped, since their reader was slower than its policy allows.
    Slow,
    /// Of another incarnation of the stream.
    Epoch,
    /// Not readable from disk.
    Damaged,
    /// Come while their reader did not run, and not made up for when it did again.
    Restart,
    /// Not taken by the disk.
    NotStored,
    /// Their time to live had passed.
    Forgotten,
    /// Not in a query's sample, as it wished.
    Sampled,
}

impl LossReason {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Late,
        Self::Idle,
        Self::Rejected,
        Self::NoEventTime,
        Self::Failed,
        Self::Retention,
        Self::Skipped,
        Self::Slow,
        Self::Epoch,
        Self::Damaged,
        Self::Restart,
        Self::NotStored,
        Self::Forgotten,
        Self::Sampled,
    ];

    /// As it is written everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Self::Late => "late",
            Self::Idle => "idle",
            Self::Rejected => "rejected",
            Self::NoEventTime => "no_event_time",
            Self::Failed => "failed",
            Self::Retention => "retention",
            Self::Skipped => "skipped",
            Self::Slow => "slow",
            Self::Epoch => "epoch",
            Self::Damaged => "damaged",
            Self::Restart => "restart",
            Self::NotStored => "not_stored",
            Self::Forgotten => "forgotten",
            Self::Sampled => "sampled",
        }
    }

    /// In a sentence.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Late => "came after all their windows had closed",
            Self::Idle => "came after their partition was taken for idle and all their windows had closed",
            Self::Rejected => "could not be decoded",
            Self::NoEventTime => "have a null event time",
            Self::Failed => "made an expression fail",
            Self::Retention => "were no longer kept when they were to be read",
            Self::Skipped => "came while it was paused, and were skipped as RESUME … FROM LATEST wished",
            Self::Slow => "were skipped, since their reader was slower than its policy allows",
            Self::Epoch => "were of another incarnation of the stream",
            Self::Damaged => "cannot be read from disk",
            Self::Restart => "came while their reader did not run",
            Self::NotStored => "were not taken by the disk",
            Self::Forgotten => "were state whose time to live had passed",
            Self::Sampled => "were left out of a sample, as the query wished",
        }
    }
}

impl From<GapReason> for LossReason {
    fn from(reason: GapReason) -> Self {
        match reason {
            GapReason::Slow => Self::Slow,
            GapReason::Retention => Self::Retention,
            GapReason::Epoch => Self::Epoch,
            GapReason::Damaged => Self::Damaged,
            GapReason::Skipped => Self::Skipped,
        }
    }
}

/// How much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Lost {
    /// Rows.
    pub rows: u64,
    /// Gaps of which nobody knows how many rows they had: those come on top.
    pub gaps: u64,
}

impl Lost {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.gaps += other.gaps;
    }

    fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

/// Losses by reason.
pub type Losses = BTreeMap<LossReason, Lost>;

/// Who has lost rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Loser {
    /// A source, by name.
    Source,
    /// A named stream.
    Stream,
    /// A job, by id.
    Job,
    /// A live query, by id.
    Query,
    /// A sink, by name.
    Sink,
    /// All jobs, queries and sinks that have ended.
    Ended,
}

impl Loser {
    /// As it is written everywhere.
    pub fn word(self) -> &'static str {
        match self {
            Self::Source => "source",
            Self::Stream => "stream",
            Self::Job => "job",
            Self::Query => "query",
            Self::Sink => "sink",
            Self::Ended => "ended",
        }
    }
}

/// What somebody has lost for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loss {
    /// What it is.
    pub kind: Loser,
    /// Its name or id; empty for those that have ended.
    pub name: String,
    /// Why.
    pub reason: LossReason,
    /// How much.
    pub lost: Lost,
    /// Since when it is counted.
    pub since: EventTime,
    /// Who used it, and so lacks the rows.
    pub users: Vec<String>,
}

/// What those have lost that have ended.
#[derive(Debug)]
pub(crate) struct Ledger {
    since: EventTime,
    ended: Mutex<Losses>,
    /// The greatest sums that were told.
    told: Mutex<Losses>,
}

impl Ledger {
    pub(crate) fn new(since: EventTime) -> Self {
        Self { since, ended: Mutex::default(), told: Mutex::default() }
    }

    /// Sums that never become less: what has ended is in none of them for a moment, until it is summed up.
    pub(crate) fn rising(&self, sums: Losses) -> Losses {
        let mut told = self.told.lock().expect("no holder of this lock panics");
        for (reason, lost) in sums {
            let known = told.entry(reason).or_default();
            *known = Lost { rows: known.rows.max(lost.rows), gaps: known.gaps.max(lost.gaps) };
        }
        told.clone()
    }

    /// Somebody has ended.
    pub(crate) fn end(&self, losses: Losses) {
        let mut ended = self.ended.lock().expect("no holder of this lock panics");
        for (reason, lost) in losses.into_iter().filter(|(_, lost)| !lost.is_nothing()) {
            ended.entry(reason).or_default().add(lost);
        }
    }
}

/// What a reader was told that it does not get.
#[derive(Debug, Default)]
pub(crate) struct GapCounts([(AtomicU64, AtomicU64); GAP_REASONS.len()]);

const GAP_REASONS: [GapReason; 5] =
    [GapReason::Slow, GapReason::Retention, GapReason::Epoch, GapReason::Damaged, GapReason::Skipped];

impl GapCounts {
    /// Counts a gap.
    pub(crate) fn add(&self, gap: &Gap) {
        for ((rows, gaps), reason) in self.0.iter().zip(GAP_REASONS) {
            if reason == gap.reason {
                rows.fetch_add(gap.rows.unwrap_or(0), Relaxed);
                gaps.fetch_add(u64::from(gap.rows.is_none()), Relaxed);
            }
        }
    }

    pub(crate) fn losses(&self) -> Losses {
        let lost = |(rows, gaps): &(AtomicU64, AtomicU64)| Lost { rows: rows.load(Relaxed), gaps: gaps.load(Relaxed) };
        GAP_REASONS.iter().zip(&self.0).map(|(reason, counts)| ((*reason).into(), lost(counts))).collect()
    }
}

/// What a job has lost since it started. Damage is what was found when its log was opened.
pub(crate) fn losses_of(job: &Job) -> Losses {
    let counts = job.counters.snapshot();
    let rows = |rows| Lost { rows, gaps: 0 };
    let mut losses = Losses::from([
        (LossReason::Late, rows(counts.late)),
        (LossReason::Idle, rows(counts.late_idle)),
        (LossReason::Rejected, rows(counts.undecodable)),
        (LossReason::NoEventTime, rows(counts.without_event_time)),
        (LossReason::Failed, rows(counts.failed)),
        (LossReason::Skipped, rows(counts.skipped)),
        (LossReason::Restart, rows(counts.missed)),
        (LossReason::Forgotten, rows(counts.forgotten)),
        (LossReason::Sampled, rows(counts.sampled)),
    ]);
    let reason = if job.source.is_some() { LossReason::NotStored } else { LossReason::Retention };
    losses.insert(reason, rows(counts.dropped));
    // How many rows there were is not known of another incarnation only.
    losses.insert(LossReason::Epoch, Lost { rows: 0, gaps: counts.gaps });
    if let Some(disk) = job.output.disk() {
        losses.entry(LossReason::NotStored).or_default().add(rows(disk.log.unstored_rows()));
        losses.insert(LossReason::Damaged, rows(disk.log.damaged_rows()));
    }
    losses
}

/// All losses, those of sources first.
pub(crate) fn losses<'a>(shared: &Shared, queries: impl Iterator<Item = &'a Arc<LiveQuery>>) -> Vec<Loss> {
    let mut all = Vec::new();
    let jobs = shared.registry.jobs();
    for job in &jobs {
        let kind = match (&job.source, &job.stream) {
            (Some(_), _) => Loser::Source,
            (None, Some(_)) => Loser::Stream,
            (None, None) => Loser::Job,
        };
        let users: Vec<String> = users_of(job, &jobs).into_iter().collect();
        all.extend(told(kind, &job.display_name(), losses_of(job), job.started, &users));
    }
    for query in queries {
        let kind = if query.sink { Loser::Sink } else { Loser::Query };
        all.extend(told(kind, &query.id, query.gaps.losses(), query.started, &[]));
    }
    let ended = shared.ledger.ended.lock().expect("no holder of this lock panics").clone();
    all.extend(told(Loser::Ended, "", ended, shared.ledger.since, &[]));
    all.sort_by(|a, b| (a.kind, &a.name, a.reason).cmp(&(b.kind, &b.name, b.reason)));
    all
}

/// Who uses a job, at first hand or through jobs without names: streams, queries and sinks.
fn users_of(job: &Job, jobs: &[Arc<Job>]) -> BTreeSet<String> {
    let own = job.stream.as_deref();
    let mut users = BTreeSet::new();
    for user in job.users().into_iter().filter(|user| Some(user.as_str()) != own) {
        match jobs.iter().find(|other| other.id == user) {
            Some(other) if other.stream.is_none() => users.extend(users_of(other, jobs)),
            Some(other) => users.extend(other.stream.clone()),
            None => _ = users.insert(user),
        }
    }
    users
}

fn told<'a>(
    kind: Loser,
    name: &'a str,
    losses: Losses,
    since: EventTime,
    users: &'a [String],
) -> impl Iterator<Item = Loss> + 'a {
    losses.into_iter().filter(|(_, lost)| !lost.is_nothing()).map(move |(reason, lost)| {
        let (name, users) = (name.to_owned(), users.to_vec());
        Loss { kind, name, reason, lost, since, users }
    })
}

/// The sums by reason, of all reasons.
pub(crate) fn sums(losses: &[Loss]) -> Losses {
    let mut sums: Losses = LossReason::ALL.iter().map(|reason| (*reason, Lost::default())).collect();
    for loss in losses {
        sums.entry(loss.reason).or_default().add(loss.lost);
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::Position;

    #[test]
    fn gaps_are_counted_by_reason_and_unknown_ones_apart() {
        let counts = GapCounts::default();
        let to = Position { epoch: 1, offsets: BTreeMap::new() };
        for (rows, reason) in [(Some(5), GapReason::Slow), (None, GapReason::Epoch), (Some(2), GapReason::Slow)] {
            counts.add(&Gap { from: None, to: to.clone(), rows, reason });
        }
        let losses = counts.losses();
        assert_eq!(losses[&LossReason::Slow], Lost { rows: 7, gaps: 0 });
        assert_eq!(losses[&LossReason::Epoch], Lost { rows: 0, gaps: 1 });
        assert!(losses[&LossReason::Damaged].is_nothing());
        let ledger = Ledger::new(EventTime(3));
        ledger.end(losses.clone());
        ledger.end(losses);
        let ended = ledger.ended.lock().expect("nobody panicked").clone();
        assert_eq!(ended.len(), 2, "{ended:?}");
        assert_eq!(ended[&LossReason::Slow].rows, 14);
        let rows = |rows| Losses::from([(LossReason::Slow, Lost { rows, gaps: 0 })]);
        let told = [14, 7, 15].map(|now| ledger.rising(rows(now))[&LossReason::Slow].rows);
        assert_eq!(told, [14, 14, 15], "a counter that goes back would be taken for a restart");
    }

    #[test]
    fn every_reason_has_a_word_of_its_own() {
        let words: BTreeSet<_> = LossReason::ALL.iter().map(|reason| reason.word()).collect();
        assert_eq!(words.len(), LossReason::ALL.len());
        for reason in LossReason::ALL {
            let written = serde_json::to_string(&reason).expect("a word");
            assert_eq!(written, format!("\"{}\"", reason.word()));
        }
    }
}
