//! The suite's web page: what piranha-gui serves on port 3636.
//!
//! [`server`] accepts connections and bounds them; [`gate`] lets in who may come in; the rest
//! are the pages. Everything shown comes from three places: lvs.cf (through `lvs-store` and
//! `lvs-config`), and the control sockets of pulse and lvsd.

pub mod access;
pub mod app;
pub mod auth;
pub mod edit;
pub mod forgery;
pub mod frame;
pub mod gate;
pub mod live;
pub mod options;
pub mod page;
pub mod server;
pub mod stream;
pub mod tls;
