//! What all pages know, and which page answers which path.

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};

use crate::access::AccessLog;
use crate::auth::Auth;
use crate::edit::{self, Edit};
use crate::forgery::Secret;
use crate::gate;
use crate::live::{self, Live};
use crate::options::Options;
use crate::page;

/// What all pages know.
#[derive(Debug)]
pub struct App {
    /// How the page runs.
    pub options: Options,
    /// Who may come in.
    pub auth: Auth,
    /// What forms are signed with.
    pub secret: Secret,
    /// Who asked for what.
    pub access: AccessLog,
    /// What is going on.
    pub live: Live,
    /// lvs.cf.
    pub edit: Edit,
}

impl App {
    /// Puts the page together.
    ///
    /// # Errors
    /// When the system has no random numbers.
    pub fn new(options: Options) -> Result<Self, String> {
        let secret = Secret::random()?;
        Ok(Self {
            auth: Auth::new(options.passwords.clone(), secret.clone()),
            access: AccessLog::open(&options.log),
            live: Live::new(&options.state),
            edit: Edit::new(&options),
            secret,
            options,
        })
    }
}

/// Every path.
pub fn router(app: &Arc<App>) -> Router {
    let guarded = Router::new()
        .route("/", get(page::front))
        .merge(live::router())
        .merge(edit::router())
        .fallback(any(gate::nothing))
        .layer(from_fn_with_state(Arc::clone(app), gate::guarded));
    Router::new()
        .route("/", get(page::welcome))
        .route(gate::GUARDED, any(page::front))
        .route("/static/{name}", get(page::asset))
        .nest(&format!("{}/", gate::GUARDED), guarded)
        .fallback(any(gate::nothing))
        .layer(DefaultBodyLimit::max(gate::LONGEST_FORM))
        .layer(from_fn_with_state(Arc::clone(app), gate::every))
        .with_state(Arc::clone(app))
}
