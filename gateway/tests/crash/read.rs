//! A client that reads a stream, and goes on behind its last row when the server is there again.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

use super::server::PATIENCE;

type Socket = WebSocketStream<TcpStream>;

/// So long without rows, none is missing that still comes: far above the second between two snapshots.
const QUIET: Duration = Duration::from_secs(20);

/// One that reads a stream or a query from its first row.
pub(crate) struct Reader<T> {
    /// A stream's name, or a statement.
    pub(crate) stream: &'static str,
    /// Each offset is that of a row.
    dense: bool,
    /// What is kept of a row.
    of_row: fn(&[Value]) -> T,
    /// Behind the last row; `None`: it has read nothing yet.
    position: Option<String>,
    pub(crate) rows: Vec<T>,
    /// It was told that rows are missing.
    pub(crate) gaps: usize,
    /// It went on in another incarnation of the log.
    pub(crate) epochs: usize,
    /// Rows of it may be lost with the process.
    lossy: bool,
    /// Its rows replace each other: it begins with those that stand.
    changing: bool,
}

/// Why a reader stopped.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// It has what it wanted.
    Enough,
    /// The server has gone.
    Gone,
    /// There is less than it wanted, and nothing comes any more.
    Quiet,
}

impl<T> Reader<T> {
    pub(crate) fn new(stream: &'static str, of_row: fn(&[Value]) -> T) -> Self {
        let dense = !stream.contains(' ');
        Self {
            stream,
            dense,
            of_row,
            position: None,
            rows: Vec::new(),
            gaps: 0,
            epochs: 0,
            lossy: false,
            changing: false,
        }
    }

    /// Of a stream of which a crash may lose rows.
    pub(crate) fn lossy(stream: &'static str, of_row: fn(&[Value]) -> T) -> Self {
        Self { lossy: true, ..Self::new(stream, of_row) }
    }

    /// Of rows that replace each other.
    pub(crate) fn changing(stream: &'static str, of_row: fn(&[Value]) -> T) -> Self {
        Self { changing: true, ..Self::new(stream, of_row) }
    }

    /// One of the same that has read nothing.
    pub(crate) fn anew(&self) -> Self {
        Self::new(self.stream, self.of_row)
    }

    /// Of how many partitions it has read rows.
    pub(crate) fn partitions(&self) -> usize {
        self.position.as_deref().map_or(0, |position| position.matches('=').count())
    }

    /// Reads until `enough` of the rows, or the server goes.
    pub(crate) async fn read(&mut self, address: SocketAddr, enough: impl Fn(&[T]) -> bool) -> Stopped {
        self.read_within(Duration::MAX, address, enough).await
    }

    /// The same of a stream to which nothing is added any more: it does not wait for what does not come.
    pub(crate) async fn read_rest(&mut self, address: SocketAddr, enough: impl Fn(&[T]) -> bool) -> Stopped {
        self.read_within(QUIET, address, enough).await
    }

    /// `quiet`: how long it waits for rows. Messages without any, which come all the time, do not count.
    async fn read_within(&mut self, quiet: Duration, address: SocketAddr, enough: impl Fn(&[T]) -> bool) -> Stopped {
        if enough(&self.rows) {
            return Stopped::Enough;
        }
        let Some(mut socket) = self.subscribe(address).await else { return Stopped::Gone };
        while let Ok(message) = tokio::time::timeout(quiet, receive_rows(&mut socket)).await {
            let Some(message) = message else { return Stopped::Gone };
            self.take(&message);
            if enough(&self.rows) {
                return Stopped::Enough;
            }
        }
        Stopped::Quiet
    }

    /// Reads so many messages at the most, and hangs up without a word.
    pub(crate) async fn read_some(&mut self, address: SocketAddr, messages: u64, enough: impl Fn(&[T]) -> bool) {
        let mut socket = self.subscribe(address).await.expect("the server stays");
        for _ in 0..messages {
            let message = receive(&mut socket).await.expect("the server stays");
            self.take(&message);
            if enough(&self.rows) {
                return;
            }
        }
    }

    /// A socket on which the rows behind the position come; `None`: the server has gone.
    async fn subscribe(&mut self, address: SocketAddr) -> Option<Socket> {
        let mut socket = hello(address).await?;
        let from = self.position.as_deref().unwrap_or("earliest");
        let mut subscribe = match self.changing {
            true => json!({"type": "subscribe", "id": "1"}),
            false => json!({"type": "subscribe", "id": "1", "from": from, "policy": "block"}),
        };
        subscribe[if self.dense { "stream" } else { "sql" }] = self.stream.into();
        socket.send(Message::text(subscribe.to_string())).await.ok()?;
        let told = receive(&mut socket).await?;
        assert_eq!(told["type"], "subscribed", "{told}");
        let position = told["position"].as_str().expect("a position").to_owned();
        if let Some(before) = &self.position {
            if !self.lossy {
                assert_eq!(told["recovered"], true, "{}: {told}", self.stream);
            }
            if told["recovered"] != true {
                // What it has read is not what the log holds now. The gap that says so may not come any more.
                self.rows.clear();
            } else if self.dense {
                assert_eq!(place(before), place(&position), "{} goes on elsewhere", self.stream);
            }
            self.epochs += usize::from(epoch(before) != epoch(&position));
        }
        self.position = Some(position);
        Some(socket)
    }

    /// Takes a message: its rows follow those before.
    fn take(&mut self, message: &Value) {
        match message["type"].as_str() {
            Some("rows") => {
                let rows = message["rows"].as_array().expect("rows");
                let next = message["position"].as_str().expect("a position");
                let before = self.position.as_deref().expect("it has subscribed");
                if self.dense {
                    assert_eq!(place(next) - place(before), rows.len() as u64, "{}: {before} to {next}", self.stream);
                }
                let of_row = self.of_row;
                self.rows.extend(rows.iter().map(|row| of_row(row.as_array().expect("a row"))));
                self.position = Some(next.to_owned());
            }
            Some("gap") if self.lossy => {
                self.gaps += 1;
                self.position = Some(message["to"].as_str().expect("a position").to_owned());
            }
            Some("progress") => {}
            _ => panic!("{}: {message}", self.stream),
        }
    }
}

async fn hello(address: SocketAddr) -> Option<Socket> {
    let stream = TcpStream::connect(address).await.ok()?;
    let mut request = format!("ws://{address}/api/v1/ws").into_client_request().expect("a request");
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static("squilla.v1.json"));
    let config = WebSocketConfig::default().max_message_size(None).max_frame_size(None);
    let (mut socket, _) = tokio_tungstenite::client_async_with_config(request, stream, Some(config)).await.ok()?;
    socket.send(Message::text(json!({"type": "hello"}).to_string())).await.ok()?;
    let welcome = receive(&mut socket).await?;
    assert_eq!(welcome["type"], "welcome", "{welcome}");
    Some(socket)
}

/// The next message; `None`: the server has gone.
async fn receive(socket: &mut Socket) -> Option<Value> {
    loop {
        let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("something comes in time");
        match next {
            Some(Ok(Message::Text(text))) => return Some(serde_json::from_str(text.as_str()).expect("JSON")),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
            Some(Ok(_)) => {}
        }
    }
}

/// The next message that is no progress; `None`: the server has gone.
async fn receive_rows(socket: &mut Socket) -> Option<Value> {
    loop {
        let message = receive(socket).await?;
        if message["type"] != "progress" {
            return Some(message);
        }
    }
}

/// The offsets of a position's partitions, added up.
fn place(position: &str) -> u64 {
    let (_, partitions) = position.split_once(':').expect("an epoch");
    let offsets = partitions.split(',').filter_map(|partition| partition.split_once('='));
    offsets.flat_map(|(_, offset)| offset.split('+')).map(|part| part.parse::<u64>().expect("a number")).sum()
}

fn epoch(position: &str) -> &str {
    position.split_once(':').expect("an epoch").0
}
