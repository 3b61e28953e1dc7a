//! The process of the clients.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use futures::{SinkExt, StreamExt, stream};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use crate::now;
use crate::rows::{Target, rows_of};
use crate::squilla::{IDLE_QUERY, QUERY};

/// Clients that connect at the same time.
const CONNECTING: usize = 64;
/// Bytes that a client reads at once.
const READ_BUFFER_BYTES: usize = 8 << 10;
/// How often it is told how many rows have come.
const REPORT: Duration = Duration::from_millis(5);
/// Milliseconds that are told apart.
const LONGEST_MS: usize = 30_000;

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What all clients have seen together.
struct Seen {
    rows: AtomicU64,
    missing: AtomicU64,
    /// Rows by the tenths of milliseconds that they took.
    took: Vec<AtomicU64>,
}

static SEEN: LazyLock<Arc<Seen>> = LazyLock::new(|| {
    let took = std::iter::repeat_with(AtomicU64::default).take(LONGEST_MS * 10).collect();
    Arc::new(Seen { rows: AtomicU64::new(0), missing: AtomicU64::new(0), took })
});

/// Connects clients, says so, tells how many rows have come, and answers questions, until it is killed.
pub(crate) async fn run(address: &str, count: usize, target: Target) {
    let sockets = stream::iter(0..count).map(|_| connect(address, target)).buffer_unordered(CONNECTING);
    let mut sockets = std::pin::pin!(sockets);
    while let Some(socket) = sockets.next().await {
        tokio::spawn(read(socket));
    }
    println!("ready");
    let mut questions = BufReader::new(tokio::io::stdin()).lines();
    let mut reports = interval(REPORT);
    reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = 0;
    loop {
        tokio::select! {
            question = questions.next_line() => match question.ok().flatten().as_deref() {
                Some("forget") => {
                    SEEN.took.iter().for_each(|rows| rows.store(0, Relaxed));
                    println!("forgotten");
                }
                Some("p99") => println!("p99 {}", SEEN.quantile(0.99)),
                Some("median") => println!("median {}", SEEN.quantile(0.5)),
                Some("missing") => println!("missing {}", SEEN.missing.load(Relaxed)),
                _ => return,
            },
            _ = reports.tick() => {
                let rows = SEEN.rows.load(Relaxed);
                if rows != told {
                    println!("{rows}");
                    told = rows;
                }
            }
        }
    }
}

async fn connect(address: &str, target: Target) -> Socket {
    let uri = format!("ws://{address}/api/v1/ws").parse().expect("a URL");
    let request = ClientRequestBuilder::new(uri).with_sub_protocol("squilla.v1.json");
    let config = WebSocketConfig::default().read_buffer_size(READ_BUFFER_BYTES);
    let connecting = connect_async_with_config(request, Some(config), true);
    let (mut socket, _) = connecting.await.expect("the server takes connections");
    if let Target::Squilla { idle } = target {
        let sql = if idle { IDLE_QUERY } else { QUERY };
        let subscribe = json!({ "type": "subscribe", "id": "1", "sql": sql, "from": "latest", "policy": "block" });
        for message in [json!({ "type": "hello" }), subscribe] {
            socket.send(Message::text(message.to_string())).await.expect("the server reads");
        }
        loop {
            let message = next(&mut socket).await;
            assert!(!message.contains("\"type\":\"error\""), "{message}");
            if message.contains("\"type\":\"subscribed\"") {
                return socket;
            }
        }
    }
    socket
}

async fn next(socket: &mut Socket) -> String {
    loop {
        match socket.next().await.expect("the server stays").expect("the server stays") {
            Message::Text(text) => return text.as_str().to_owned(),
            Message::Close(frame) => panic!("closed by the server: {frame:?}"),
            _ => {}
        }
    }
}

/// Reads rows for as long as the server stays.
async fn read(mut socket: Socket) {
    let mut next_row = 0;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = &message else { continue };
        let Some(rows) = rows_of(text.as_str()) else { continue };
        let tenths = now().saturating_sub(rows.due) / 100;
        let took = usize::try_from(tenths).unwrap_or(usize::MAX).min(SEEN.took.len() - 1);
        SEEN.took[took].fetch_add(rows.end - rows.first, Relaxed);
        SEEN.missing.fetch_add(rows.first.abs_diff(next_row), Relaxed);
        SEEN.rows.fetch_add(rows.end - rows.first, Relaxed);
        next_row = rows.end;
    }
}

impl Seen {
    /// What a share of the rows took at the most, in milliseconds.
    fn quantile(&self, share: f64) -> f64 {
        let counts: Vec<u64> = self.took.iter().map(|rows| rows.load(Relaxed)).collect();
        let wanted = (counts.iter().sum::<u64>() as f64 * share).ceil() as u64;
        let mut rows = 0;
        let at = counts.iter().position(|count| {
            rows += count;
            rows >= wanted
        });
        at.map_or(f64::INFINITY, |at| (at + 1) as f64 / 10.0)
    }
}
