//! The ranks of a plan: which number a row has and which rows are kept.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion_expr::Expr;

use crate::plan::WindowSpec;

/// How rows are numbered and which are kept.
#[derive(Debug, Clone, PartialEq)]
pub struct RankSpec {
    /// What the number is.
    pub function: RankFunction,
    /// Rows are numbered within the parts that these make; in [`RankTime::Window`] beside the window.
    pub partition_by: Vec<Expr>,
    /// The order; not empty. Rows that are equal by it are in order of arrival.
    pub order_by: Vec<datafusion_expr::SortExpr>,
    /// Rows whose number is greater go; `None`: all are kept (windows only).
    pub limit: Option<u64>,
    /// Name of the number's field, when it is asked for.
    pub column: Option<String>,
    /// Whether rows are in order of their numbers in the output, parts aside (`ORDER BY … LIMIT`).
    pub ordered: bool,
    /// When rows are ranked.
    pub time: RankTime,
}

impl RankSpec {
    /// The output fields of [`RankTime::Running`] over an input's.
    pub(crate) fn running_schema(&self, input: &SchemaRef) -> SchemaRef {
        let of_part = |name: &str| {
            self.partition_by.iter().any(|part| matches!(part, Expr::Column(column) if column.name == name))
        };
        let parts = self.partition_by.iter().filter_map(|part| match part {
            Expr::Column(column) => input.fields().find(&column.name).map(|(_, field)| Arc::clone(field)),
            _ => None,
        });
        let place = self.place();
        let numbers = place.iter().chain(&self.column).map(|name| Arc::new(Field::new(name, DataType::Int64, false)));
        let others = input.fields().iter().filter(|field| !of_part(field.name())).cloned();
        Arc::new(Schema::new(parts.chain(numbers).chain(others).collect::<Vec<_>>()))
    }

    /// True when the first row of each part is kept, by time and over all time: then rows are appended, and nothing
    /// that was told changes.
    pub fn keeps_first(&self) -> bool {
        let by_time = matches!(self.time, RankTime::Running { by_time: true, .. });
        self.limit == Some(1) && by_time && self.function == RankFunction::RowNumber
    }

    /// Of [`RankTime::Running`] the name of the field that numbers the rows of a part, by which they replace each other
    /// where several may have one rank; `None`: the rank itself does.
    pub fn place(&self) -> Option<String> {
        let running = matches!(self.time, RankTime::Running { .. }) && self.function != RankFunction::RowNumber;
        let column = self.column.as_ref().filter(|_| running)?;
        Some(format!("{}_row", column.trim_start_matches('_')))
    }

    /// Of [`RankTime::Running`] how many of the first output fields are the key by which rows replace each other.
    pub fn running_keys(&self) -> usize {
        let numbered = self.limit != Some(1) || self.function != RankFunction::RowNumber;
        self.partition_by.len() + usize::from(numbered)
    }
}

/// What [`Plan::Rank`](crate::Plan::Rank) numbers rows by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RankFunction {
    /// 1, 2, 3, 4.
    RowNumber,
    /// 1, 2, 2, 4.
    Rank,
    /// 1, 2, 2, 3.
    DenseRank,
}

/// When rows are ranked.
#[derive(Debug, Clone, PartialEq)]
pub enum RankTime {
    /// When their window closes. Given are the fields that hold its start and its end.
    Window {
        /// Name of the field.
        start: String,
        /// Name of the field.
        end: String,
        /// How long after its end a window still takes rows, in nanoseconds of event time.
        grace_ns: i64,
        /// The windows, when rows were put in them one by one; `None`: rows are those of closed windows.
        assigned: Option<WindowSpec>,
    },
    /// Always: the result changes as rows come. Output fields, in order: those of the parts, the [`RankSpec::place`], the
    /// number, the others.
    Running {
        /// How long after its latest row a part is remembered on live input, in nanoseconds of event time.
        ttl_ns: i64,
        /// The order is that of event time, ascending; without an order it is that of arrival.
        by_time: bool,
    },
}
