//! One plain status page; uses only the public API.
//!
//! Four files served from memory. They load nothing from elsewhere, and the script writes data as
//! text only, so that no name out of a fleet file or a certificate can become markup.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

/// The page's routes.
pub(crate) fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route(
            "/",
            get(async || file("text/html; charset=utf-8", include_str!("page/index.html"))),
        )
        .route(
            "/page.js",
            get(async || file("text/javascript; charset=utf-8", include_str!("page/page.js"))),
        )
        .route(
            "/page.css",
            get(async || file("text/css; charset=utf-8", include_str!("page/page.css"))),
        )
        .route(
            "/icon.svg",
            get(async || file("image/svg+xml", include_str!("page/icon.svg"))),
        )
}

fn file(kind: &'static str, text: &'static str) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, kind)], text)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_script_writes_text_only_and_asks_nobody_else() {
        let script = include_str!("page/page.js");
        for forbidden in [
            "innerHTML",
            "outerHTML",
            "insertAdjacentHTML",
            "document.write",
            "eval(",
            "http:",
            "https:",
        ] {
            assert!(!script.contains(forbidden), "{forbidden}");
        }
        let page = include_str!("page/index.html");
        for forbidden in ["http:", "https:", "<style", "style=", "onclick", "//"] {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
