//! One file a connector.

pub(crate) mod file;
pub(crate) mod flights;
pub(crate) mod generator;
pub(crate) mod host;
pub(crate) mod http;
mod plays;
mod text_file;

use squilla_engine::EngineError;

use crate::ConnectorHelp;

/// The names of all connectors.
pub(crate) const CONNECTORS: [&str; 5] = ["file", "flights", "generator", "host", "http"];

/// A source's failure.
pub(crate) fn failed(name: &str, message: impl Into<String>, retryable: bool) -> EngineError {
    EngineError::Source { name: name.to_owned(), message: message.into(), retryable }
}

/// Options that all connectors take.
const COMMON: [(&str, &str); 5] = [
    ("connector", "what the source reads from: connector = 'http'"),
    ("retention", "how far back the stream's log reaches: '15m' unless said, on disk '7d'"),
    ("retention_size", "how large the stream's log gets: '64MiB' unless said, on disk '8GiB'"),
    ("idle_timeout", "how long a silent partition holds back the others: '10s' unless said"),
    (
        "durability",
        "'memory' (unless said), 'buffered' (on disk within 200 ms) or 'durable' (on disk before it is told)",
    ),
];

/// Options of named streams, which [`COMMON`] explains.
pub(crate) fn stream_options() -> Vec<(&'static str, &'static str)> {
    let of_a_log = |name: &str| ["durability", "retention", "retention_size"].contains(&name);
    COMMON.into_iter().filter(|(name, _)| of_a_log(name)).collect()
}

/// See [`crate::connectors`].
pub(crate) fn help() -> Vec<ConnectorHelp> {
    let all = [
        ("file", file::DESCRIPTION, &file::OPTIONS[..]),
        ("flights", flights::DESCRIPTION, &flights::OPTIONS[..]),
        ("generator", generator::DESCRIPTION, &generator::OPTIONS[..]),
        ("host", host::DESCRIPTION, &host::OPTIONS[..]),
        ("http", http::DESCRIPTION, &http::OPTIONS[..]),
    ];
    let help = |(name, description, own): (&'static str, &'static str, &[(&'static str, &'static str)])| {
        ConnectorHelp { name, description, options: COMMON.iter().chain(own).copied().collect() }
    };
    all.into_iter().map(help).collect()
}
