//! What jobs do with the rows that they get: choose columns, which those that choose the same do together, or compute
//! some, where a row may fail, each for itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;
use tokio::time::Instant;

use super::gather::{Gathered, Mark, Portion, WAIT, WAIT_BYTES, WAIT_TO_TELL, join_own};
use crate::batch::StreamBatch;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::branch::{OpSpec, canonical_branch};
use crate::job::feed::leading_filters;
use crate::job::{Job, Pipeline};

/// Rows that come to lie in the same buffers, at the most: a reader that keeps one of them keeps all.
pub(super) const TOGETHER_ROWS: usize = 64;

/// How long it takes to tell a job, until that is known.
const TOLD_EACH: Duration = Duration::from_micros(3);
/// So many are told before it is.
const TOLD_TO_KNOW: u32 = 64;

/// Steps behind filters that give a row for each, wherever it comes.
pub(super) fn is_plain(op: &OpSpec) -> bool {
    matches!(op, OpSpec::Project { .. } | OpSpec::Select(_) | OpSpec::Rename(_) | OpSpec::Conform(_))
}

/// What a job does with its rows.
pub(super) enum Tail {
    /// The same as others.
    Shared(usize),
    Own(Box<Pipeline>),
}

/// Steps that several jobs take, and the rows that wait for them.
pub(super) struct Class {
    says: String,
    users: usize,
    pipeline: Pipeline,
    /// Those that were found in a batch, and of how many each job gets.
    rows: Vec<u32>,
    found: Vec<(u32, usize)>,
    /// Those that wait to be told.
    gathered: Gathered,
}

/// All steps behind filters of one stream's jobs.
pub(super) struct Tails {
    input: SchemaRef,
    classes: Vec<Option<Class>>,
    known: HashMap<String, usize>,
    /// What jobs have computed for themselves.
    own: Vec<Portion>,
    /// Bytes of all that waits, and since when.
    bytes: usize,
    since: Option<Instant>,
    /// How long it waits.
    wait: Duration,
    /// How long it takes to tell a job.
    told_each: Duration,
}

/// What waited before a batch.
pub(super) struct Before {
    classes: Vec<Option<Mark>>,
    own: usize,
}

impl Tails {
    pub(super) fn new(input: &SchemaRef) -> Self {
        let (classes, known) = (Vec::new(), HashMap::new());
        Self {
            input: input.clone(),
            classes,
            known,
            own: Vec::new(),
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
            return Ok(Tail::Own(Box::new(Pipeline::new(&self.input, ops, None, &job.counters)?)));
        }
        let says = canonical_branch("", false, ops);
        if let Some(at) = self.known.get(&says).copied()
            && let Some(class) = &mut self.classes[at]
        {
            class.users += 1;
            return Ok(Tail::Shared(at));
        }
        // None of its rows fails: there is nothing to be counted.
        let pipeline = Pipeline::new(&self.input, ops, None, &Arc::new(Counters::default()))?;
        let class = Class {
            says: says.clone(),
            users: 1,
            pipeline,
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
        Ok(Tail::Shared(at))
    }

    /// A job has gone.
    pub(super) fn remove(&mut self, tail: &Tail) {
        let Tail::Shared(at) = tail else { return };
        let Some(class) = self.classes[*at].as_mut() else { return };
        class.users -= 1;
        if class.users == 0 {
            self.known.remove(&class.says);
            self.classes[*at] = None;
        }
    }

    /// Puts the rows of a job beside those of others. `together`: so many lie in the same buffers.
    pub(super) fn put(
        &mut self,
        (at, slot): (usize, u32),
        rows: &[u32],
        batch: &StreamBatch,
        together: usize,
    ) -> Result<(), EngineError> {
        let Some(class) = self.classes[at].as_mut() else { return Ok(()) };
        class.rows.extend_from_slice(rows);
        class.found.push((slot, rows.len()));
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
        let picked = pick(&batch.rows, std::mem::take(&mut class.rows))?;
        let mut chosen = class.pipeline.process(batch.with_rows(picked))?;
        let chosen = chosen.pop().ok_or_else(|| EngineError::Internal("columns were chosen of no rows".into()))?;
        self.bytes += chosen.bytes();
        class.gathered.put(&chosen, &class.found);
        class.found.clear();
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
            self.told_each = each;
        }
        self.wait = (took * WAIT_TO_TELL).clamp(*WAIT.start(), *WAIT.end());
    }

    /// How long it takes to tell a job.
    pub(super) fn told_each(&self) -> Duration {
        self.told_each
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
            Tail::Shared(at) => self.classes[*at].as_mut().map_or(Vec::new(), |class| class.gathered.take_of(slot)),
            Tail::Own(_) => join_own(self.own.extract_if(.., |portion| portion.slot == slot).collect()),
        }
    }

    /// What all are told of what waits, that of a job behind each other.
    pub(super) fn take(&mut self) -> Vec<Portion> {
        (self.bytes, self.since) = (0, None);
        let mut told = join_own(std::mem::take(&mut self.own));
        for class in self.classes.iter_mut().flatten() {
            told.append(&mut class.gathered.take());
        }
        told
    }
}

/// These rows of a batch.
pub(super) fn pick(rows: &RecordBatch, picked: Vec<u32>) -> Result<RecordBatch, EngineError> {
    Ok(take_record_batch(rows, &UInt32Array::from(picked))?)
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
