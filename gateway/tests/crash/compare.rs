//! What a stream holds beside what it must hold.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::SocketAddr;

use serde_json::Value;

use super::read::{Reader, Stopped};

/// Rows that are told when some are missing.
const TOLD: usize = 5;

/// Panics unless a stream holds these rows, in any order: for a client that was there all the time, and for one that
/// comes now.
pub(crate) async fn compare<T: Ord + Debug>(
    client: &reqwest::Client,
    address: SocketAddr,
    reader: &mut Reader<T>,
    wanted: &[T],
) {
    let mut now = reader.anew();
    for reader in [&mut *reader, &mut now] {
        let stopped = reader.read_rest(address, |rows| rows.len() >= wanted.len()).await;
        assert_eq!(difference(&reader.rows, wanted), None, "{}", reader.stream);
        assert_eq!(stopped, Stopped::Enough, "{}", reader.stream);
    }
    assert_eq!(rows_of(client, address, reader.stream).await, wanted.len(), "{}: rows of its log", reader.stream);
}

/// In words, what differs between rows and those that are wanted, in any order; `None`: nothing.
pub(crate) fn difference<T: Ord + Debug>(rows: &[T], wanted: &[T]) -> Option<String> {
    let mut times: BTreeMap<&T, i64> = BTreeMap::new();
    wanted.iter().for_each(|row| *times.entry(row).or_default() += 1);
    rows.iter().for_each(|row| *times.entry(row).or_default() -= 1);
    let of = |differ: fn(i64) -> bool| times.iter().filter(move |(_, times)| differ(**times)).map(|(row, _)| *row);
    let (missing, surplus) = (of(|times| times > 0), of(|times| times < 0));
    times.values().any(|times| *times != 0).then(|| {
        format!(
            "of {} rows {} are missing, first {:?}; {} must not be there, first {:?}",
            wanted.len(),
            missing.clone().count(),
            missing.take(TOLD).collect::<Vec<_>>(),
            surplus.clone().count(),
            surplus.take(TOLD).collect::<Vec<_>>()
        )
    })
}

/// Rows that a stream keeps.
async fn rows_of(client: &reqwest::Client, address: SocketAddr, name: &str) -> usize {
    let url = format!("http://{address}/api/v1/streams/{name}");
    let told: Value = client.get(url).send().await.expect("an answer").json().await.expect("JSON");
    told["log_rows"].as_u64().unwrap_or_else(|| panic!("{told}")) as usize
}

#[test]
fn what_is_missing_and_what_is_doubled_is_told() {
    assert_eq!(difference(&[2, 1, 2], &[1, 2, 2]), None);
    let told = difference(&[1, 2, 2, 4], &[1, 2, 3]);
    let wanted = "of 3 rows 1 are missing, first [3]; 2 must not be there, first [2, 4]";
    assert_eq!(told.as_deref(), Some(wanted));
}
