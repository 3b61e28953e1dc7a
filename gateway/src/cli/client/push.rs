//! `squilla push`: NDJSON from a file or standard input to a stream.
//!
//! Its requests are numbered: one that got no answer is sent again, and its rows are there once. Only when nobody listens
//! before a server has answered once, it ends at once: none may be there.

use std::collections::hash_map::RandomState;
use std::fs::File;
use std::hash::BuildHasher;
use std::io::Read;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use reqwest::header::RETRY_AFTER;
use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use tokio::sync::mpsc;

use super::{Server, error_of, runtime};
use crate::cli::Outcome;
use crate::cli::args::PushArgs;
use crate::cli::failure::{Failure, chain};

/// What is read from the input at once, in bytes.
const READ_BYTES: usize = 256 << 10;
/// What is sent in a request, in bytes, but for a line that is longer.
const CHUNK_BYTES: usize = 1 << 20;
/// Longest line, in bytes; the server takes bodies twice as large.
const LINE_BYTES: usize = 8 << 20;
/// Reads that wait to be sent: the input is read on while a request is under way.
const READS_AHEAD: usize = 4;
/// Rejected lines that are told one by one.
const REJECTS_TOLD: u64 = 20;
/// First wait after the server said that its queue is full; it doubles up to the last.
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LAST_WAIT: Duration = Duration::from_secs(5);
/// How long the answer to a request may take before it is sent again.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// How long a server may be away, or its disk full.
const PATIENCE: Duration = Duration::from_secs(30);

/// Carries out the command.
pub(crate) fn push(args: &PushArgs) -> Result<Outcome, Failure> {
    let server = Server::new(&args.server)?;
    let input = open(args.file.as_deref())?;
    let (reads, chunks) = mpsc::channel(READS_AHEAD);
    // Not joined: a read of standard input cannot be called off, and ends with the process.
    std::thread::spawn(move || read_on(input, &reads));
    let producer = format!("push-{:016x}", RandomState::new().hash_one(std::process::id()));
    let mut push = Push { server, stream: &args.stream, producer, sequence: 0, accepted: 0, rejected: 0, lines: 0 };
    let outcome = runtime()?.block_on(async {
        tokio::select! {
            biased;
            _ = tokio::signal::ctrl_c() => Ok(Outcome::Interrupted),
            result = push.all(chunks) => result.map(|()| Outcome::Done),
        }
    });
    println!("{} rows accepted, {} rejected", push.accepted, push.rejected);
    match outcome {
        Ok(Outcome::Done) if push.rejected > 0 => {
            Err(Failure::new(format!("{} of {} lines were rejected", push.rejected, push.lines)))
        }
        outcome => outcome,
    }
}

type Input = Box<dyn Read + Send>;

fn open(file: Option<&Path>) -> Result<Input, Failure> {
    match file.filter(|path| path.as_os_str() != "-") {
        None => Ok(Box::new(std::io::stdin())),
        Some(path) => File::open(path)
            .map(|file| -> Input { Box::new(file) })
            .map_err(|error| Failure::new(format!("cannot read \"{}\": {error}", path.display()))),
    }
}

fn read_on(mut input: Input, reads: &mpsc::Sender<std::io::Result<Vec<u8>>>) {
    loop {
        let mut bytes = vec![0; READ_BYTES];
        let read = match input.read(&mut bytes) {
            Ok(0) => return,
            Ok(length) => {
                bytes.truncate(length);
                Ok(bytes)
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let failed = read.is_err();
        if reads.blocking_send(read).is_err() || failed {
            return;
        }
    }
}

struct Push<'a> {
    server: Server,
    stream: &'a str,
    /// Who sends, as no other does.
    producer: String,
    /// The next request's number.
    sequence: u64,
    accepted: u64,
    rejected: u64,
    /// Lines sent and answered.
    lines: u64,
}

#[derive(Debug, Deserialize)]
struct Report {
    accepted: u64,
    rejected: u64,
    errors: Vec<Reject>,
}

#[derive(Debug, Deserialize)]
struct Reject {
    line: u64,
    reason: String,
}

impl Push<'_> {
    async fn all(&mut self, mut reads: mpsc::Receiver<std::io::Result<Vec<u8>>>) -> Result<(), Failure> {
        let mut gathered = Vec::new();
        let mut open = true;
        while open {
            match reads.recv().await {
                Some(read) => gather(&mut gathered, read)?,
                None => open = false,
            }
            while gathered.len() < CHUNK_BYTES
                && let Ok(read) = reads.try_recv()
            {
                gather(&mut gathered, read)?;
            }
            if let Some(rest) = cut(&mut gathered, open) {
                let chunk = Bytes::from(std::mem::replace(&mut gathered, rest));
                self.refuse_array(&chunk)?;
                self.send(chunk).await?;
            } else if gathered.len() > LINE_BYTES {
                return Err(Failure::new(format!("line {} is longer than {LINE_BYTES} bytes", self.lines + 1)));
            }
        }
        Ok(())
    }

    /// An array would be cut in the middle.
    fn refuse_array(&self, chunk: &Bytes) -> Result<(), Failure> {
        let is_array = self.lines == 0 && chunk.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
        if !is_array {
            return Ok(());
        }
        Err(Failure::new("the input is a JSON array, not one object a line").help("turn it into lines: jq -c '.[]'"))
    }

    /// Sends whole lines, again while the server's queue is full, and for a while when it does not answer.
    async fn send(&mut self, chunk: Bytes) -> Result<(), Failure> {
        let lines = lines_of(&chunk);
        let url = self.server.url(&["streams", self.stream, "events"]);
        let mut wait = FIRST_WAIT;
        let mut patience: Option<Instant> = None;
        loop {
            let request = self.server.http.post(url.clone()).header("content-type", "application/x-ndjson");
            let request = request.header("producer-id", &self.producer).header("producer-seq", self.sequence);
            let answer = self.answer(request.body(chunk.clone())).await;
            let away = match &answer {
                // Where nobody listens there may be no server.
                Err((listens, _)) => *listens || self.sequence > 0,
                Ok((status, ..)) => *status == StatusCode::INSUFFICIENT_STORAGE,
            };
            if away && Instant::now() < *patience.get_or_insert_with(|| Instant::now() + PATIENCE) {
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(LAST_WAIT);
                continue;
            }
            let (status, retry_after, body) = answer.map_err(|(_, failure)| failure)?;
            if status == StatusCode::TOO_MANY_REQUESTS {
                tokio::time::sleep(wait.max(retry_after).min(LAST_WAIT)).await;
                wait = (wait * 2).min(LAST_WAIT);
                // It is there, and busy.
                patience = None;
                continue;
            }
            if !status.is_success() {
                return Err(Failure::Rendered(error_of(status, &body).render("")));
            }
            let report = serde_json::from_slice(&body).map_err(|error| self.server.strange(&error.to_string()))?;
            self.count(&report, lines);
            self.sequence += 1;
            return Ok(());
        }
    }

    /// A request's status, when to send it again, and body; the error says whether somebody listens, too.
    async fn answer(&self, request: RequestBuilder) -> Result<(StatusCode, Duration, Bytes), (bool, Failure)> {
        let unreachable =
            |error: reqwest::Error| (!error.is_connect(), self.server.unreachable(&chain(&error.without_url())));
        let response = request.timeout(ANSWER_WITHIN).send().await.map_err(unreachable)?;
        let told = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let (status, retry_after) = (response.status(), told.map_or(Duration::ZERO, Duration::from_secs));
        let body = response.bytes().await.map_err(unreachable)?;
        Ok((status, retry_after, body))
    }

    fn count(&mut self, report: &Report, lines: u64) {
        let left_to_tell = REJECTS_TOLD.saturating_sub(self.rejected);
        for reject in report.errors.iter().take(usize::try_from(left_to_tell).unwrap_or(usize::MAX)) {
            eprintln!("line {}: {}", self.lines + reject.line, reject.reason);
        }
        let rejected = report.rejected;
        if self.rejected <= REJECTS_TOLD && self.rejected + rejected > REJECTS_TOLD {
            eprintln!("further rejected lines are counted only");
        }
        self.accepted += report.accepted;
        self.rejected += rejected;
        self.lines += lines;
    }
}

fn gather(gathered: &mut Vec<u8>, read: std::io::Result<Vec<u8>>) -> Result<(), Failure> {
    let bytes = read.map_err(|error| Failure::new(format!("cannot read the input: {error}")))?;
    gathered.extend_from_slice(&bytes);
    Ok(())
}

/// Takes what is behind the last whole line away. At the end of the input the last line needs no line feed. `None`:
/// there is no line to send.
fn cut(gathered: &mut Vec<u8>, more_to_come: bool) -> Option<Vec<u8>> {
    let whole = if more_to_come { memchr::memrchr(b'\n', gathered)? + 1 } else { gathered.len() };
    (whole > 0).then(|| gathered.split_off(whole))
}

fn lines_of(chunk: &[u8]) -> u64 {
    let unfinished = chunk.last().is_some_and(|byte| *byte != b'\n');
    memchr::memchr_iter(b'\n', chunk).count() as u64 + u64::from(unfinished)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_lines_are_sent_before_the_end() {
        let mut gathered = b"{}\n{}\n{\"a".to_vec();
        assert_eq!(cut(&mut gathered, true).as_deref(), Some(&b"{\"a"[..]));
        assert_eq!((gathered.as_slice(), lines_of(&gathered)), (&b"{}\n{}\n"[..], 2));
        let mut gathered = b"{\"a".to_vec();
        assert_eq!(cut(&mut gathered, true), None);
        assert_eq!(cut(&mut gathered, false).as_deref(), Some(&b""[..]));
        assert_eq!(lines_of(&gathered), 1);
        assert_eq!(cut(&mut Vec::new(), false), None);
    }
}
