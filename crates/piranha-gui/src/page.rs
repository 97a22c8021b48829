//! What all pages share: the welcome, messages, static files, and the way a template becomes an answer.

use askama::Template;
use axum::extract::Path;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Redirect, Response};

/// A template as an answer.
pub fn render(template: &impl Template) -> Response {
    match template.render() {
        Ok(text) => Html(text).into_response(),
        Err(error) => {
            log::error!("page: {error}");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

/// Something that went otherwise than asked for.
#[derive(Debug)]
pub struct Problem {
    /// The answer's status.
    pub status: StatusCode,
    /// In a few words.
    pub title: &'static str,
    /// What happened, and what to do.
    pub text: String,
}

#[derive(Template)]
#[template(path = "problem.html")]
struct ProblemPage<'a> {
    title: &'a str,
    text: &'a str,
}

/// A page about a problem.
#[must_use]
pub fn problem(problem: &Problem) -> Response {
    let page = ProblemPage { title: problem.title, text: &problem.text };
    let mut answer = render(&page);
    *answer.status_mut() = problem.status;
    answer
}

#[derive(Template)]
#[template(path = "welcome.html")]
struct Welcome<'a> {
    host: &'a str,
}

/// `/`: who this is, and the way in.
pub async fn welcome() -> Response {
    render(&Welcome { host: &host_name() })
}

/// `/secure` and `/secure/`.
pub async fn front() -> Redirect {
    Redirect::to("/secure/control")
}

/// This machine's name.
#[must_use]
pub fn host_name() -> String {
    nix::unistd::gethostname()
        .map_or_else(|_| "this director".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// A file that is part of the program.
struct Asset {
    name: &'static str,
    kind: &'static str,
    bytes: &'static [u8],
}

const ASSETS: [Asset; 2] = [
    Asset {
        name: "style.css",
        kind: "text/css; charset=utf-8",
        bytes: include_bytes!("../static/style.css"),
    },
    Asset {
        name: "live.js",
        kind: "text/javascript; charset=utf-8",
        bytes: include_bytes!("../static/live.js"),
    },
];

/// `/static/…`: the name only chooses among what is built in.
pub async fn asset(Path(name): Path<String>) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        return crate::gate::nothing().await;
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(asset.kind)),
        // Pages ask for it with the version in the address.
        (header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=31536000, immutable")),
    ];
    (headers, asset.bytes).into_response()
}
