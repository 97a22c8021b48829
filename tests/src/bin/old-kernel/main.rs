//! Runs a program as if the kernel were Linux 2.6.32.
//!
//! ```text
//! old-kernel PROGRAM [ARGUMENT...]
//! old-kernel --list | --probe
//! ```
//!
//! It installs seccomp filters (seccomp(2)) that refuse what came later, as far as a filter sees it, and
//! becomes the program; all that the program starts inherits them, and nobody can take them off again.
//! Refused are every system call added since ([`CALLS`]: `ENOSYS`), and what older calls have learned
//! since: socket options, address families, flags ([`REFUSALS`]). And uname(2) says `2.6.…` (personality(2),
//! `UNAME26`), because some ask it: OpenSSL reads /dev/urandom only where no `getrandom` can be.
//!
//! `--list` prints what is refused, with its errno. `--probe` tries some of it and prints a line each, `NAME ERRNO`, or `NAME works`: under the filters,
//! `old-kernel old-kernel --probe`, it shows that they are in force.
//!
//! What it does not show: what is behind a pointer (flags in a struct, paths, netlink messages), files of
//! /proc and /sys that came later, and whatever the old kernel did differently in what it had. And the
//! programs run with the C library of this machine; see [`table`].

mod probe;
mod table;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use nix::errno::Errno;
use nix::sys::personality::{self, Persona};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompFilter, SeccompRule, TargetArch,
};

use table::{CALLS, PRCTL, REFUSALS, Refusal};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next() {
        None => {
            eprintln!("usage: old-kernel PROGRAM [ARGUMENT...] | old-kernel --list | --probe");
            ExitCode::from(2)
        }
        Some(first) if first == "--list" => {
            println!("ENOSYS: system calls after {}", CALLS.end());
            for Refusal { what, errno, .. } in REFUSALS.iter().chain([&PRCTL]) {
                println!("{errno:?}: {what}");
            }
            ExitCode::SUCCESS
        }
        Some(first) if first == "--probe" => {
            probe::run();
            ExitCode::SUCCESS
        }
        Some(program) => {
            eprintln!("old-kernel: {}", become_program(&program, arguments));
            ExitCode::from(126)
        }
    }
}

/// Returns only when it cannot be.
fn become_program(program: &OsString, arguments: impl Iterator<Item = OsString>) -> String {
    let programs = match filters() {
        Ok(programs) => programs,
        Err(error) => return format!("no filter: {error}"),
    };
    let persona = personality::get().unwrap_or(Persona::empty());
    if let Err(error) = personality::set(persona | Persona::UNAME26) {
        return format!("no personality: {error}");
    }
    // Under the filters already: that they forbid more of them does not matter.
    let needed = if probe::is_old() { &[][..] } else { &programs };
    for program in needed {
        if let Err(error) = seccompiler::apply_filter(program) {
            return format!("this kernel takes no filter (CONFIG_SECCOMP_FILTER): {error}");
        }
    }
    let error = Command::new(program).args(arguments).exec();
    format!("{}: {error}", program.display())
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// A filter has one answer; so there is one for each errno, and one for the system calls. That one is
/// the last, because seccomp(2), which installs them, is younger than 2.6.32 itself.
fn filters() -> Result<Vec<BpfProgram>, BackendError> {
    let mut by_errno: BTreeMap<i32, Rules> = BTreeMap::new();
    for refusal in REFUSALS {
        let rules = by_errno.entry(refusal.errno as i32).or_default();
        for call in refusal.calls {
            rules.entry(*call).or_default().extend(refusal.rules()?);
        }
    }
    let refuse = |errno: i32| SeccompAction::Errno(errno.unsigned_abs());
    let mut programs = Vec::new();
    for (errno, rules) in by_errno {
        programs.push(compile(rules, SeccompAction::Allow, refuse(errno))?);
    }
    let mut known: Rules = CALLS.map(|call| (call, Vec::new())).collect();
    known.insert(libc::SYS_prctl, PRCTL.rules()?);
    programs.push(compile(known, refuse(Errno::ENOSYS as i32), SeccompAction::Allow)?);
    Ok(programs)
}

fn compile(
    rules: Rules,
    others: SeccompAction,
    these: SeccompAction,
) -> Result<BpfProgram, BackendError> {
    SeccompFilter::new(rules, others, these, TargetArch::x86_64)?.try_into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel takes 4096 instructions a filter.
    #[test]
    fn the_filters_can_be_made() {
        for program in filters().unwrap() {
            assert!((2..4096).contains(&program.len()), "{}", program.len());
        }
    }
}
