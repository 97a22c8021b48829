//! What every request passes before a page sees it: the password, the form's token, limits, and what
//! every answer says about itself.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes};
use axum::extract::{FromRequest, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Form};
use hyper::body::{Body as _, Frame};
use jiff::Timestamp;

use crate::access::Entry;
use crate::app::App;
use crate::auth::{REALM, Verdict};
use crate::forgery::{FIELD, is_same_site};
use crate::page::{Problem, problem};

/// The longest form, in bytes. The longest there is, a file to be compared, is far below.
pub const LONGEST_FORM: usize = 256 * 1024;
/// Below this path everything needs the password.
pub const GUARDED: &str = "/secure";

const ALWAYS: [(HeaderName, HeaderValue); 4] = [
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; \
             img-src 'self' data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        ),
    ),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("same-origin")),
    (header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY")),
];

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Who has logged in.
#[derive(Clone, Debug)]
pub struct User(pub String);

/// The fields of a form whose token was right, in the order in which they came.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub Vec<(String, String)>);

impl Fields {
    /// The first value of a field.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Around everything: the time limit, the access log, the headers of every answer.
pub async fn every(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let at = Timestamp::now();
    let (method, uri) = (request.method().clone(), request.uri().clone());
    let mut response =
        match tokio::time::timeout(app.options.limits.request, next.run(request)).await {
            Ok(response) => response,
            Err(_) => problem(&Problem {
                status: StatusCode::SERVICE_UNAVAILABLE,
                title: "Too slow",
                text: "The answer took too long. Try again.".to_owned(),
            }),
        };
    for (name, value) in ALWAYS {
        response.headers_mut().entry(name).or_insert(value);
    }
    let length = response.body().size_hint().exact();
    let entry = Entry {
        from: peer.0.ip(),
        user: response.extensions().get::<User>().map(|user| user.0.clone()),
        at,
        method: method.to_string(),
        target: uri.path_and_query().map_or_else(String::new, ToString::to_string),
        status: response.status().as_u16(),
        bytes: length.unwrap_or(0),
    };
    if length.is_some() {
        app.access.write(&entry);
        return response;
    }
    response.map(|body| Body::new(Counted { body, entry, app }))
}

/// A body of which nobody knows the length before it has been sent: the access log tells it then,
/// also of one that was broken off.
struct Counted {
    body: Body,
    entry: Entry,
    app: Arc<App>,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            let length = frame.data_ref().map_or(0, Bytes::len) as u64;
            self.entry.bytes = self.entry.bytes.saturating_add(length);
        }
        polled
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.app.access.write(&self.entry);
    }
}

/// Around everything below [`GUARDED`].
pub async fn guarded(
    State(app): State<Arc<App>>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
    next: Next,
) -> Response {
    let given = request.headers().get(header::AUTHORIZATION).cloned();
    let user = match admit(&app, given.as_ref(), peer.0.ip()).await {
        Ok(user) => user,
        Err(response) => return *response,
    };
    request.extensions_mut().insert(User(user.clone()));
    let answer = match *request.method() {
        Method::GET | Method::HEAD => next.run(request).await,
        Method::POST => match posted(&app, &user, request).await {
            Ok(request) => next.run(request).await,
            Err(response) => *response,
        },
        _ => {
            let mut answer = problem(&Problem {
                status: StatusCode::METHOD_NOT_ALLOWED,
                title: "Not this way",
                text: "These pages know GET, HEAD and POST.".to_owned(),
            });
            let known = HeaderValue::from_static("GET, HEAD, POST");
            answer.headers_mut().insert(header::ALLOW, known);
            answer
        }
    };
    private(answer, user)
}

fn private(mut answer: Response, user: String) -> Response {
    let headers = answer.headers_mut();
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    answer.extensions_mut().insert(User(user));
    answer
}

/// Who makes this request, by its password.
async fn admit(
    app: &App,
    given: Option<&HeaderValue>,
    from: IpAddr,
) -> Result<String, Box<Response>> {
    match app.auth.check(given.map(HeaderValue::as_bytes), from).await {
        Verdict::Welcome(user) => Ok(user),
        Verdict::Refused => {
            if given.is_some() {
                log::warn!("wrong password for the web page from {}", from.to_canonical());
            }
            let mut answer = problem(&Problem {
                status: StatusCode::UNAUTHORIZED,
                title: "Password needed",
                text: "Log in as piranha. The password is set by piranha-passwd.".to_owned(),
            });
            let realm = format!("Basic realm=\"{REALM}\", charset=\"UTF-8\"");
            if let Ok(realm) = HeaderValue::from_str(&realm) {
                answer.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
            }
            Err(Box::new(answer))
        }
        Verdict::Wait(time) => {
            let seconds = time.as_secs().saturating_add(1);
            let mut answer = problem(&Problem {
                status: StatusCode::TOO_MANY_REQUESTS,
                title: "Too many wrong passwords",
                text: format!("They came from this address. Try again in {seconds} s."),
            });
            answer.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            Err(Box::new(answer))
        }
        Verdict::Unusable(why) => {
            log::error!("nobody can log in: {why}");
            Err(Box::new(problem(&Problem {
                status: StatusCode::FORBIDDEN,
                title: "No password is set",
                text: format!("Nobody can log in: {why}."),
            })))
        }
    }
}

/// Reads a form and makes sure that it is one of ours.
async fn posted(app: &App, user: &str, request: Request) -> Result<Request, Box<Response>> {
    let refuse = |title, text: &str| {
        let text = text.to_owned();
        Box::new(problem(&Problem { status: StatusCode::FORBIDDEN, title, text }))
    };
    if !is_same_site(request.headers()) {
        return Err(refuse("Refused", "The request comes from another site. Nothing was changed."));
    }
    // What is announced to be too long is not waited for.
    if request.body().size_hint().lower() > LONGEST_FORM as u64 {
        return Err(Box::new(problem(&Problem {
            status: StatusCode::PAYLOAD_TOO_LARGE,
            title: "Too long",
            text: format!("A form may have {} KiB. Nothing was changed.", LONGEST_FORM / 1024),
        })));
    }
    let (mut parts, body) = request.into_parts();
    let request = Request::from_parts(parts.clone(), body);
    let fields = match Form::<Vec<(String, String)>>::from_request(request, &()).await {
        Ok(Form(fields)) => Fields(fields),
        Err(rejection) => {
            return Err(Box::new(problem(&Problem {
                status: rejection.status(),
                title: "Not understood",
                text: rejection.body_text(),
            })));
        }
    };
    if !fields.get(FIELD).is_some_and(|token| app.secret.accepts(user, token)) {
        return Err(refuse(
            "The form is out of date",
            "It was made before this page's program was restarted, or elsewhere. Nothing was \
             changed. Go back, reload the page, and enter it again.",
        ));
    }
    parts.extensions.insert(fields);
    Ok(Request::from_parts(parts, Body::empty()))
}

/// What is not there, below and outside of what is guarded.
pub async fn nothing() -> Response {
    problem(&Problem {
        status: StatusCode::NOT_FOUND,
        title: "Not here",
        text: "There is no such page.".to_owned(),
    })
    .into_response()
}
