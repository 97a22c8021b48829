//! What a user does about the running daemons: servers up and down, handover, applying the file.

use std::sync::Arc;
use std::time::Duration;

use askama::Template;
use axum::Extension;
use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use health::state::Force;

use super::ask;
use crate::app::App;
use crate::frame::{Frame, Note, Tab};
use crate::gate::{Fields, User};
use crate::page::render;

/// How long a page waits for what it asked for to be seen.
const SEEN: Duration = Duration::from_secs(2);

/// Where every action leads back to.
async fn back(app: &App, outcome: Result<String, String>) -> Response {
    let note = match outcome {
        Ok(text) => Note::good(text),
        Err(text) => Note::bad(text),
    };
    let note = app.edit.notes.keep(vec![note]);
    // The page that follows should show what has become of it.
    let before = app.live.snapshot().at;
    app.live.refresh();
    let seen = async {
        while app.live.snapshot().at == before {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let _ = tokio::time::timeout(SEEN, seen).await;
    Redirect::to(&format!("/secure/control?note={note}")).into_response()
}

fn force(word: &str) -> Option<(Force, &'static str)> {
    match word {
        "up" => Some((Force::Up, "keeps up")),
        "down" => Some((Force::Down, "takes down")),
        "drain" => Some((Force::Drain, "drains")),
        "auto" => Some((Force::Auto, "gives back to its checks")),
        _ => None,
    }
}

/// POST `/secure/server`: `order` is `WORD BLOCK/SERVER`, the word one of up, down, drain, auto. One field,
/// so that a table of ten thousand servers needs no form for each.
pub async fn server(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
    Extension(fields): Extension<Fields>,
) -> Response {
    let order = fields.get("order").and_then(|order| order.split_once(' '));
    let order = order.and_then(|(word, server)| Some((force(word)?, server.to_owned())));
    let outcome = match order {
        None => Err("which server, and up, down, drain or auto?".to_owned()),
        Some(((to, verb), server)) => {
            let request = lvsd::status::Request::Force { server: server.clone(), to };
            let outcome = lvsd(&app, request).await;
            if outcome.is_ok() {
                app.live.events.act(&user, format!("{verb} {server}"));
            }
            outcome
        }
    };
    back(&app, outcome).await
}

async fn lvsd(app: &Arc<App>, request: lvsd::status::Request) -> Result<String, String> {
    let app = Arc::clone(app);
    let asked = tokio::task::spawn_blocking(move || ask(&app.options.lvsd, &request, "lvsd"));
    match asked.await.map_err(|error| error.to_string())?? {
        lvsd::status::Answer::Ok(text) => Ok(text),
        lvsd::status::Answer::Error(text) => Err(text),
    }
}

async fn pulse(app: &Arc<App>, request: pulse::status::Request) -> Result<String, String> {
    let app = Arc::clone(app);
    let asked = tokio::task::spawn_blocking(move || ask(&app.options.pulse, &request, "pulse"));
    match asked.await.map_err(|error| error.to_string())?? {
        pulse::status::Answer::Ok(text) => Ok(text),
        pulse::status::Answer::Error(text) => Err(text),
    }
}

#[derive(Template)]
#[template(path = "handover.html")]
struct Confirm {
    frame: Frame,
}

/// GET `/secure/handover`: is it meant?
pub async fn confirm_handover(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
) -> Response {
    render(&Confirm { frame: Frame::of(&app, &user, Tab::Control, "Hand over").await })
}

/// POST `/secure/handover`.
pub async fn handover(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
) -> Response {
    let outcome = pulse(&app, pulse::status::Request::Handover).await;
    let text = match &outcome {
        Ok(text) => format!("handed over to the partner: {text}"),
        Err(text) => format!("wanted to hand over: {text}"),
    };
    app.live.events.act(&user, text);
    back(&app, outcome).await
}

/// POST `/secure/apply`: pulse rereads the file, and lets lvsd reread it; where there is no pulse, lvsd.
pub async fn apply(
    State(app): State<Arc<App>>,
    Extension(User(user)): Extension<User>,
) -> Response {
    let outcome = if app.live.snapshot().pulse.is_ok() {
        pulse(&app, pulse::status::Request::Reload).await
    } else {
        lvsd(&app, lvsd::status::Request::Reload).await
    };
    if outcome.is_ok() {
        app.live.events.act(&user, "applied the configuration");
    }
    back(&app, outcome).await
}
