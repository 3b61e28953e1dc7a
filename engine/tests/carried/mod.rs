//! Jobs of windows that crash behind a stream which has gone over to other columns.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion_expr::{Expr, col, lit};
use squilla_engine::{
    Alteration, Durability, Engine, EngineConfig, EventTime, ReadBy, Start, StreamOptions, SubscribeOptions,
    Subscription,
};
use squilla_query::{NamedExpr, Plan, Query};

use crate::fed::{SECOND, aggregate, count, filter, query, scan, scan_of, sum};
use crate::{Bench, Fragile};

/// A stream of all rows, with so many columns behind them.
fn base(more: i64) -> Query {
    let known = ["ts", "key", "n"].map(|name| NamedExpr { expr: col(name), name: name.to_owned() });
    let added = (0..more).map(|at| NamedExpr { expr: col("n") + lit(at), name: format!("more{at}") });
    let fields = scan().schema().fields().iter().cloned().collect::<Vec<_>>();
    let other = (0..more).map(|at| Arc::new(Field::new(format!("more{at}"), DataType::Int64, true)));
    let schema = Arc::new(Schema::new(fields.into_iter().chain(other).collect::<Vec<_>>()));
    let input = Arc::new(filter(scan(), col("n").gt(lit(0_i64))));
    query(Plan::Project { input, exprs: known.into_iter().chain(added).collect(), schema })
}

/// What reads it: windows at first hand, or of the rows that a filter lets through.
fn sums(fragile: &Fragile, more: i64, filtered: bool) -> Query {
    let rows = scan_of("base", base(more).plan.schema());
    let rows = if filtered { filter(rows, col("n").lt(lit(1_000_i64))) } else { rows };
    let of: Expr = fragile.of(col("n"));
    query(aggregate(rows, &[sum("n", of), count("c")]))
}

async fn alter(engine: &Engine, more: i64, generation: u32, options: StreamOptions, users: &[(&str, Query)]) {
    let users: Vec<ReadBy> = users
        .iter()
        .map(|(name, query)| ReadBy { name: (*name).to_owned(), query: query.clone(), in_order: true })
        .collect();
    let decide = |log: u32| async move {
        assert_eq!(log, generation);
        Ok(())
    };
    let altered = engine.alter_stream("base", &base(more), options, &users, decide).await.expect("it goes over");
    assert!(matches!(altered, Alteration::Replaced(..)), "{altered:?}");
}

#[tokio::test]
async fn windows_that_were_open_when_the_columns_changed_are_whole_after_a_crash() {
    for (filtered, alterations) in [(false, 1), (true, 1), (false, 2), (true, 2)] {
        let bench = crate::bench().await;
        let fragile = Fragile::new(7, 2);
        bench.engine.create_stream("base", &base(0), StreamOptions::default()).await.expect("the name is free");
        let mut reader = bench.named("sums", &sums(&fragile, 0, filtered)).await;
        bench.source.send(&[(1, "a", 1), (5, "a", 2), (12, "a", 4), (15, "a", 8)]).await;
        assert_eq!(bench.values(&mut reader, 1).await, [3]);
        for more in 1..=alterations {
            let users = [("sums", sums(&fragile, more, filtered))];
            alter(&bench.engine, more, 0, StreamOptions::default(), &users).await;
        }
        bench.source.send(&[(3, "a", 100), (16, "a", 7), (18, "a", 16)]).await;
        bench.source.send(&[(25, "a", 32), (40, "a", 64)]).await;
        assert_eq!(bench.values(&mut reader, 2).await, [35, 32], "{filtered} {alterations}");
        let job = bench.engine.jobs().into_iter().find(|job| job.kind == "aggregate").expect("it runs");
        assert_eq!((job.restarts, job.counters.late), (2, 1), "{job:?}");
        // All that it would go back to is told.
        fragile.again(128, 1);
        bench.source.send(&[(41, "a", 128), (60, "a", 256)]).await;
        assert_eq!(bench.values(&mut reader, 1).await, [192]);
        bench.accounted().await;
        bench.engine.shutdown().await;
    }
}

/// A stream of windows that has kept so many keys, and how many bytes they take.
async fn many_keys(query_state_bytes: usize, fragile: &Fragile) -> (Bench, Subscription, usize) {
    let config = EngineConfig { query_state_bytes, ..EngineConfig::default() };
    let bench = crate::bench_of(config, Durability::Memory, false).await;
    bench.engine.create_stream("base", &base(0), StreamOptions::default()).await.expect("the name is free");
    let mut reader = bench.named("sums", &sums(fragile, 0, false)).await;
    let keys: Vec<String> = (0..5_000).map(|at| format!("a key of some length {at}")).collect();
    bench.source.send(&[(1, "a", 1)]).await;
    bench.source.send(&keys.iter().map(|key| (12, key.as_str(), 4)).collect::<Vec<_>>()).await;
    assert_eq!(bench.values(&mut reader, 1).await, [1]);
    // It tells the first window before it says what the keys of the next one take.
    let least: usize = keys.iter().map(String::len).sum();
    let kept = async {
        loop {
            let job = bench.engine.jobs().into_iter().find(|job| job.kind == "aggregate").expect("it runs");
            if job.state_bytes >= least {
                return job.state_bytes;
            }
            tokio::task::yield_now().await;
        }
    };
    let state_bytes = tokio::time::timeout(Duration::from_secs(10), kept).await.expect("it keeps the keys");
    (bench, reader, state_bytes)
}

#[tokio::test]
async fn windows_are_told_to_be_partial_where_there_is_no_room_for_what_they_were() {
    let fragile = Fragile::new(7, 1);
    let (unbounded, _, state_bytes) = many_keys(1 << 30, &fragile).await;
    unbounded.engine.shutdown().await;
    let (bench, mut reader, _) = many_keys(state_bytes + state_bytes * 2 / 5, &fragile).await;
    alter(&bench.engine, 1, 0, StreamOptions::default(), &[("sums", sums(&fragile, 1, false))]).await;
    bench.source.send(&[(13, "a", 7), (25, "a", 32)]).await;
    assert_eq!(bench.values(&mut reader, 1).await, [7], "without the rows from before");
    let job = bench.engine.jobs().into_iter().find(|job| job.kind == "aggregate").expect("it runs");
    assert_eq!((job.restarts, job.counters.gaps), (1, 1), "{job:?}");
    let later = bench.subscribe(&query(scan_of("sums", sums(&fragile, 1, false).plan.schema()))).await;
    assert_eq!(later.info().complete_from, Some(EventTime(12 * SECOND + 1)));
    bench.engine.shutdown().await;
}

async fn durable(folder: &Path, resumes: bool) -> Bench {
    let config = EngineConfig { log_folder: Some(folder.to_owned()), ..EngineConfig::default() };
    crate::bench_of(config, Durability::Durable, resumes).await
}

#[tokio::test]
async fn they_are_whole_after_a_restart_and_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let fragile = Fragile::new(7, 2);
    let new = StreamOptions { durability: Durability::Durable, ..StreamOptions::default() };
    let old = StreamOptions { resumes: true, ..new.clone() };
    {
        let bench = durable(folder.path(), false).await;
        bench.engine.create_stream("base", &base(0), new.clone()).await.expect("the name is free");
        bench.engine.create_stream("sums", &sums(&fragile, 0, false), new.clone()).await.expect("the name is free");
        let mut reader = bench.subscribe(&query(scan_of("sums", sums(&fragile, 0, false).plan.schema()))).await;
        bench.source.send(&[(1, "a", 1), (5, "a", 2), (12, "a", 4), (15, "a", 8)]).await;
        assert_eq!(bench.values(&mut reader, 1).await, [3]);
        for more in 1..=2 {
            let generation = u32::try_from(more).expect("few");
            let options = StreamOptions { generation: generation - 1, ..new.clone() };
            alter(&bench.engine, more, generation, options, &[("sums", sums(&fragile, more, false))]).await;
        }
        bench.engine.shutdown().await;
    }
    let bench = durable(folder.path(), true).await;
    let options = StreamOptions { generation: 2, ..old.clone() };
    bench.engine.create_stream("base", &base(2), options).await.expect("it goes on");
    bench.engine.create_stream("sums", &sums(&fragile, 2, false), old).await.expect("it goes on");
    let asked = query(scan_of("sums", sums(&fragile, 2, false).plan.schema()));
    let from = SubscribeOptions { from: Some(Start::Earliest), ..SubscribeOptions::default() };
    let mut reader: Subscription = bench.engine.subscribe(&asked, from).await.expect("it runs");
    bench.source.send(&[(16, "a", 7), (18, "a", 16)]).await;
    bench.source.send(&[(25, "a", 32), (40, "a", 64)]).await;
    assert_eq!(bench.values(&mut reader, 3).await, [3, 35, 32]);
    let job = bench.engine.jobs().into_iter().find(|job| job.kind == "aggregate").expect("it runs");
    assert_eq!(job.restarts, 2, "{job:?}");
    bench.accounted().await;
    bench.engine.shutdown().await;
}
