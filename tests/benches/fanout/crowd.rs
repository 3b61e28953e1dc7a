//! The process of the clients, seen from that of the server.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

use crate::Publish;
use crate::rows::{MESSAGE_ROWS, Target};

/// How long all clients may take to connect, or to get the last rows.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long idle clients are left alone before their memory is looked at.
const REST: Duration = Duration::from_secs(5);

/// Clients of one server.
pub(crate) struct Crowd {
    /// Killed when this is dropped.
    child: Child,
    says: Lines<BufReader<ChildStdout>>,
    commands: ChildStdin,
    clients: u64,
    /// Rows to all of them together.
    delivered: Arc<AtomicU64>,
    published: u64,
}

/// What was seen by clients that have left.
pub(crate) struct Seen {
    /// Rows that did not come to one of them.
    pub(crate) missing: u64,
    pub(crate) median_ms: f64,
}

impl Crowd {
    /// Starts the process; returns when all its clients are there.
    pub(crate) async fn gather(address: SocketAddr, clients: usize, target: Target) -> Self {
        let kind = match target {
            Target::Bare => "bare",
            Target::Squilla { idle: true } => "idle",
            Target::Squilla { idle: false } => "squilla",
        };
        let mut child = Command::new(std::env::current_exe().expect("this program"))
            .args(["clients", &address.to_string(), &clients.to_string(), kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let says = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let commands = child.stdin.take().expect("it is piped");
        let clients = clients as u64;
        let mut crowd = Self { child, says, commands, clients, delivered: Arc::default(), published: 0 };
        assert_eq!(crowd.hear().await, "ready");
        crowd
    }

    pub(crate) fn clients(&self) -> u64 {
        self.clients
    }

    /// Rows that have come to all clients together.
    pub(crate) fn delivered(&self) -> u64 {
        self.delivered.load(Relaxed)
    }

    /// Rows that have not come yet.
    pub(crate) fn waiting(&self) -> u64 {
        self.published * self.clients - self.delivered()
    }

    /// Publishes the next message.
    pub(crate) async fn publish(&mut self, server: &impl Publish, due: u64) {
        server.publish(self.published, due).await;
        self.published += MESSAGE_ROWS;
    }

    /// Waits until more rows have come.
    pub(crate) async fn progress(&mut self) {
        let said = self.hear().await;
        self.delivered.store(said.parse().expect("a number"), Relaxed);
    }

    /// Waits until all rows have come.
    pub(crate) async fn settle(&mut self) {
        while self.waiting() > 0 {
            self.progress().await;
        }
    }

    /// Leaves idle clients alone for a while.
    pub(crate) async fn rest(&self) {
        // Nothing comes that would end it sooner.
        let _ = timeout(REST, std::future::pending::<()>()).await;
    }

    /// From now on it is counted how long rows take.
    pub(crate) async fn forget(&mut self) {
        self.say("forget\n").await;
        while self.hear().await != "forgotten" {}
    }

    /// The 99th percentile of how long rows took, in milliseconds.
    pub(crate) async fn p99_ms(&mut self) -> f64 {
        self.say("p99\n").await;
        self.answer("p99 ").await
    }

    /// Ends the process.
    pub(crate) async fn leave(mut self) -> Seen {
        self.say("median\n").await;
        let median_ms = self.answer("median ").await;
        self.say("missing\n").await;
        let missing = self.answer("missing ").await as u64;
        self.child.kill().await.expect("it runs");
        Seen { missing, median_ms }
    }

    /// The answer to a question, among reports of progress.
    async fn answer(&mut self, prefix: &str) -> f64 {
        loop {
            if let Some(answer) = self.hear().await.strip_prefix(prefix) {
                return answer.parse().expect("a number");
            }
        }
    }

    async fn say(&mut self, command: &str) {
        self.commands.write_all(command.as_bytes()).await.expect("it listens");
    }

    async fn hear(&mut self) -> String {
        let line = timeout(PATIENCE, self.says.next_line()).await.expect("in time").expect("it goes on");
        line.expect("it goes on")
    }
}
