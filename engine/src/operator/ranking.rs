//! The order of rows, and their numbers in it.

use arrow::array::{AsArray, RecordBatch, UInt32Array};
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema, TimestampNanosecondType};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion_expr::Expr;
use squilla_query::{RankFunction, RankSpec};

use super::state::State;
use crate::batch::EVENT_TIME;
use crate::error::EngineError;

/// Numbers rows within parts, by an order.
pub(super) struct Ranking {
    function: RankFunction,
    limit: Option<u64>,
    event_time: usize,
    parts: Option<Columns>,
    order: Columns,
}

/// Columns that are compared together.
pub(super) struct Columns {
    indices: Vec<usize>,
    kinds: Vec<DataType>,
    converter: RowConverter,
}

/// The columns that the order of a ranking goes by.
///
/// # Errors
/// As [`Columns::new`].
pub(super) fn order_columns(input: &Schema, spec: &RankSpec) -> Result<Columns, EngineError> {
    let order = spec.order_by.iter().map(|sort| {
        let options = SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first };
        (&sort.expr, options)
    });
    Columns::new(input, order.collect())
}

/// Where the columns of `output` are in `input`; `None` for the one that holds the number.
///
/// # Errors
/// [`EngineError::Plan`] when one is not there.
pub(super) fn project_named(
    input: &Schema,
    output: &Schema,
    number: Option<&str>,
) -> Result<Vec<Option<usize>>, EngineError> {
    let place = |name: &String| if number == Some(name) { Ok(None) } else { Ok(Some(input.index_of(name)?)) };
    output.fields().iter().map(|field| place(field.name())).collect()
}

/// Rows in order of their parts and numbers.
pub(super) struct Ranked {
    /// Their places in what was ranked.
    pub(super) rows: Vec<u32>,
    /// Their numbers.
    pub(super) numbers: Vec<i64>,
}

impl Ranking {
    /// A ranking of rows of `input`, physical fields.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it orders by anything but columns that can be compared.
    pub(super) fn new(input: &Schema, spec: &RankSpec) -> Result<Self, EngineError> {
        let parts: Vec<_> = spec.partition_by.iter().map(|expr| (expr, SortOptions::default())).collect();
        Ok(Self {
            function: spec.function,
            limit: spec.limit,
            event_time: input.index_of(EVENT_TIME)?,
            parts: if parts.is_empty() { None } else { Some(Columns::new(input, parts)?) },
            order: order_columns(input, spec)?,
        })
    }

    /// The numbers that are within the limit. Rows that are equal by the order go by event time, then by their place.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn rank(&mut self, rows: &RecordBatch) -> Result<Ranked, EngineError> {
        let parts = self.parts.as_mut().map(|parts| parts.rows(rows)).transpose()?;
        let order = self.order.rows(rows)?;
        let times = rows.column(self.event_time).as_primitive::<TimestampNanosecondType>().values();
        let count = u32::try_from(rows.num_rows()).map_err(|_| EngineError::Plan("a window has 2^32 rows".into()))?;
        let mut sorted: Vec<u32> = (0..count).collect();
        let part = |row: usize| parts.as_ref().map(|parts| parts.row(row));
        sorted.sort_unstable_by(|left, right| {
            let (a, b) = (*left as usize, *right as usize);
            let by_order = || order.row(a).cmp(&order.row(b));
            part(a).cmp(&part(b)).then_with(by_order).then_with(|| (times[a], left).cmp(&(times[b], right)))
        });
        let mut ranked = Ranked { rows: Vec::new(), numbers: Vec::new() };
        let most = self.limit.map_or(i64::MAX, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        let (mut row_number, mut number) = (0, 0);
        for (at, row) in sorted.iter().enumerate() {
            let here = *row as usize;
            let before = at.checked_sub(1).map(|at| sorted[at] as usize);
            let same_part = before.is_some_and(|before| part(before) == part(here));
            let same_order = same_part && before.is_some_and(|before| order.row(before) == order.row(here));
            if !same_part {
                (row_number, number) = (0, 0);
            }
            row_number += 1;
            number = match self.function {
                RankFunction::RowNumber => row_number,
                RankFunction::Rank if same_order => number,
                RankFunction::Rank => row_number,
                RankFunction::DenseRank => number + i64::from(!same_order),
            };
            if number <= most {
                ranked.rows.push(*row);
                ranked.numbers.push(number);
            }
        }
        Ok(ranked)
    }

    /// The rows that are within the limit, in the order in which they lie.
    ///
    /// # Errors
    /// As [`Ranking::rank`].
    pub(super) fn first(&mut self, rows: &RecordBatch) -> Result<UInt32Array, EngineError> {
        let mut kept = self.rank(rows)?.rows;
        kept.sort_unstable();
        Ok(kept.into())
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.limit.is_some()
    }
}

impl Columns {
    /// Columns of `input`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] for other expressions, and for types without an order.
    pub(super) fn new(input: &Schema, exprs: Vec<(&Expr, SortOptions)>) -> Result<Self, EngineError> {
        let mut indices = Vec::with_capacity(exprs.len());
        let mut fields = Vec::with_capacity(exprs.len());
        let mut kinds = Vec::with_capacity(exprs.len());
        for (expr, options) in exprs {
            let Expr::Column(column) = expr else {
                return Err(EngineError::Plan(format!("{expr} is not a column to rank by")));
            };
            let index = input.index_of(&column.name)?;
            indices.push(index);
            kinds.push(input.field(index).data_type().clone());
            fields.push(SortField::new_with_options(input.field(index).data_type().clone(), options));
        }
        Ok(Self { indices, kinds, converter: RowConverter::new(fields)? })
    }

    /// The values, in a form that compares.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn rows(&mut self, rows: &RecordBatch) -> Result<Rows, EngineError> {
        let columns: Vec<_> = self.indices.iter().map(|index| rows.column(*index).clone()).collect();
        Ok(self.converter.convert_columns(&columns)?)
    }

    /// Puts values that it has read behind what a state holds.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn save<'r>(
        &self,
        rows: impl ExactSizeIterator<Item = &'r [u8]>,
        state: &mut State,
    ) -> Result<(), EngineError> {
        let (parser, count) = (self.converter.parser(), rows.len());
        let columns = self.converter.convert_rows(rows.map(|row| parser.parse(row)))?;
        state.put_columns(columns, count)
    }

    /// Takes values from the front of a state.
    ///
    /// # Errors
    /// [`EngineError::State`] when something else comes next.
    pub(super) fn restore(&mut self, state: &mut State) -> Result<Rows, EngineError> {
        let (columns, _) = state.take_columns(&self.kinds)?;
        Ok(self.converter.convert_columns(&columns)?)
    }
}
