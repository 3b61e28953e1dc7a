//! Who may ask. A page of another site must neither read nor change anything here, by whatever name it reaches us.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{
    CONTENT_SECURITY_POLICY, HOST, ORIGIN, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::App;
use super::error::ApiError;

/// For everything but the console, which brings its own: answers of the API load nothing and are framed nowhere.
const POLICY: HeaderValue = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");

/// The names by which this server may be called.
#[derive(Debug)]
pub(crate) struct Hosts {
    names: Vec<String>,
}

impl Hosts {
    /// `localhost`, addresses, and these names.
    pub(crate) fn new(names: Vec<String>) -> Self {
        Self { names: names.into_iter().map(|name| name.to_ascii_lowercase()).collect() }
    }

    /// Whether a `Host` header is ours. An address always is: only a name can be made to point here by others.
    fn allows(&self, host: &str) -> bool {
        let name = without_port(host).to_ascii_lowercase();
        let address = name.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok()
            || name == "localhost"
            || name.ends_with(".localhost")
            || self.names.contains(&name)
    }
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

/// Whether a request comes from a page of this server, or from no page at all.
pub(crate) fn same_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(ORIGIN) else {
        // Browsers leave `Origin` out of simple requests, but say where they come from.
        let site = headers.get("sec-fetch-site").and_then(|site| site.to_str().ok());
        return !matches!(site, Some("cross-site" | "same-site"));
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) => origin.eq_ignore_ascii_case(host),
        _ => false,
    }
}

/// Refuses foreign hosts, and requests of foreign pages that change something or start work.
pub(crate) async fn check(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if !host.is_some_and(|host| app.hosts.allows(host)) {
        return ApiError::new(StatusCode::MISDIRECTED_REQUEST, "host", "this server does not go by that name")
            .help("call it by its address, by localhost, or by a name given as --host")
            .into_response();
    }
    let harmless = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let path = request.uri().path();
    // The socket tells a foreign page by a close code, which pages can see.
    let is_socket = path == super::rest::SOCKET_PATH;
    let starts_work = path.starts_with("/api/");
    if !is_socket && (!harmless || starts_work) && !same_origin(request.headers()) {
        return ApiError::new(StatusCode::FORBIDDEN, "origin", "pages of other sites may not use this server")
            .into_response();
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.entry(CONTENT_SECURITY_POLICY).or_insert(POLICY);
    headers.entry(X_CONTENT_TYPE_OPTIONS).or_insert(HeaderValue::from_static("nosniff"));
    headers.entry(X_FRAME_OPTIONS).or_insert(HeaderValue::from_static("DENY"));
    headers.entry(REFERRER_POLICY).or_insert(HeaderValue::from_static("no-referrer"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_ours_are_hosts() {
        let hosts = Hosts::new(vec!["Squilla.example".into()]);
        for host in
            ["localhost", "localhost:7878", "127.0.0.1:1", "[::1]:7878", "[::1]", "10.1.2.3", "squilla.example:80"]
        {
            assert!(hosts.allows(host), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example", "", ":7878", "evil.example:7878"]
        {
            assert!(!hosts.allows(host), "{host}");
        }
    }

    #[test]
    fn only_pages_of_ours_are_of_the_same_origin() {
        let with = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            same_origin(&headers)
        };
        let host = ("host", "127.0.0.1:7878");
        assert!(with(&[host]));
        assert!(with(&[host, ("origin", "http://127.0.0.1:7878")]));
        assert!(with(&[host, ("sec-fetch-site", "same-origin")]));
        assert!(with(&[host, ("sec-fetch-site", "none")]));
        assert!(!with(&[host, ("origin", "http://127.0.0.1:9999")]));
        assert!(!with(&[host, ("origin", "http://evil.example")]));
        assert!(!with(&[host, ("origin", "null")]));
        assert!(!with(&[host, ("sec-fetch-site", "cross-site")]));
    }
}
