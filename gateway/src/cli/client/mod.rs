//! What the commands that talk to a server have in common: where it is, its statements and its errors.

mod live;
mod prompt;
mod push;
mod sql;
mod step;
mod tail;
mod wire;

use std::time::Duration;

use reqwest::{RequestBuilder, Response, StatusCode, Url};
use squilla_query::{ParamValue, Params};

pub(super) use push::push;
pub(super) use sql::sql;
pub(super) use tail::tail;

use super::args::ServerArgs;
use super::failure::{Failure, chain};
use wire::{ErrorBody, StatementResult, StatementResults, WireError};

/// How long connecting to the server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The runtime of a client: it waits for one server.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::new(format!("cannot start: {error}")))
}

/// A server.
struct Server {
    base: Url,
    http: reqwest::Client,
}

impl Server {
    /// The server that the arguments name. Nothing is sent yet.
    fn new(args: &ServerArgs) -> Result<Self, Failure> {
        let base = parse_url(&args.url)?;
        let mut http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).tcp_nodelay(true);
        if base.host_str().is_some_and(is_loopback) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| Failure::because(&error))?;
        Ok(Self { base, http })
    }

    /// An address below `/api/v1/`, its parts escaped where they must be.
    fn url(&self, parts: &[&str]) -> Url {
        let mut url = self.base.clone();
        url.path_segments_mut().expect("an http URL has a path").pop_if_empty().extend(["api", "v1"]).extend(parts);
        url
    }

    /// Where the WebSocket is.
    fn socket_url(&self) -> String {
        let mut url = self.url(&["ws"]);
        url.set_scheme("ws").expect("http can become ws");
        url.into()
    }

    /// Sends a request; an error when the server cannot be reached.
    async fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        request.send().await.map_err(|error| self.unreachable(&chain(&error.without_url())))
    }

    /// Why the server does not answer, and what to do.
    fn unreachable(&self, reason: &str) -> Failure {
        Failure::new(format!("cannot reach the server at {}: {reason}", self.base))
            .help("start one with 'squilla' (the demo) or 'squilla serve', or name another with --url")
    }

    /// Carries out one statement.
    async fn statement(&self, sql: &str, params: &Params) -> Result<Result<Vec<StatementResult>, WireError>, Failure> {
        let body = serde_json::json!({ "sql": sql, "params": json_of(params) });
        let request = self.http.post(self.url(&["statements"])).json(&body);
        let response = self.send(request).await?;
        let status = response.status();
        let body = response.bytes().await.map_err(|error| Failure::because(&error))?;
        if !status.is_success() {
            return Ok(Err(error_of(status, &body)));
        }
        let answer: Result<StatementResults, _> = serde_json::from_slice(&body);
        Ok(Ok(answer.map_err(|error| self.strange(&error.to_string()))?.results))
    }

    /// The server says what this client does not understand.
    fn strange(&self, what: &str) -> Failure {
        Failure::new(format!("the server at {} gave an answer that cannot be read: {what}", self.base))
            .help("is it squilla, of the same version?")
    }
}

/// Values of parameters as a request has them.
fn json_of(params: &Params) -> serde_json::Value {
    use serde_json::Value;
    let value = |value: &ParamValue| match value {
        ParamValue::Null => Value::Null,
        ParamValue::Boolean(value) => Value::Bool(*value),
        ParamValue::Number(number) => serde_json::from_str(number).unwrap_or_else(|_| Value::String(number.clone())),
        ParamValue::Text(text) => Value::String(text.clone()),
    };
    params.iter().map(|(name, own)| (name.clone(), value(own))).collect::<serde_json::Map<_, _>>().into()
}

/// The error that a response holds, or one made of its status.
fn error_of(status: StatusCode, body: &[u8]) -> WireError {
    serde_json::from_slice::<ErrorBody>(body).map(|body| body.error).unwrap_or_else(|_| {
        let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
        WireError::of_status(status.as_u16(), text.trim())
    })
}

fn parse_url(text: &str) -> Result<Url, Failure> {
    let wrong = |why: &str| Failure::new(format!("\"{text}\" is no server URL: {why}"));
    let help = "write http://HOST:PORT, as the server prints it";
    let url = Url::parse(text).map_err(|error| wrong(&error.to_string()).help(help))?;
    match url.scheme() {
        "http" if url.host_str().is_some() => Ok(url),
        "https" => Err(wrong("https is not supported yet")
            .help("use a tunnel, for instance ssh -L 7878:127.0.0.1:7878 HOST, and http://127.0.0.1:7878")),
        _ => Err(wrong("the scheme is not http").help(help)),
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    host == "localhost" || ip.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<Server, Failure> {
        Server::new(&ServerArgs { url: url.to_owned() })
    }

    #[test]
    fn addresses_are_below_the_base() {
        for base in ["http://127.0.0.1:7878", "http://127.0.0.1:7878/"] {
            let server = server(base).expect("a URL");
            assert_eq!(
                server.url(&["streams", "a/b", "events"]).as_str(),
                "http://127.0.0.1:7878/api/v1/streams/a%2Fb/events"
            );
            assert_eq!(server.socket_url(), "ws://127.0.0.1:7878/api/v1/ws");
        }
        assert_eq!(server("http://h/squilla").expect("a URL").socket_url(), "ws://h/squilla/api/v1/ws");
    }

    #[test]
    fn other_addresses_are_refused_with_help() {
        for (url, help) in
            [("https://h", "tunnel"), ("127.0.0.1:7878", "http://HOST"), ("ws://h", "http://HOST"), ("", "http")]
        {
            let error = server(url).err().expect(url).to_string();
            assert!(error.contains(help), "{error}");
        }
    }
}
