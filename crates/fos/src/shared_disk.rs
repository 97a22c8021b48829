//! The shared disk of a failover pair: `primary_shared` and `backup_shared`. The original reserved
//! it by a program that its last releases no longer came with.

use lvs_config::{Config, ServiceKind};
use std::path::Path;

/// The program that reserves a SCSI disk for one of the two nodes.
pub const PROGRAM: &str = "/usr/sbin/scsi_reserve";

/// Whether this node may run failover services. Without its reservation a shared disk would be
/// written by both nodes at once, so a node that cannot reserve it must not start. pulse asks before
/// it starts, and so does fos.
///
/// # Errors
/// What is missing and what to do about it, without a program's name in front.
pub fn check(config: &Config) -> Result<(), String> {
    check_with(config, Path::new(PROGRAM).exists())
}

fn check_with(config: &Config, installed: bool) -> Result<(), String> {
    let shared = config.primary_shared.is_some() && config.backup_shared.is_some();
    if config.service != ServiceKind::Fos || !shared || installed {
        return Ok(());
    }
    Err(format!(
        "the configuration names a shared SCSI disk (primary_shared, backup_shared), which {PROGRAM} \
         would have to reserve, and there is no such program: install it, or remove the two lines and \
         leave the disk to start_cmd and stop_cmd"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_shared_disk_of_failover_services_needs_the_program() {
        let both = "primary_shared = /dev/sda\nbackup_shared = /dev/sdb\n";
        let cases = [
            ("service = fos\n", both, false, false),
            ("service = fos\n", both, true, true),
            ("service = lvs\n", both, false, true),
            ("service = fos\n", "primary_shared = /dev/sda\n", false, true),
            ("service = fos\n", "", false, true),
        ];
        for (service, disks, installed, fine) in cases {
            let text = format!("{service}{disks}");
            let parsed = lvs_config::parse(text.as_bytes(), &lvs_config::NoResolver);
            let result = check_with(&parsed.config.unwrap(), installed);
            assert_eq!(result.is_ok(), fine, "{text}{installed}: {result:?}");
        }
    }
}
