//! Monitoring: is a real server up, and with what weight.
//!
//! [`recipe`] says what a check does, [`engine`] runs thousands of them on one epoll instance,
//! [`state`] turns verdicts into up, down and weight without clock or I/O, and [`pool`] joins the
//! three for a set of servers. [`wire`] is how a director and its pooled monitor talk. [`trial`] runs
//! one check once, for somebody who looks.

pub mod engine;
mod exchange;
pub mod failure;
mod limits;
pub mod load;
pub mod pool;
mod program;
pub mod recipe;
mod recipes;
pub mod regex;
mod script;
pub mod state;
pub mod trial;
pub mod wire;
