//! The console's files, which the binary carries.

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tower_http::compression::CompressionLayer;

/// A file of the console.
#[derive(Debug)]
struct Asset {
    /// Path below the root, without a leading slash.
    name: &'static str,
    content_type: &'static str,
    /// Weak, since the body may be compressed on its way.
    etag: &'static str,
    bytes: &'static [u8],
}

/// Written by `build.rs`.
const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/console_assets.rs"));

/// Names in this folder carry a hash of what they hold.
const HASHED: &str = "assets/";

/// No script but the console's own runs. Styles may be inline: the editor makes its own.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A route for each file; `index.html` is at the root.
pub(crate) fn router() -> Router {
    let mut router = Router::new();
    for asset in ASSETS {
        let path = if asset.name == "index.html" { "/".to_owned() } else { format!("/{}", asset.name) };
        router = router.route(&path, get(move |headers: HeaderMap| async move { answer(asset, &headers) }));
    }
    router.layer(CompressionLayer::new())
}

fn answer(asset: &'static Asset, request: &HeaderMap) -> Response {
    let cache = if asset.name.starts_with(HASHED) { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers: [(HeaderName, &'static str); 6] = [
        (CONTENT_TYPE, asset.content_type),
        (ETAG, asset.etag),
        (CACHE_CONTROL, cache),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
    ];
    let known = request.get(IF_NONE_MATCH).and_then(|tags| tags.to_str().ok());
    if known.is_some_and(|tags| tags.split(',').any(|tag| tag.trim() == asset.etag)) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, asset.bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> &'static Asset {
        ASSETS.iter().find(|asset| asset.name == "index.html").expect("the console has a page")
    }

    #[test]
    fn every_reference_of_the_page_is_carried() {
        let page = std::str::from_utf8(index().bytes).expect("the page is UTF-8");
        let attributes = page.split("src=\"").skip(1).chain(page.split("href=\"").skip(1));
        let references: Vec<&str> = attributes.filter_map(|rest| rest.split('"').next()).collect();
        assert!(!references.is_empty());
        for reference in references {
            let name = reference.trim_start_matches('/');
            assert!(ASSETS.iter().any(|asset| asset.name == name), "{name} is not carried");
        }
    }

    #[test]
    fn the_page_allows_no_inline_script_and_is_revalidated() {
        let response = answer(index(), &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[CACHE_CONTROL], "no-cache");
        assert_eq!(response.headers()[CONTENT_TYPE], "text/html; charset=utf-8");
        let page = std::str::from_utf8(index().bytes).expect("the page is UTF-8");
        for script in page.split("<script").skip(1) {
            assert!(script.split('>').next().is_some_and(|tag| tag.contains("src=")), "inline script: {script}");
        }
        assert!(POLICY.starts_with("default-src 'self';") && !POLICY.contains("script-src"));
    }

    #[test]
    fn a_known_etag_is_answered_without_a_body() {
        let mut request = HeaderMap::new();
        let tags = format!("\"other\", {}", index().etag);
        request.insert(IF_NONE_MATCH, tags.parse().expect("an etag is a header value"));
        assert_eq!(answer(index(), &request).status(), StatusCode::NOT_MODIFIED);
    }
}
