//! Reading lvs.cf for fos.

use crate::shared_disk;
use crate::site::{self, Problem, Site};
use lvs_config::{Config, Diagnostic, ServiceKind, Severity, SystemResolver};
use nix::ifaddrs::getifaddrs;
use std::net::Ipv4Addr;
use std::path::Path;

/// fos's name on a terminal.
pub const NAME: &str = "fos";

/// Reads a file. Resolves the host names in it, which may take as long as the resolver does.
///
/// # Errors
/// The text to show: the original's line first, then what is wrong and where.
pub fn load(file: &Path) -> Result<(Site, Vec<Problem>), String> {
    let name = file.display().to_string();
    let bytes = std::fs::read(file)
        .map_err(|e| format!("{}: {e}", lvs_config::open_failure(NAME, &name)))?;
    let parsed = lvs_config::parse(&bytes, &SystemResolver);
    let config = parsed.config.map_err(|error| {
        let errors: Vec<Diagnostic> =
            parsed.diagnostics.into_iter().filter(|d| d.severity == Severity::Error).collect();
        let first = lvs_config::first_line(NAME, &name, &error);
        format!("{first}\n{}", lvs_config::render(&errors, &name, &bytes))
    })?;
    if config.service != ServiceKind::Fos {
        return Err(format!("{NAME}: Service type is not \"fos\" in {name}"));
    }
    shared_disk::check(&config).map_err(|why| format!("{NAME}: {why}"))?;
    let (site, problems) = site::site(&config, partner(&config, &own_addresses()));
    if site.services.is_empty() {
        let problems = problems.iter().map(|p| format!("\n{NAME}: {p}")).collect::<String>();
        return Err(format!("{NAME}: No Failover Services defined in {name}.{problems}"));
    }
    Ok((site, problems))
}

/// The other node: this one is the primary if it bears the primary's address.
fn partner(config: &Config, own: &[Ipv4Addr]) -> Option<Ipv4Addr> {
    let primary = config.primary.as_ref().map(|host| host.addr);
    match primary {
        Some(primary) if !own.contains(&primary) => Some(primary),
        _ => config.backup_addr(),
    }
}

/// The addresses of this node's interfaces.
fn own_addresses() -> Vec<Ipv4Addr> {
    let interfaces = getifaddrs().into_iter().flatten();
    interfaces.filter_map(|i| Some(i.address?.as_sockaddr_in()?.ip())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_partner_is_the_other_one() {
        let (first, second, third) =
            (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 3));
        let both = "primary = 10.0.0.1\nbackup = 10.0.0.2\n";
        let cases = [
            (both, first, Some(second)),
            (both, second, Some(first)),
            (both, third, Some(first)),
            ("primary = 10.0.0.1\nbackup = 0.0.0.0\n", first, None),
            ("primary = 10.0.0.1\n", first, None),
            ("backup = 10.0.0.2\n", third, Some(second)),
        ];
        for (text, own, want) in cases {
            let parsed = lvs_config::parse(text.as_bytes(), &lvs_config::NoResolver);
            let found = partner(&parsed.config.unwrap(), &[Ipv4Addr::LOCALHOST, own]);
            assert_eq!(found, want, "{text}on {own}");
        }
    }

    #[test]
    fn this_machine_has_addresses() {
        assert!(own_addresses().contains(&Ipv4Addr::LOCALHOST));
    }
}
