//! Conditions taken apart: what can be looked up, and what is judged on the rows that are found so.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::{Schema, SchemaRef};
use datafusion_common::ScalarValue;
use datafusion_expr::expr::{Between, InList, Like};
use datafusion_expr::utils::split_conjunction;
use datafusion_expr::{BinaryExpr, Expr, Operator};

use super::values::{Columns, Form, numbers, texts};
use crate::clock::EventTime;
use crate::error::EngineError;
use crate::operator::expression::Expressions;
use crate::operator::filter::compile;

/// Alternatives of one `OR` that are looked up one by one.
const ALTERNATIVES: usize = 256;
/// How deep a condition may be nested to be judged here.
const DEPTH: usize = 300;

/// Conditions all of which a row must meet, none of which can fail, and at least one of which can be looked up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Predicate {
    pub(super) atoms: Vec<Atom>,
    /// What is no comparison of a column with values.
    pub(super) others: Vec<Expr>,
}

/// A comparison of a column's value with others. A null meets none but [`Atom::Null`].
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Atom {
    /// It lies between these, both included.
    Within { column: usize, low: u64, high: u64 },
    /// It is one of these, ascending.
    Numbers { column: usize, values: Vec<u64> },
    /// It is one of these, ascending.
    Texts { column: usize, values: Vec<Box<str>> },
    /// It is, or is not, null.
    Null { column: usize, is: bool },
}

/// What of a predicate is no atom, as expressions.
pub(super) struct Others(Expressions);

impl Others {
    pub(super) fn new(input: &SchemaRef, expr: &Expr) -> Result<Self, EngineError> {
        compile(input, expr).map(Self)
    }

    /// Leaves those of the rows that meet it. None of them fails: that would be our own mistake.
    pub(super) fn retain(
        &self,
        rows: &RecordBatch,
        arrival: EventTime,
        found: &mut Vec<u32>,
        from: usize,
    ) -> Result<(), EngineError> {
        let picked = arrow::array::UInt32Array::from(found[from..].to_vec());
        let picked = arrow::compute::take_record_batch(rows, &picked)?;
        let evaluated = self.0.evaluate(&picked, arrival)?;
        if let Some((_, reason)) = evaluated.failures.first() {
            return Err(EngineError::Internal(format!("a condition that cannot fail has failed: {reason}").into()));
        }
        let meets = arrow::array::AsArray::as_boolean(&evaluated.columns[0]);
        let (mut kept, mut at) = (from, 0);
        while from + at < found.len() {
            if meets.is_valid(at) && meets.value(at) {
                found[kept] = found[from + at];
                kept += 1;
            }
            at += 1;
        }
        found.truncate(kept);
        Ok(())
    }
}

impl Predicate {
    /// Of conditions over physical batches of `schema`; `None`: one of them might fail, or none can be looked up.
    pub(crate) fn new(conditions: &[&Expr], schema: &Schema) -> Option<Self> {
        let mut predicate = Self::default();
        for condition in conditions.iter().flat_map(|condition| split_conjunction(condition)) {
            if !never_fails(condition, schema, DEPTH) {
                return None;
            }
            match atom(condition, schema) {
                Some(atom) => predicate.add(atom),
                None => predicate.others.push(condition.clone()),
            }
        }
        let looked_up = |atom: &Atom| !matches!(atom, Atom::Null { .. });
        predicate.atoms.iter().any(looked_up).then_some(predicate)
    }

    /// Adds an atom; two ranges of one column become one.
    fn add(&mut self, atom: Atom) {
        if let Atom::Within { column, low, high } = &atom {
            for known in &mut self.atoms {
                if let Atom::Within { column: of, low: from, high: to } = known
                    && of == column
                {
                    (*from, *to) = ((*from).max(*low), (*to).min(*high));
                    return;
                }
            }
        }
        self.atoms.push(atom);
    }

    /// No row meets it.
    pub(super) fn is_empty(&self) -> bool {
        self.atoms.iter().any(|atom| match atom {
            Atom::Within { low, high, .. } => low > high,
            Atom::Numbers { values, .. } => values.is_empty(),
            Atom::Texts { values, .. } => values.is_empty(),
            Atom::Null { .. } => false,
        })
    }
}

impl Atom {
    /// The column that it looks at.
    pub(super) fn column(&self) -> usize {
        match self {
            Self::Within { column, .. }
            | Self::Numbers { column, .. }
            | Self::Texts { column, .. }
            | Self::Null { column, .. } => *column,
        }
    }

    /// Brings what it looks at into its form.
    pub(super) fn load(&self, rows: &RecordBatch, columns: &mut Columns) -> Result<(), EngineError> {
        columns.see(rows, self.column());
        let known = match self {
            Self::Within { column, .. } | Self::Numbers { column, .. } => columns.load(rows, *column),
            Self::Texts { column, .. } => texts(rows, *column).is_some(),
            Self::Null { .. } => true,
        };
        let name = || rows.schema().field(self.column()).name().clone();
        if known { Ok(()) } else { Err(EngineError::Internal(format!("column \"{}\" is not read", name()).into())) }
    }

    /// Adds those of the candidates that meet it. What it looks at is loaded.
    pub(super) fn pick(&self, rows: &RecordBatch, columns: &Columns, candidates: &[u32], found: &mut Vec<u32>) {
        let from = found.len();
        match (self, columns.valid(self.column())) {
            (Self::Within { column, low, high }, None) => {
                let (numbers, span) = (columns.numbers(*column), high.wrapping_sub(*low));
                found.resize(from + candidates.len(), 0);
                let mut next = from;
                for row in candidates {
                    found[next] = *row;
                    // One comparison for both bounds; what lies below wraps around.
                    next += usize::from(numbers[*row as usize].wrapping_sub(*low) <= span);
                }
                found.truncate(next);
            }
            _ => {
                found.extend_from_slice(candidates);
                self.retain(rows, columns, found, from);
            }
        }
    }

    /// Whether it looks at its column's values as numbers.
    pub(super) fn compares(&self) -> bool {
        matches!(self, Self::Within { .. } | Self::Numbers { .. })
    }

    /// Whether one row meets it. What it looks at is loaded.
    pub(super) fn holds(&self, rows: &RecordBatch, columns: &Columns, row: u32) -> bool {
        let valid = columns.valid(self.column()).is_none_or(|valid| valid.is_valid(row as usize));
        let number = |column: &usize| columns.numbers(*column)[row as usize];
        match self {
            Self::Within { column, low, high } => valid && (low..=high).contains(&&number(column)),
            Self::Numbers { column, values } => valid && values.binary_search(&number(column)).is_ok(),
            Self::Texts { column, values } => {
                valid && texts(rows, *column).is_some_and(|texts| is_one_of(values, texts.value(row as usize)))
            }
            Self::Null { is, .. } => valid != *is,
        }
    }

    /// How late it is judged: what costs more comes behind.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Within { .. } => 0,
            Self::Null { .. } => 1,
            Self::Numbers { .. } => 2,
            Self::Texts { .. } => 3,
        }
    }

    /// Leaves those of the rows from a place on that meet it. What it looks at is loaded.
    pub(super) fn retain(&self, rows: &RecordBatch, columns: &Columns, found: &mut Vec<u32>, from: usize) {
        let valid = columns.valid(self.column());
        let is_valid = |row: u32| valid.is_none_or(|valid| valid.is_valid(row as usize));
        match self {
            Self::Within { column, low, high } => {
                let numbers = columns.numbers(*column);
                keep(found, from, |row| (*low..=*high).contains(&numbers[row as usize]) && is_valid(row));
            }
            Self::Numbers { column, values } => {
                let numbers = columns.numbers(*column);
                keep(found, from, |row| values.binary_search(&numbers[row as usize]).is_ok() && is_valid(row));
            }
            Self::Texts { column, values } => {
                let Some(texts) = texts(rows, *column) else { return found.truncate(from) };
                keep(found, from, |row| is_valid(row) && is_one_of(values, texts.value(row as usize)));
            }
            Self::Null { is, .. } => keep(found, from, |row| is_valid(row) != *is),
        }
    }
}

fn is_one_of(values: &[Box<str>], text: &str) -> bool {
    match values {
        // Of another length: then its bytes, which are seldom near, are not looked at.
        [only] => only.as_ref() == text,
        _ => values.binary_search_by(|value| value.as_ref().cmp(text)).is_ok(),
    }
}

/// Keeps those of the rows from a place on for which it holds.
fn keep(found: &mut Vec<u32>, from: usize, holds: impl Fn(u32) -> bool) {
    let mut kept = from;
    for at in from..found.len() {
        let row = found[at];
        found[kept] = row;
        kept += usize::from(holds(row));
    }
    found.truncate(kept);
}

/// The column of an expression that is nothing else, and how it is compared.
fn column(expr: &Expr, schema: &Schema) -> Option<(usize, Form)> {
    let Expr::Column(column) = expr else { return None };
    let at = schema.index_of(&column.name).ok()?;
    Some((at, Form::of(schema.field(at).data_type())?))
}

/// A value of the same type as a column; `None` within: it is null.
fn literal(expr: &Expr, column: usize, schema: &Schema) -> Option<Option<ArrayRef>> {
    let Expr::Literal(value, _) = expr else { return None };
    if value.data_type() != *schema.field(column).data_type() {
        return None;
    }
    if value.is_null() { Some(None) } else { value.to_array().ok().map(Some) }
}

fn number(value: &ArrayRef) -> Option<u64> {
    let mut found = Vec::new();
    numbers(value, None, &mut found).then(|| found.first().copied()).flatten()
}

fn text(value: &ArrayRef) -> Option<Box<str>> {
    arrow::array::AsArray::as_string_opt::<i32>(value).map(|texts| texts.value(0).into())
}

/// The comparison that a condition is; `None`: it is another.
fn atom(condition: &Expr, schema: &Schema) -> Option<Atom> {
    match condition {
        Expr::BinaryExpr(BinaryExpr { op: Operator::Or, .. }) => alternatives(condition, schema),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match (column(left, schema), column(right, schema)) {
            (Some(left), None) => compared(left, *op, right, schema),
            (None, Some(right)) => compared(right, op.swap()?, left, schema),
            _ => None,
        },
        Expr::Between(Between { expr, negated: false, low, high }) => {
            let of = column(expr, schema)?;
            let (from, to) = (compared(of, Operator::GtEq, low, schema)?, compared(of, Operator::LtEq, high, schema)?);
            let (Atom::Within { column, low, .. }, Atom::Within { high, .. }) = (from, to) else { return None };
            Some(Atom::Within { column, low, high })
        }
        Expr::InList(InList { expr, list, negated: false }) => {
            // Lists tell the zeros of floating-point numbers apart.
            let of = column(expr, schema).filter(|(at, _)| !schema.field(*at).data_type().is_floating())?;
            let equal: Option<Vec<Atom>> = list.iter().map(|value| compared(of, Operator::Eq, value, schema)).collect();
            one_of(of, equal?)
        }
        Expr::IsNull(expr) => null(expr, true, schema),
        Expr::IsNotNull(expr) => null(expr, false, schema),
        Expr::Column(_) => truth(condition, true, schema),
        Expr::Not(expr) => truth(expr, false, schema),
        _ => None,
    }
}

fn null(expr: &Expr, is: bool, schema: &Schema) -> Option<Atom> {
    let Expr::Column(column) = expr else { return None };
    Some(Atom::Null { column: schema.index_of(&column.name).ok()?, is })
}

/// A column of booleans itself.
fn truth(expr: &Expr, value: bool, schema: &Schema) -> Option<Atom> {
    let (column, _) = column(expr, schema)?;
    let value = u64::from(value);
    let boolean = *schema.field(column).data_type() == arrow::datatypes::DataType::Boolean;
    boolean.then_some(Atom::Within { column, low: value, high: value })
}

fn compared((column, form): (usize, Form), op: Operator, value: &Expr, schema: &Schema) -> Option<Atom> {
    let value = literal(value, column, schema)?;
    // Compared with null, nothing is true.
    let never = Atom::Within { column, low: 1, high: 0 };
    match form {
        Form::Text => {
            let values = match value {
                Some(value) => vec![text(&value)?],
                None => Vec::new(),
            };
            (op == Operator::Eq).then_some(Atom::Texts { column, values })
        }
        Form::Number => {
            let bounds = |key: u64| match op {
                Operator::Eq => Some((key, key)),
                Operator::Gt => Some(key.checked_add(1).map_or((1, 0), |low| (low, u64::MAX))),
                Operator::GtEq => Some((key, u64::MAX)),
                Operator::Lt => Some(key.checked_sub(1).map_or((1, 0), |high| (0, high))),
                Operator::LtEq => Some((0, key)),
                _ => None,
            };
            match value {
                Some(value) => bounds(number(&value)?).map(|(low, high)| Atom::Within { column, low, high }),
                None => bounds(0).map(|_| never),
            }
        }
    }
}

/// `k = 1 OR k = 2`, of one column.
fn alternatives(condition: &Expr, schema: &Schema) -> Option<Atom> {
    let mut left = vec![condition];
    let (mut of, mut equal) = (None, Vec::new());
    while let Some(expr) = left.pop() {
        if let Expr::BinaryExpr(BinaryExpr { left: a, op: Operator::Or, right: b }) = expr {
            left.extend([a.as_ref(), b.as_ref()]);
            continue;
        }
        let found = atom(expr, schema).filter(|_| equal.len() < ALTERNATIVES)?;
        if *of.get_or_insert(found.column()) != found.column() {
            return None;
        }
        equal.push(found);
    }
    let column = of?;
    one_of((column, Form::of(schema.field(column).data_type())?), equal)
}

/// Alternatives, each of them one or more values of a column.
fn one_of((column, form): (usize, Form), equal: Vec<Atom>) -> Option<Atom> {
    let (mut numbers, mut texts) = (Vec::new(), Vec::new());
    for atom in equal {
        match atom {
            Atom::Within { low, high, .. } if low == high => numbers.push(low),
            // It is null.
            Atom::Within { low, high, .. } if low > high => {}
            Atom::Numbers { mut values, .. } => numbers.append(&mut values),
            Atom::Texts { mut values, .. } => texts.append(&mut values),
            Atom::Within { .. } | Atom::Null { .. } => return None,
        }
    }
    numbers.sort_unstable();
    numbers.dedup();
    texts.sort_unstable();
    texts.dedup();
    Some(match form {
        Form::Number => Atom::Numbers { column, values: numbers },
        Form::Text => Atom::Texts { column, values: texts },
    })
}

/// Whether it has a value, or is null, for every row: comparisons of columns and constants of one type, and what is made
/// of those, not deeper than `depth`.
fn never_fails(expr: &Expr, schema: &Schema, depth: usize) -> bool {
    let plain = |expr: &Expr| match expr {
        Expr::Column(column) => schema.field_with_name(&column.name).ok().map(|field| field.data_type().clone()),
        Expr::Literal(value, _) => Some(value.data_type()),
        _ => None,
    };
    let same = |a: &Expr, b: &Expr| plain(a).is_some_and(|a| plain(b) == Some(a));
    let fine = |expr: &Expr| depth > 0 && never_fails(expr, schema, depth - 1);
    match expr {
        Expr::Column(_) | Expr::Literal(ScalarValue::Boolean(_), _) => plain(expr).is_some(),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::And | Operator::Or => fine(left) && fine(right),
            Operator::Eq
            | Operator::NotEq
            | Operator::Lt
            | Operator::LtEq
            | Operator::Gt
            | Operator::GtEq
            | Operator::IsDistinctFrom
            | Operator::IsNotDistinctFrom => same(left, right),
            _ => false,
        },
        Expr::Not(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsNotUnknown(inner) => fine(inner),
        Expr::Between(Between { expr, low, high, .. }) => same(expr, low) && same(expr, high),
        Expr::InList(InList { expr, list, .. }) => list.iter().all(|value| same(expr, value)),
        Expr::Like(Like { expr, pattern, escape_char: None, .. }) => {
            same(expr, pattern) && matches!(pattern.as_ref(), Expr::Literal(..))
        }
        _ => false,
    }
}
