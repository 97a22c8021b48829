//! Programs, files, and others who manage what is ours.

use super::Site;
use crate::system::facts::{File, Program, Rival};
use crate::system::finding::{Finding, Severity, quoted};
use lvs_config::{Config, ServiceKind, Virtual};

pub(super) fn judge(site: &Site<'_>, findings: &mut Vec<Finding>) {
    findings.extend(site.facts.rivals.iter().map(rival));
    programs(site, findings);
    findings.extend(site.facts.file.as_ref().and_then(file));
    for why in &site.facts.unknown {
        findings.push(Finding::note("not-looked-at", why.clone()));
    }
}

fn rival(rival: &Rival) -> Finding {
    let Rival { service, pid, at_boot, systemd } = rival;
    let (severity, how) = match (pid, at_boot) {
        (Some(pid), _) => (Severity::Error, format!("runs (pid {pid})")),
        (None, _) => (Severity::Warning, "is started at boot".to_owned()),
    };
    let text = format!(
        "{service} {how}: it manages virtual addresses or the IPVS table as well as pulse does"
    );
    let finding = Finding::new(severity, "rival", text);
    match (systemd, pid, at_boot) {
        (true, Some(_), _) => finding.now(format!("systemctl disable --now {service}")),
        (true, None, _) => finding.now(format!("systemctl disable {service}")),
        (false, Some(_), false) => finding.now(format!("service {service} stop")),
        (false, None, _) => finding.now(format!("chkconfig {service} off")),
        (false, Some(_), true) => {
            finding.now(format!("service {service} stop")).now(format!("chkconfig {service} off"))
        }
    }
}

/// A program that the configuration names.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::system) struct Named {
    /// Its first word.
    pub(in crate::system) program: String,
    /// The key that names it, with the block's name.
    pub(in crate::system) key: String,
    /// Without it something does not work at all.
    needed: bool,
}

/// The programs that a configuration names.
pub(in crate::system) fn named(config: &Config) -> Vec<Named> {
    let mut found: Vec<Named> = Vec::new();
    let mut add = |text: Option<&str>, key: String, needed| {
        let Some(program) =
            text.and_then(|text| text.split([' ', '\t']).find(|word| !word.is_empty()))
        else {
            return;
        };
        if found.iter().all(|known| known.program != program) {
            found.push(Named { program: program.to_owned(), key, needed });
        }
    };
    let is_lvs = config.service == ServiceKind::Lvs;
    for block in config.active_blocks() {
        let key = |key: &str| format!("{}: {key}", block.name);
        let check = block.send_program.as_deref().map(String::from_utf8_lossy);
        add(check.as_deref(), key("send_program"), true);
        if is_lvs {
            add(block.client_monitor.as_deref(), key("client_monitor"), true);
            add(load_monitor(config, block), key("load_monitor"), false);
        } else {
            add(block.start_cmd.as_deref(), key("start_cmd"), true);
            add(block.stop_cmd.as_deref(), key("stop_cmd"), true);
        }
    }
    add(config.active_cmd.as_deref(), "active_cmd".to_owned(), false);
    add(config.inactive_cmd.as_deref(), "inactive_cmd".to_owned(), false);
    if config.ipvsadm != Config::IPVSADM {
        add(Some(&config.ipvsadm), "ipvsadm".to_owned(), true);
    }
    found
}

/// What is run to learn a server's load.
fn load_monitor<'a>(config: &'a Config, block: &'a Virtual) -> Option<&'a str> {
    match block.load_monitor.as_deref() {
        None | Some("none") => None,
        Some("uptime") => Some(&config.rsh_command),
        command => command,
    }
}

fn programs(site: &Site<'_>, findings: &mut Vec<Finding>) {
    for Named { program, key, needed } in named(site.config) {
        let severity = if needed { Severity::Error } else { Severity::Warning };
        let Some(state) = site.facts.programs.get(&program) else { continue };
        let finding = match state {
            Program::Usable(_) => continue,
            Program::Missing => Finding::new(
                severity,
                "no-program",
                format!("{key}: there is no program {program}"),
            )
            .hint("install it, or change lvs.cf"),
            Program::NotExecutable(path) => {
                let text = format!("{key}: {} is not executable", path.display());
                let command = format!("chmod 755 {}", quoted(path));
                Finding::new(severity, "not-executable", text).now(command)
            }
            Program::NoInterpreter(path, interpreter) => Finding::new(
                severity,
                "no-program",
                format!("{key}: {} needs {interpreter}, which is not there", path.display()),
            )
            .hint("install it, or change the first line of the script"),
            Program::Unsafe(path) => {
                let text =
                    format!("{key}: everybody may change {}, which root runs", path.display());
                Finding::error("unsafe-program", text).now(format!("chmod o-w {}", quoted(path)))
            }
        };
        findings.push(finding);
    }
}

fn file(file: &File) -> Option<Finding> {
    let (path, word) = (file.path.display(), quoted(&file.path));
    if file.mode & 0o002 != 0 {
        let text = format!("everybody may change {path}, which names programs that root runs");
        return Some(Finding::error("file-permissions", text).now(format!("chmod o-w {word}")));
    }
    if !file.usual {
        return None;
    }
    let group = file.of_group.unwrap_or(true);
    let shared = file.of_group.is_none() || file.mode & 0o060 == 0o060;
    (!file.of_root || !group || !shared).then(|| {
        let owner = if file.of_group.is_some() { "root:piranha" } else { "root:root" };
        let text = format!(
            "{path} should belong to {owner} and have mode 0664: root and the web page edit it"
        );
        let finding = Finding::warning("file-permissions", text);
        finding.now(format!("chown {owner} {word}")).now(format!("chmod 664 {word}"))
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NAT, config, found, good, with};
    use super::*;
    use crate::system::facts::Facts;
    use std::path::PathBuf;

    #[test]
    fn others_who_manage_the_same() {
        let rival = |pid, at_boot, systemd| {
            let mut facts = good();
            let service = "keepalived".to_owned();
            facts.rivals.push(Rival { service, pid, at_boot, systemd });
            found(NAT, &facts)
        };
        let stop = "service keepalived stop".to_owned();
        let off = "chkconfig keepalived off".to_owned();
        let disable = "systemctl disable --now keepalived".to_owned();
        assert_eq!(rival(Some(7), true, true), [("rival", vec![disable])]);
        let at_boot = "systemctl disable keepalived".to_owned();
        assert_eq!(rival(None, true, true), [("rival", vec![at_boot])]);
        assert_eq!(rival(Some(7), true, false), [("rival", vec![stop.clone(), off.clone()])]);
        assert_eq!(rival(Some(7), false, false), [("rival", vec![stop])]);
        assert_eq!(rival(None, true, false), [("rival", vec![off])]);
    }

    #[test]
    fn programs_of_the_configuration() {
        let text = NAT
            .replace("network", "active_cmd = \"/bin/told you\"\nipvsadm = /sbin/ipvsadm\nnetwork")
            .replace(
                "    vip_nmask",
                "    send_program = \"/etc/check.sh %h\"\n    load_monitor = uptime\n    vip_nmask",
            );
        let names: Vec<String> = named(&config(&text)).into_iter().map(|n| n.program).collect();
        assert_eq!(names, ["/etc/check.sh", "rsh", "/bin/told"]);
        let path = || PathBuf::from("/etc/check.sh");
        let none: [&str; 0] = [];
        for (name, state, want) in [
            ("/etc/check.sh", Program::Usable(path()), &none[..]),
            ("/etc/check.sh", Program::Missing, &["no-program"]),
            ("/etc/check.sh", Program::NotExecutable(path()), &["not-executable"]),
            (
                "/etc/check.sh",
                Program::NoInterpreter(path(), "/bin/bash".to_owned()),
                &["no-program"],
            ),
            ("/etc/check.sh", Program::Unsafe(path()), &["unsafe-program"]),
            ("rsh", Program::Missing, &["no-program"]),
            ("unasked", Program::Missing, &[]),
        ] {
            let got = with(&text, |facts: &mut Facts| {
                facts.programs.insert(name.to_owned(), state.clone());
            });
            assert_eq!(got, want, "{name} {state:?}");
        }
        let fos = "service = fos\nprimary = 10.0.0.11\nfailover f {\nactive = 1\naddress = 10.0.0.9 eth1:1\n\
            start_cmd = \"/etc/init.d/x start\"\nstop_cmd = \"/etc/init.d/x stop\"\nclient_monitor = /x\n}\n";
        let names: Vec<String> = named(&config(fos)).into_iter().map(|n| n.program).collect();
        assert_eq!(names, ["/etc/init.d/x"]);
    }

    #[test]
    fn the_files_owner_and_mode() {
        let judge = |mode, of_root, of_group, usual| {
            let path = PathBuf::from("/etc/sysconfig/ha/lvs.cf");
            with(NAT, |facts| {
                facts.file = Some(File { path, mode, of_root, of_group, usual });
            })
            .len()
        };
        for (mode, of_root, of_group, usual, want) in [
            (0o664, true, Some(true), true, 0),
            (0o644, true, None, true, 0),
            (0o644, true, Some(true), true, 1),
            (0o664, true, Some(false), true, 1),
            (0o664, false, Some(true), true, 1),
            (0o644, false, Some(false), false, 0),
            (0o666, true, Some(true), true, 1),
            (0o666, false, None, false, 1),
        ] {
            assert_eq!(
                judge(mode, of_root, of_group, usual),
                want,
                "{mode:o} {of_root} {of_group:?} {usual}"
            );
        }
    }
}
