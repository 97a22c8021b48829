//! Another password for the page, as piranha-passwd sets it.

use std::sync::Arc;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64ct::{Base64, Encoding};

use super::blocking;
use crate::app::App;
use crate::auth::Verdict;
use crate::frame::{Frame, Note, Tab};
use crate::gate::{Fields, Peer, User};
use crate::page::render;

#[derive(Template)]
#[template(path = "password.html")]
struct Page {
    frame: Frame,
    inputs: Vec<Input>,
    is_done: bool,
}

struct Input {
    name: &'static str,
    label: &'static str,
    /// What browsers and password managers make of it (HTML, autocomplete).
    autocomplete: &'static str,
    error: String,
}

fn inputs(errors: Errors) -> Vec<Input> {
    let input = |name, label, autocomplete, error| Input { name, label, autocomplete, error };
    vec![
        input("current", "Password now", "current-password", errors.current),
        input("new", "New Password", "new-password", errors.new),
        input("again", "Verify", "new-password", errors.again),
    ]
}

/// What is wrong, at each of the fields; empty where nothing is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Errors {
    current: String,
    new: String,
    again: String,
}

fn page(app: &App, user: &str, errors: Errors, notes: Vec<Note>, status: StatusCode) -> Response {
    let frame = Frame { notes, ..Frame::read(app, user, Tab::None, "Change password") };
    let mut response = render(&Page { frame, inputs: inputs(errors), is_done: false });
    *response.status_mut() = status;
    response
}

/// GET `/secure/password`.
pub(super) async fn show(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
) -> Response {
    blocking(app, move |app| page(app, &user, Errors::default(), Vec::new(), StatusCode::OK)).await
}

/// POST `/secure/password`. The present password is asked for, since the browser of somebody who has
/// left sends it by itself.
pub(super) async fn change(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    Extension(peer): Extension<Peer>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let mut errors = wrong(&fields);
    let current = fields.get("current").unwrap_or_default();
    if errors == Errors::default() {
        let credentials =
            format!("Basic {}", Base64::encode_string(format!("{user}:{current}").as_bytes()));
        errors.current = match app.auth.check(Some(credentials.as_bytes()), peer.0.ip()).await {
            Verdict::Welcome(_) => String::new(),
            Verdict::Refused => "this is not the password".to_owned(),
            Verdict::Wait(time) => {
                format!("too many wrong ones: try again in {} s", time.as_secs() + 1)
            }
            Verdict::Unusable(why) => why,
        };
    }
    blocking(app, move |app| {
        if errors != Errors::default() {
            return page(app, &user, errors, Vec::new(), StatusCode::UNPROCESSABLE_ENTITY);
        }
        set(app, &user, fields.get("new").unwrap_or_default())
    })
    .await
}

/// What can be told without the password file.
fn wrong(fields: &Fields) -> Errors {
    let given = |name| fields.get(name).unwrap_or_default();
    let mut errors = Errors::default();
    if given("current").is_empty() {
        "the password that you have logged in with".clone_into(&mut errors.current);
    }
    if let Err(error) = piranha_passwd::check(given("new").as_bytes()) {
        errors.new = error.to_string();
    } else if given("new") != given("again") {
        "the passwords do not match".clone_into(&mut errors.again);
    }
    errors
}

fn set(app: &App, user: &str, password: &str) -> Response {
    match piranha_passwd::set_password(&app.options.passwords, user, password.as_bytes()) {
        Ok(()) => {
            log::info!("the password of {user} was changed from the web page");
            app.live.events.act(user, "changed the password");
            let frame = Frame::read(app, user, Tab::None, "Change password");
            let note =
                Note::good("The password is changed. The browser asks for it on the next page.");
            let frame = Frame { notes: vec![note], pending: None, ..frame };
            render(&Page { frame, inputs: Vec::new(), is_done: true })
        }
        Err(error) => {
            let note = Note::bad(format!("The password is as it was: {error}."));
            page(app, user, Errors::default(), vec![note], StatusCode::SERVICE_UNAVAILABLE)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_said_where_it_is() {
        let errors = |current: &str, new: &str, again: &str| {
            let pairs = [("current", current), ("new", new), ("again", again)];
            let pairs = pairs.map(|(name, value)| (name.to_owned(), value.to_owned()));
            wrong(&Fields(pairs.into()))
        };
        assert_eq!(errors("old", "new", "new"), Errors::default());
        assert!(errors("", "new", "new").current.contains("logged in"));
        assert!(errors("old", "", "").new.contains("empty"));
        assert!(errors("old", &"x".repeat(73), "").new.contains("72"));
        assert_eq!(errors("old", "new", "other").again, "the passwords do not match");
    }
}
