//! What jobs do with the rows that they get: choose columns, which those that choose the same do together, or compute
//! some, where a row may fail, each for itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use tokio::time::Instant;

use super::columns::pick;
use super::gather::{Gathered, Mark, Portion, WAIT, WAIT_BYTES, WAIT_TO_TELL, join_own};
use crate::batch::StreamBatch;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::branch::{OpSpec, canonical_branch};
use crate::job::feed::leading_filters;
use crate::job::{Job, Pipeline};
use crate::operator::Crew;

/// Rows that come to lie in the same buffers, at the most: a reader that keeps one of them keeps all.
pub(super) const TOGETHER_ROWS: usize = 64;

/// How long it takes to tell a job, until that is known.
const TOLD_EACH: Duration = Duration::from_micros(6);
/// So many are told before it is.
const TOLD_TO_KNOW: u32 = 64;

/// Steps behind filters that give a row for each, wherever it comes.
pub(super) fn is_plain(op: &OpSpec) -> bool {
    matches!(op, OpSpec::Project { .. } | OpSpec::Select(_) | OpSpec::Rename(_) | OpSpec::Conform(_))
}

/// What a job does with its rows.
pub(super) enum Tail {
    /// The same as others.
    Shared(u32),
    Own(Box<Pipeline>),
}

/// Steps that several jobs take, and the rows that wait for them.
pub(super) struct Class {
    says: String,
    /// No rows, for all of them to share.
    none: RecordBatch,
    users: usize,
    pipeline: Pipeline,
    /// It gives columns as they are: they can be chosen before rows are.
    as_is: bool,
    /// Those that were found in a batch, and of how many each job gets.
    rows: Vec<u32>,
    found: Vec<(u32, u32)>,
    /// Those that wait to be told.
    gathered: Gathered,
}

/// All steps behind filters of one stream's jobs.
pub(super) struct Tails {
    input: SchemaRef,
    classes: Vec<Option<Class>>,
    known: HashMap<String, usize>,
    /// Jobs that compute for themselves, and what they have computed.
    apart: usize,
    own: Vec<Portion>,
    crew: Option<Arc<Crew>>,
    /// Bytes of all that waits, and since when.
    bytes: usize,
    since: Option<Instant>,
    /// How long it waits.
    wait: Duration,
    /// How long it takes to tell a job, and its reader to read it.
    told_each: Duration,
}

/// What waited before a batch.
pub(super) struct Before {
    classes: Vec<Option<Mark>>,
    own: usize,
}

impl Tails {
    pub(super) fn new(input: &SchemaRef, crew: Option<Arc<Crew>>) -> Self {
        let (classes, known) = (Vec::new(), HashMap::new());
        Self {
            input: input.clone(),
            classes,
            known,
            apart: 0,
            own: Vec::new(),
            crew,
            bytes: 0,
            since: None,
            wait: *WAIT.start(),
            told_each: TOLD_EACH,
        }
    }

    /// The steps of a job.
    pub(super) fn add(&mut self, job: &Job) -> Result<Tail, EngineError> {
        let inputs = job.inputs();
        let ops = &inputs.branches[0].ops;
        let ops = &ops[leading_filters(ops)..];
        if !ops.iter().all(chooses) {
            self.apart += 1;
            return Ok(Tail::Own(Box::new(Pipeline::new(&self.input, ops, None, &job.counters)?)));
        }
        let says = canonical_branch("", false, ops);
        if let Some(at) = self.known.get(&says).copied()
            && let Some(class) = &mut self.classes[at]
        {
            class.users += 1;
            return Ok(Tail::Shared(at as u32));
        }
        // None of its rows fails: there is nothing to be counted.
        let pipeline = Pipeline::new(&self.input, ops, None, &Arc::new(Counters::default()))?;
        let class = Class {
            says: says.clone(),
            none: RecordBatch::new_empty(pipeline.schema().clone()),
            users: 1,
            pipeline,
            as_is: ops.iter().all(|op| !matches!(op, OpSpec::Conform(_))),
            rows: Vec::new(),
            found: Vec::new(),
            gathered: Gathered::default(),
        };
        let at = self.classes.iter().position(Option::is_none).unwrap_or(self.classes.len());
        if at == self.classes.len() {
            self.classes.push(None);
        }
        self.classes[at] = Some(class);
        self.known.insert(says, at);
        Ok(Tail::Shared(at as u32))
    }

    /// No rows of what a job gives.
    pub(super) fn none(&self, tail: &Tail) -> RecordBatch {
        match tail {
            Tail::Shared(at) => self.classes[*at as usize].as_ref().expect("it is used").none.clone(),
            Tail::Own(pipeline) => RecordBatch::new_empty(pipeline.schema().clone()),
        }
    }

    /// A job has gone.
    pub(super) fn remove(&mut self, tail: &Tail) {
        let Tail::Shared(at) = tail else {
            self.apart -= 1;
            return;
        };
        let Some(class) = self.classes[*at as usize].as_mut() else { return };
        class.users -= 1;
        if class.users == 0 {
            self.known.remove(&class.says);
            self.classes[*at as usize] = None;
        }
    }

    /// The columns of a batch that all jobs choose; `None`: not all choose the same, as they are.
    pub(super) fn columns(&mut self, batch: &StreamBatch) -> Option<RecordBatch> {
        let alike = self.apart == 0 && self.known.len() == 1;
        let class = self.classes.iter_mut().flatten().next().filter(|class| alike && class.as_is)?;
        let chosen = class.pipeline.process(batch.with_rows(batch.rows.clone())).ok()?;
        chosen.into_iter().next().map(|chosen| chosen.rows)
    }

    /// Puts rows of [`Tails::columns`] of a batch, of which so many go to each job in turn.
    pub(super) fn put_all(&mut self, batch: &StreamBatch, rows: RecordBatch, jobs: impl Iterator<Item = (u32, u32)>) {
        let Some(class) = self.classes.iter_mut().flatten().next() else { return };
        let chosen = batch.with_rows(rows);
        self.bytes += chosen.bytes();
        class.gathered.put(chosen, jobs);
        self.since.get_or_insert_with(Instant::now);
    }

    /// Puts the rows of a job beside those of others. `together`: so many lie in the same buffers.
    pub(super) fn put(
        &mut self,
        (at, slot): (u32, u32),
        rows: &[u32],
        batch: &StreamBatch,
        together: usize,
    ) -> Result<(), EngineError> {
        let at = at as usize;
        let Some(class) = self.classes[at].as_mut() else { return Ok(()) };
        class.rows.extend_from_slice(rows);
        class.found.push((slot, rows.len() as u32));
        if class.rows.len() >= together { self.choose(at, batch) } else { Ok(()) }
    }

    /// Puts what a job has computed itself of a batch, of which so many rows met its conditions.
    pub(super) fn put_own(&mut self, slot: u32, computed: StreamBatch, met: usize) {
        self.bytes += computed.bytes();
        let StreamBatch { partition, first, next, watermark, rows, .. } = computed;
        self.own.push(Portion { slot, partition, first, next, watermark, rows, met });
        self.since.get_or_insert_with(Instant::now);
    }

    /// All rows of a batch were put.
    pub(super) fn finish(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        (0..self.classes.len()).try_for_each(|at| self.choose(at, batch))?;
        if self.waits() {
            self.since.get_or_insert_with(Instant::now);
        }
        Ok(())
    }

    /// Chooses the columns of rows that were put.
    fn choose(&mut self, at: usize, batch: &StreamBatch) -> Result<(), EngineError> {
        let Some(class) = self.classes[at].as_mut().filter(|class| !class.found.is_empty()) else { return Ok(()) };
        let room = class.rows.len();
        let picked = pick(&batch.rows, &std::mem::replace(&mut class.rows, Vec::with_capacity(room)).into())?;
        let mut chosen = class.pipeline.process(batch.with_rows(picked))?;
        let chosen = chosen.pop().ok_or_else(|| EngineError::Internal("columns were chosen of no rows".into()))?;
        self.bytes += chosen.bytes();
        class.gathered.put(chosen, class.found.drain(..));
        Ok(())
    }

    /// Whether rows wait.
    pub(super) fn waits(&self) -> bool {
        !self.own.is_empty() || self.gathered().any(|gathered| !gathered.is_empty())
    }

    /// When those that wait are told at the latest; `None`: none wait.
    pub(super) fn due(&self) -> Option<Instant> {
        self.since.map(|since| since + self.wait)
    }

    /// Telling so many jobs took so long.
    pub(super) fn told_in(&mut self, took: Duration, jobs: u32) {
        // What takes a moment may have been interrupted.
        if let Some(each) = took.checked_div(jobs).filter(|_| jobs >= TOLD_TO_KNOW) {
            // Whoever reads it does as much again.
            self.told_each = 2 * each;
        }
        self.wait = (took * WAIT_TO_TELL).clamp(*WAIT.start(), *WAIT.end());
    }

    /// How long it takes to tell a job, and its reader to read it.
    pub(super) fn told_each(&self) -> Duration {
        self.told_each
    }

    /// For how many jobs rows wait, at the most.
    pub(super) fn waiting(&self) -> usize {
        let waiting = |class: &Class| class.gathered.len().min(class.users);
        self.own.len().min(self.apart) + self.classes.iter().flatten().map(waiting).sum::<usize>()
    }

    /// How long it takes to tell them.
    pub(super) fn telling(&self) -> Duration {
        self.told_each.saturating_mul(u32::try_from(self.waiting()).unwrap_or(u32::MAX))
    }

    /// Whether no more rows may wait.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= WAIT_BYTES
    }

    fn gathered(&self) -> impl Iterator<Item = &Gathered> {
        self.classes.iter().flatten().map(|class| &class.gathered)
    }

    /// What waits now.
    pub(super) fn mark(&self) -> Before {
        let mark = |class: &Option<Class>| class.as_ref().map(|class| class.gathered.mark());
        Before { classes: self.classes.iter().map(mark).collect(), own: self.own.len() }
    }

    /// Takes back what was put since.
    pub(super) fn back_to(&mut self, before: &Before) {
        for (class, mark) in self.classes.iter_mut().zip(&before.classes) {
            if let (Some(class), Some(mark)) = (class, mark) {
                class.rows.clear();
                class.found.clear();
                class.gathered.back_to(*mark);
            }
        }
        self.own.truncate(before.own);
    }

    /// What one job is told of what waits.
    pub(super) fn take_of(&mut self, slot: u32, tail: &Tail) -> Vec<Portion> {
        match tail {
            Tail::Shared(at) => {
                self.classes[*at as usize].as_mut().map_or(Vec::new(), |class| class.gathered.take_of(slot))
            }
            Tail::Own(_) => join_own(self.own.extract_if(.., |portion| portion.slot == slot).collect()),
        }
    }

    /// What all are told of what waits, that of a job behind each other.
    pub(super) fn take(&mut self) -> Vec<Portion> {
        (self.bytes, self.since) = (0, None);
        let mut told = join_own(std::mem::take(&mut self.own));
        for class in self.classes.iter_mut().flatten() {
            told.append(&mut class.gathered.take(self.crew.as_deref()));
        }
        told
    }
}

/// It makes nothing new.
fn chooses(op: &OpSpec) -> bool {
    fn is_column(expr: &Expr) -> bool {
        match expr {
            Expr::Column(_) => true,
            Expr::Alias(alias) => is_column(&alias.expr),
            _ => false,
        }
    }
    match op {
        OpSpec::Project { exprs, .. } => exprs.iter().all(|named| is_column(&named.expr)),
        other => is_plain(other),
    }
}
