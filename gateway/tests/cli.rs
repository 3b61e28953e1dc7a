//! The binary from outside: what it prints, where, and how it exits.

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

const BIDS: &str = "\
ts,auction,price
2026-01-01T00:00:01Z,7,100
2026-01-01T00:00:04Z,8,250
2026-01-01T00:00:02Z,7,300
2026-01-01T00:00:11Z,7,50
";

const CREATE: &str = "CREATE SOURCE bids (ts TIMESTAMP, auction BIGINT, price BIGINT,
    WATERMARK FOR ts AS ts - INTERVAL '5 seconds') WITH (connector = 'file', path = '${INPUT}', format = 'csv');\n";

const WINDOWED: &str = "SELECT window_start, auction, count(*) AS n FROM bids
    WHERE auction = 7 GROUP BY auction, tumble('10s')";

/// A folder with `bids.csv` and a script.
fn folder(script: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("bids.csv"), BIDS).expect("a file");
    fs::write(folder.path().join("s.sql"), script).expect("a file");
    folder
}

fn squilla(folder: &Path, args: &[&str]) -> Output {
    squilla_reading(folder, args, "")
}

fn squilla_reading(folder: &Path, args: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_squilla"))
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    // A command that reads nothing may have ended already.
    let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
    child.wait_with_output().expect("it ends")
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).expect("text")
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).expect("text")
}

#[test]
fn a_changing_result_is_explained_as_it_is_told() {
    let output = run("EXPLAIN SELECT auction, count(*) FROM bids GROUP BY auction;", &[]);
    assert!(stdout(&output).contains("final rows, at the end of bounded input"), "{}", stdout(&output));
}

/// Runs a script over the bids.
fn run(script: &str, more: &[&str]) -> Output {
    let folder = folder(&format!("{CREATE}{script}"));
    squilla(folder.path(), &[&["run", "s.sql", "--set", "INPUT=bids.csv"], more].concat())
}

/// What a script prints that must succeed and leave nothing out.
fn rows(script: &str, more: &[&str]) -> String {
    let output = run(script, more);
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
    stdout(&output).to_owned()
}

#[test]
fn help_teaches_by_example() {
    let here = Path::new(".");
    let top = squilla(here, &["--help"]);
    assert!(top.status.success());
    for command in ["demo", "serve", "run", "sql", "tail", "push"] {
        assert!(stdout(&top).contains(command), "{}", stdout(&top));
        let help = squilla(here, &[command, "--help"]);
        assert!(stdout(&help).contains(&format!("squilla {command}")), "{}", stdout(&help));
        assert!(stdout(&help).contains("Examples:"), "{}", stdout(&help));
    }
    assert!(stdout(&squilla(here, &["--version"])).starts_with("squilla 0."));
}

#[test]
fn windows_of_a_file_in_each_format() {
    let expected = "{\"window_start\":\"2026-01-01T00:00:00Z\",\"auction\":7,\"n\":2}\n\
                    {\"window_start\":\"2026-01-01T00:00:10Z\",\"auction\":7,\"n\":1}\n";
    assert_eq!(rows(WINDOWED, &[]), expected);
    let expected = "window_start,auction,n\n2026-01-01T00:00:00Z,7,2\n2026-01-01T00:00:10Z,7,1\n";
    assert_eq!(rows(WINDOWED, &["--format", "csv"]), expected);
    let expected = concat!(
        " window_start         | auction | n\n",
        "----------------------+---------+---\n",
        " 2026-01-01T00:00:00Z |       7 | 2\n",
        " 2026-01-01T00:00:10Z |       7 | 1\n",
    );
    assert_eq!(rows(WINDOWED, &["--format", "table"]), expected);
    assert_eq!(rows(WINDOWED, &["--format", "null"]), "");
}

#[test]
fn an_empty_result_has_its_header() {
    assert_eq!(rows("SELECT auction FROM bids WHERE price < 0", &["--format", "csv"]), "auction\n");
    assert_eq!(rows("SELECT auction FROM bids WHERE price < 0", &[]), "");
}

#[test]
fn a_script_on_standard_input() {
    let folder = folder("");
    let create = CREATE.replace("${INPUT}", "bids.csv");
    let script = format!("{create}SELECT auction + 1 AS next FROM bids WHERE price > 200;");
    let output = squilla_reading(folder.path(), &["run", "-"], &script);
    assert_eq!(stdout(&output), "{\"next\":9}\n{\"next\":8}\n", "{}", stderr(&output));
}

#[test]
fn sinks_are_written_to_the_end() {
    let select = "SELECT auction FROM bids WHERE price > 200";
    let folder =
        folder(&format!("{CREATE}CREATE SINK dear WITH (connector = 'file', path = 'dear.ndjson') AS {select};"));
    let output = squilla(folder.path(), &["run", "s.sql", "--set", "INPUT=bids.csv", "--stats"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let written = fs::read_to_string(folder.path().join("dear.ndjson")).expect("the sink has written");
    assert_eq!(written, "{\"auction\":8}\n{\"auction\":7}\n");
    assert!(stderr(&output).contains("\"rows_out\":2"), "{}", stderr(&output));
}

#[test]
fn so_many_rows_are_printed_and_the_rest_is_not_read() {
    assert_eq!(rows("SELECT auction FROM bids LIMIT 2", &[]), "{\"auction\":7}\n{\"auction\":8}\n");
    assert_eq!(rows("SELECT auction FROM bids FETCH FIRST ROW ONLY", &["--format", "csv"]), "auction\n7\n");
    assert_eq!(rows("SELECT auction FROM bids LIMIT 0", &["--format", "csv"]), "auction\n");
    let windows = rows(&format!("{WINDOWED} LIMIT 1"), &[]);
    assert_eq!(windows, "{\"window_start\":\"2026-01-01T00:00:00Z\",\"auction\":7,\"n\":2}\n");
    // Events that never end.
    let endless = folder("CREATE SOURCE plays WITH (connector = 'generator'); SELECT title, device FROM plays LIMIT 7");
    let output = squilla(endless.path(), &["run", "s.sql"]);
    assert_eq!((output.status.code(), stdout(&output).lines().count()), (Some(0), 7), "{}", stderr(&output));
}

#[test]
fn sinks_get_what_a_query_leaves() {
    let script = "CREATE SOURCE plays WITH (connector = 'generator', rows = 300000);
        CREATE SINK all_titles WITH (connector = 'file', path = 'all.ndjson') AS SELECT title FROM plays;
        SELECT title FROM plays LIMIT 3;";
    let folder = folder(script);
    let output = squilla(folder.path(), &["run", "s.sql"]);
    assert_eq!((output.status.code(), stdout(&output).lines().count()), (Some(0), 3), "{}", stderr(&output));
    let written = fs::read_to_string(folder.path().join("all.ndjson")).expect("the sink has written");
    assert_eq!(written.lines().count(), 300_000);
}

#[test]
fn parameters_have_values() {
    let script = "SELECT auction + $more AS next FROM bids WHERE price > $least;";
    assert_eq!(rows(script, &["--param", "least=200", "--param", "more=-1"]), "{\"next\":7}\n{\"next\":6}\n");
    let missing = run(script, &["--param", "least=200"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(stderr(&missing).contains("parameter $more has no value"), "{}", stderr(&missing));
    let unused = run(script, &["--param", "least=200", "--param", "more=1", "--param", "most=9"]);
    assert!(stderr(&unused).contains("$most, which no statement has"), "{}", stderr(&unused));
}

#[test]
fn show_and_describe_print_tables() {
    let shown = rows("SHOW SOURCES; DESCRIBE bids", &[]);
    assert!(shown.contains("bids") && shown.contains("auction") && shown.contains("-+-"), "{shown}");
}

#[test]
fn statistics_are_one_line_of_json() {
    let output = run(WINDOWED, &["--stats", "--format", "null"]);
    let stats: serde_json::Value = serde_json::from_str(stderr(&output).trim_end()).expect("one line of JSON");
    let keys: Vec<&str> = stats.as_object().expect("an object").keys().map(String::as_str).collect();
    assert_eq!(keys, ["cpu_s", "dropped", "events_in", "late", "peak_memory_bytes", "rows_out", "wall_s"]);
    assert_eq!((&stats["events_in"], &stats["rows_out"], &stats["late"]), (&4.into(), &2.into(), &0.into()));
}

#[test]
fn running_results_say_what_they_do() {
    let output = rows(&format!("{WINDOWED} EMIT EVERY INTERVAL '1 second'"), &[]);
    assert!(output.lines().all(|line| line.starts_with("{\"op\":\"")), "{output}");
    assert_eq!(output.lines().filter(|line| line.starts_with("{\"op\":\"f\"")).count(), 2, "{output}");
}

#[test]
fn rows_that_are_not_in_the_answer_are_told() {
    let folder = folder(&format!("{CREATE}SELECT auction FROM bids"));
    fs::write(folder.path().join("bids.csv"), format!("{BIDS}2026-01-01T00:00:12Z,nonsense,1\n")).expect("a file");
    let output = squilla(folder.path(), &["run", "s.sql", "--set", "INPUT=bids.csv"]);
    assert!(output.status.success(), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("note: rows not in the result: 1 undecodable; first: "), "{}", stderr(&output));
}

#[test]
fn rows_that_an_expression_fails_on_are_told_with_the_reason() {
    let output = run("SELECT 100 / (price - 50) AS share FROM bids WHERE price < 200", &[]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "{\"share\":2}\n"), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("note: rows not in the result: 1 failed; first: "), "{}", stderr(&output));
    assert!(stderr(&output).to_lowercase().contains("divide by zero"), "{}", stderr(&output));
}

#[test]
fn mistakes_are_shown_at_their_place_in_the_script() {
    let output = run("SELECT auction,\n  prise FROM bids", &[]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(1), ""));
    for part in ["error[", "prise", "--> s.sql, line 4, column 3", "^^^^^", "price"] {
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
}

#[test]
fn a_name_without_a_value_is_told_before_anything_runs() {
    let folder = folder(CREATE);
    let output = squilla(folder.path(), &["run", "s.sql"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("${INPUT} has no value"), "{}", stderr(&output));
    assert!(stderr(&output).contains("--set INPUT=VALUE"), "{}", stderr(&output));
}

#[test]
fn late_rows_are_a_stream_of_their_own() {
    let script = "CREATE STREAM counts AS SELECT window_start, count(*) AS n FROM bids GROUP BY tumble('1s');
        SELECT * EXCEPT (late_at) FROM LATE(counts);";
    let late = folder(&format!("{CREATE}{script}").replace("'5 seconds'", "'0 seconds'"));
    let output = squilla(late.path(), &["run", "s.sql", "--set", "INPUT=bids.csv"]);
    let expected = "{\"ts\":\"2026-01-01T00:00:02Z\",\"auction\":7,\"price\":300,\"late_reason\":\"late\",\
                    \"late_by_ms\":2000,\"late_watermark\":\"2026-01-01T00:00:04Z\",\"late_input\":\"bids\"}\n";
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), expected));
}

#[test]
fn a_second_select_is_refused() {
    let output = run("SELECT auction FROM bids;\nSELECT price FROM bids;", &[]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("only one SELECT"), "{}", stderr(&output));
    assert!(stderr(&output).contains("SELECT auction FROM bids"), "{}", stderr(&output));
}

#[test]
fn a_script_that_is_not_there() {
    let output = squilla(Path::new("."), &["run", "no-such.sql"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).starts_with("error: cannot read the script \"no-such.sql\""), "{}", stderr(&output));
}

#[test]
fn a_reader_that_goes_ends_the_run_quietly() {
    let folder = folder("CREATE SOURCE plays WITH (connector = 'generator', rows = 1000000); SELECT title FROM plays");
    let mut child = Command::new(env!("CARGO_BIN_EXE_squilla"))
        .args(["run", "s.sql"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary is there");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn a_port_that_is_taken_is_told_with_the_way_out() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let output = squilla(Path::new("."), &["demo", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains(&address) && stderr(&output).contains("--listen"), "{}", stderr(&output));
}

#[test]
fn an_address_that_others_reach_needs_consent() {
    let folder = folder("");
    let output = squilla(folder.path(), &["serve", "--listen", "0.0.0.0:0"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("--insecure"), "{}", stderr(&output));
}

#[test]
fn a_server_that_is_not_there_is_told_with_help() {
    let free = TcpListener::bind("127.0.0.1:0").expect("a free port").local_addr().expect("bound");
    let url = format!("http://{free}");
    for args in [&["sql", "-e", "SHOW STREAMS", "--url", &url][..], &["tail", "plays", "--url", &url]] {
        let output = squilla(Path::new("."), args);
        assert_eq!(output.status.code(), Some(1));
        assert!(stderr(&output).contains("cannot reach the server"), "{}", stderr(&output));
        assert!(stderr(&output).contains("squilla serve"), "{}", stderr(&output));
    }
}
