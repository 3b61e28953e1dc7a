//! Windowed queries over files against batch SQL over the same files in DuckDB. No row is late, so that both must
//! give the same rows.

mod data;
mod joins;
mod lookups;
mod made;
mod mixes;
mod queries;
mod shapes;
mod tracked;

use std::path::Path;

use squilla_tests::compare::same_rows;
use squilla_tests::nexmark;
use squilla_tests::program::{duckdb, run_script};
use squilla_tests::random::Random;

use queries::Pair;

/// Generated queries a seed.
const QUERIES: usize = 24;
/// Generated queries a shape and seed.
const QUERIES_A_SHAPE: usize = 3;
/// Seeds with `tests/run --long`; otherwise one.
const LONG_SEEDS: u64 = 12;

fn check(script: &str, tables: &[squilla_tests::program::Table], pairs: &[Pair], folder: &Path) {
    check_filled(script, tables, pairs, folder, 10);
}

/// As [`check`]; one query of `filled` at the most may give no rows.
fn check_filled(script: &str, tables: &[squilla_tests::program::Table], pairs: &[Pair], folder: &Path, filled: usize) {
    let batch: Vec<String> = pairs.iter().map(|pair| pair.duckdb.clone()).collect();
    let expected = duckdb(tables, &batch).expect("DuckDB runs its queries");
    let (mut failed, mut empty) = (Vec::new(), 0);
    for (pair, expected) in pairs.iter().zip(expected) {
        empty += usize::from(expected.is_empty());
        let keys: Vec<&str> = pair.keys.iter().map(String::as_str).collect();
        let compared = run_script(&format!("{script}\n{}\n{};\n", pair.setup, pair.squilla), folder)
            .and_then(|actual| same_rows(actual, expected, &keys, &pair.times));
        if let Err(error) = compared {
            failed.push(format!("{} {}\n  {error}", pair.setup, pair.squilla));
        }
    }
    assert!(failed.is_empty(), "{} of {} queries differ:\n\n{}", failed.len(), pairs.len(), failed.join("\n\n"));
    assert!(empty * filled <= pairs.len(), "{empty} of {} queries have no rows: they show nothing", pairs.len());
}

#[test]
fn every_aggregate_gives_the_rows_of_duckdb() {
    let folder = tempfile::tempdir().expect("a folder for data");
    let table = data::events(folder.path(), &mut Random::new(7));
    check(data::EVENTS, &[table], &queries::every_aggregate(), folder.path());
}

#[test]
fn generated_queries_give_the_rows_of_duckdb() {
    let seeds = if std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1") { LONG_SEEDS } else { 1 };
    for seed in 1..=seeds {
        println!("seed {seed}");
        let folder = tempfile::tempdir().expect("a folder for data");
        let mut random = Random::new(seed);
        let table = data::events(folder.path(), &mut random);
        let pairs: Vec<Pair> = (0..QUERIES).map(|_| queries::generate(&mut random)).collect();
        check(data::EVENTS, &[table], &pairs, folder.path());
    }
}

#[test]
fn windows_that_rows_make_give_the_rows_of_duckdb() {
    let folder = tempfile::tempdir().expect("a folder for data");
    let table = data::events(folder.path(), &mut Random::new(11));
    let pairs: Vec<Pair> =
        made::sessions().into_iter().chain(made::cumulating()).chain(made::grouping_sets()).collect();
    check(data::EVENTS, &[table], &pairs, folder.path());
}

#[test]
fn queries_of_all_shapes_give_the_rows_of_duckdb() {
    let rounds = if std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1") { LONG_SEEDS } else { 1 };
    let wanted = std::env::var("SHAPE").unwrap_or_default();
    for seed in 1..=rounds {
        println!("seed {seed}");
        let folder = tempfile::tempdir().expect("a folder for data");
        let mut random = Random::new(1_000 + seed);
        let table = data::events(folder.path(), &mut random);
        let shapes = shapes::SHAPES.iter().filter(|(name, _)| name.contains(&wanted));
        let pairs: Vec<Pair> =
            shapes.flat_map(|(_, shape)| [(); QUERIES_A_SHAPE].map(|()| shape(&mut random))).collect();
        check(data::EVENTS, &[table], &pairs, folder.path());
    }
}

#[test]
fn queries_of_all_mixes_give_the_rows_of_duckdb() {
    let seeds = if std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1") { LONG_SEEDS } else { 1 };
    let first: u64 = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let wanted = std::env::var("SHAPE").unwrap_or_default();
    for seed in first..first + seeds {
        println!("seed {seed}");
        let folder = tempfile::tempdir().expect("a folder for data");
        let mut random = Random::new(3_000 + seed);
        let table = data::events(folder.path(), &mut random);
        let mixes = mixes::MIXES.iter().filter(|(name, _)| name.contains(&wanted));
        let pairs: Vec<Pair> = mixes.flat_map(|(_, mix)| [(); QUERIES_A_SHAPE].map(|()| mix(&mut random))).collect();
        check_filled(data::EVENTS, &[table], &pairs, folder.path(), 5);
    }
}

#[test]
fn windows_that_follow_each_other_give_the_rows_of_duckdb() {
    let seeds = if std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1") { LONG_SEEDS } else { 1 };
    for seed in 1..=seeds {
        println!("seed {seed}");
        let folder = tempfile::tempdir().expect("a folder for data");
        let mut random = Random::new(seed);
        let table = data::events(folder.path(), &mut random);
        let pairs: Vec<Pair> = (0..QUERIES / 2).map(|_| tracked::generate(&mut random)).collect();
        check(data::EVENTS, &[table], &pairs, folder.path());
    }
}

#[test]
fn nexmark_queries_give_the_rows_of_duckdb() {
    let folder = tempfile::tempdir().expect("a folder for data");
    data::nexmark(folder.path(), &mut Random::new(42));
    let side_input = nexmark::write_side_input(folder.path());
    let sources = nexmark::sources(folder.path(), &side_input, data::NEXMARK_DELAY_S);
    let cases = nexmark::cases();
    let batch: Vec<String> = cases.iter().map(|case| case.duckdb.clone()).collect();
    let expected = duckdb(&nexmark::tables(folder.path(), &side_input), &batch).expect("DuckDB runs its queries");
    let check = |(case, expected)| {
        let case: &nexmark::Nexmark = case;
        let error = case.check(&sources, folder.path(), expected).err()?;
        Some(format!("{}: {error}", case.name))
    };
    let failed: Vec<String> = cases.iter().zip(expected).filter_map(check).collect();
    assert!(failed.is_empty(), "{} of {} queries differ:\n\n{}", failed.len(), cases.len(), failed.join("\n\n"));
}

#[test]
fn generated_joins_give_the_rows_of_duckdb() {
    let seeds = if std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1") { LONG_SEEDS } else { 1 };
    for seed in 1..=seeds {
        println!("seed {seed}");
        let folder = tempfile::tempdir().expect("a folder for data");
        let mut random = Random::new(seed);
        let tables = joins::sides(folder.path(), &mut random);
        let mut pairs: Vec<Pair> = (0..QUERIES).map(|_| joins::interval(&mut random)).collect();
        pairs.extend((0..QUERIES).map(|_| joins::window(&mut random)));
        pairs.extend((0..QUERIES / 4).map(|_| joins::unbounded(&mut random)));
        check(joins::SIDES, &tables, &pairs, folder.path());
    }
}

#[test]
fn generated_look_ups_give_the_rows_of_duckdb() {
    let seeds = if std::env::var("SQUILLA_LONG").is_ok_and(|long| long == "1") { LONG_SEEDS } else { 1 };
    for seed in 1..=seeds {
        println!("seed {seed}");
        let folder = tempfile::tempdir().expect("a folder for data");
        let mut random = Random::new(2_000 + seed);
        let mut tables = joins::sides(folder.path(), &mut random);
        tables.push(lookups::table(folder.path(), &mut random));
        let pairs: Vec<Pair> = (0..QUERIES).map(|_| lookups::look_up(&mut random)).collect();
        check(&format!("{}{}", joins::SIDES, lookups::TABLES), &tables, &pairs, folder.path());
    }
}
