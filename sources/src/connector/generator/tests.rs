use arrow::array::AsArray;
use arrow::datatypes::TimestampNanosecondType;
use squilla_engine::{ManualClock, SourceDefinition};

use super::*;
use crate::testing::{create, env_with, read_all};

async fn defined(clock: Arc<ManualClock>, options: &[(&str, &str)]) -> (SourceDefinition, SourceEnv) {
    let env = env_with(clock, Vec::new());
    let mut all = vec![("connector", "generator")];
    all.extend_from_slice(options);
    let definition = crate::define_source(&create("plays", None, &all), &env).await.expect("a generator");
    (definition, env)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(EventTime(1_000 * SECOND_NS)))
}

#[tokio::test]
async fn a_bounded_generator_gives_the_same_rows_each_time_and_in_any_projection() {
    let (definition, _env) = defined(clock(), &[("rows", "20000"), ("seed", "7"), ("disorder", "2s")]).await;
    let all: Vec<usize> = (0..9).collect();
    let first = read_all(&definition, &all).await;
    let second = read_all(&definition, &all).await;
    let few = read_all(&definition, &[0, 3, 6]).await;
    assert_eq!(first.num_rows(), 20_000);
    assert_eq!(first, second);
    assert_eq!(first.project(&[0, 3, 6]).expect("columns"), few);
    assert_eq!(read_all(&definition, &[]).await.num_rows(), 20_000);

    let times = first.column(0).as_primitive::<TimestampNanosecondType>().values();
    let earliest = BOUNDED_START - 2 * SECOND_NS;
    assert!(times.iter().all(|time| (earliest..BOUNDED_START + 2 * SECOND_NS).contains(time)));
    assert!(!times.is_sorted(), "rows are out of order");
}

#[tokio::test]
async fn rates_differ_by_orders_of_magnitude() {
    let (definition, _env) = defined(clock(), &[("rows", "50000")]).await;
    for column in [3, 5] {
        let rows = read_all(&definition, &[column]).await;
        let mut counts = std::collections::HashMap::new();
        for value in rows.column(0).as_string::<i32>().iter().flatten() {
            *counts.entry(value).or_insert(0) += 1;
        }
        let (most, least) = (counts.values().max().copied(), counts.values().min().copied());
        assert!(most > least.map(|least| least * 50), "{most:?} against {least:?}");
    }
}

#[tokio::test]
async fn faults_make_plays_fail_from_the_next_row_on() {
    let (definition, env) = defined(clock(), &[("rows", "16384")]).await;
    let mut readers = definition.connector.open(&[4, 6]).await.expect("opened");
    let mut failing = async || {
        let ReadEvent::Batch { rows, .. } = readers[0].next().await.expect("rows") else { panic!("rows") };
        let (devices, outcomes) = (rows.column(0).as_string::<i32>(), rows.column(1).as_string::<i32>());
        let phones: Vec<&str> = devices
            .iter()
            .zip(outcomes)
            .filter(|(device, _)| *device == Some("phone"))
            .filter_map(|(_, o)| o)
            .collect();
        phones.iter().filter(|outcome| **outcome == "fail").count() as f64 / phones.len() as f64
    };
    assert!(failing().await < 0.05);
    let fault = Fault { title: None, device: Some("phone".into()), country: None, failure_rate: 0.9 };
    assert!(env.faults.set("plays", vec![fault.clone()]));
    assert_eq!(env.faults.get("plays"), Some(vec![fault]));
    assert!(failing().await > 0.85);
    assert!(!env.faults.set("others", Vec::new()));
}

#[tokio::test]
async fn a_live_generator_keeps_its_rate_by_the_clock() {
    let clock = clock();
    let (definition, _env) = defined(clock.clone(), &[("rate", "1000")]).await;
    let mut readers = definition.connector.open(&[0]).await.expect("opened");
    clock.set(EventTime(1_000 * SECOND_NS + 10_000_000));
    let ReadEvent::Batch { rows, .. } = readers[0].next().await.expect("rows") else { panic!("rows") };
    assert_eq!(rows.num_rows(), 10);
    // After a long pause the rate counts anew, and the event time has kept up with the clock.
    clock.set(EventTime(1_100 * SECOND_NS));
    let ReadEvent::Batch { rows, .. } = readers[0].next().await.expect("rows") else { panic!("rows") };
    assert_eq!(rows.num_rows(), 1_000);
    let times = rows.column(0).as_primitive::<TimestampNanosecondType>().values();
    assert_eq!(times[0], 1_099 * SECOND_NS);
}

#[tokio::test]
async fn wrong_faults_are_mistakes() {
    for faults in ["device=toaster, rate=0.5", "device=tv", "colour=red, rate=1", "device=tv, rate=2"] {
        let env = env_with(clock(), Vec::new());
        let create = create("plays", None, &[("connector", "generator"), ("faults", faults)]);
        assert!(crate::define_source(&create, &env).await.is_err(), "{faults}");
    }
}
