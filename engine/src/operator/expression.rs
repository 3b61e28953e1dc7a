//! Expressions over batches, by DataFusion. A row on which one fails is set aside: whether it fails depends on that
//! row alone, never on its neighbours in the batch.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, TimestampNanosecondArray, new_empty_array};
use arrow::compute::{concat, filter, filter_record_batch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion_common::tree_node::{Transformed, TreeNode};
use datafusion_common::{DFSchema, DataFusionError};
use datafusion_expr::execution_props::ExecutionProps;
use datafusion_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion_expr::{Expr, Operator, cast, col};
use datafusion_physical_expr::expressions::{BinaryExpr, Literal};
use datafusion_physical_expr::utils::collect_columns;
use datafusion_physical_expr::{PhysicalExpr, create_physical_expr};
use squilla_query::{ArrivalFunction, timestamp_type};

use crate::batch::{EVENT_TIME, WATERMARK};
use crate::clock::EventTime;
use crate::counters::{Counters, add};
use crate::error::EngineError;

/// Failing rows of a batch whose text is kept. More would push each other out of the job's samples.
const SAMPLES_PER_BATCH: usize = 4;

/// Name of the column, behind all others, that holds when the rows arrived: what `now()` reads.
const ARRIVED: &str = "__arrived";

/// Several expressions that are evaluated together.
pub(super) struct Expressions {
    exprs: Vec<Arc<dyn PhysicalExpr>>,
    types: Vec<DataType>,
    /// Whether one reads [`ARRIVED`].
    reads_arrival: bool,
}

/// What [`Expressions::evaluate`] found.
pub(super) struct Evaluated {
    /// One array an expression, with a value for each row on which none failed.
    pub(super) columns: Vec<ArrayRef>,
    /// The rows on which one failed, ascending, and why.
    pub(super) failures: Vec<(usize, String)>,
}

/// Makes physical expressions of logical ones.
pub(super) struct Planner {
    pub(super) fields: DFSchema,
    pub(super) schema: SchemaRef,
    pub(super) props: ExecutionProps,
    pub(super) context: PhysicalPlanningContext,
}

impl Planner {
    /// A planner of expressions over batches of `schema`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when two fields have one name.
    pub(super) fn new(schema: &SchemaRef) -> Result<Self, EngineError> {
        let schema = with_arrived(schema);
        Ok(Self {
            fields: DFSchema::try_from(Arc::clone(&schema)).map_err(|error| plan_error(&error))?,
            schema,
            props: ExecutionProps::new(),
            context: PhysicalPlanningContext::default(),
        })
    }

    /// The physical form of `expr`.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when it names what is not there or cannot be evaluated row by row.
    pub(super) fn expr(&self, expr: &Expr) -> Result<Arc<dyn PhysicalExpr>, EngineError> {
        let expr = with_arrival(expr.clone())?;
        let expr = create_physical_expr(&expr, &self.fields, &self.props, &self.context);
        expr.and_then(|expr| checked(expr, &self.schema)).map_err(|error| plan_error(&error))
    }
}

/// The expression with sums, differences and products of whole numbers that fail where they do not fit in their type,
/// rather than start again at the other end of it.
pub(super) fn checked(
    expr: Arc<dyn PhysicalExpr>,
    schema: &Schema,
) -> datafusion_common::Result<Arc<dyn PhysicalExpr>> {
    let checked = expr.transform_up(|expr| {
        let Some(binary) = expr.downcast_ref::<BinaryExpr>() else { return Ok(Transformed::no(expr)) };
        let grows = matches!(binary.op(), Operator::Plus | Operator::Minus | Operator::Multiply);
        if !grows || !expr.data_type(schema)?.is_integer() {
            return Ok(Transformed::no(expr));
        }
        Ok(Transformed::yes(Arc::new(binary.clone().with_fail_on_overflow(true)) as Arc<dyn PhysicalExpr>))
    })?;
    Ok(checked.data)
}

/// The expression with the moment of arrival in the place of `now()` and its kin.
pub(super) fn with_arrival(expr: Expr) -> Result<Expr, EngineError> {
    let replaced = expr.transform_up(|expr| {
        Ok(match &expr {
            Expr::ScalarFunction(call) if call.func.inner().downcast_ref::<ArrivalFunction>().is_some() => {
                Transformed::yes(cast(col(ARRIVED), call.func.return_type(&[])?))
            }
            _ => Transformed::no(expr),
        })
    });
    Ok(replaced.map_err(|error| plan_error(&error))?.data)
}

pub(super) fn plan_error(error: &DataFusionError) -> EngineError {
    EngineError::Plan(error.strip_backtrace())
}

impl Expressions {
    /// Expressions that `planner` made.
    ///
    /// # Errors
    /// [`EngineError::Plan`] when one has no type.
    pub(super) fn new(exprs: Vec<Arc<dyn PhysicalExpr>>, planner: &Planner) -> Result<Self, EngineError> {
        let types = exprs.iter().map(|expr| expr.data_type(&planner.schema)).collect::<Result<_, _>>();
        let reads = |expr| collect_columns(expr).iter().any(|column| column.name() == ARRIVED);
        let reads_arrival = exprs.iter().any(reads);
        Ok(Self { types: types.map_err(|error| plan_error(&error))?, exprs, reads_arrival })
    }

    /// The types of the columns.
    pub(super) fn types(&self) -> &[DataType] {
        &self.types
    }

    /// For each whether it is the same for all rows.
    pub(super) fn constants(&self) -> Vec<bool> {
        self.exprs.iter().map(|expr| expr.downcast_ref::<Literal>().is_some()).collect()
    }

    /// Evaluates all of them on each row of `rows`, which came at `arrival`. When one fails, the batch is halved until the failing rows are
    /// found: n failures cost O(n log n) evaluations.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn evaluate(&self, rows: &RecordBatch, arrival: EventTime) -> Result<Evaluated, EngineError> {
        if rows.num_rows() == 0 {
            let columns = self.types.iter().map(new_empty_array).collect();
            return Ok(Evaluated { columns, failures: Vec::new() });
        }
        let extended = self.reads_arrival.then(|| with_arrivals(rows, arrival)).transpose()?;
        let rows = extended.as_ref().unwrap_or(rows);
        if let Ok(columns) = self.attempt(rows) {
            return Ok(Evaluated { columns, failures: Vec::new() });
        }
        let (mut pieces, mut failures) = (Vec::new(), Vec::new());
        self.search(rows, 0, &mut pieces, &mut failures);
        let column = |idx: usize| -> Result<ArrayRef, EngineError> {
            let arrays: Vec<_> = pieces.iter().map(|piece| piece[idx].as_ref()).collect();
            Ok(if arrays.is_empty() { new_empty_array(&self.types[idx]) } else { concat(&arrays)? })
        };
        let columns = (0..self.exprs.len()).map(column).collect::<Result<_, _>>()?;
        Ok(Evaluated { columns, failures })
    }

    fn attempt(&self, rows: &RecordBatch) -> Result<Vec<ArrayRef>, DataFusionError> {
        self.exprs.iter().map(|expr| expr.evaluate(rows)?.into_array(rows.num_rows())).collect()
    }

    /// Depth is the logarithm of the batch's rows.
    fn search(
        &self,
        rows: &RecordBatch,
        first: usize,
        pieces: &mut Vec<Vec<ArrayRef>>,
        failures: &mut Vec<(usize, String)>,
    ) {
        let count = rows.num_rows();
        match self.attempt(rows) {
            Ok(columns) => pieces.push(columns),
            Err(error) if count == 1 => failures.push((first, error.strip_backtrace())),
            Err(_) => {
                let half = count / 2;
                self.search(&rows.slice(0, half), first, pieces, failures);
                self.search(&rows.slice(half, count - half), first + half, pieces, failures);
            }
        }
    }
}

/// The rows with [`ARRIVED`] behind.
fn with_arrivals(rows: &RecordBatch, arrival: EventTime) -> Result<RecordBatch, EngineError> {
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(TimestampNanosecondArray::from_value(arrival.0, rows.num_rows())));
    Ok(RecordBatch::try_new(with_arrived(&rows.schema()), columns)?)
}

fn with_arrived(schema: &Schema) -> SchemaRef {
    let mut fields: Vec<_> = schema.fields().iter().cloned().collect();
    fields.push(Arc::new(Field::new(ARRIVED, timestamp_type(), false)));
    Arc::new(Schema::new_with_metadata(fields, schema.metadata().clone()))
}

impl Evaluated {
    /// True for the rows that are left; `None` when all are.
    pub(super) fn survivors(&self, rows: usize) -> Option<BooleanArray> {
        if self.failures.is_empty() {
            return None;
        }
        let mut left = vec![true; rows];
        for (row, _) in &self.failures {
            left[*row] = false;
        }
        Some(left.into())
    }

    /// Counts the failing rows of `rows`, keeps samples, and gives the others.
    ///
    /// # Errors
    /// Our own mistake only.
    pub(super) fn set_aside(&self, rows: &RecordBatch, counters: &Counters) -> Result<RecordBatch, EngineError> {
        let Some(left) = self.survivors(rows.num_rows()) else {
            return Ok(rows.clone());
        };
        add(&counters.failed, self.failures.len());
        self.sample(rows, counters);
        Ok(filter_record_batch(rows, &left)?)
    }

    /// Keeps samples of the failing rows.
    pub(super) fn sample(&self, rows: &RecordBatch, counters: &Counters) {
        for (row, reason) in self.failures.iter().rev().take(SAMPLES_PER_BATCH) {
            counters.sample(reason, &text(rows, *row));
        }
    }
}

/// A row's visible columns as `name: value, …`.
pub(super) fn text(rows: &RecordBatch, row: usize) -> String {
    let options = FormatOptions::default().with_null("null");
    let schema = rows.schema();
    let visible = schema.fields().iter().zip(rows.columns());
    let shown: Vec<String> = visible
        .filter(|(field, _)| field.name() != EVENT_TIME && field.name() != WATERMARK)
        .map(|(field, column)| match ArrayFormatter::try_new(column.as_ref(), &options) {
            Ok(formatter) => format!("{}: {}", field.name(), formatter.value(row)),
            Err(_) => format!("{}: ?", field.name()),
        })
        .collect();
    shown.join(", ")
}

/// The values of each array where `keep` is true.
pub(super) fn filter_columns(columns: &[ArrayRef], keep: &BooleanArray) -> Result<Vec<ArrayRef>, EngineError> {
    Ok(columns.iter().map(|column| filter(column, keep)).collect::<Result<_, _>>()?)
}
