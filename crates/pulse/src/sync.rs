//! The kernel's connection sync daemon: master on the active node, backup on the other.

use crate::holdings::open_table;
use crate::load::Sync;
use ipvs::{Change, ErrorKind, Role, SyncDaemon, Table};

/// What pulse has made of the sync daemon.
#[derive(Debug, Default)]
pub struct Synchronisation {
    /// What runs, or why it does not.
    state: Option<Result<(Sync, Role), String>>,
}

impl Synchronisation {
    /// Whether this node multicasts its connections.
    #[must_use]
    pub fn is_master(&self) -> bool {
        matches!(self.state, Some(Ok((_, Role::Master))))
    }

    /// For operators.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        match self.state.as_ref()? {
            Ok((sync, role)) => Some(format!("{role} on {}", sync.interface)),
            Err(error) => Some(error.clone()),
        }
    }

    /// Has it run in this role, and not in the other; without `sync` in none, if it ran before.
    pub fn set(&mut self, sync: Option<&Sync>, role: Role) {
        let wanted = sync.map(|sync| (sync.clone(), role));
        match (&self.state, &wanted) {
            (None, None) => return,
            (Some(Ok(now)), Some(wanted)) if now == wanted => return,
            _ => {}
        }
        let mut changes = vec![Change::StopDaemon(Role::Master), Change::StopDaemon(Role::Backup)];
        changes.extend(wanted.iter().map(|(sync, role)| {
            Change::StartDaemon(SyncDaemon::new(*role, &sync.interface, sync.id))
        }));
        let failure = match open_table() {
            Ok(mut table) => table.apply(&changes).into_iter().map(|f| f.error).find(|e| {
                // What is to be stopped need not run.
                e.kind() != ErrorKind::NoDaemon
            }),
            Err(error) => Some(error),
        };
        let state = match failure {
            Some(error) => wanted.map(|_| Err(error.to_string())),
            None => wanted.map(Ok),
        };
        if let Some(Err(error)) = &state
            && self.state != state
        {
            log::error!("{error}");
        }
        self.state = state;
    }
}
