//! What jobs do with the rows that they get: choose columns, which those that choose the same do together, or compute
//! some, where a row may fail, each for itself.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use datafusion_expr::Expr;

use crate::batch::StreamBatch;
use crate::counters::Counters;
use crate::error::EngineError;
use crate::job::branch::{OpSpec, canonical_branch};
use crate::job::feed::leading_filters;
use crate::job::{Job, Pipeline};

/// Rows that come to lie in the same buffers, at the most: a reader that keeps one of them keeps all.
const TOGETHER_ROWS: usize = 64;

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
    rows: Vec<u32>,
    waiting: Vec<(u32, usize)>,
}

/// All steps behind filters of one stream's jobs.
pub(super) struct Tails {
    input: SchemaRef,
    classes: Vec<Option<Class>>,
    known: HashMap<String, usize>,
}

impl Tails {
    pub(super) fn new(input: &SchemaRef) -> Self {
        Self { input: input.clone(), classes: Vec::new(), known: HashMap::new() }
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
        let class = Class { says: says.clone(), users: 1, pipeline, rows: Vec::new(), waiting: Vec::new() };
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

    /// Puts the rows of a job beside those of others; whether they are enough to be told.
    pub(super) fn put(&mut self, at: usize, slot: u32, rows: &[u32]) -> bool {
        let Some(class) = self.classes[at].as_mut() else { return false };
        class.rows.extend_from_slice(rows);
        class.waiting.push((slot, rows.len()));
        class.rows.len() >= TOGETHER_ROWS
    }

    /// The classes for which rows wait.
    pub(super) fn waiting(&self) -> Vec<usize> {
        let waits = |class: &Option<Class>| class.as_ref().is_some_and(|class| !class.waiting.is_empty());
        (0..self.classes.len()).filter(|at| waits(&self.classes[*at])).collect()
    }

    /// No rows wait any more.
    pub(super) fn clear(&mut self) {
        for class in self.classes.iter_mut().flatten() {
            class.rows.clear();
            class.waiting.clear();
        }
    }

    /// The rows that wait, as each of their jobs gets them.
    pub(super) fn take(&mut self, at: usize, batch: &StreamBatch) -> Result<Vec<(u32, RecordBatch)>, EngineError> {
        let Some(class) = self.classes[at].as_mut() else { return Ok(Vec::new()) };
        let rows = std::mem::take(&mut class.rows);
        let waiting = std::mem::take(&mut class.waiting);
        let picked = pick(&batch.rows, rows)?;
        let mut chosen = class.pipeline.process(batch.with_rows(picked))?;
        let chosen = chosen.pop().ok_or_else(|| EngineError::Internal("columns were chosen of no rows".into()))?;
        let mut first = 0;
        let own = waiting.into_iter().map(|(slot, count)| {
            first += count;
            (slot, chosen.rows.slice(first - count, count))
        });
        Ok(own.collect())
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
