//! Arguments and help of all commands.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use squilla_query::{ParamValue, Params, StatementText};

use super::duration;
use super::failure::Failure;

/// Where the server listens, and where clients look for it.
pub(crate) const DEFAULT_LISTEN: &str = "127.0.0.1:7878";
const DEFAULT_URL: &str = "http://127.0.0.1:7878";

const EXAMPLES: &str = "\
Examples:
  squilla                                       the demo, in the browser at http://127.0.0.1:7878
  squilla run daily.sql > rows.ndjson           a script over files; ends when they end
  squilla sql                                   a prompt on the running server
  squilla sql -e 'SELECT * FROM plays' --limit 5
  squilla tail flights
  squilla push clicks clicks.ndjson

'squilla COMMAND --help' has more.";

const DEMO_EXAMPLES: &str = "\
The demo streams are host_cpu, host_memory, host_network, host_disk and host_process (this machine,
live), flights (a replay of January 2013), plays (synthetic) and clicks (empty until someone
publishes to it). Nothing is written to disk, and all is gone when it stops.

Examples:
  squilla demo
  squilla demo --listen 127.0.0.1:7979          on another port
  squilla sql -e \"SELECT title, count(*) FROM plays GROUP BY title, tumble('5s')\"";

const SERVE_EXAMPLES: &str = "\
What was created (sources, streams, views, sinks) is kept in the data folder and is there again
after a restart. SIGTERM or Ctrl-C ends the server cleanly: clients are told, and come back with
their position.

A configuration file is TOML, with the flags as keys; flags given on the command line win:
  listen = \"127.0.0.1:7878\"
  data-dir = \"/var/lib/squilla\"
  root = [\"/var/log\", \"/srv/events\"]
  host = [\"squilla.example.net\"]
  insecure = false

Examples:
  squilla serve
  squilla serve --data-dir /var/lib/squilla --root /var/log
  squilla serve --config squilla.toml";

const RUN_EXAMPLES: &str = "\
A script holds statements, each ended by a semicolon. Its SELECT (there can be one) writes rows to
standard output; CREATE SINK ... AS and INSERT INTO write files. Files end, and so does the script:
every window is closed first. Unbounded sources (host, flights, a generator without rows) run until
Ctrl-C; the exit code is then 130. Exit code 1 means a mistake or a failure, told on standard error
with its place.

${NAME} in the script is replaced by --set NAME=VALUE, as text; $${NAME} stands for ${NAME} itself. $NAME in a
statement is a parameter: --param NAME=VALUE gives its value, which can only be a value.

Examples:
  squilla run hourly.sql
  squilla run hourly.sql --format csv --set INPUT=bids.ndjson > hourly.csv
  squilla run big.sql --format null --stats     how fast is it?
  squilla run - < hourly.sql";

const SQL_EXAMPLES: &str = "\
A live query prints rows until it is stopped: by Ctrl-C, its LIMIT, --limit or --for. Rows that were missed,
came late or were dropped are told on standard error.

Examples:
  squilla sql                                   a prompt; \\? there lists its commands
  squilla sql -e 'SHOW STREAMS'
  squilla sql -e \"SELECT * FROM plays WHERE outcome <> 'ok'\" --limit 10 --format ndjson
  squilla sql -e \"SELECT carrier, count(*) FROM flights GROUP BY carrier, tumble('1h')\" --for 30s
  squilla sql < statements.sql";

const TAIL_EXAMPLES: &str = "\
Examples:
  squilla tail flights
  squilla tail plays --from -5m --limit 100     start five minutes ago
  squilla tail clicks --from earliest --format ndjson > clicks.ndjson";

const PUSH_EXAMPLES: &str = "\
The stream must be a source with connector = 'http'. Every line is one JSON object. Lines that do
not fit the columns are told with their number and the reason; the others are taken, and the exit
code is then 1.

Examples:
  squilla sql -e \"CREATE SOURCE clicks (page TEXT, at TIMESTAMP) WITH (connector = 'http')\"
  squilla push clicks clicks.ndjson
  echo '{\"page\": \"/home\", \"at\": \"2026-01-01T00:00:00Z\"}' | squilla push clicks";

/// Continuous SQL over live streams.
///
/// Without a command it serves the demo: real live streams, a console in the browser, nothing left behind.
#[derive(Debug, Parser)]
#[command(name = "squilla", version, after_help = EXAMPLES, max_term_width = 100)]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Serve with the demo streams and print the URL (what plain 'squilla' does)
    #[command(after_help = DEMO_EXAMPLES)]
    Demo(DemoArgs),
    /// Serve, keeping what is created in a data folder
    #[command(after_help = SERVE_EXAMPLES)]
    Serve(ServeArgs),
    /// Run a script in this process, to its end
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Type SQL against a server
    #[command(after_help = SQL_EXAMPLES)]
    Sql(SqlArgs),
    /// Follow a stream
    #[command(after_help = TAIL_EXAMPLES)]
    Tail(TailArgs),
    /// Publish NDJSON to a stream
    #[command(after_help = PUSH_EXAMPLES)]
    Push(PushArgs),
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Address and port to listen on
    #[arg(long, value_name = "ADDR", default_value = DEFAULT_LISTEN)]
    pub(crate) listen: SocketAddr,
    /// Allow an address that other machines can reach, though there is no authentication yet
    #[arg(long)]
    pub(crate) insecure: bool,
}

impl Default for DemoArgs {
    fn default() -> Self {
        Self { listen: default_listen(), insecure: false }
    }
}

/// [`DEFAULT_LISTEN`] as an address.
pub(crate) fn default_listen() -> SocketAddr {
    DEFAULT_LISTEN.parse().expect("the default is an address")
}

#[derive(Debug, Default, clap::Args)]
pub(crate) struct ServeArgs {
    /// A TOML file with these flags as keys
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Address and port to listen on [default: 127.0.0.1:7878]
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Folder of the catalog [default: squilla-data, in the current folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Folder whose files sources may read and sinks write; may be given several times [default: the current folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) root: Vec<PathBuf>,
    /// Name by which browsers may call the server, beside localhost and addresses; may be given several times
    #[arg(long, value_name = "NAME")]
    pub(crate) host: Vec<String>,
    /// Allow an address that other machines can reach, though there is no authentication yet
    #[arg(long)]
    pub(crate) insecure: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct RunArgs {
    /// The script; '-' reads standard input
    pub(crate) script: PathBuf,
    /// How to write rows [default: ndjson; for SHOW, DESCRIBE and EXPLAIN: table]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// Replace ${NAME} in the script; may be given several times
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) set: Vec<(String, String)>,
    #[command(flatten)]
    pub(crate) params: ParamArgs,
    /// Print one line of JSON to standard error at the end: events_in, rows_out, late, dropped, wall_s, cpu_s,
    /// peak_memory_bytes
    #[arg(long)]
    pub(crate) stats: bool,
    /// Threads that compute [default: one a core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct SqlArgs {
    /// Carry out these statements instead of prompting
    #[arg(short, long, value_name = "SQL")]
    pub(crate) execute: Option<String>,
    #[command(flatten)]
    pub(crate) params: ParamArgs,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct TailArgs {
    /// A source or a named stream
    pub(crate) stream: String,
    /// Where to start: latest, earliest, an RFC 3339 time, a position, or a while ago: -5m [default: latest]
    #[arg(long, value_name = "WHERE", allow_hyphen_values = true)]
    pub(crate) from: Option<String>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) rows: RowsArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct PushArgs {
    /// A source with connector = 'http'
    pub(crate) stream: String,
    /// NDJSON; standard input when left out or '-'
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) server: ServerArgs,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The server
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    pub(crate) url: String,
}

/// Values of parameters.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ParamArgs {
    /// Value of a parameter, $NAME in a statement: a number when it reads as one, else a text; may be given several
    /// times
    #[arg(long = "param", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub(crate) param: Vec<(String, String)>,
}

impl ParamArgs {
    /// The values of those parameters that a statement has.
    pub(crate) fn of(&self, sql: &str) -> Params {
        let own = squilla_query::parameters(sql);
        let wanted = self.param.iter().filter(|(name, _)| own.contains(name));
        wanted.map(|(name, value)| (name.clone(), ParamValue::typed(value))).collect()
    }

    /// A value that no statement has a use for.
    pub(crate) fn unused(&self, statements: &[StatementText]) -> Option<Failure> {
        let has = |name: &String| statements.iter().any(|it| squilla_query::parameters(&it.sql).contains(name));
        let (name, _) = self.param.iter().find(|(name, _)| !has(name))?;
        Some(Failure::new(format!("a value is given for ${name}, which no statement has")).help("check its name"))
    }
}

/// How a client shows rows, and when it has enough.
#[derive(Debug, clap::Args)]
pub(crate) struct RowsArgs {
    /// How to write rows [default: table on a terminal, else ndjson]
    #[arg(long)]
    pub(crate) format: Option<Format>,
    /// Stop a live query after so many rows
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
    /// Stop a live query after so long: 10s, 5m
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) duration: Option<Duration>,
    /// Of a start in the past: rows come one by one, at Enter; a number brings so many, c the rest, q ends
    #[arg(long)]
    pub(crate) step: bool,
}

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// One JSON object a line
    Ndjson,
    /// Comma-separated, with a header
    Csv,
    /// Aligned columns, for people
    Table,
    /// Nothing: rows are counted only
    Null,
}

fn parse_setting(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("\"{text}\" has no '=': write NAME=VALUE"))?;
    let first = name.chars().next();
    if !first.is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    {
        return Err(format!("\"{name}\" is no name: letters, digits and _, a letter first"));
    }
    Ok((name.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn settings_are_name_and_value() {
        assert_eq!(parse_setting("A_1=x=y"), Ok(("A_1".to_owned(), "x=y".to_owned())));
        for wrong in ["A", "=x", "1A=x", "a b=x"] {
            assert!(parse_setting(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_start_a_while_ago_is_no_flag() {
        let args = Args::parse_from(["squilla", "tail", "plays", "--from", "-5m"]);
        let Some(Command::Tail(tail)) = args.command else { panic!("tail was said") };
        assert_eq!(tail.from.as_deref(), Some("-5m"));
    }
}
