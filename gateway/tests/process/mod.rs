//! The binary as a server, and its command line as a client.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

pub(crate) const SQUILLA: &str = env!("CARGO_BIN_EXE_squilla");
const SIGTERM: &str = "-TERM";

/// A server that is ended when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) url: String,
}

impl Server {
    /// Starts one on a free port, its catalog below the folder.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(SQUILLA)
            .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
            .current_dir(folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary is there");
        let mut url = String::new();
        let stdout = child.stdout.take().expect("piped");
        BufReader::new(stdout).read_line(&mut url).expect("it prints its URL");
        Self { child, url: url.trim().to_owned() }
    }

    pub(crate) fn client(&self, args: &[&str], input: &str) -> Output {
        let mut child = Command::new(SQUILLA)
            .args(args)
            .args(["--url", &self.url])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary is there");
        // A command that reads nothing may have ended already.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// What a client prints, which must succeed.
    pub(crate) fn told(&self, args: &[&str], input: &str) -> String {
        let output = self.client(args, input);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// Ends it as a service manager does; its exit code.
    pub(crate) fn stop(mut self) -> Option<i32> {
        let pid = self.child.id().to_string();
        let told = Command::new("kill").args([SIGTERM, &pid]).status().expect("kill is there");
        assert!(told.success());
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
