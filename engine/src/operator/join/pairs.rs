//! Which rows of two sides make pairs.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::kernels::cmp::{eq, not_distinct};
use arrow::compute::{and, filter, filter_record_batch, not, prep_null_mask_filter, take};
use arrow::datatypes::{Field, Schema, SchemaRef, TimestampNanosecondType};
use datafusion_common::hash_utils::{RandomState, create_hashes};
use datafusion_expr::Expr;
use squilla_query::JoinKey;

use super::super::expression::{Expressions, Planner};
use super::super::filter::compile;
use super::super::state::State;
use super::rows::Rows;
use crate::batch::EVENT_TIME;
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Candidates that are looked at together.
const CANDIDATES: usize = 16_384;

/// The left side of a join.
pub(super) const LEFT: usize = 0;
/// The right side.
pub(super) const RIGHT: usize = 1;

/// What makes pairs, by the sides' fields.
pub(super) struct Matcher {
    sides: [Side; 2],
    /// For each key whether null equals null.
    nulls: Vec<bool>,
    filter: Option<Expressions>,
    /// The fields of both, left first, which the filter reads.
    both: SchemaRef,
}

/// How the rows of one side are read.
struct Side {
    /// Where the physical batches have the fields.
    fields: Vec<usize>,
    /// Keys that are not columns, and what else is computed of a row.
    computed: Expressions,
    /// Where kept rows have their keys.
    keys: Vec<usize>,
    /// What is kept of a row: the fields, the event time, and what is computed.
    kept: SchemaRef,
}

/// Rows of one side, read.
pub(super) struct Keyed {
    /// As they are kept.
    pub(super) rows: RecordBatch,
    /// Of their keys.
    pub(super) hashes: Vec<u64>,
    /// Rows that can have a partner; `None`: all. Null equals nothing.
    pub(super) joinable: Option<BooleanArray>,
}

/// Rows of a side that make pairs with rows of the other.
pub(super) struct Pairs {
    /// Of those that looked for partners.
    pub(super) probe: Vec<u32>,
    /// Of those that were there.
    pub(super) found: Vec<u32>,
}

/// What a [`Matcher`] is made of.
pub(super) struct MatchSpec<'s> {
    /// The physical fields of the batches that come in.
    pub(super) inputs: [&'s SchemaRef; 2],
    /// The visible fields of each side.
    pub(super) fields: [&'s SchemaRef; 2],
    pub(super) on: &'s [JoinKey],
    pub(super) filter: Option<&'s Expr>,
    /// What else is computed of each row, kept last.
    pub(super) more: [&'s [Expr]; 2],
}

impl Matcher {
    /// # Errors
    /// [`EngineError::Plan`] when a key or the filter cannot be computed.
    pub(super) fn new(spec: &MatchSpec<'_>) -> Result<Self, EngineError> {
        let keys = |side: usize| {
            let of = move |key: &JoinKey| if side == LEFT { key.left.clone() } else { key.right.clone() };
            spec.on.iter().map(of).collect::<Vec<_>>()
        };
        let side = |at: usize| Side::new(spec.inputs[at], spec.fields[at], &keys(at), spec.more[at]);
        let fields = spec.fields.iter().flat_map(|fields| fields.fields().iter().cloned());
        let both: SchemaRef = Arc::new(Schema::new(fields.map(|field| nullable(&field)).collect::<Vec<_>>()));
        let filter = spec.filter.map(|filter| compile(&both, filter)).transpose()?;
        let nulls = spec.on.iter().map(|key| key.nulls).collect();
        Ok(Self { sides: [side(LEFT)?, side(RIGHT)?], nulls, filter, both })
    }

    /// Whether equal keys do not suffice.
    pub(super) fn has_condition(&self) -> bool {
        self.filter.is_some()
    }

    /// How many fields a side has.
    pub(super) fn width(&self, side: usize) -> usize {
        self.sides[side].fields.len()
    }

    /// The fields of a side.
    pub(super) fn fields(&self, side: usize) -> &[Arc<Field>] {
        let first = if side == LEFT { 0 } else { self.width(LEFT) };
        &self.both.fields()[first..first + self.width(side)]
    }

    /// Reads rows of a side; those on which a key fails are set aside.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn read(
        &self,
        at: usize,
        rows: &RecordBatch,
        arrival: EventTime,
        counters: &Counters,
    ) -> Result<Keyed, EngineError> {
        let side = &self.sides[at];
        let evaluated = side.computed.evaluate(rows, arrival)?;
        let rows = evaluated.set_aside(rows, counters)?;
        let time = rows.num_columns() - 2;
        let mut columns: Vec<ArrayRef> =
            side.fields.iter().chain([&time]).map(|field| Arc::clone(rows.column(*field))).collect();
        columns.extend(evaluated.columns);
        self.keyed(at, RecordBatch::try_new(Arc::clone(&side.kept), columns)?)
    }

    /// Rows as they were kept, from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restored(&self, side: usize, state: &mut State) -> Result<Keyed, EngineError> {
        self.keyed(side, state.take_rows_of(&self.sides[side].kept)?)
    }

    /// Rows as they are kept, with the hashes of their keys.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn keyed(&self, side: usize, kept: RecordBatch) -> Result<Keyed, EngineError> {
        let keys: Vec<&ArrayRef> = self.sides[side].keys.iter().map(|key| kept.column(*key)).collect();
        let mut hashes = vec![0; kept.num_rows()];
        create_hashes(keys.iter().copied(), &RandomState::with_seed(0), &mut hashes)?;
        let strict = keys.iter().zip(&self.nulls).filter(|(key, nulls)| !**nulls && key.null_count() > 0);
        let mut joinable: Option<BooleanArray> = None;
        for (key, _) in strict {
            let valid = arrow::compute::is_not_null(key)?;
            joinable = Some(match joinable {
                Some(before) => and(&before, &valid)?,
                None => valid,
            });
        }
        Ok(Keyed { rows: kept, hashes, joinable })
    }

    /// Tells of the pairs that rows of `side` make with rows of the other side that are `within` reach by their times.
    ///
    /// # Errors
    /// Our own mistake, or the receiver's.
    pub(super) fn find(
        &self,
        side: usize,
        probe: &Keyed,
        rows: &Rows,
        within: impl Fn(i64, i64) -> bool,
        (arrival, counters): (EventTime, &Counters),
        found: &mut dyn FnMut(Pairs) -> Result<(), EngineError>,
    ) -> Result<(), EngineError> {
        let times = probe.times();
        let mut candidates = Pairs { probe: Vec::new(), found: Vec::new() };
        for (at, (hash, time)) in (0u32..).zip(probe.hashes.iter().zip(times)) {
            if probe.joinable.as_ref().is_some_and(|joinable| !joinable.value(at as usize)) {
                continue;
            }
            for id in rows.with_hash(*hash).filter(|id| within(*time, rows.time(*id))) {
                candidates.probe.push(at);
                candidates.found.push(id);
            }
            if candidates.probe.len() >= CANDIDATES {
                let whole = std::mem::replace(&mut candidates, Pairs { probe: Vec::new(), found: Vec::new() });
                for part in whole.parts() {
                    found(self.verify(side, probe, rows, part, arrival, counters)?)?;
                }
            }
        }
        if candidates.probe.is_empty() {
            return Ok(());
        }
        found(self.verify(side, probe, rows, candidates, arrival, counters)?)
    }

    /// Those of the candidates whose keys are equal and that meet the filter. One on which the filter fails is none.
    fn verify(
        &self,
        side: usize,
        probe: &Keyed,
        rows: &Rows,
        mut pairs: Pairs,
        arrival: EventTime,
        counters: &Counters,
    ) -> Result<Pairs, EngineError> {
        let mut keep: Option<BooleanArray> = None;
        let (own, other) = (&self.sides[side].keys, &self.sides[1 - side].keys);
        let picked = UInt32Array::from(pairs.probe.clone());
        for ((own, other), nulls) in own.iter().zip(other).zip(&self.nulls) {
            let own = take(probe.rows.column(*own), &picked, None)?;
            let other = rows.take(*other..*other + 1, &pairs.found)?.remove(0);
            let equal = if *nulls { not_distinct(&own, &other)? } else { eq(&own, &other)? };
            keep = Some(match keep {
                Some(before) => and(&before, &equal)?,
                None => equal,
            });
        }
        if let Some(keep) = keep {
            pairs.keep(&keep);
        }
        let Some(predicate) = &self.filter else { return Ok(pairs) };
        let columns = self.columns(side, probe, rows, &pairs)?;
        let options = RecordBatchOptions::new().with_row_count(Some(pairs.probe.len()));
        let both = RecordBatch::try_new_with_options(Arc::clone(&self.both), columns, &options)?;
        let evaluated = predicate.evaluate(&both, arrival)?;
        if let Some(survivors) = evaluated.survivors(pairs.probe.len()) {
            add(&counters.pairs_failed, evaluated.failures.len());
            evaluated.sample(&both, counters);
            pairs.keep(&survivors);
        }
        let passes = evaluated.columns[0].as_boolean();
        pairs.keep(&if passes.null_count() > 0 { prep_null_mask_filter(passes) } else { passes.clone() });
        Ok(pairs)
    }

    /// The pairs' fields, the left's first.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn columns(
        &self,
        side: usize,
        probe: &Keyed,
        rows: &Rows,
        pairs: &Pairs,
    ) -> Result<Vec<ArrayRef>, EngineError> {
        let picked = UInt32Array::from(pairs.probe.clone());
        let own = &probe.rows.columns()[..self.width(side)];
        let mut own = own.iter().map(|column| take(column, &picked, None)).collect::<Result<Vec<_>, _>>()?;
        let mut other = rows.take(0..self.width(1 - side), &pairs.found)?;
        if side == LEFT {
            own.append(&mut other);
            return Ok(own);
        }
        other.append(&mut own);
        Ok(other)
    }
}

impl Side {
    fn new(input: &SchemaRef, fields: &SchemaRef, keys: &[Expr], more: &[Expr]) -> Result<Self, EngineError> {
        let planner = Planner::new(input)?;
        let places = fields.fields().iter().map(|field| input.index_of(field.name())).collect::<Result<Vec<_>, _>>()?;
        let time = input.field_with_name(EVENT_TIME)?;
        let (mut found, mut exprs) = (Vec::new(), Vec::new());
        for key in keys {
            let column = match key {
                Expr::Column(column) => fields.index_of(&column.name).ok(),
                _ => None,
            };
            found.push(column.unwrap_or(places.len() + 1 + exprs.len()));
            if column.is_none() {
                exprs.push(planner.expr(key)?);
            }
        }
        for expr in more {
            exprs.push(planner.expr(expr)?);
        }
        let computed = Expressions::new(exprs, &planner)?;
        let mut kept: Vec<Arc<Field>> = places.iter().map(|place| nullable(&input.fields()[*place])).collect();
        kept.push(Arc::new(time.clone()));
        for (at, kind) in computed.types().iter().enumerate() {
            kept.push(Arc::new(Field::new(format!("__computed_{at}"), kind.clone(), true)));
        }
        Ok(Self { fields: places, computed, keys: found, kept: Arc::new(Schema::new(kept)) })
    }
}

impl Keyed {
    /// Event times.
    pub(super) fn times(&self) -> &[i64] {
        let at = self.rows.schema_ref().index_of(EVENT_TIME).expect("kept rows have their event time");
        self.rows.column(at).as_primitive::<TimestampNanosecondType>().values()
    }

    /// The first columns: a side's fields.
    pub(super) fn fields(&self, width: usize) -> Vec<ArrayRef> {
        self.rows.columns()[..width].to_vec()
    }

    /// The rows that can have no partner; `None`: all can.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn strangers(&self) -> Result<Option<Self>, EngineError> {
        match &self.joinable {
            Some(joinable) if joinable.true_count() < joinable.len() => Ok(Some(self.filter(&not(joinable)?)?)),
            _ => Ok(None),
        }
    }

    /// The rows that can have a partner.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn friends(self) -> Result<Self, EngineError> {
        match &self.joinable {
            Some(joinable) if joinable.true_count() < joinable.len() => self.filter(joinable),
            _ => Ok(self),
        }
    }

    /// The rows where `keep` is true.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn filter(&self, keep: &BooleanArray) -> Result<Self, EngineError> {
        let hashes = Int64Array::from_iter_values(self.hashes.iter().map(|hash| hash.cast_signed()));
        let hashes = filter(&hashes, keep)?;
        let hashes = hashes.as_primitive::<arrow::datatypes::Int64Type>().values();
        let joinable = self.joinable.as_ref().map(|joinable| filter(joinable, keep)).transpose()?;
        Ok(Self {
            rows: filter_record_batch(&self.rows, keep)?,
            hashes: hashes.iter().map(|hash| hash.cast_unsigned()).collect(),
            joinable: joinable.map(|joinable| joinable.as_boolean().clone()),
        })
    }
}

impl Pairs {
    fn keep(&mut self, keep: &BooleanArray) {
        for ids in [&mut self.probe, &mut self.found] {
            let mut keep = keep.values().iter();
            ids.retain(|_| keep.next().unwrap_or(false));
        }
    }

    /// No part has many more candidates than are looked at together.
    fn parts(self) -> Vec<Self> {
        let chunks = self.probe.chunks(CANDIDATES).zip(self.found.chunks(CANDIDATES));
        chunks.map(|(probe, found)| Self { probe: probe.to_vec(), found: found.to_vec() }).collect()
    }
}

fn nullable(field: &Arc<Field>) -> Arc<Field> {
    Arc::new(Field::clone(field).with_nullable(true))
}
