//! Windows of streams that skip rows, over restarts.

use std::sync::Arc;

use serde_json::json;
use squilla_gateway::Service;

use crate::alter::{BEGIN, HITS, all_accounted, hit, info, publish, reader, rows_until, told, windows};
use crate::client::{PATIENCE, engine_config, open};

/// Waits until so many rows wait for a stream that rests.
async fn waiting(service: &Service, name: &str, rows: u64) {
    let come = async {
        while info(service, name).paused.is_none_or(|paused| paused.waiting_rows < rows) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, come).await.expect("they come to the stream");
}

fn skipped(service: &Service) -> u64 {
    service.engine().jobs().iter().map(|job| job.counters.skipped).sum()
}

/// Waits until the stream has read so many rows.
async fn read(service: &Arc<Service>, rows: u64) {
    let all = async {
        while service
            .engine()
            .jobs()
            .iter()
            .filter(|job| job.kind == "aggregate")
            .all(|job| job.counters.rows_in < rows)
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("they are read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_windows_have_skipped_stay_skipped_over_restarts_and_alterations() {
    for (clean, twice, alter) in [(true, false, false), (false, true, false), (false, false, true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let data = Some(folder.path().join("data"));
        let mut service = open(data.clone(), engine_config(), Vec::new()).await;
        told(&service, &format!("{HITS}, durability = 'durable')")).await;
        let sums = format!("CREATE STREAM sums WITH (durability = 'durable') AS {}", windows("20s", ""));
        told(&service, &sums).await;
        // A window that is told before anything is skipped.
        publish(&service, "hits", &json!([hit(1000, 1), hit(1, 25)])).await;
        let mut of_sums = reader(&service, "SELECT * FROM sums").await;
        assert_eq!(rows_until(&mut of_sums, |_| true).await, [[BEGIN, BEGIN + 20, 1000]]);
        drop(of_sums);
        let mut lost = 0;
        for round in 0..if twice { 2 } else { 1 } {
            read(&service, 2).await;
            told(&service, "PAUSE STREAM sums").await;
            publish(&service, "hits", &json!([hit(2, 26), hit(4, 27)])).await;
            waiting(&service, "sums", 2).await;
            let answer = told(&service, "RESUME STREAM sums FROM LATEST").await;
            assert!(answer.contains("2 rows were skipped"), "{answer}");
            publish(&service, "hits", &json!([hit(8, 28)])).await;
            lost += 2;
            read(&service, 3 + lost).await;
            if clean {
                service.engine().shutdown().await;
            }
            drop(service);
            service = open(data.clone(), engine_config(), Vec::new()).await;
            read(&service, 2 + (round + 1) * 3).await;
            assert_eq!(skipped(&service), lost, "they are counted once");
        }
        if alter {
            told(&service, &format!("ALTER STREAM sums AS {}", windows("20s", "WHERE n < 2000"))).await;
        }
        publish(&service, "hits", &json!([hit(16, 29), hit(0, 60)])).await;
        let mut of_sums = reader(&service, "SELECT * FROM sums").await;
        let rows = rows_until(&mut of_sums, |row| row[0] == BEGIN + 20).await;
        let wanted = if twice { 1 + 8 + 8 + 16 } else { 1 + 8 + 16 };
        assert_eq!(rows.last(), Some(&vec![BEGIN + 20, BEGIN + 40, wanted]));
        all_accounted(&service).await;
        assert!(of_sums.info().complete_from.is_some(), "what windows lack is told");
        service.engine().shutdown().await;
    }
}
