//! Joins with a table: the latest row of each key.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{filter, filter_record_batch, is_not_null, is_null, nullif};
use arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion_expr::Expr;
use squilla_query::{JoinKey, JoinKind};

use super::super::expression::{Expressions, Planner, filter_columns};
use super::super::filter::compile;
use super::super::{Operator, Output, State};
use super::table::Table;
use crate::batch::{StreamBatch, physical_schema};
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// What a [`LookupJoin`] computes.
#[derive(Debug, Clone)]
pub struct LookupSpec {
    /// The table's name, for messages.
    pub table: String,
    /// The physical fields of the batches of the stream and of the table.
    pub inputs: [SchemaRef; 2],
    /// The visible fields that are read of them.
    pub fields: [SchemaRef; 2],
    /// Partitions of the stream: the first ones. The others are the table's.
    pub partitions: u32,
    /// For each column of the table's key what it must be equal to.
    pub on: Vec<JoinKey>,
    /// A further condition on a row and what was found for it.
    pub filter: Option<Expr>,
    /// What becomes of rows for which nothing is found.
    pub kind: JoinKind,
    /// The visible fields that come out: the stream's and the table's, or only the stream's.
    pub schema: SchemaRef,
    /// Bytes of state that are too many.
    pub state_limit_bytes: usize,
}

/// Puts beside each row of a stream the row that a table has under its key.
///
/// - Schema: physical batches of the stream (left) and of the table (right) in; out come the left's fields, the right's
///   (not with semi and anti joins) and the hidden columns, in the partitions of the stream. Rows keep their order, event
///   times and watermarks.
/// - Watermark: that of the stream, partition by partition; the table's says nothing. No row is late here: who counts or
///   groups behind it judges that as if there were no look-up.
/// - State: the table's latest row of each key, in the order in which they arrive: columns with a hash index; bounded by
///   the budget, beyond which the query ends with [`EngineError::TableBudget`]. Nothing is found under a null.
/// - Errors: a row whose key fails is set aside and counted `failed`. Where the condition fails nothing was found, which
///   is counted in `pairs_failed`. Rows for which nothing was found and that are not told are counted `filtered`.
/// - Example: `plays JOIN titles ON plays.title_id = titles.id` names the title of each play.
///
/// A join of a stream with a time-varying relation as it stands: section 3 of Begoli et al., "One SQL to rule them all"
/// (SIGMOD 2019).
pub struct LookupJoin {
    name: String,
    kind: JoinKind,
    partitions: u32,
    sides: [Side; 2],
    filter: Option<Expressions>,
    /// The fields of both, which the filter reads.
    both: SchemaRef,
    schema: SchemaRef,
    table: Table,
    limit_bytes: usize,
    counters: Arc<Counters>,
}

/// How the batches of one input are read.
struct Side {
    /// Where they have the fields.
    places: Vec<usize>,
    keys: Expressions,
}

impl Side {
    fn new(input: &SchemaRef, fields: &SchemaRef, keys: &[Expr]) -> Result<Self, EngineError> {
        let planner = Planner::new(input)?;
        let places = fields.fields().iter().map(|field| input.index_of(field.name())).collect::<Result<_, _>>()?;
        let keys = keys.iter().map(|key| planner.expr(key)).collect::<Result<_, _>>()?;
        Ok(Self { places, keys: Expressions::new(keys, &planner)? })
    }
}

impl LookupJoin {
    /// A join that counts in `counters` whatever becomes of a row, but not the rows in.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it cannot be computed.
    pub fn new(spec: LookupSpec, counters: Arc<Counters>) -> Result<Self, EngineError> {
        let keys = |of: fn(&JoinKey) -> &Expr| spec.on.iter().map(|key| of(key).clone()).collect::<Vec<_>>();
        let left = Side::new(&spec.inputs[0], &spec.fields[0], &keys(|key| &key.left))?;
        let right = Side::new(&spec.inputs[1], &spec.fields[1], &keys(|key| &key.right))?;
        if left.keys.types() != right.keys.types() {
            return Err(EngineError::Plan(format!("keys of table \"{}\" differ in type", spec.table)));
        }
        let nullable = |field: &Arc<Field>| Arc::new(Field::clone(field).with_nullable(true));
        let fields = spec.fields.iter().flat_map(|fields| fields.fields().iter().map(nullable));
        let both: SchemaRef = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let kept: Vec<_> = spec.fields[1].fields().iter().map(nullable).collect();
        Ok(Self {
            table: Table::new(Arc::new(Schema::new(kept)), right.keys.types())?,
            name: spec.table,
            kind: spec.kind,
            partitions: spec.partitions,
            sides: [left, right],
            filter: spec.filter.as_ref().map(|filter| compile(&both, filter)).transpose()?,
            both,
            schema: physical_schema(&spec.schema),
            limit_bytes: spec.state_limit_bytes,
            counters,
        })
    }

    /// Rows of the table, each in the place of the one of its key.
    fn put(&mut self, batch: &StreamBatch) -> Result<(), EngineError> {
        let side = &self.sides[1];
        let evaluated = side.keys.evaluate(&batch.rows, batch.arrival)?;
        let rows = evaluated.set_aside(&batch.rows, &self.counters)?;
        add(&self.counters.absorbed, rows.num_rows());
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let keys = self.table.keys(&evaluated.columns, rows.num_rows())?;
        let columns = side.places.iter().map(|place| Arc::clone(rows.column(*place))).collect();
        let fields = self.both.fields().iter().skip(self.sides[0].places.len()).cloned();
        let kept = with_count(Arc::new(Schema::new(fields.collect::<Vec<_>>())), columns, rows.num_rows())?;
        self.table.put(&keys, kept)?;
        check_table(&self.name, &self.table, self.limit_bytes)
    }

    /// The stream's rows with what the table has for them.
    fn look_up(&self, batch: &StreamBatch) -> Result<RecordBatch, EngineError> {
        let side = &self.sides[0];
        let evaluated = side.keys.evaluate(&batch.rows, batch.arrival)?;
        let rows = evaluated.set_aside(&batch.rows, &self.counters)?;
        let keys = self.table.keys(&evaluated.columns, rows.num_rows())?;
        let found = self.meeting(batch, &rows, self.table.look_up(&keys))?;
        let keep: Option<BooleanArray> = match self.kind {
            JoinKind::Inner | JoinKind::Semi => Some(is_not_null(&found)?),
            JoinKind::Anti => Some(is_null(&found)?),
            JoinKind::Left | JoinKind::Right | JoinKind::Full => None,
        };
        let keep = keep.filter(|keep| keep.true_count() < keep.len());
        let (rows, found) = match &keep {
            Some(keep) => (filter_record_batch(&rows, keep)?, filter(&found, keep)?.as_primitive().clone()),
            None => (rows, found),
        };
        add(&self.counters.filtered, keep.map_or(0, |keep| keep.len() - keep.true_count()));
        add(&self.counters.passed, rows.num_rows());
        add(&self.counters.rows_out, rows.num_rows());
        let hidden = rows.num_columns() - 2..rows.num_columns();
        let mut columns: Vec<ArrayRef> = side.places.iter().map(|place| Arc::clone(rows.column(*place))).collect();
        if matches!(self.kind, JoinKind::Inner | JoinKind::Left) {
            columns.extend(self.table.take(0..self.sides[1].places.len(), &found)?);
        }
        columns.extend(rows.columns()[hidden].iter().cloned());
        Ok(RecordBatch::try_new(Arc::clone(&self.schema), columns)?)
    }

    /// What was found, where the condition holds.
    fn meeting(&self, batch: &StreamBatch, rows: &RecordBatch, found: UInt32Array) -> Result<UInt32Array, EngineError> {
        let Some(condition) = &self.filter else { return Ok(found) };
        if found.null_count() == found.len() {
            return Ok(found);
        }
        let there = is_not_null(&found)?;
        let own: Vec<ArrayRef> = self.sides[0].places.iter().map(|place| Arc::clone(rows.column(*place))).collect();
        let mut columns = filter_columns(&own, &there)?;
        let numbers = filter(&found, &there)?.as_primitive().clone();
        columns.extend(self.table.take(0..self.sides[1].places.len(), &numbers)?);
        let pairs = with_count(Arc::clone(&self.both), columns, numbers.len())?;
        let evaluated = condition.evaluate(&pairs, batch.arrival)?;
        add(&self.counters.pairs_failed, evaluated.failures.len());
        evaluated.sample(&pairs, &self.counters);
        // Back to the rows: what was not found, and pairs that failed, do not meet it.
        let mut answers = evaluated.columns[0].as_boolean().iter();
        let survives = evaluated.survivors(pairs.num_rows());
        let mut pair = 0;
        let misses: BooleanArray = there
            .iter()
            .map(|there| {
                if there != Some(true) {
                    return Some(true);
                }
                pair += 1;
                let survives = survives.as_ref().is_none_or(|survives| survives.value(pair - 1));
                Some(!(survives && answers.next().flatten() == Some(true)))
            })
            .collect();
        Ok(nullif(&found, &misses)?.as_primitive().clone())
    }
}

/// Whether a table keeps to the budget.
///
/// # Errors
/// [`EngineError::TableBudget`] when it does not.
pub(super) fn check_table(name: &str, table: &Table, limit_bytes: usize) -> Result<(), EngineError> {
    let used_bytes = table.bytes();
    if used_bytes <= limit_bytes {
        return Ok(());
    }
    Err(EngineError::TableBudget { table: name.to_owned(), used_bytes, limit_bytes })
}

/// A batch of so many rows, which may have no columns.
fn with_count(schema: SchemaRef, columns: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch, EngineError> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    Ok(RecordBatch::try_new_with_options(schema, columns, &options)?)
}

impl Operator for LookupJoin {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn process(&mut self, batch: StreamBatch, output: &mut Output) -> Result<(), EngineError> {
        if batch.partition >= self.partitions {
            return self.put(&batch);
        }
        let rows = self.look_up(&batch)?;
        output.rows.push(batch.with_rows(rows));
        Ok(())
    }

    fn save(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.table.save(state)
    }

    fn restore(&mut self, state: &mut State) -> Result<(), EngineError> {
        self.table.restore(state)
    }

    fn state_bytes(&self) -> usize {
        self.table.bytes()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use datafusion_expr::{col, lit};

    use super::super::super::check::Checked;
    use super::super::super::testing::{Feed, lines, run, visible};
    use super::*;

    /// A look-up of `k` by a stream of two partitions in a table of one; both have the fields of test rows.
    fn join(kind: JoinKind, filter: Option<Expr>, state_limit_bytes: usize) -> (Checked<LookupJoin>, Arc<Counters>) {
        let fields = |names: &[&str]| -> SchemaRef {
            let picked = names.iter().map(|name| visible().field_with_name(name).expect("a field").clone());
            Arc::new(Schema::new(picked.collect::<Vec<_>>()))
        };
        let told: &[&str] = if kind == JoinKind::Semi { &["k", "v"] } else { &["k", "v", "s", "f"] };
        let spec = LookupSpec {
            table: "t".into(),
            inputs: [physical_schema(&visible()), physical_schema(&visible())],
            fields: [fields(&["k", "v"]), fields(&["s", "f"])],
            partitions: 2,
            on: vec![JoinKey { left: col("k"), right: col("k"), nulls: false }],
            filter,
            kind,
            schema: fields(told),
            state_limit_bytes,
        };
        let counters = Arc::new(Counters::default());
        let operator = LookupJoin::new(spec, Arc::clone(&counters)).expect("a look-up");
        (Checked::new(operator, 3), counters)
    }

    fn batches() -> Vec<StreamBatch> {
        let mut feed = Feed::new(0, 3);
        vec![
            feed.batch(0, &[(1, Some(1), Some(0))]),
            feed.batch(2, &[(9, Some(1), Some(4)), (9, Some(2), Some(6)), (9, Some(1), Some(5)), (9, None, Some(7))]),
            feed.batch(0, &[(2, Some(1), Some(1)), (3, None, Some(2)), (2, Some(2), Some(3))]),
            feed.idle(1),
            feed.batch(2, &[(1, Some(2), Some(8))]),
            feed.batch(1, &[(5, Some(2), Some(4)), (6, Some(3), Some(5))]),
        ]
    }

    fn told(kind: JoinKind, filter: Option<Expr>) -> (Vec<String>, Arc<Counters>) {
        let (mut operator, counters) = join(kind, filter, 1 << 30);
        let output = run(&mut operator, &counters, batches(), 3);
        assert_eq!(counters.snapshot().unaccounted(), 0);
        assert!(output.rows.iter().all(|batch| batch.partition < 2), "the table's partitions are not told");
        (lines(&output.rows), counters)
    }

    #[test]
    fn rows_are_told_with_what_the_table_holds_when_they_come() {
        let (rows, counters) = told(JoinKind::Inner, None);
        assert_eq!(rows, ["1|1|s5|2.5", "2|3|s6|3.0", "2|4|s8|4.0"]);
        assert_eq!(counters.filtered.load(Relaxed), 3);
        let (rows, _) = told(JoinKind::Left, Some(col("f").lt(lit(4.0)).and(col("v").gt(lit(1_i64)))));
        assert_eq!(rows, ["1|0||", "1|1||", "|2||", "2|3|s6|3.0", "2|4||", "3|5||"]);
        let (rows, _) = told(JoinKind::Semi, None);
        assert_eq!(rows, ["1|1", "2|3", "2|4"]);
    }

    #[test]
    fn a_table_over_the_budget_is_named() {
        let (mut operator, _) = join(JoinKind::Inner, None, 100);
        let mut output = Output::default();
        let result = batches().into_iter().try_for_each(|batch| operator.process(batch, &mut output));
        assert!(matches!(result, Err(EngineError::TableBudget { table, .. }) if table == "t"));
    }
}
