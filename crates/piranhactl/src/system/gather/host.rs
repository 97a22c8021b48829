//! Programs, files, and services of this machine.

use super::run::{exists, search_path};
use crate::system::facts::{File, Program, Rival};
use nix::unistd::{AccessFlags, Group, access};
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file's owner and mode; `None` where it cannot be looked at.
pub(super) fn file(path: &Path) -> Option<File> {
    let found = fs::metadata(path).ok()?;
    let group = Group::from_name(daemon::control::GROUP).ok().flatten();
    Some(File {
        path: path.to_owned(),
        mode: found.mode() & 0o7777,
        of_root: found.uid() == 0,
        of_group: group.map(|group| group.gid.as_raw() == found.gid()),
        usual: path == Path::new(crate::CONFIG),
    })
}

/// A program, as execvp(3) finds it.
pub(super) fn program(name: &str) -> Program {
    let path = if name.contains('/') {
        // Daemons run in the root directory.
        Some(Path::new("/").join(name))
    } else {
        std::env::split_paths(&search_path()).map(|dir| dir.join(name)).find(|path| path.is_file())
    };
    let Some(path) = path else { return Program::Missing };
    let Ok(found) = fs::metadata(&path) else { return Program::Missing };
    if !found.is_file() || access(&path, AccessFlags::X_OK).is_err() {
        return Program::NotExecutable(path);
    }
    if found.mode() & 0o002 != 0 {
        return Program::Unsafe(path);
    }
    match interpreter(&path) {
        Some(name) if !name.is_file() => Program::NoInterpreter(path, name.display().to_string()),
        _ => Program::Usable(path),
    }
}

/// The interpreter that a script's first line names (execve(2)).
fn interpreter(path: &Path) -> Option<PathBuf> {
    let mut line = Vec::new();
    let file = std::io::Read::take(fs::File::open(path).ok()?, 256);
    BufReader::new(file).read_until(b'\n', &mut line).ok()?;
    let rest = line.strip_prefix(b"#!")?.trim_ascii_start();
    let name = rest.split(|byte| b" \t\n".contains(byte)).next()?;
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name)))
}

/// Services that manage virtual addresses or the IPVS table, by the names of service and process.
const RIVALS: [(&str, &str); 3] =
    [("keepalived", "keepalived"), ("ldirectord", "ldirectord"), ("surealived", "surealived")];
/// The service that fills the table with saved rules at boot; it is no process.
const IPVSADM: &str = "ipvsadm";
/// Where rules are saved: Fedora and RHEL, Debian.
const SAVED: [&str; 2] = ["/etc/sysconfig/ipvsadm", "/etc/ipvsadm.rules"];

/// Others who manage what is ours, on this machine.
pub(super) fn rivals() -> Vec<Rival> {
    let systemd = exists("systemctl");
    let processes = processes();
    let mut found = Vec::new();
    for (service, name) in RIVALS {
        let pid = processes.iter().find(|(_, process)| process == name).map(|(pid, _)| *pid);
        let at_boot = starts_at_boot(Path::new("/etc"), service);
        if pid.is_some() || at_boot {
            found.push(Rival { service: service.to_owned(), pid, at_boot, systemd });
        }
    }
    let saved = |path: &str| fs::read_to_string(path).is_ok_and(|text| has_rules(&text));
    if starts_at_boot(Path::new("/etc"), IPVSADM)
        && SAVED.iter().any(|path| saved(path))
        && debian_loads()
    {
        found.push(Rival { service: IPVSADM.to_owned(), pid: None, at_boot: true, systemd });
    }
    found
}

/// Whether saved rules are any: comments and blank lines are not.
fn has_rules(text: &str) -> bool {
    text.lines().map(str::trim).any(|line| !line.is_empty() && !line.starts_with('#'))
}

/// Debian's service loads the rules only where its defaults say so.
fn debian_loads() -> bool {
    fs::read_to_string("/etc/default/ipvsadm").map_or(true, |text| {
        text.lines().any(|line| matches!(line.trim(), "AUTO=\"true\"" | "AUTO=true"))
    })
}

/// Whether a service is switched on: a link of systemd's, or of the runlevels.
fn starts_at_boot(etc: &Path, service: &str) -> bool {
    let unit = format!("{service}.service");
    let wanted = subdirectories(&etc.join("systemd/system")).into_iter().any(|dir| {
        dir.extension().is_some_and(|end| end == "wants") && dir.join(&unit).is_symlink()
    });
    let linked = |level: u8| {
        ["rc.d/", ""].into_iter().any(|parent| {
            let dir = etc.join(format!("{parent}rc{level}.d"));
            names(&dir).iter().any(|name| {
                let start = name.strip_prefix('S').and_then(|rest| rest.get(2..));
                start == Some(service)
            })
        })
    };
    // Scripts of a service that has a unit are not run at boot by systemd.
    let has_unit = ["/lib/systemd/system", "/usr/lib/systemd/system"]
        .into_iter()
        .any(|dir| Path::new(dir).join(&unit).exists());
    wanted || (!has_unit && (2..=5).any(linked))
}

fn names(dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
}

fn subdirectories(dir: &Path) -> Vec<PathBuf> {
    names(dir).into_iter().map(|name| dir.join(name)).collect()
}

/// The processes in this network namespace: pid and name. A script goes by its own name, not by
/// its interpreter's.
fn processes() -> Vec<(u32, String)> {
    // A link with the network's number in it. Before Linux 3.8 it is none, and before 3.0 it is not
    // there: then every process counts.
    let own = fs::read_link("/proc/self/ns/net").ok();
    let here = |pid: u32| {
        let of = || fs::read_link(format!("/proc/{pid}/ns/net")).ok();
        own.is_none() || of() == own
    };
    let pids = names(Path::new("/proc")).into_iter().filter_map(|name| name.parse::<u32>().ok());
    pids.filter(|pid| here(*pid)).filter_map(|pid| Some((pid, process_name(pid)?))).collect()
}

fn process_name(pid: u32) -> Option<String> {
    let comm = daemon::process::name(pid)?;
    let interpreters = ["perl", "python", "sh", "bash"];
    if !interpreters.iter().any(|name| comm.starts_with(name)) {
        return Some(comm);
    }
    let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = line.split(|byte| *byte == 0).skip(1).filter(|word| !word.starts_with(b"-"));
    let script = String::from_utf8_lossy(words.next()?).into_owned();
    Some(script.rsplit('/').next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn dir(name: &str) -> PathBuf {
        let path =
            std::env::temp_dir().join(format!("piranhactl-host-{}-{name}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        path
    }

    #[test]
    fn programs_as_they_are() {
        let dir = dir("programs");
        let make = |name: &str, text: &str, mode| {
            let path = dir.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let good = make("good", "#!/bin/sh\n", 0o755);
        let plain = make("plain", "#!/bin/sh\n", 0o644);
        let lost = make("lost", "#! /no/such/shell -e\n", 0o755);
        let open = make("open", "#!/bin/sh\n", 0o757);
        let text = |path: &Path| path.to_str().unwrap().to_owned();
        assert_eq!(program(&text(&good)), Program::Usable(good));
        assert_eq!(program(&text(&plain)), Program::NotExecutable(plain));
        assert_eq!(
            program(&text(&lost)),
            Program::NoInterpreter(lost, "/no/such/shell".to_owned())
        );
        assert_eq!(program(&text(&open)), Program::Unsafe(open));
        assert_eq!(program(&text(&dir.join("none"))), Program::Missing);
        assert_eq!(program(&text(&dir)), Program::NotExecutable(dir.clone()));
        assert_eq!(program("no-such-program"), Program::Missing);
        assert!(matches!(program("sh"), Program::Usable(_)));
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn services_that_are_switched_on() {
        let etc = dir("etc");
        assert!(!starts_at_boot(&etc, "keepalived-x"));
        let wants = etc.join("systemd/system/multi-user.target.wants");
        fs::create_dir_all(&wants).unwrap();
        symlink("/nowhere", wants.join("keepalived-x.service")).unwrap();
        assert!(starts_at_boot(&etc, "keepalived-x"));
        assert!(!starts_at_boot(&etc, "keepalived"));
        let level = etc.join("rc.d/rc3.d");
        fs::create_dir_all(&level).unwrap();
        symlink("/nowhere", level.join("S08ipvsadm-x")).unwrap();
        symlink("/nowhere", level.join("K08other-x")).unwrap();
        assert!(starts_at_boot(&etc, "ipvsadm-x") && !starts_at_boot(&etc, "other-x"));
        fs::remove_dir_all(etc).unwrap();
    }

    #[test]
    fn saved_rules_are_more_than_comments() {
        assert!(!has_rules("# nothing\n\n"));
        assert!(has_rules("# one\n-A -t 10.0.0.1:80 -s rr\n"));
    }
}
