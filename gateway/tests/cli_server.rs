//! The binary as a server, and as its clients.

#[path = "process/cutter.rs"]
mod cutter;
mod process;

use std::fs;
use std::process::Command;

use process::{SQUILLA, Server};

const CREATE: &str = "CREATE SOURCE clicks (page TEXT, n BIGINT) WITH (connector = 'http')";

#[test]
fn what_is_pushed_is_tailed() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", CREATE], "");
    let pushed =
        server.told(&["push", "clicks"], "{\"page\":\"/\",\"n\":1}\n{\"page\":\"/a\",\"n\":2}\n{\"page\":\"/b\"}");
    assert_eq!(pushed, "3 rows accepted, 0 rejected\n");
    let tail = ["tail", "clicks", "--from", "earliest", "--limit", "3"];
    assert_eq!(
        server.told(&tail, ""),
        "{\"page\":\"/\",\"n\":1}\n{\"page\":\"/a\",\"n\":2}\n{\"page\":\"/b\",\"n\":null}\n"
    );
    let table = server.told(&[&tail[..], &["--format", "csv"]].concat(), "");
    assert_eq!(table, "page,n\n/,1\n/a,2\n/b,\n");
}

#[test]
fn a_replay_is_tailed_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", CREATE], "");
    server.told(&["push", "clicks"], "{\"page\":\"/\",\"n\":1}\n{\"page\":\"/\",\"n\":2}\n{\"page\":\"/\",\"n\":3}");
    let all = ["tail", "clicks", "--from", "earliest", "--format", "csv"];
    server.told(&[&all[..], &["--limit", "3"]].concat(), "");
    let step = [&all[..], &["--step"]].concat();
    assert_eq!(server.told(&step, "\n1\n"), "page,n\n/,1\n/,2\n");
    assert_eq!(server.told(&step, "n 3\nq\n"), "page,n\n/,1\n/,2\n/,3\n");
    let live = server.client(&["tail", "clicks", "--step"], "");
    assert!(String::from_utf8_lossy(&live.stderr).contains("earliest"), "{live:?}");
}

#[test]
fn rejected_lines_are_told_with_their_numbers() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", CREATE], "");
    let file = folder.path().join("clicks.ndjson");
    let mut lines = "{\"page\":\"/a-long-name-so-that-there-are-two-requests\",\"n\":1}\n".repeat(30_000);
    lines.push_str("{\"page\":\"/\",\"n\":\"many\"}\n");
    fs::write(&file, lines).expect("a file");
    let output = server.client(&["push", "clicks", &file.display().to_string()], "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "30000 rows accepted, 1 rejected\n");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("line 30001: "), "{stderr}");
    assert_eq!(output.status.code(), Some(1));
    let array = server.client(&["push", "clicks"], "[{\"page\":\"/\"}]");
    assert!(String::from_utf8_lossy(&array.stderr).contains("jq -c"), "{array:?}");
    let unknown = server.client(&["push", "clocks"], "{}");
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("clocks"), "{unknown:?}");
}

#[test]
fn requests_whose_answers_are_lost_are_pushed_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", CREATE], "");
    // The first one's is, too: somebody listens.
    let way = cutter::start(&server.url, |number| number % 2 == 0);
    let line = "{\"page\":\"/a-long-name-so-that-there-are-several-requests\",\"n\":1}\n";
    let file = folder.path().join("clicks.ndjson");
    fs::write(&file, line.repeat(60_000)).expect("a file");
    let pushed = Command::new(SQUILLA)
        .args(["push", "clicks", &file.display().to_string(), "--url", &way])
        .output()
        .expect("the binary is there");
    assert_eq!(String::from_utf8_lossy(&pushed.stdout), "60000 rows accepted, 0 rejected\n", "{pushed:?}");
    let counted = server.told(&["sql", "-e", "SHOW STREAMS", "--format", "ndjson"], "");
    assert!(counted.contains("\"rows\":60000,"), "{counted}");
}

#[test]
fn statements_answer_and_mistakes_have_carets() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql"], &format!("{CREATE};\nCREATE STREAM many AS SELECT page FROM clicks WHERE n > 1;"));
    let shown = server.told(&["sql", "-e", "SHOW STREAMS", "--format", "ndjson"], "");
    assert_eq!(shown.lines().count(), 2, "{shown}");
    let output = server.client(&["sql", "-e", "SELECT pag FROM clicks"], "");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("^^^") && stderr.contains("page"), "{stderr}");
}

#[test]
fn live_queries_stop_when_time_is_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", "CREATE SOURCE plays WITH (connector = 'generator')"], "");
    let rows = server.told(&["sql", "-e", "SELECT title, device FROM plays", "--limit", "5"], "");
    assert_eq!(rows.lines().count(), 5, "{rows}");
    for (limit, flag, count) in [(4, "9", 4), (9, "4", 4)] {
        let sql = format!("SELECT title, device FROM plays LIMIT {limit}");
        let rows = server.told(&["sql", "-e", &sql, "--limit", flag], "");
        assert_eq!(rows.lines().count(), count, "LIMIT {limit}, --limit {flag}: {rows}");
    }
    let rows = server.told(&["sql", "-e", "SELECT title FROM plays EMIT CHANGES LIMIT 3"], "");
    assert_eq!(rows.lines().count(), 3, "{rows}");
    let none =
        server.told(&["sql", "-e", "SELECT title FROM plays WHERE title = 'no such title'", "--for", "50ms"], "");
    assert_eq!(none, "");
}

#[test]
fn what_was_created_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path());
    server.told(&["sql", "-e", CREATE], "");
    assert_eq!(server.stop(), Some(0));
    let server = Server::start(folder.path());
    assert!(server.told(&["sql", "-e", "SHOW SOURCES"], "").contains("clicks"));
    let second = Command::new(SQUILLA)
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir", "data"])
        .current_dir(folder.path())
        .output()
        .expect("the binary is there");
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&second.stderr).contains("error: "), "{second:?}");
}
