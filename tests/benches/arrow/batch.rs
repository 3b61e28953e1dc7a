//! Windows and keys counted by DataFusion, in batch: by panes, in two phases with an exchange by hash between.

use std::sync::Arc;
use std::time::Instant;

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use datafusion_common::{Result, ScalarValue};
use datafusion_execution::TaskContext;
use datafusion_expr::Operator;
use datafusion_functions_aggregate::count::count_udaf;
use datafusion_functions_aggregate::sum::sum_udaf;
use datafusion_physical_expr::PhysicalExpr;
use datafusion_physical_expr::aggregate::AggregateExprBuilder;
use datafusion_physical_expr::expressions::{BinaryExpr, CastExpr, col, lit};
use datafusion_physical_plan::aggregates::{AggregateExec, AggregateMode, PhysicalGroupBy};
use datafusion_physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion_physical_plan::repartition::RepartitionExec;
use datafusion_physical_plan::test::TestMemoryExec;
use datafusion_physical_plan::union::UnionExec;
use datafusion_physical_plan::{ExecutionPlan, Partitioning, collect_partitioned};
use squilla_tests::measure::own_cpu_s;

use crate::Took;

const SECOND_NS: i64 = 1_000_000_000;
/// Slides of two seconds in a window of ten.
const SLIDES: i64 = 5;

type Node = Arc<dyn ExecutionPlan>;

/// Counts bids by auction and windows: of ten seconds each (`tumble`), or every two seconds (`q5`).
pub(crate) fn aggregate(batches: &[RecordBatch], name: &str, threads: usize) -> Took {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(threads).build().expect("threads start");
    let (cpu_s, started) = (own_cpu_s(), Instant::now());
    let results = runtime.block_on(counted(batches, name == "q5", threads)).expect("DataFusion runs its plan");
    let rows = results.iter().flatten().map(|batch| batch.num_rows() as u64).sum();
    Took { rows, cpu_s: own_cpu_s() - cpu_s, wall_s: started.elapsed().as_secs_f64() }
}

async fn counted(batches: &[RecordBatch], hops: bool, threads: usize) -> Result<Vec<Vec<RecordBatch>>> {
    let parts: Vec<Vec<RecordBatch>> =
        (0..threads).map(|part| batches.iter().skip(part).step_by(threads).cloned().collect()).collect();
    let scan: Node = TestMemoryExec::try_new_exec(&parts, batches[0].schema(), Some(vec![0, 5]))?;
    let pane_ns = if hops { 2 * SECOND_NS } else { 10 * SECOND_NS };
    let time: Arc<dyn PhysicalExpr> = Arc::new(CastExpr::new(col("date_time", &scan.schema())?, DataType::Int64, None));
    let past = binary(Arc::clone(&time), Operator::Modulo, pane_ns);
    let pane: Arc<dyn PhysicalExpr> = Arc::new(BinaryExpr::new(time, Operator::Minus, past));
    let panes = project(&scan, vec![(pane, "start"), (col("auction", &scan.schema())?, "auction")])?;
    let counts = two_phases(panes, "count", threads)?;
    if !hops {
        return collect_partitioned(counts, Arc::new(TaskContext::default())).await;
    }
    let schema = counts.schema();
    let counts = collect_partitioned(counts, Arc::new(TaskContext::default())).await?;
    let counts: Node = TestMemoryExec::try_new_exec(&counts, schema, None)?;
    let schema = counts.schema();
    let shifted = (0..SLIDES).map(|slides| {
        let start = binary(col("start", &schema)?, Operator::Minus, slides * pane_ns);
        let rest = [(col("auction", &schema)?, "auction"), (col("n", &schema)?, "n")];
        project(&counts, [(start, "start")].into_iter().chain(rest).collect())
    });
    let windows = two_phases(UnionExec::try_new(shifted.collect::<Result<_>>()?)?, "sum", threads)?;
    collect_partitioned(windows, Arc::new(TaskContext::default())).await
}

fn binary(left: Arc<dyn PhysicalExpr>, operator: Operator, right: i64) -> Arc<dyn PhysicalExpr> {
    Arc::new(BinaryExpr::new(left, operator, lit(ScalarValue::Int64(Some(right)))))
}

fn project(input: &Node, exprs: Vec<(Arc<dyn PhysicalExpr>, &str)>) -> Result<Node> {
    let exprs = exprs.into_iter().map(|(expr, alias)| ProjectionExpr { expr, alias: alias.to_owned() });
    Ok(Arc::new(ProjectionExec::try_new(exprs, Arc::clone(input))?))
}

/// Groups by `start` and `auction`; counts rows, or sums up `n`.
fn two_phases(input: Node, function: &str, threads: usize) -> Result<Node> {
    let schema = input.schema();
    let (function, argument) = match function {
        "count" => (count_udaf(), lit(ScalarValue::Int64(Some(1)))),
        _ => (sum_udaf(), col("n", &schema)?),
    };
    let call = AggregateExprBuilder::new(function, vec![argument]).schema(Arc::clone(&schema)).alias("n").build()?;
    let call = vec![Arc::new(call)];
    let keys = ["start", "auction"].map(|name| Ok((col(name, &schema)?, name.to_owned())));
    let keys = PhysicalGroupBy::new_single(keys.into_iter().collect::<Result<_>>()?);
    let partial: Node = Arc::new(AggregateExec::try_new(
        AggregateMode::Partial,
        keys.clone(),
        call.clone(),
        vec![None],
        input,
        Arc::clone(&schema),
    )?);
    let between = partial.schema();
    let by = ["start", "auction"].map(|name| col(name, &between)).into_iter().collect::<Result<_>>()?;
    let exchanged: Node = Arc::new(RepartitionExec::try_new(partial, Partitioning::Hash(by, threads))?);
    let keys = keys.as_final();
    let whole = AggregateExec::try_new(AggregateMode::FinalPartitioned, keys, call, vec![None], exchanged, schema)?;
    Ok(Arc::new(whole))
}
