//! How programs change lvs.cf.
//!
//! A program reads the file ([`Store::read`]), lets somebody change it, and saves it
//! ([`Store::save`]) with the [`Identity`] of what it has read: if the file is another one by
//! then, nothing is written, and the program gets the new content to show. What is written is
//! there as a whole or not at all, belongs to whom the old file belonged to, and has a higher
//! serial_no. Previous versions are kept, and can be compared and restored.
//!
//! Whether a text is a configuration that pulse takes is for the caller to check, with
//! `lvs_config::parse`: a file with a mistake in it must be possible to save, by those who mend
//! it step by step with an editor.

mod compare;
mod error;
mod history;
mod lock;
mod serial;
mod snapshot;
mod store;

pub use compare::unified;
pub use error::{Changed, Error};
pub use history::{History, Version};
pub use snapshot::{BadIdentity, Identity, Snapshot};
pub use store::{Saved, Store};

/// Where the daemons look for it.
pub const PATH: &str = "/etc/sysconfig/ha/lvs.cf";

/// Where previous versions are kept: not beside lvs.cf, because sites mirror its directory to
/// the partner with rsync --delete.
pub const HISTORY: &str = "/var/lib/piranha/history";
