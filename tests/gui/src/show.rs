//! A page to be looked at: with a site behind it, and something to see everywhere.

use std::ffi::OsStr;

use lvsd::status::Status;

use crate::{Browser, Fake, Files, Gui, PASSWORD, Reply, USER, made};

/// Real servers of each virtual server.
const SERVERS: usize = 4;

/// A page with scripted daemons.
#[derive(Debug)]
pub struct Show {
    /// The page.
    pub gui: Gui,
    /// Its lvsd.
    pub lvsd: Fake,
    /// What that says.
    pub table: Status,
    /// Its pulse.
    pub pulse: Fake,
}

impl Show {
    /// A site with so many virtual servers.
    #[track_caller]
    #[must_use]
    pub fn new(program: impl AsRef<OsStr>, virtuals: usize) -> Self {
        let files = Files::new();
        files.write("lvs.cf", made::file(virtuals, SERVERS));
        let table = made::table(virtuals, SERVERS);
        let lvsd = Fake::on(&files.path("lvsd.sock"), Reply::status(&table));
        let pulse = Fake::on(&files.path("pulse.sock"), Reply::status(&made::pair()));
        let gui = Gui::with(files, program, &[]);
        gui.wait("/secure/control", "table", |page| page.texts("tr.vs").len() == virtuals);
        Self { gui, lvsd, table, pulse }
    }

    /// The address of a path, with the password for a browser that is to be logged in.
    #[must_use]
    pub fn log_in(&self, path: &str) -> String {
        format!("http://{USER}:{PASSWORD}@{}{path}", self.gui.address)
    }

    /// Logs in, changes something in the file (so that there are versions, and a difference to what
    /// runs), and lets servers change their state (so that there are events).
    #[track_caller]
    pub fn prepare(&self, browser: &Browser) {
        browser.open(&self.log_in("/secure/global"));
        browser.open(&self.url("/secure/virtual/1"));
        browser.choose("Scheduling", "Weighted round robin (wrr)");
        browser.press("Accept");
        browser.wait_text("Saved as serial_no");
        let mut table = self.table.clone();
        let server = &mut table.virtual_servers[0].servers[0];
        server.up = Some(false);
        (server.weight_wanted, server.weight_kernel) = (None, None);
        server.error = Some("expected \"HTTP\", received \"503 Service Unavailable\"".to_owned());
        self.lvsd.set(Reply::status(&table));
        self.gui.wait("/secure/control", "event", |page| {
            page.texts(".events").join(" ").contains("503 Service")
        });
    }

    /// The address of a path.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.gui.address)
    }

    /// Every page: names and addresses.
    #[must_use]
    pub fn pages(&self) -> Vec<(&'static str, String)> {
        made::PAGES.iter().map(|(name, path)| (*name, self.url(path))).collect()
    }
}
