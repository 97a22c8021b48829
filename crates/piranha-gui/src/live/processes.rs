//! The suite's processes on this machine, from proc(5).

use std::fs;

/// What they are called there.
const NAMES: [&str; 5] = ["pulse", "pulse-guard", "lvsd", "nanny", "fos"];
/// The most that are shown.
const MOST: usize = 50;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its name.
    pub name: String,
    /// Its pid.
    pub pid: u32,
    /// What it holds of the memory, in KiB.
    pub resident_kib: u64,
    /// Its command line.
    pub command: String,
}

/// Those that run, by pid, and how many more there are.
#[must_use]
pub fn running() -> (Vec<Process>, usize) {
    let Ok(entries) = fs::read_dir("/proc") else { return (Vec::new(), 0) };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let mut found: Vec<(u32, String)> = pids
        .filter_map(|pid: u32| {
            let name = daemon::process::name(pid)?;
            NAMES.contains(&name.as_str()).then_some((pid, name))
        })
        .collect();
    found.sort_unstable();
    let more = found.len().saturating_sub(MOST);
    found.truncate(MOST);
    (found.into_iter().map(|(pid, name)| process(pid, name)).collect(), more)
}

fn process(pid: u32, name: String) -> Process {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = command
        .split(|&byte| byte == 0)
        .filter(|word| !word.is_empty())
        .map(String::from_utf8_lossy)
        .collect();
    Process { name, pid, resident_kib: resident(&status).unwrap_or(0), command: words.join(" ") }
}

fn resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_from_the_status() {
        assert_eq!(resident("Name:\tlvsd\nVmRSS:\t    1234 kB\n"), Some(1234));
        assert_eq!(resident("Name:\tkthread\n"), None);
    }

    #[test]
    fn this_process_can_be_described() {
        let own = process(std::process::id(), "x".to_owned());
        assert!(own.resident_kib > 0 && !own.command.is_empty(), "{own:?}");
    }
}
