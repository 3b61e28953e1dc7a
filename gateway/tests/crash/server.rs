//! The binary as a server that may end at any moment.

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use squilla_engine::failpoint;

/// Longest wait for anything in these tests: far above what a loaded machine needs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Variable of the binary to be killed, instead of the one that was built with the test.
const BINARY: &str = "SQUILLA_BIN";

/// Where a server keeps what it keeps, over all its processes.
pub(crate) struct Home {
    folder: tempfile::TempDir,
}

/// A running process.
pub(crate) struct Server {
    /// `None`: its end is waited for.
    child: Option<Child>,
    pub(crate) address: SocketAddr,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Starts a process. `armed`: where it is to end, as [`failpoint::ARMED`] says. `None`: it has ended already.
    pub(crate) fn start(&self, armed: Option<&str>) -> Option<Server> {
        let log = OpenOptions::new().create(true).append(true).open(self.path("log")).expect("a file");
        let binary = std::env::var_os(BINARY).unwrap_or_else(|| env!("CARGO_BIN_EXE_squilla").into());
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
            .current_dir(self.folder.path())
            .env(failpoint::PASSED, self.path("passed"))
            .env("NO_COLOR", "1")
            .stdout(Stdio::piped())
            .stderr(log);
        if let Some(armed) = armed {
            command.env(failpoint::ARMED, armed);
        }
        let mut child = command.spawn().expect("the binary is there");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut url).expect("it can be read");
        let Some(address) = url.trim().strip_prefix("http://") else {
            let status = child.wait().expect("it ends");
            assert!(armed.is_some(), "the server did not start: {status}; its log ends with\n{}", self.log_end());
            return None;
        };
        Some(Server { address: address.parse().expect("an address"), child: Some(child) })
    }

    /// The failpoints that were passed since the last time that this was asked, and the one that ended a process.
    pub(crate) fn passed(&self) -> (Vec<String>, Option<String>) {
        let path = self.path("passed");
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        File::create(&path).expect("it can be emptied");
        let end = text.lines().find_map(|line| line.strip_prefix('!')).map(str::to_owned);
        (text.lines().map(|line| line.trim_start_matches('!').to_owned()).collect(), end)
    }

    /// Panics if a process has told what none may.
    pub(crate) fn check_log(&self) {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let bad = ["panicked at", "could not be started again", "its inputs are not what they were", "ERROR"];
        let told = text.lines().find(|line| bad.iter().any(|bad| line.contains(bad)));
        assert!(told.is_none(), "a process said: {}", told.unwrap_or_default());
    }

    fn log_end(&self) -> String {
        let text = std::fs::read_to_string(self.path("log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }
}

impl Server {
    /// Kills it as nobody can prepare for.
    pub(crate) fn kill(&mut self) {
        // It may have ended already.
        let _ = self.child().kill();
    }

    /// Asks it to end, as a service manager does.
    pub(crate) fn terminate(&mut self) {
        let id = self.child().id().to_string();
        // It may have ended already.
        let _ = Command::new("kill").args(["-TERM", &id]).status();
    }

    /// Waits for its end, which has a reason.
    pub(crate) async fn ended(mut self) -> ExitStatus {
        let mut child = self.child.take().expect("it is waited for once");
        let id = child.id();
        let waiting = tokio::task::spawn_blocking(move || child.wait().expect("it can be waited for"));
        let ended = tokio::time::timeout(PATIENCE, waiting).await;
        ended.unwrap_or_else(|_| panic!("the server, process {id}, does not end")).expect("waiting does not panic")
    }

    fn child(&mut self) -> &mut Child {
        self.child.as_mut().expect("it runs until it is waited for")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
