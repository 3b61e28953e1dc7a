//! A live query over the WebSocket: rows to standard output, what is missing to standard error.
//!
//! When the connection is lost, or the server says to come back, the client reconnects at the position behind the
//! last row that it wrote.

use std::future::Future;
use std::io::IsTerminal;
use std::pin::{Pin, pin};
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_tungstenite::tungstenite::client::ClientRequestBuilder;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async_with_config};

use super::step::{ID, Steps, typed};
use super::wire::{Complete, Gap, Kind, Pace, Progress, Rows, SUBPROTOCOL, Subscribed, WireError};
use super::{CONNECT_TIMEOUT, Server};
use crate::cli::Outcome;
use crate::cli::args::{Format, RowsArgs};
use crate::cli::failure::{Failure, chain};
use crate::cli::output::{JsonRowWriter, Output};

/// Largest message taken, in bytes. The server aims at 1 MiB; a single row may be larger.
const MESSAGE_BYTES: usize = 64 << 20;
/// Messages that are handled before the interrupt and the clock are looked at again.
const BURST_MESSAGES: usize = 64;
/// How often aligned columns are shown.
const TICK: Duration = Duration::from_millis(200);
/// Attempts to come back before the connection is given up for lost.
const RECONNECTS: u32 = 8;
/// Wait before the first of them; it doubles with each.
const RECONNECT_WAIT: Duration = Duration::from_millis(250);
/// Close codes after which the server wants its client back.
const COME_BACK: [u16; 5] = [1001, 1006, 1012, 1013, 4008];

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// What is subscribed to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Subject<'a> {
    /// A query.
    Sql(&'a str),
    /// A stream, from somewhere.
    Stream {
        /// Its name.
        name: &'a str,
        /// As the protocol's `from`; `None`: from now on.
        from: Option<&'a str>,
    },
}

/// The format that rows have unless the user says another: aligned columns for people.
pub(super) fn format_of(args: &RowsArgs) -> Format {
    let default = || if std::io::stdout().is_terminal() { Format::Table } else { Format::Ndjson };
    args.format.unwrap_or_else(default)
}

/// Writes the rows of a query or stream until it ends, is interrupted, or enough came.
pub(super) async fn follow(
    server: &Server,
    subject: Subject<'_>,
    args: &RowsArgs,
    output: &mut Output,
) -> Result<Outcome, Failure> {
    let deadline = args.duration.map(|duration| Instant::now() + duration);
    let mut view = View {
        subject,
        format: format_of(args),
        left: args.limit,
        limit: None,
        writer: None,
        position: None,
        progress: Progress::default(),
        steps: args.step.then(Steps::from_stdin),
    };
    let mut interrupt = pin!(tokio::signal::ctrl_c());
    let mut time_is_up = pin!(async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    });
    let result = {
        let mut rows = pin!(view.until_end(server, output));
        tokio::select! {
            biased;
            _ = &mut interrupt => Ok(Outcome::Interrupted),
            () = &mut time_is_up => Ok(Outcome::Done),
            result = &mut rows => result,
        }
    };
    if let Some(writer) = &mut view.writer {
        writer.end(output)?;
    }
    view.tell_counts();
    result
}

/// What the user has seen so far.
struct View<'a> {
    subject: Subject<'a>,
    format: Format,
    /// Rows that are still wanted; `None`: all.
    left: Option<u64>,
    /// Rows that the query still tells: what its LIMIT leaves; `None`: it has none.
    limit: Option<u64>,
    writer: Option<JsonRowWriter>,
    /// Behind the last row written; `None` before the first connection.
    position: Option<String>,
    progress: Progress,
    /// Rows come as the user lets them; `None`: as they are there.
    steps: Option<Steps>,
}

/// How a connection ended.
enum Ended {
    /// Nothing more is wanted, or nothing follows.
    Complete,
    /// The connection is gone, and another may help.
    Lost(String),
}

impl View<'_> {
    async fn until_end(&mut self, server: &Server, output: &mut Output) -> Result<Outcome, Failure> {
        let mut attempts = 0;
        loop {
            let connected = connect(server).await;
            let ended = match connected {
                Ok(socket) => {
                    let before = self.position.clone();
                    let ended = self.session(socket, server, output).await?;
                    if self.position != before {
                        attempts = 0;
                    }
                    ended
                }
                Err(failure) if self.position.is_none() => return Err(failure),
                Err(failure) => Ended::Lost(failure.to_string()),
            };
            let Ended::Lost(reason) = ended else { return Ok(Outcome::Done) };
            if attempts == RECONNECTS {
                return Err(Failure::new(format!("the connection is lost: {reason}")));
            }
            eprintln!("note: {reason}; reconnecting");
            tokio::time::sleep(RECONNECT_WAIT * 2u32.pow(attempts)).await;
            attempts += 1;
        }
    }

    /// Reads one connection to its end.
    async fn session(&mut self, mut socket: Socket, server: &Server, output: &mut Output) -> Result<Ended, Failure> {
        for message in [serde_json::json!({ "type": "hello" }), self.subscribe()] {
            if let Err(error) = socket.send(Message::text(message.to_string())).await {
                return Ok(Ended::Lost(chain(&error)));
            }
        }
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let message = tokio::select! {
                biased;
                _ = ticks.tick() => {
                    if let Some(writer) = &mut self.writer {
                        writer.show(output)?;
                    }
                    continue;
                }
                typed = typed(&mut self.steps) => {
                    let Some(message) = typed else { return Ok(Ended::Complete) };
                    if let Err(error) = socket.send(Message::text(message.to_string())).await {
                        return Ok(Ended::Lost(chain(&error)));
                    }
                    continue;
                }
                message = socket.next() => message,
            };
            let mut message = Some(message);
            for _ in 0..BURST_MESSAGES {
                let Some(next) = message else { break };
                if let Some(ended) = self.take(next, server, output)? {
                    // Politeness only: the server sees the connection go in any case.
                    let _ = tokio::time::timeout(TICK, socket.close(None)).await;
                    return Ok(ended);
                }
                message = ready(socket.next()).await;
            }
            output.flush()?;
            if let Some(next) = message
                && let Some(ended) = self.take(next, server, output)?
            {
                return Ok(ended);
            }
        }
    }

    fn subscribe(&self) -> serde_json::Value {
        let mut message = serde_json::json!({ "type": "subscribe", "id": ID });
        let from = match self.subject {
            Subject::Sql(sql) => {
                message["sql"] = sql.into();
                None
            }
            Subject::Stream { name, from } => {
                message["stream"] = name.into();
                from
            }
        };
        if let Some(from) = self.position.as_deref().or(from) {
            message["from"] = from.into();
        }
        if let Some(limit) = self.limit {
            message["limit"] = limit.into();
        }
        if self.steps.as_ref().is_some_and(Steps::begins_paused) {
            message["paused"] = true.into();
        }
        message
    }

    /// Handles what the socket gave; how the connection ended, `None` while it goes on.
    fn take(
        &mut self,
        message: Option<tungstenite::Result<Message>>,
        server: &Server,
        output: &mut Output,
    ) -> Result<Option<Ended>, Failure> {
        match message {
            Some(Ok(Message::Text(text))) => self.take_text(&text, server, output),
            Some(Ok(Message::Close(frame))) => closed(frame).map(Some),
            Some(Ok(_)) => Ok(None),
            Some(Err(error)) => Ok(Some(Ended::Lost(chain(&error)))),
            None => Ok(Some(Ended::Lost("the server has closed the connection".to_owned()))),
        }
    }

    fn take_text(&mut self, text: &str, server: &Server, output: &mut Output) -> Result<Option<Ended>, Failure> {
        match &*read::<Kind<'_>>(server, text)?.name {
            "subscribed" => self.subscribed(read(server, text)?),
            "rows" => return self.rows(read(server, text)?, output),
            "gap" => {
                let gap: Gap = read(server, text)?;
                let rows = gap.rows.map_or_else(|| "an unknown number of".to_owned(), |rows| rows.to_string());
                eprintln!("gap: {rows} rows missed ({})", gap.reason);
            }
            "progress" => {
                let before = std::mem::replace(&mut self.progress, read(server, text)?);
                for notice in self.progress.notices.iter().filter(|notice| !before.notices.contains(notice)) {
                    eprintln!("note: {}", notice.message);
                }
            }
            "pace" => {
                if let (Some(steps), Some(writer)) = (&mut self.steps, &mut self.writer) {
                    writer.show(output)?;
                    output.flush()?;
                    steps.told(&read::<Pace>(server, text)?);
                }
            }
            "error" => {
                let error: WireError = read(server, text)?;
                if error.retryable && self.position.is_some() {
                    return Ok(Some(Ended::Lost(error.first.message)));
                }
                let statement = if let Subject::Sql(sql) = self.subject { sql } else { "" };
                return Err(Failure::Rendered(error.render(statement)));
            }
            "complete" => {
                let complete: Complete = read(server, text)?;
                if let Some(reason) = complete.reason.filter(|reason| reason != "ended" && reason != "limit") {
                    eprintln!("note: the query has ended: {reason}");
                }
                return Ok(Some(Ended::Complete));
            }
            // A welcome, and what later servers may add.
            _ => {}
        }
        Ok(None)
    }

    fn subscribed(&mut self, subscribed: Subscribed) {
        if self.writer.is_none() {
            for label in &subscribed.labels {
                eprintln!("note: {label}");
            }
            if let Some(moment) = &subscribed.complete_from {
                let moment = moment.as_str().map_or_else(|| moment.to_string(), str::to_owned);
                eprintln!("note: windows that start before {moment} are partial");
            }
            self.writer = Some(JsonRowWriter::new(self.format, &subscribed.schema, !subscribed.key.is_empty()));
        }
        self.position = subscribed.position.or(self.position.take());
        self.limit = subscribed.limit;
    }

    fn rows(&mut self, rows: Rows<'_>, output: &mut Output) -> Result<Option<Ended>, Failure> {
        let Some(writer) = &mut self.writer else { return Ok(None) };
        let ops = rows.ops.unwrap_or_default();
        self.limit = self.limit.map(|limit| limit.saturating_sub(rows.rows.len() as u64));
        for (at, row) in rows.rows.iter().enumerate() {
            writer.write(ops.get(at).map(|op| &**op), row, output)?;
            if let Some(left) = &mut self.left {
                *left -= 1;
                if *left == 0 {
                    return Ok(Some(Ended::Complete));
                }
            }
        }
        self.position = rows.position.or(self.position.take());
        Ok(None)
    }

    fn tell_counts(&self) {
        let Progress { late, dropped, .. } = self.progress;
        if late + dropped > 0 {
            eprintln!("note: {late} rows came late and {dropped} were dropped since the query's jobs started");
        }
    }
}

async fn connect(server: &Server) -> Result<Socket, Failure> {
    let url = server.socket_url();
    let uri = url.parse().map_err(|error| Failure::new(format!("\"{url}\" is no URL: {error}")))?;
    let request = ClientRequestBuilder::new(uri).with_sub_protocol(SUBPROTOCOL);
    let config = WebSocketConfig::default().max_message_size(Some(MESSAGE_BYTES)).max_frame_size(Some(MESSAGE_BYTES));
    let connecting = connect_async_with_config(request, Some(config), true);
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(error)) => Err(server.unreachable(&chain(&error))),
        Err(_) => Err(server.unreachable(&format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

fn read<'a, T: Deserialize<'a>>(server: &Server, text: &'a str) -> Result<T, Failure> {
    serde_json::from_str(text).map_err(|error| server.strange(&error.to_string()))
}

/// What a close frame means.
fn closed(frame: Option<CloseFrame>) -> Result<Ended, Failure> {
    let (code, reason) = frame.map_or((1006, String::new()), |frame| (u16::from(frame.code), frame.reason.to_string()));
    let text = if reason.is_empty() { format!("code {code}") } else { format!("{reason} (code {code})") };
    let message = format!("the server has closed the connection: {text}");
    if COME_BACK.contains(&code) { Ok(Ended::Lost(message)) } else { Err(Failure::new(message)) }
}

/// What the future has now; `None` when it would wait.
async fn ready<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    std::future::poll_fn(|cx| {
        let polled: Pin<&mut _> = future.as_mut();
        std::task::Poll::Ready(match polled.poll(cx) {
            std::task::Poll::Ready(value) => Some(value),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(subject: Subject<'_>) -> View<'_> {
        let progress = Progress::default();
        View {
            subject,
            format: Format::Null,
            left: None,
            limit: None,
            writer: None,
            position: None,
            progress,
            steps: None,
        }
    }

    #[test]
    fn a_client_comes_back_at_its_position() {
        let mut view = view(Subject::Stream { name: "plays", from: Some("-5m") });
        assert_eq!(
            view.subscribe(),
            serde_json::json!({"type": "subscribe", "id": "1", "stream": "plays", "from": "-5m"})
        );
        view.position = Some("1:0=7".to_owned());
        assert_eq!(view.subscribe()["from"], "1:0=7");
        // Of a query with LIMIT it wants what it has not had.
        view.limit = Some(3);
        assert_eq!(view.subscribe()["limit"], 3);
    }

    #[test]
    fn final_close_codes_are_failures() {
        let frame = |code: u16| Some(CloseFrame { code: code.into(), reason: "because".into() });
        assert!(matches!(closed(frame(4008)), Ok(Ended::Lost(_))));
        let failure = closed(frame(4429)).err().expect("too many is final");
        assert!(failure.to_string().contains("because (code 4429)"));
    }
}
