//! Pictures of every page: wide and narrow, light and dark, with few and with many virtual servers.
//!
//! `screenshots DIRECTORY`; scripts/screenshots is for people.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "it makes pictures or fails"
)]

use std::fs;
use std::path::Path;

use gui_lab::{Browser, Look, Show};

fn main() {
    let directory = std::env::args().nth(1).expect("a directory for the pictures");
    let directory = Path::new(&directory);
    fs::create_dir_all(directory).expect("the directory for the pictures");
    let browser = Browser::here();
    for virtuals in [2, 200] {
        let show = Show::new("piranha_gui", virtuals);
        show.prepare(&browser);
        for look in Look::all() {
            browser.look(look);
            for (name, url) in show.pages() {
                let file = format!("{name}-{virtuals}-{}.png", look.name());
                browser.open(&url);
                browser.picture(&directory.join(&file));
                let over = browser.overflow();
                assert!(over.is_empty(), "{file} sticks out: {over:#?}");
            }
        }
    }
}
