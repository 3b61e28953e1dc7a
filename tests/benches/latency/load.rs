//! Open-loop posts to one stream, and when their rows reach many clients of a query.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::Client;

/// Time before what counts: connections open, code is warm.
const WARM_UP: Duration = Duration::from_secs(2);
/// Time of what counts.
const MEASURED: Duration = Duration::from_secs(12);
/// From the start of the clock to the first request.
const BEGIN: Duration = Duration::from_millis(50);
/// How long rows may take before they are missing.
const PATIENCE: Duration = Duration::from_secs(5);
/// A request sent later than this after it was due is told: the machine is too busy to measure.
const LATE: Duration = Duration::from_millis(5);
/// Requests that are due and not sent yet, before the clock of requests waits.
const DUE: usize = 65_536;

/// What is posted, and who asks what of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) stream: &'static str,
    pub(crate) clients: usize,
    /// Its rows have two columns; the second one is the moment at which a request was due, in nanoseconds of the
    /// benchmark.
    pub(crate) query: &'static str,
    /// From request to request.
    pub(crate) every: Duration,
    /// The body of a request, and the moment at which it is due.
    pub(crate) events: fn(u64, Duration) -> String,
    /// Requests that make a row.
    pub(crate) requests_a_row: u64,
    /// A row comes of the request that many requests behind the one whose moment it has.
    pub(crate) behind: u32,
}

/// What was seen.
pub(crate) struct Delivery {
    /// From due to received, a row and client, sorted.
    pub(crate) latencies: Vec<Duration>,
    /// Rows that did not come.
    pub(crate) missing: usize,
    /// Requests that were sent late.
    pub(crate) late_requests: usize,
}

impl Load {
    fn requests(&self, time: Duration) -> u64 {
        u64::try_from(time.as_nanos() / self.every.as_nanos()).expect("it is small")
    }

    /// Before this moment nothing counts.
    fn counts_from(&self) -> Duration {
        BEGIN + self.every * u32::try_from(self.requests(WARM_UP)).expect("it is small")
    }

    /// Rows to a client that count.
    fn expected(&self) -> usize {
        // The last of all requests closes nothing, where a row comes of a later one.
        let rows = |requests: u64, behind: u64| (requests - behind) / self.requests_a_row;
        let (warm_up, all) = (self.requests(WARM_UP), self.requests(WARM_UP + MEASURED));
        usize::try_from(rows(all, u64::from(self.behind)) - rows(warm_up, 0)).expect("it is small")
    }

    /// Posts, and waits for all rows in all clients.
    pub(crate) async fn run(self, address: SocketAddr) -> Delivery {
        let mut clients = Vec::new();
        for _ in 0..self.clients {
            let mut client = Client::connect(address).await;
            client.subscribe("1", self.query).await;
            clients.push(client);
        }
        let start = Instant::now();
        let mut readers = JoinSet::new();
        clients.into_iter().for_each(|client| drop(readers.spawn(self.read(client, start))));
        let late_requests = self.post_all(address, start).await;
        let mut latencies = Vec::new();
        while let Some(read) = readers.join_next().await {
            latencies.extend(read.expect("a reader does not fail"));
        }
        latencies.sort();
        Delivery { missing: self.clients * self.expected() - latencies.len(), latencies, late_requests }
    }

    /// Reads until the rows of all requests that count have come, in whatever order, or none came for too long.
    async fn read(self, mut client: Client, start: Instant) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(self.expected());
        while latencies.len() < self.expected() {
            let Ok(rows) = tokio::time::timeout(PATIENCE, client.rows()).await else { return latencies };
            let now = start.elapsed();
            let dues = rows.into_iter().map(|(_, due)| Duration::from_nanos(due));
            let counted = dues.filter(|due| *due >= self.counts_from());
            latencies.extend(counted.map(|due| now.saturating_sub(due + self.every * self.behind)));
        }
        latencies
    }

    /// Sends each request when it is due, whether earlier ones were answered or not; how many were sent late.
    async fn post_all(self, address: SocketAddr, start: Instant) -> usize {
        let http = reqwest::Client::builder().no_proxy().tcp_nodelay(true).build().expect("a client");
        let url = format!("http://{address}/api/v1/streams/{}/events", self.stream);
        let (tell, mut told) = mpsc::channel(DUE);
        // A thread of its own: timers of the clients' threads are right to a millisecond only.
        let clock = std::thread::spawn(move || self.tell_when_due(start, &tell));
        let mut posts = JoinSet::new();
        while let Some((request, due)) = told.recv().await {
            let post = http.post(&url).body((self.events)(request, due));
            posts.spawn(async move {
                let answer = post.send().await.expect("the server answers");
                assert!(answer.status().is_success(), "{}", answer.status());
            });
            while let Some(done) = posts.try_join_next() {
                done.expect("a post does not fail");
            }
        }
        while let Some(post) = posts.join_next().await {
            post.expect("a post does not fail");
        }
        clock.join().expect("it does not fail")
    }

    /// Says when requests are due; how many it was late for.
    fn tell_when_due(self, start: Instant, tell: &mpsc::Sender<(u64, Duration)>) -> usize {
        let mut late = 0;
        for request in 0..self.requests(WARM_UP + MEASURED) {
            let due = BEGIN + self.every * u32::try_from(request).expect("it is small");
            while let Some(wait) = due.checked_sub(start.elapsed()).filter(|wait| !wait.is_zero()) {
                std::thread::park_timeout(wait);
            }
            late += usize::from(due >= self.counts_from() && start.elapsed() - due > LATE);
            tell.blocking_send((request, due)).expect("it is listened to");
        }
        late
    }
}
