//! Queries that begin amid live streams: what they tell is whole, whoever asked before.

use std::collections::BTreeMap;
use std::sync::Arc;

use squilla_engine::{
    EngineConfig, EventTime, ManualClock, RowKind, SubscribeOptions, Subscription, SubscriptionEvent,
};
use squilla_tests::case::replay::{Feeder, Live, deliveries};
use squilla_tests::case::{parse_time, render_value};
use squilla_tests::lab::Lab;

const LEFT_OF_WINDOWS: &str = "SELECT s.window_end, s.host, s.n AS sent, l.n AS lost
  FROM (SELECT window_end, host, count(*) AS n FROM sent GROUP BY host, tumble('10s')) AS s
  LEFT JOIN (SELECT window_end, host, count(*) AS n FROM lost GROUP BY host, tumble('10s')) AS l
  ON s.host = l.host AND s.window_end = l.window_end";

/// An engine with live sources.
pub(crate) struct Bench {
    pub(crate) lab: Lab,
    sources: BTreeMap<String, (Feeder, u64)>,
}

/// Live sources `sent` and `lost`, whose watermarks follow at once.
pub(crate) async fn bench() -> Bench {
    let now = EventTime(parse_time("00:00:00").expect("a time"));
    let lab = Lab::new(EngineConfig::default(), Arc::new(ManualClock::new(now))).expect("an engine starts");
    let mut bench = Bench { lab, sources: BTreeMap::new() };
    for name in ["sent", "lost"] {
        let columns = "(host VARCHAR, ts TIMESTAMP, WATERMARK FOR ts AS ts)";
        bench.create(&format!("CREATE SOURCE {name} {columns} WITH (connector = 'replay')")).await;
    }
    bench
}

impl Bench {
    /// Makes a source of one partition.
    pub(crate) async fn create(&mut self, sql: &str) {
        let sources = &mut self.sources;
        let mut connect = |name: &str, _: &_| -> Result<Arc<dyn squilla_engine::Connector>, String> {
            let (live, mut feeders) = Live::new(1);
            sources.insert(name.to_owned(), (feeders.remove(0), 0));
            Ok(Arc::new(live))
        };
        self.lab.execute(sql, &mut connect).await.expect("the source is created");
    }

    /// Feeds rows of host a, and waits until the source's stream holds them.
    pub(crate) async fn feed(&mut self, source: &str, seconds: &[u32]) {
        let lines: Vec<String> = seconds.iter().map(|second| format!("a, 00:00:{second:02}")).collect();
        self.feed_lines(source, lines).await;
    }

    async fn feed_lines(&mut self, source: &str, lines: Vec<String>) {
        let schema = self.lab.query(&format!("SELECT * FROM {source}")).plan.schema().clone();
        let (feeder, fed) = self.sources.get_mut(source).expect("there is such a source");
        for delivery in deliveries(&schema, &lines, 1).expect("the rows fit") {
            feeder.rows(delivery).await;
            *fed += 1;
        }
        let held = || self.lab.engine.streams().iter().find(|stream| stream.name == source).map_or(0, |it| it.rows);
        while held() < *fed {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn subscribe(&self, sql: &str) -> Subscription {
        let asked = self.lab.query(sql);
        self.lab.engine.subscribe(&asked, SubscribeOptions::default()).await.expect("it runs")
    }

    /// Ends the sources, and gives all that a subscription is told.
    pub(crate) async fn rest(&mut self, subscription: &mut Subscription) -> Vec<String> {
        for (feeder, _) in self.sources.values_mut() {
            feeder.end().await;
        }
        let mut rows = Vec::new();
        loop {
            match subscription.next().await {
                SubscriptionEvent::Rows { batch, skip, .. } => {
                    let visible = batch.visible();
                    rows.extend((skip..visible.num_rows()).map(|row| {
                        let values = visible.columns().iter().map(|column| render_value(column, row));
                        values.collect::<Vec<_>>().join(", ")
                    }));
                }
                SubscriptionEvent::Progress(_) => {}
                SubscriptionEvent::Complete(_) => {
                    rows.sort();
                    return rows;
                }
                other => panic!("neither rows nor the end: {other:?}"),
            }
        }
    }
}

/// Reads changes until these rows are what there is: all columns but the last are the key.
async fn shows(subscription: &mut Subscription, shown: &mut BTreeMap<String, String>, expected: &[(&str, &str)]) {
    let expected: BTreeMap<String, String> =
        expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    while *shown != expected {
        let SubscriptionEvent::Rows { batch, skip, .. } = subscription.next().await else { continue };
        let visible = batch.visible();
        for row in skip..visible.num_rows() {
            let mut values: Vec<String> = visible.columns().iter().map(|column| render_value(column, row)).collect();
            let value = values.pop().expect("there are columns");
            match batch.kind {
                RowKind::Delete => shown.remove(&values.join(", ")),
                _ => shown.insert(values.join(", "), value),
            };
        }
    }
}

#[tokio::test]
async fn running_ranks_begin_with_the_first_ones_and_withdraw_who_falls_out() {
    let lines = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    let mut bench = bench().await;
    bench.feed_lines("sent", lines(&["a, 00:00:01", "b, 00:00:02", "a, 00:00:03"])).await;
    let sql = "SELECT window_start, host, count(*) AS n FROM sent GROUP BY host, tumble('10s')
               ORDER BY n DESC, host LIMIT 1 EMIT CHANGES";
    let (mut one, mut other) = (BTreeMap::new(), BTreeMap::new());
    let mut first = bench.subscribe(sql).await;
    shows(&mut first, &mut one, &[("00:00:00, a", "2")]).await;
    bench.feed_lines("sent", lines(&["b, 00:00:04", "b, 00:00:05"])).await;
    shows(&mut first, &mut one, &[("00:00:00, b", "3")]).await;
    // Who comes later is shown the first ones as they stand, and shares the job.
    let mut second = bench.subscribe(sql).await;
    assert_eq!(first.info().channel, second.info().channel);
    shows(&mut second, &mut other, &[("00:00:00, b", "3")]).await;
    bench.feed_lines("sent", lines(&["a, 00:00:06", "a, 00:00:07", "b, 00:00:12"])).await;
    let expected = [("00:00:00, a", "4"), ("00:00:10, b", "1")];
    shows(&mut first, &mut one, &expected).await;
    shows(&mut second, &mut other, &expected).await;
}

#[tokio::test]
async fn a_join_of_windows_begins_with_those_that_are_open_on_the_slower_side() {
    let mut bench = bench().await;
    bench.feed("sent", &[1, 12]).await;
    bench.feed("lost", &[1, 11, 21, 31]).await;
    let mut joined = bench.subscribe(LEFT_OF_WINDOWS).await;
    bench.feed("sent", &[25, 35, 45]).await;
    bench.feed("lost", &[36, 45]).await;
    let expected = ["00:00:20, a, 1, 1", "00:00:30, a, 1, 1", "00:00:40, a, 1, 2", "00:00:50, a, 1, 1"];
    assert_eq!(bench.rest(&mut joined).await, expected);
    assert_eq!(joined.info().complete_from, None);
}

#[tokio::test]
async fn windows_that_one_side_lacks_are_not_padded() {
    let mut bench = bench().await;
    bench.feed("sent", &[1, 12]).await;
    bench.feed("lost", &[1, 11, 21, 31]).await;
    // Who counts the lost began with the window from 30 seconds on; the join shares that job.
    let counts = "SELECT window_end, host, count(*) AS n FROM lost GROUP BY host, tumble('10s')";
    let _other = bench.subscribe(counts).await;
    let mut joined = bench.subscribe(LEFT_OF_WINDOWS).await;
    bench.feed("sent", &[25, 35, 45]).await;
    bench.feed("lost", &[36, 45]).await;
    assert_eq!(bench.rest(&mut joined).await, ["00:00:40, a, 1, 2", "00:00:50, a, 1, 1"]);
}

#[tokio::test]
async fn a_join_by_time_finds_partners_that_came_before_it() {
    let mut bench = bench().await;
    bench.feed("sent", &[1, 12]).await;
    bench.feed("lost", &[5, 11, 31]).await;
    let mut joined = bench
        .subscribe(
            "SELECT s.ts AS sent, l.ts AS lost FROM sent AS s LEFT JOIN lost AS l
             ON s.host = l.host AND l.ts BETWEEN s.ts - INTERVAL '5 seconds' AND s.ts",
        )
        .await;
    bench.feed("sent", &[14, 50]).await;
    bench.feed("lost", &[46, 58]).await;
    let expected = ["00:00:12, 00:00:11", "00:00:14, 00:00:11", "00:00:50, 00:00:46"];
    assert_eq!(bench.rest(&mut joined).await, expected);
}

#[tokio::test]
async fn windows_of_windows_are_whole() {
    let mut bench = bench().await;
    bench.feed("sent", &[5, 15, 41]).await;
    let inner = "SELECT window_time, host, count(*) AS n FROM sent GROUP BY host, tumble('10s')";
    let mut outer = bench.subscribe(&format!("SELECT window_start, sum(n) FROM ({inner}) GROUP BY tumble('1m')")).await;
    assert_eq!(outer.info().complete_from, None);
    bench.feed("sent", &[55]).await;
    assert_eq!(bench.rest(&mut outer).await, ["00:00:00, 4"]);
}

#[tokio::test]
async fn windows_of_windows_that_are_not_whole_are_marked() {
    let mut bench = bench().await;
    bench.feed("sent", &[5, 15, 41]).await;
    let inner = "SELECT window_time, host, count(*) AS n FROM sent GROUP BY host, tumble('10s')";
    let _other = bench.subscribe(inner).await;
    let mut outer = bench.subscribe(&format!("SELECT window_start, sum(n) FROM ({inner}) GROUP BY tumble('1m')")).await;
    assert_eq!(outer.info().complete_from, Some(EventTime(parse_time("00:00:40").expect("a time"))));
    assert_eq!(bench.rest(&mut outer).await, ["00:00:00, 1"]);
}
