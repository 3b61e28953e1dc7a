//! How soon the binary is there, and how large it is.
//!
//! Two figures, each with its goal, medians of the process's own start to its answer; the exit code is 1 when one is
//! missed by more than 15 %:
//! - `squilla serve` with an empty folder: its first answer to a request, under 100 ms;
//! - `squilla run` of an empty script: its end, under 30 ms.
//!
//! The size of the binary is told beside them, stripped as the release profile makes it.
//!
//! `cargo build --release --workspace && cargo run --release -p squilla-tests --bin start -- [SQUILLA]`

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

/// How often each is started.
const ROUNDS: usize = 21;
/// Goal from start to the first answer.
const SERVE_GOAL: Duration = Duration::from_millis(100);
/// Goal from start to end of an empty script.
const RUN_GOAL: Duration = Duration::from_millis(30);
/// What a goal may be missed by.
const MARGIN: f64 = 1.15;

fn main() -> ExitCode {
    let binary = std::env::args_os().nth(1).map_or_else(beside_this, PathBuf::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!("{}, load of the machine {}", binary.display(), load.split(' ').next().unwrap_or("?"));
    let folder = tempfile::tempdir().expect("a folder");
    let serve = median(|round| serve(&binary, &folder.path().join(round.to_string())));
    let script = folder.path().join("empty.sql");
    std::fs::write(&script, "").expect("a script");
    let run = median(|_| run(&binary, &script));
    let served = report("serve, to the first answer", serve, SERVE_GOAL);
    let ran = report("run of an empty script", run, RUN_GOAL);
    let bytes = std::fs::metadata(&binary).expect("the binary").len();
    println!("{:<32} {:>9.1} MB", "size of the binary", bytes as f64 / 1e6);
    if served && ran { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The binary that was built with this program.
fn beside_this() -> PathBuf {
    std::env::current_exe().expect("this program").with_file_name("squilla")
}

/// From the start of a server to its answer to a request.
fn serve(binary: &Path, folder: &Path) -> Duration {
    let started = Instant::now();
    let mut command = Command::new(binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--data-dir"]).arg(folder);
    let mut server = Server(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the binary starts"));
    let mut line = String::new();
    let stdout = server.0.stdout.take().expect("it is piped");
    BufReader::new(stdout).read_line(&mut line).expect("the server tells its address");
    let address = line.trim().strip_prefix("http://").expect("a URL");
    let mut connection = TcpStream::connect(address).expect("the server takes connections");
    let request = format!("GET /healthz HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    connection.write_all(request.as_bytes()).expect("the server reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("the server answers");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    started.elapsed()
}

/// A server that ends with this.
struct Server(Child);

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// From the start of a script without statements to its end.
fn run(binary: &Path, script: &Path) -> Duration {
    let started = Instant::now();
    let status = Command::new(binary).arg("run").arg(script).stdout(Stdio::null()).status();
    let took = started.elapsed();
    assert!(status.expect("the binary starts").success(), "an empty script is no mistake");
    took
}

fn median(measure: impl FnMut(usize) -> Duration) -> Duration {
    let mut all: Vec<Duration> = (0..ROUNDS).map(measure).collect();
    all.sort();
    all[ROUNDS / 2]
}

/// Prints a figure beside its goal; whether it was met.
fn report(what: &str, value: Duration, goal: Duration) -> bool {
    let ratio = value.as_secs_f64() / goal.as_secs_f64();
    let met = ratio < MARGIN;
    let verdict = if ratio < 1.0 {
        "met"
    } else if met {
        "nearly met"
    } else {
        "MISSED"
    };
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    println!(
        "{what:<32} {:>9.3} ms  goal {:>6.1} ms  ratio {ratio:>5.2}  {verdict}",
        milliseconds(value),
        milliseconds(goal)
    );
    met
}
