//! A task that has crashed, and is started again where it was.
//!
//! What hands rows on goes on behind the last rows that it has committed; a windowed aggregate with the first window that
//! it has not told, from the logs. So their readers see no row twice and miss none. What keeps other state cannot be
//! made anew without telling rows twice: it fails, unless
//! snapshots are taken of it. Rows at which a job crashes for the second time are tried one by one.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;

use super::{Task, Work};
use crate::batch::visible_schema;
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::job::branch::OpSpec;
use crate::job::feed::{Begin, Feed};
use crate::job::harm::{CRASHES, Place, Quarantine};
use crate::job::history::{from_logs, positions_below};
use crate::job::late::LateTap;
use crate::job::skipped::Skipped;
use crate::job::stage::Stage;
use crate::job::writer::Writer;
use crate::job::{Branch, Command};
use crate::stream::{Offset, Position, Stream};

/// How a task is started again.
pub(super) enum Recipe {
    /// Behind the last rows that it has committed.
    Rows,
    /// With the first window that it has not told.
    Windows {
        /// No earlier one was ever to be told.
        start: EventTime,
    },
    /// Where its last snapshot stands.
    Kept,
}

/// How far a task has come.
#[derive(Default)]
pub(super) struct Reached {
    /// In each branch, behind all that was committed.
    positions: Vec<Position>,
    /// In each partition of the feed, behind what was processed.
    offsets: Vec<Offset>,
    counters: crate::counters::CountersSnapshot,
}

impl Reached {
    /// Nothing was read yet.
    pub(super) fn at(positions: Vec<Position>) -> Self {
        Self { positions, ..Self::default() }
    }

    /// All before these places was processed, and counted, by a task that others shared.
    pub(super) fn with_others(positions: Vec<Position>, counters: crate::counters::CountersSnapshot) -> Self {
        Self { positions, counters, ..Self::default() }
    }
}

impl Reached {
    /// All that was counted stands.
    pub(super) fn count(&mut self, counters: crate::counters::CountersSnapshot) {
        self.counters = counters;
    }

    /// All before these places, which are others' names for where it is, was committed.
    pub(super) fn come_to(&mut self, positions: Vec<Position>) {
        self.positions = positions;
    }

    /// Nothing was read yet of what it reads from now on.
    pub(super) fn go_on_at(&mut self, positions: Vec<Position>) {
        *self = Self { counters: std::mem::take(&mut self.counters), ..Self::at(positions) };
    }
}

impl Recipe {
    /// Of a job; `None`: it fails when it crashes.
    pub(super) fn of(stage: &Stage, branches: &[Branch], feed: &Feed) -> Option<Self> {
        let plain =
            |branch: &Branch| !branch.updates && !branch.ops.iter().any(|op| matches!(op, OpSpec::RankUpdates { .. }));
        if !branches.iter().all(plain) {
            return None;
        }
        let Some(step) = stage.stateful() else { return Some(Self::Rows) };
        let again = step.resume(EventTime::MIN).is_some() && !step.reads_table() && !stage.is_random();
        let repeats = |branch: &Branch| !branch.is_by_arrival() && !branch.ops.iter().any(OpSpec::is_random);
        let repeats = from_logs(branches).iter().all(repeats);
        (again && repeats).then_some(Self::Windows { start: feed.start })
    }
}

impl Task {
    /// Works until the end. After a crash it begins again, as long as that may help.
    pub(super) async fn work_on(&mut self) -> Result<(), Arc<EngineError>> {
        loop {
            let error = match AssertUnwindSafe(self.work()).catch_unwind().await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(panic) => Arc::new(EngineError::Crashed(text_of(panic.as_ref()))),
            };
            self.again(error).await?;
        }
    }

    /// Notes that all that was read so far is committed.
    pub(super) fn reach(&mut self, partition: u32, next: Offset) {
        if self.recipe.is_none() {
            return;
        }
        let place = partition as usize;
        if self.reached.offsets.len() <= place {
            self.reached.offsets.resize(place + 1, Offset(0));
        }
        self.reached.offsets[place] = self.reached.offsets[place].max(next);
        if matches!(self.recipe, Some(Recipe::Rows)) {
            self.reached.positions = self.feed.done();
        }
        self.reached.counters = self.job.counters.snapshot();
    }

    /// Whether rows come for the second time: those that are late were told so.
    pub(super) fn repeats(&self, partition: u32, next: Offset) -> bool {
        self.repeated.get(partition as usize).is_some_and(|reached| next <= *reached)
    }

    /// Waits, and makes all anew.
    async fn again(&mut self, error: Arc<EngineError>) -> Result<(), Arc<EngineError>> {
        let named = self.shared.registry.serves_stream(&self.job);
        let may_pass = match error.as_ref() {
            EngineError::Crashed(_) | EngineError::Internal(_) => true,
            // A query that somebody waits for ends with it; a stream says at which rows it did.
            EngineError::Aggregate(_) => named,
            _ => false,
        };
        let known = match &self.recipe {
            // They begin with a window, wherever the feed is.
            Some(Recipe::Windows { .. } | Recipe::Kept) => true,
            Some(Recipe::Rows) => !self.feed.lies_before(),
            None => false,
        };
        if !may_pass || !known || self.shared.config.lossless {
            return Err(error);
        }
        let now = self.shared.clock.now();
        let place = self.feed.reading();
        let crashes = self.crashes.add(place, now);
        let reason = error.to_string();
        if crashes >= CRASHES && !named {
            return Err(error);
        }
        tracing::warn!(job = self.job.id, reason, crashes, "a job has crashed");
        self.job.harm.crashed(&reason);
        // What was booked is given back; a shrinking booking never fails.
        let _ = self.shared.book_state(std::mem::take(&mut self.state_bytes), 0);
        let mut command = None;
        if crashes >= CRASHES {
            let rows = self.quarantine(place, reason);
            self.job.harm.quarantine(Some(rows));
            // Nobody new is to wait for it.
            self.shared.registry.pause(|| vec![self.job.clone()]);
        } else {
            let back_off = i64::try_from(self.crashes.back_off().as_nanos()).unwrap_or(i64::MAX);
            command = self.back_off(now.plus(back_off)).await;
        }
        self.reopen().await?;
        self.job.harm.restarted();
        if let Some(command) = command {
            self.answer(command);
        }
        Ok(())
    }

    /// Waits, unless it is told to do anything: that. Whoever asks meanwhile what it holds is told that it is nothing: what
    /// it will hold follows as changes.
    async fn back_off(&mut self, until: EventTime) -> Option<Command> {
        let clock = self.shared.clock.clone();
        let waited = clock.sleep_until(until);
        tokio::pin!(waited);
        loop {
            let command = tokio::select! {
                () = &mut waited => return None,
                command = self.inbox.recv() => command,
            };
            match command {
                Some(Command::Snapshot(reply)) => {
                    let next = self.updates.as_ref().unwrap_or(&self.output).next(0);
                    // Whoever asked may have gone.
                    let _ = reply.send(Ok((Vec::new(), next)));
                }
                Some(Command::Apart) => {}
                // The job, which this task keeps, holds a sender.
                other => return other,
            }
        }
    }

    fn quarantine(&self, place: Option<Place>, reason: String) -> Quarantine {
        let read = self.feed.last_read();
        let (at, rows) = read.map_or((0, None), |(at, batch)| (at, Some(batch)));
        let none = Place { partition: 0, first: Offset(0), next: Offset(0) };
        let Place { first, next, .. } = place.unwrap_or(none);
        let mut names = Vec::new();
        if let Some(branch) = self.branches.get(at) {
            crate::job::late::name_inputs(branch.job(), &mut names);
        }
        let visible = rows.map(|batch| batch.visible());
        let empty = || {
            let schema = self.branches.get(at).map(|branch| visible_schema(branch.stream().schema()));
            arrow::array::RecordBatch::new_empty(schema.unwrap_or_else(|| Arc::new(arrow::datatypes::Schema::empty())))
        };
        Quarantine {
            job: self.job.id.clone(),
            since: self.shared.clock.now(),
            reason,
            input: names.join(" + "),
            partition: rows.map_or(0, |batch| batch.partition),
            first,
            next,
            rows: Quarantine::sample(&visible.unwrap_or_else(empty)),
        }
    }

    /// A feed and an operator of their own, where the job was.
    async fn reopen(&mut self) -> Result<(), EngineError> {
        if matches!(self.recipe, Some(Recipe::Kept)) {
            self.go_back().await?;
        } else {
            self.begin_again()?;
        }
        self.job.lose_before(self.feed.complete_from);
        self.feed.try_one_by_one(self.crashes.suspects());
        self.reached.positions = self.feed.positions();
        self.repeated.clone_from(&self.reached.offsets);
        self.output = Writer::new(self.job.output.clone(), self.job.logged)?;
        self.updates = self.job.updates.clone().map(|stream| Writer::new(stream, true)).transpose()?;
        self.late = LateTap::new(&self.job)?;
        self.running_partitions = self.feed.partitions();
        Ok(())
    }

    fn begin_again(&mut self) -> Result<(), EngineError> {
        // What was read since will be read, and counted, again.
        self.job.counters.restore(&self.reached.counters);
        let (branches, begin) = match &self.recipe {
            Some(Recipe::Windows { start }) => {
                let start = self.resumes_at().unwrap_or(*start);
                if self.go_back_to_anchor(start)? {
                    return Ok(());
                }
                let known = self.job.skips.all().into_iter().map(Skipped::counted).collect();
                (from_logs(&self.job.inputs().branches), Begin::After(start, known))
            }
            _ => {
                // Straight from the logs: a hand-off may no longer have what comes next.
                let read = self.branches.iter().zip(&self.reached.positions);
                let below = read.flat_map(|(branch, position)| positions_below(branch, position)).collect();
                (from_logs(&self.branches), Begin::Each(below))
            }
        };
        let begin = (&begin, EventTime::MAX, self.shared.clock.now());
        let feed = Feed::open(&branches, &self.stage, begin, self.feed.holding(), &self.job.counters)?;
        let last = std::mem::replace(&mut self.feed, feed);
        self.feed.behind_as(&last);
        self.work = Work::new(&self.shared, &self.stage, &self.feed, &self.job.counters)?;
        self.branches = branches;
        Ok(())
    }
}

/// What a panic says.
pub(crate) fn text_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a word".to_owned())
}
