//! A job's input: all branches as one, history first where the job starts in the past.

mod begin;
mod behind;
mod exact;
mod lookup;
mod more;
mod rest;
mod state;
mod suspects;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use futures::FutureExt;
use futures::future::select_all;

use behind::Behind;

use super::harm::Place;
use super::history::{Base, History, at_moment, bases, complete_from, overtaken, split_position, start_of};
use super::skipped::Skipped;
use super::stage::{Stage, TABLE};
use super::{Branch, OpSpec, Pipeline};
use crate::batch::StreamBatch;
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;
use crate::stream::{Offset, Position, Read, Start, Stream, StreamReader};
use crate::subscription::ask;

pub(crate) use exact::{reached_by, unmarked};

/// Where a job begins to read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Begin {
    /// With the rows that come now; a windowed query: with the first window that is open now, from the logs.
    Fresh,
    /// With the first row that its inputs keep.
    Earliest,
    /// Straight from the logs, at a place. The branches are those of `history::from_logs`.
    At(Start),
    /// As `At`, each branch at a place of its own.
    Each(Vec<Position>),
    /// Straight from the logs, with the rows of this event time and later, those apart that were skipped; windows that
    /// start before it are not told.
    After(EventTime, Vec<Skipped>),
}

/// What a job gets.
pub(crate) enum Fed {
    /// A batch, partitions numbered through all branches, own steps applied.
    Batch(StreamBatch),
    /// A partition will get no further rows.
    EndOfPartition(u32),
    /// Nothing will come.
    End,
    /// An input has failed.
    Failed(Arc<EngineError>),
}

pub(crate) struct Feed {
    branches: Vec<Inlet>,
    ready: VecDeque<Fed>,
    /// What is worked on, and of which branch.
    last: Option<(usize, Arc<StreamBatch>)>,
    /// Rows among which the job has crashed.
    suspects: Option<Place>,
    /// Its places are exact; `None`: offsets do.
    exact: Option<exact::Exact>,
    /// Such rows, read and to be passed on one by one.
    singles: VecDeque<(usize, Arc<StreamBatch>)>,
    counters: Arc<Counters>,
    /// The right input is a table.
    pub(crate) reads_table: bool,
    /// Windows that start before it are not told; `MIN`: all are.
    pub(crate) start: EventTime,
    /// Windows that start before it may be partial.
    pub(crate) complete_from: EventTime,
    /// Results of inputs that have earlier event times were not told; `MIN`: all were.
    pub(crate) missing_before: EventTime,
}

/// One branch.
struct Inlet {
    history: VecDeque<History>,
    live: Box<dyn StreamReader>,
    pipeline: Pipeline,
    first_partition: u32,
    partitions: u32,
    ended: BTreeSet<u32>,
    watermark: EventTime,
    right: bool,
    done: bool,
    /// It is read from its first row.
    whole: bool,
    /// All that it comes from has an end.
    bounded: bool,
    /// Rows before it were in what a live table held; zero where there was none.
    held_until: Offset,
    /// Whoever writes its input waits for it.
    holding: bool,
    /// What others have told before it; `None`: nothing that matters any more.
    behind: Option<Behind>,
    /// Rows of its log that are not to come.
    skipped: Vec<Skipped>,
}

impl Feed {
    /// Opens the branches. `needed`: the event time of the first result that whoever reads it needs. `now`: the time of
    /// day.
    pub(crate) fn open(
        branches: &[Branch],
        stage: &Stage,
        (begin, needed, now): (&Begin, EventTime, EventTime),
        holding: bool,
        counters: &Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let mut feed = Self {
            branches: Vec::new(),
            ready: VecDeque::new(),
            last: None,
            suspects: None,
            exact: None,
            singles: VecDeque::new(),
            counters: counters.clone(),
            reads_table: stage.reads_table(),
            start: EventTime::MIN,
            complete_from: EventTime::MIN,
            missing_before: missing_before(branches, now),
        };
        let below: Vec<Vec<Base>> = branches.iter().map(bases).collect();
        // What has begun only now has told nothing, and will tell nothing older than its first result.
        let come_to = |base: &Base| base.job.output.facts().watermark.max(base.job.missing_before);
        let watermark = below.iter().flatten().map(come_to).min().unwrap_or(EventTime::MIN).min(needed);
        let by_arrival = branches.iter().any(Branch::is_by_arrival);
        let watermark = if by_arrival { now } else { watermark };
        let begin = &at_moment(begin, below.iter().flatten());
        let since = if feed.reads_table {
            feed.looks_up_from(branches, &below, (begin, needed))
        } else {
            stage.stateful().and_then(|step| step.begin(watermark))
        };
        let since = since.filter(|_| *begin != Begin::Earliest);
        if let Some(since) = since {
            feed.begin_since(since, stage, begin, (&below, by_arrival));
        }
        if let Begin::After(moment, skipped) = begin {
            feed.start = *moment;
            let lost = skipped.iter().map(|skipped| skipped.lost_before).max().unwrap_or(EventTime::MIN);
            feed.complete_from = complete_from(below.iter().flatten(), *moment, false).max(lost);
        }
        let parts = match begin {
            Begin::At(Start::Position(position)) => split_position(position, branches),
            _ => Vec::new(),
        };
        let first = |feed: &Self| feed.branches.last().map_or(0, |inlet| inlet.first_partition + inlet.partitions);
        for (at, branch) in branches.iter().enumerate() {
            let start = start_of(begin, branch, at, &parts);
            if feed.reads_table && branch.right {
                feed.branches.push(Inlet::table(branch, *begin == Begin::Earliest, holding, first(&feed), counters)?);
                continue;
            }
            let mut inlet = Inlet::open(branch, &start, holding, first(&feed), counters)?;
            if let Begin::After(_, skipped) = begin {
                inlet.skipped = Skipped::of(skipped, at, branches);
            }
            if since.is_some() && *begin == Begin::Fresh {
                // What a log has lies in the order of its arrival, not in that of event times.
                inlet.catch_up(&below[at], (!by_arrival).then_some(feed.start), false)?;
            }
            feed.branches.push(inlet);
        }
        Ok(feed)
    }

    /// Partitions of all branches.
    pub(crate) fn partitions(&self) -> u32 {
        self.branches.iter().map(|inlet| inlet.partitions).sum()
    }

    /// Partitions of the left input.
    pub(crate) fn left_partitions(&self) -> u32 {
        self.branches.iter().filter(|inlet| !inlet.right).map(|inlet| inlet.partitions).sum()
    }

    /// Physical fields and partitions of each branch.
    pub(crate) fn inputs(&self) -> Vec<(arrow::datatypes::SchemaRef, u32)> {
        self.branches.iter().map(|inlet| (inlet.pipeline.schema().clone(), inlet.partitions)).collect()
    }

    /// For each branch whether it is of the right input of a join.
    pub(crate) fn sides(&self) -> Vec<bool> {
        self.branches.iter().map(|inlet| inlet.right).collect()
    }

    /// Physical fields of what comes, where all branches have the same.
    pub(crate) fn schema(&self) -> &arrow::datatypes::SchemaRef {
        self.branches[0].pipeline.schema()
    }

    /// Bytes that the branches' own steps remember.
    pub(crate) fn state_bytes(&self) -> usize {
        self.branches.iter().map(|inlet| inlet.pipeline.state_bytes()).sum()
    }

    /// The other batches of what was read last.
    pub(crate) fn rest(&mut self) -> Vec<StreamBatch> {
        let mut rest = Vec::new();
        while let Some(Fed::Batch(_)) = self.ready.front()
            && let Some(Fed::Batch(batch)) = self.ready.pop_front()
        {
            rest.push(batch);
        }
        rest
    }

    /// Nothing that was read waits to be handed on.
    pub(crate) fn is_clear(&self) -> bool {
        self.ready.is_empty() && self.singles.is_empty() && !self.lies_before()
    }

    /// Where the branches are.
    pub(crate) fn positions(&self) -> Vec<Position> {
        self.branches.iter().map(|inlet| inlet.live.position()).collect()
    }

    /// Shows filters of running results what was told before they came, so that they know what to withdraw; and look-ups
    /// what a live table holds.
    pub(crate) async fn seed(&mut self, branches: &[Branch]) -> Result<(), EngineError> {
        self.seed_tables(branches).await?;
        for (inlet, branch) in self.branches.iter_mut().zip(branches) {
            let ranks = branch.ops.iter().any(|op| matches!(op, OpSpec::RankUpdates { .. }));
            if !branch.updates || leading_filters(&branch.ops) == 0 && !ranks || inlet.whole {
                continue;
            }
            for batch in ask(branch.job()).await?.map(|(batches, _)| batches).unwrap_or_default() {
                add(&self.counters.rows_in, batch.rows.num_rows());
                for passed in inlet.pipeline.process(batch)? {
                    add(&self.counters.passed, passed.rows.num_rows());
                }
            }
        }
        Ok(())
    }

    /// Shows look-ups what live tables hold.
    pub(crate) async fn seed_tables(&mut self, branches: &[Branch]) -> Result<(), EngineError> {
        let held = |branch: &Branch| branch.right && branch.job().kind == TABLE;
        let tables = self.branches.iter_mut().zip(branches).filter(|(_, branch)| self.reads_table && held(branch));
        for (inlet, branch) in tables {
            let Some((batches, next)) = ask(branch.job()).await? else { continue };
            inlet.held_until = next;
            for batch in batches {
                inlet.pass(batch, &self.counters, &mut self.ready)?;
            }
        }
        Ok(())
    }

    /// The next batch of the history that lies before the live rows; `None` once they follow.
    pub(crate) async fn next_past(&mut self) -> Result<Option<Fed>, EngineError> {
        while self.ready.is_empty() {
            if !self.read_history().await? {
                return Ok(None);
            }
        }
        Ok(self.ready.pop_front())
    }

    /// The next thing behind the history; waits for it. Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Fed, EngineError> {
        loop {
            if let Some(fed) = self.ready.pop_front() {
                return Ok(fed);
            }
            if self.pass_single()? || self.read_ready()? {
                continue;
            }
            self.last = None;
            self.follow_script();
            if self.branches.iter().all(|inlet| inlet.done) {
                return Ok(Fed::End);
            }
            let loads = self.loads();
            let may_read: Vec<bool> = (0..self.branches.len()).map(|at| self.may_read(at)).collect();
            let waits = |at: usize, inlet: &Inlet| !inlet.done && (inlet.right || !loads) && may_read[at];
            let waiting = self.branches.iter_mut().enumerate().filter(|(at, inlet)| waits(*at, inlet));
            let reads = waiting.map(|(at, inlet)| inlet.live.next().map(move |read| (at, read)).boxed());
            let ((at, read), _, _) = select_all(reads).await;
            self.take(at, read)?;
        }
    }

    /// Reads one piece of history; false when there is none left.
    async fn read_history(&mut self) -> Result<bool, EngineError> {
        for inlet in &mut self.branches {
            if let Some(history) = inlet.history.front_mut() {
                match history.step(&self.counters).await? {
                    Some(batches) => {
                        for batch in batches {
                            inlet.pass(batch, &self.counters, &mut self.ready)?;
                        }
                    }
                    None => {
                        inlet.history.pop_front();
                    }
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Takes what is there, from the branch that is least far; false when nothing is.
    fn read_ready(&mut self) -> Result<bool, EngineError> {
        self.follow_script();
        let loads = self.loads();
        let waits = |inlet: &Inlet| !inlet.done && (inlet.right || !loads);
        let waits = |at: &usize| waits(&self.branches[*at]) && self.may_read(*at);
        let mut order: Vec<usize> = (0..self.branches.len()).filter(waits).collect();
        order.sort_by_key(|at| (self.reads_table && !self.branches[*at].right, self.branches[*at].watermark));
        for at in order {
            if let Some(read) = self.branches[at].live.try_next() {
                self.take(at, read)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn take(&mut self, at: usize, read: Read) -> Result<(), EngineError> {
        let inlet = &mut self.branches[at];
        match read {
            // A batch without rows may lie before the first row, and carries a watermark.
            Read::Batch(batch) if batch.next <= inlet.held_until && batch.rows.num_rows() > 0 => {}
            Read::Batch(batch) => self.read(at, batch)?,
            Read::Gap(gap) => {
                if let Some(exact) = &mut self.exact {
                    exact.pass(at, &gap.to);
                }
                overtaken(&self.counters, gap.rows);
            }
            Read::EndOfPartition(partition) => {
                inlet.ended.insert(partition);
                self.ready.push_back(Fed::EndOfPartition(inlet.first_partition + partition));
            }
            Read::End => {
                inlet.done = true;
                for partition in (0..inlet.partitions).filter(|partition| !inlet.ended.contains(partition)) {
                    self.ready.push_back(Fed::EndOfPartition(inlet.first_partition + partition));
                }
            }
            Read::Failed(error) => {
                inlet.done = true;
                self.ready.push_back(Fed::Failed(error));
            }
        }
        Ok(())
    }
}

/// The own steps of a branch.
fn pipeline_of(branch: &Branch, counters: &Arc<Counters>) -> Result<Pipeline, EngineError> {
    let key: Option<Vec<usize>> = branch.updates.then(|| (0..branch.job().key_columns).collect());
    Pipeline::new(branch.stream().schema(), &branch.ops, key.as_deref(), counters)
}

impl Inlet {
    fn open(
        branch: &Branch,
        start: &Start,
        holding: bool,
        first_partition: u32,
        counters: &Arc<Counters>,
    ) -> Result<Self, EngineError> {
        let stream = branch.stream();
        branch.job().stand_apart();
        Ok(Self {
            history: VecDeque::new(),
            live: stream.clone().reader(start, holding),
            pipeline: pipeline_of(branch, counters)?,
            first_partition,
            partitions: stream.partitions(),
            ended: BTreeSet::new(),
            watermark: EventTime::MIN,
            right: branch.right,
            done: false,
            whole: *start == Start::Earliest,
            held_until: Offset(0),
            holding,
            behind: None,
            skipped: Vec::new(),
            bounded: branch
                .job()
                .chain()
                .iter()
                .all(|job| job.source.as_ref().is_none_or(|source| source.info.bounded)),
        })
    }

    /// Opens the branch of a table: all of it is read, whatever else is. Whoever can wait waits until it is.
    fn table(
        branch: &Branch,
        from_earliest: bool,
        holding: bool,
        first_partition: u32,
        counters: &Arc<Counters>,
    ) -> Result<Self, EngineError> {
        // What holds a live table gives all of it when it is asked: there is nothing to wait for.
        let held = branch.job().kind == TABLE;
        let holding = branch.job().can_wait && (!held || holding);
        let start = if from_earliest { Start::Earliest } else { Start::Latest };
        let mut inlet = Self::open(branch, &start, holding, first_partition, counters)?;
        if !from_earliest && !held {
            inlet.catch_up(&bases(branch), Some(EventTime::MIN), holding)?;
        }
        Ok(inlet)
    }

    /// Puts the rows since `start` that lie before the live reader in front of it; `holding`: who writes waits for it.
    /// `None`: those that are in memory.
    fn catch_up(&mut self, bases: &[Base], start: Option<EventTime>, holding: bool) -> Result<(), EngineError> {
        for base in bases {
            let from = match start {
                None => base.job.output.start_in_memory(),
                Some(EventTime::MIN) => Start::Earliest,
                Some(start) => Start::Timestamp(start),
            };
            self.read_back(base, &from, holding)?;
        }
        Ok(())
    }

    /// Puts the rows of a log from a place to the live reader's in front of it.
    fn read_back(&mut self, base: &Base, from: &Start, holding: bool) -> Result<(), EngineError> {
        let (live, log) = (self.live.position(), &base.job.output);
        // What upstream jobs count, they have counted when these rows were live.
        let scratch = Arc::new(Counters::default());
        let until = (0..log.partitions())
            .map(|p| live.offsets.get(&(base.first_partition + p)).map_or(Offset(0), |(offset, _)| *offset));
        self.history.push_back(History {
            until: until.collect(),
            reader: log.clone().reader(from, holding),
            pipeline: Pipeline::new(log.schema(), &base.branch.ops, None, &scratch)?,
            first_partition: base.first_partition,
        });
        Ok(())
    }

    /// Applies the branch's own steps.
    fn pass(
        &mut self,
        batch: StreamBatch,
        counters: &Arc<Counters>,
        ready: &mut VecDeque<Fed>,
    ) -> Result<(), EngineError> {
        let batch = self.leave_skipped(batch, counters)?;
        let batch = self.go_behind(batch)?;
        add(&counters.rows_in, batch.rows.num_rows());
        self.watermark = self.watermark.max(batch.watermark);
        let started = Instant::now();
        for mut batch in self.pipeline.process(batch)? {
            batch.partition += self.first_partition;
            ready.push_back(Fed::Batch(batch));
        }
        counters.spend(started);
        Ok(())
    }
}

/// Results that inputs have not told are earlier than this; `MIN`: all were told.
fn missing_before(branches: &[Branch], now: EventTime) -> EventTime {
    let missing = branches.iter().map(|branch| branch.job().missing_before).max().unwrap_or(EventTime::MIN);
    let by_arrival = branches.iter().any(Branch::is_by_arrival);
    // By the clock, all that was not told has arrived.
    if by_arrival && missing > EventTime::MIN { now } else { missing }
}

/// Whether the first steps of a branch are filters only, which queries share.
pub(crate) fn leading_filters(ops: &[OpSpec]) -> usize {
    ops.iter().take_while(|op| matches!(op, OpSpec::Filter(_))).count()
}
