//! Aggregates by session and keys.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimestampNanosecondType, UInt32Type};
use squilla_query::GatherSpec;

use super::align::{Align, Aligned};
use super::carried::Carried;
use super::expression::{Expressions, filter_columns};
use super::grouping::Grouping;
use super::key_table::KeyTable;
use super::late::Tardy;
use super::numbering::Numbering;
use super::placement::closed_until;
use super::progress::Progress;
use super::session_groups::SessionGroups;
use super::session_table::{Moment, Placed, SessionTable};
use super::session_told::Telling;
use super::{LateRows, Operator, Output, RESULT_LAG_NS, State};
use crate::batch::{StreamBatch, physical_schema};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// What a [`Session`] computes.
#[derive(Debug, Clone)]
pub struct SessionSpec {
    /// The physical fields of the batches that come in.
    pub input: SchemaRef,
    /// The longest pause within a session, in nanoseconds of event time.
    pub gap_ns: i64,
    /// How long after its end a session still takes rows, in nanoseconds of event time.
    pub grace_ns: i64,
    /// Parts, filter, keys and aggregates.
    pub gather: GatherSpec,
    /// The visible fields that come out: `window_start`, `window_end`, the keys, the aggregates.
    pub schema: SchemaRef,
    /// Partitions of the input.
    pub partitions: u32,
    /// Rows before it make no sessions; [`EventTime::MIN`]: all do.
    pub start: EventTime,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Groups the rows of each part by sessions, which end where no row comes for a gap, and in them by keys.
///
/// - Schema: physical batches in; out come `window_start` (of the first row), `window_end` (the last row and the gap),
///   the keys, the aggregates and the hidden columns, in one partition, in order of session ends; the event time of a
///   result is its session's end less a millisecond.
/// - Watermark: a row joins all sessions of its part that it is no more than a gap away from and that are open by the
///   watermark before it, and makes one of them; a row that joins none is late when the session that it would make has
///   ended by then, grace included. Rows of several partitions are taken in the order of their watermarks: those of a
///   partition that is ahead wait for the others. A session is told once the least watermark has passed its end and
///   the grace. The output's watermark is the least end still possible less a millisecond.
/// - State: for each open session a few numbers and its groups; rows that wait. Bounded by the budget, beyond which the
///   query ends with [`EngineError::StateBudget`]. Running results cost the sessions that have changed.
/// - Errors: a row on which an expression fails is set aside and counted, and makes no session; an aggregate that fails
///   ends the job with [`EngineError::Aggregate`].
/// - Example: with a gap of 10 s rows at 00:01, 00:11 and 00:22 make two sessions, 00:01–00:21 and 00:22–00:32.
///
/// Sessions merge as in Akidau et al., "The dataflow model" (VLDB 2015), section 2.2.
pub struct Session {
    schema: SchemaRef,
    gap: i64,
    grace: i64,
    start: i64,
    exprs: Expressions,
    numbering: Numbering,
    parts: usize,
    filtered: bool,
    align: Align,
    keys: KeyTable,
    table: SessionTable,
    groups: SessionGroups,
    progress: Progress,
    telling: Telling,
    told_until: i64,
    watermark: i64,
    idle: bool,
    arrival: EventTime,
    keeps_late: bool,
    input: SchemaRef,
    limit_bytes: usize,
    counters: Arc<Counters>,
    ids: Vec<usize>,
}

impl Session {
    /// Sessions whose operator counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    pub fn new(spec: SessionSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let GatherSpec { partition_by, filter, keys, aggregates, .. } = &spec.gather;
        if spec.gap_ns <= 0 {
            return Err(EngineError::Plan("a session needs a gap".into()));
        }
        let columns = 2 + keys.len() + aggregates.len();
        if spec.schema.fields().len() != columns {
            return Err(EngineError::Plan(format!("{} columns, not {columns}", spec.schema.fields().len())));
        }
        let numbering = Numbering::new(Grouping::needs_arrival(aggregates), spec.partitions);
        let input = numbering.schema(&spec.input);
        let outer: Vec<_> = partition_by.iter().chain(filter).collect();
        let (grouping, exprs) = Grouping::within(&input, DataType::UInt32, &outer, keys, aggregates)?;
        let types = exprs.types().iter().take(partition_by.len()).enumerate();
        let fields: Vec<_> = types.map(|(idx, kind)| Field::new(format!("part{idx}"), kind.clone(), true)).collect();
        let schema = physical_schema(&spec.schema);
        Ok(Self {
            gap: spec.gap_ns,
            grace: spec.grace_ns.max(0),
            start: spec.start.0,
            exprs,
            numbering,
            parts: partition_by.len(),
            filtered: filter.is_some(),
            align: Align::new(spec.partitions),
            keys: KeyTable::new(Arc::new(Schema::new(fields)))?,
            table: SessionTable::new(spec.gap_ns),
            groups: SessionGroups::new(grouping, spec.gap_ns),
            progress: Progress::new(spec.partitions),
            telling: Telling::new(Arc::clone(&schema)),
            schema,
            told_until: i64::MIN,
            watermark: i64::MIN,
            idle: false,
            arrival: EventTime::MIN,
            keeps_late: false,
            input: spec.input,
            limit_bytes: spec.state_limit_bytes,
            counters,
            ids: Vec::new(),
        })
    }

    /// Puts rows whose turn has come in their sessions.
    fn absorb(&mut self, rows: &Aligned, output: &mut Output) -> Result<(), EngineError> {
        let (columns, more) = rows.columns.split_at(self.exprs.types().len());
        let (times, whole) = more.split_first().expect("the event time is there");
        let times = times.as_primitive::<TimestampNanosecondType>().values();
        let marks = rows.watermarks.as_primitive::<TimestampNanosecondType>().values();
        self.keys.intern(&columns[..self.parts], times.len(), &mut self.ids)?;
        let passes = self.filtered.then(|| columns[self.parts].as_boolean().clone());
        let (mut kept, mut sessions) = (Vec::with_capacity(times.len()), Vec::with_capacity(times.len()));
        let (mut early, mut late, mut late_idle, mut failed, mut filtered) = (0, 0, 0, 0, 0);
        let mut tardy = Vec::new();
        for (row, (&time, &mark)) in times.iter().zip(marks).enumerate() {
            let mut placed = None;
            if time < self.start {
                early += 1;
            } else if time.checked_add(self.gap).is_none() || time.checked_sub(self.gap).is_none() {
                failed += 1;
                self.counters.sample("its session does not fit in 64 bits", &time.to_string());
            } else {
                let moment = Moment { own: passed(mark, self.grace), told: self.told_until };
                match self.table.place(self.ids[row], time, moment) {
                    Placed::In(session) => placed = Some(session),
                    Placed::Late => {
                        late += 1;
                        tardy.push((place_of(row), false));
                    }
                    Placed::LateIdle => {
                        late_idle += 1;
                        tardy.push((place_of(row), true));
                    }
                }
            }
            if placed.is_some() && passes.as_ref().is_some_and(|passes| !passes.value(row) || passes.is_null(row)) {
                filtered += 1;
                placed = None;
            }
            kept.push(placed.is_some());
            sessions.extend(placed);
        }
        add(&self.counters.before_start, early);
        add(&self.counters.late, late);
        add(&self.counters.late_idle, late_idle);
        add(&self.counters.failed, failed);
        add(&self.counters.filtered, filtered);
        add(&self.counters.absorbed, sessions.len());
        self.tell_late(rows, whole, &tardy, output)?;
        if sessions.is_empty() {
            return Ok(());
        }
        let sessions = UInt32Array::from(sessions);
        let outer = self.parts + usize::from(self.filtered);
        if sessions.len() == times.len() {
            return self.groups.update(sessions, columns, outer);
        }
        let columns = filter_columns(columns, &BooleanArray::from(kept))?;
        self.groups.update(sessions, &columns, outer)
    }

    /// Hands on the late ones of the rows whose turn has come, as far as they were kept whole.
    fn tell_late(
        &self,
        rows: &Aligned,
        whole: &[ArrayRef],
        tardy: &[Tardy],
        output: &mut Output,
    ) -> Result<(), EngineError> {
        let Some((partitions, visible)) = whole.split_last().filter(|_| self.keeps_late && !tardy.is_empty()) else {
            return Ok(());
        };
        let mut columns = visible.to_vec();
        columns.push(Arc::clone(&rows.columns[rows.columns.len() - whole.len() - 1]));
        columns.push(Arc::clone(&rows.watermarks));
        // Columns that nobody reads may have come without their type.
        let fields = self.input.fields().iter().zip(&columns);
        let fields = fields.map(|(field, column)| Field::new(field.name(), column.data_type().clone(), true));
        let rows = RecordBatch::try_new(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns)?;
        let told_at = if self.told_until == i64::MIN {
            i64::MIN
        } else {
            self.told_until.saturating_add(1).saturating_add(self.grace)
        };
        let partitions = partitions.as_primitive::<UInt32Type>().values();
        for of_one in tardy.chunk_by(|(left, _), (right, _)| partitions[*left as usize] == partitions[*right as usize])
        {
            let partition = partitions[of_one[0].0 as usize];
            output.late.extend(LateRows::pick(&rows, partition, of_one, told_at)?);
        }
        Ok(())
    }

    /// Takes the rows whose turn has come, tells the sessions that the watermark closes, and carries it on.
    fn advance(&mut self, output: &mut Output) -> Result<(), EngineError> {
        while let Some(rows) = self.align.release()? {
            self.absorb(&rows, output)?;
        }
        let closed = passed(self.progress.watermark(), self.grace);
        let after = match self.progress.watermark() {
            i64::MIN => i64::MIN,
            i64::MAX => i64::MAX,
            _ => closed.saturating_add(1).saturating_sub(RESULT_LAG_NS),
        };
        let after = after.max(self.watermark);
        let due = self.table.due(closed);
        let told = output.rows.len();
        if !due.is_empty() {
            let at = (after, self.arrival);
            let moved = self.groups.moved(&self.table, &due)?;
            let results = self.groups.close(&self.table, &due, closed)?;
            add(&self.counters.rows_out, results.len);
            self.telling.close(moved, results, &self.table, at, output)?;
            self.table.forget(&due);
            self.forget_keys()?;
        }
        self.told_until = self.told_until.max(closed);
        let idle = self.progress.is_idle();
        match output.rows[told..].last_mut() {
            Some(last) => (last.watermark, last.idle) = (EventTime(after), idle),
            None if after > self.watermark || idle != self.idle => {
                output.rows.push(self.telling.progress(after, self.arrival, idle));
            }
            None => {}
        }
        (self.watermark, self.idle) = (after, idle);
        Ok(())
    }

    /// Forgets keys that have no session any more, once they are the most.
    fn forget_keys(&mut self) -> Result<(), EngineError> {
        if self.keys.is_sparse(self.table.used_keys()) {
            let used = self.table.renumber_keys(self.keys.len());
            self.keys.retain(&used)?;
        }
        Ok(())
    }

    fn carried(&mut self) -> Carried<'_> {
        let Self { progress, telling, watermark, idle, arrival, .. } = self;
        Carried { progress, next: telling.next(), watermark, idle, arrival }
    }

    /// The types of the columns that are lined up.
    fn kinds(&self) -> Vec<DataType> {
        self.exprs.types().iter().cloned().chain([squilla_query::timestamp_type()]).collect()
    }

    fn check_budget(&self) -> Result<(), EngineError> {
        let used_bytes = self.state_bytes();
        if used_bytes <= self.limit_bytes {
            return Ok(());
        }
        Err(EngineError::StateBudget { scope: "query", used_bytes, limit_bytes: self.limit_bytes })
    }
}

fn place_of(row: usize) -> u32 {
    u32::try_from(row).expect("fewer rows than 2^32 come at once")
}

/// The latest end of sessions that a watermark has passed. One that ends right at it still takes a row that comes right
/// there, a gap behind its last: whether two rows are in one session must not depend on what came between them.
fn passed(watermark: i64, grace: i64) -> i64 {
    match closed_until(watermark, grace) {
        i64::MAX => i64::MAX,
        closed => closed.saturating_sub(1),
    }
}

impl Operator for Session {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        self.numbering.line_up(&batch, &self.exprs, &self.counters, &mut self.align, self.keeps_late)?;
        self.arrival = batch.arrival;
        self.progress.advance(batch.partition, batch.watermark.0, batch.idle)?;
        self.advance(output)?;
        self.check_budget()
    }

    fn end_partition(&mut self, partition: u32, output: &mut Output) -> Result<(), EngineError> {
        self.align.end(partition)?;
        self.progress.end(partition)?;
        self.advance(output)
    }

    fn track_updates(&mut self, on: bool) {
        self.telling.track(on);
        self.table.track(on);
        self.groups.track(on);
    }

    fn track_late(&mut self, on: bool) {
        self.keeps_late = on;
    }

    fn tick(&mut self, output: &mut Output) -> Result<(), EngineError> {
        let at = (self.watermark, self.arrival);
        self.telling.tick(&mut self.groups, &mut self.table, at, output)?;
        self.check_budget()
    }

    fn snapshot(&mut self) -> Result<Vec<StreamBatch>, EngineError> {
        let at = (self.watermark, self.arrival);
        self.telling.snapshot(&mut self.groups, &mut self.table, at)
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        state.put(&(self.start, self.told_until))?;
        self.carried().save(state)?;
        self.numbering.save(state)?;
        self.align.save(state)?;
        self.keys.save(state)?;
        self.table.save(state)?;
        self.groups.save(&self.table, state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        (self.start, self.told_until) = state.take()?;
        self.carried().restore(state)?;
        self.numbering.restore(state)?;
        self.align.restore(&self.kinds(), state)?;
        self.keys.restore(state)?;
        self.table.restore(state)?;
        self.groups.restore(state)
    }

    fn state_bytes(&self) -> usize {
        self.align.bytes() + self.table.bytes() + self.groups.bytes() + self.telling.bytes() + self.key_bytes()
    }
}

impl Session {
    /// Bytes of the keys, none when no session is open.
    fn key_bytes(&self) -> usize {
        if self.table.used_keys() == 0 { 0 } else { self.keys.bytes() }
    }
}
