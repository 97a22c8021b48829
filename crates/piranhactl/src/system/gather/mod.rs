//! Finds out what the judges want to know: reads /proc and /sys, runs the programs that list
//! firewall rules, asks the kernel and the wire. Changes nothing, and waits for nothing for long.

mod arp;
mod firewall;
mod host;
mod run;

use super::facts::{Facts, Module, Pulse, Route};
use super::judge::{directors, moving, needed_modules};
use lvs_config::Config;
use lvs_net::{Netlink, interface_of};
use std::collections::BTreeSet;
use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

/// All that can be found out.
pub(crate) fn gather(config: &Config, file: &Path, pulse: Option<Pulse>) -> Facts {
    let mut facts = Facts {
        pulse,
        sysctl_d: Path::new("/etc/sysctl.d").is_dir(),
        file: host::file(file),
        rivals: host::rivals(),
        routes: fs::read_to_string("/proc/net/route")
            .map_or_else(|_| Vec::new(), |text| routes(&text)),
        ..Facts::default()
    };
    if let Err(error) = network(&mut facts) {
        facts.unknown.push(format!("interfaces and addresses could not be read: {error}"));
    }
    sysctls(config, &mut facts);
    for (name, _) in needed_modules(config) {
        match module(&name) {
            Ok(module) => {
                facts.modules.insert(name, module);
            }
            Err(why) => {
                facts.unknown.push(format!("whether there is a kernel module {name}: {why}"));
            }
        }
    }
    for named in super::judge::named_programs(config) {
        let state = host::program(&named.program);
        facts.programs.insert(named.program, state);
    }
    if nix::unistd::geteuid().is_root() {
        facts.firewall = firewall::read();
        arp::ask(config, &mut facts);
    } else {
        facts.unknown.push(
            "only root can read the firewall's rules and ask who answers for the addresses: run this \
             as root"
                .to_owned(),
        );
    }
    facts
}

fn network(facts: &mut Facts) -> Result<(), lvs_net::Error> {
    let mut netlink = Netlink::open()?;
    facts.links = netlink.links()?;
    facts.addresses = netlink.addresses()?;
    Ok(())
}

/// The table of /proc/net/route (`fib_seq_ops` of net/ipv4/fib_trie.c): the main one's routes, their
/// addresses as hexadecimal numbers in this machine's byte order.
fn routes(text: &str) -> Vec<Route> {
    let address = |word: &str| {
        u32::from_str_radix(word, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()))
    };
    let route = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
        let via = address(words.get(2)?)?;
        Some(Route {
            interface: (*words.first()?).to_owned(),
            network: address(words.get(1)?)?,
            // RTF_GATEWAY of linux/route.h.
            via: (flags & 2 != 0).then_some(via),
            metric: words.get(6)?.parse().ok()?,
            prefix: lvs_net::prefix_of(address(words.get(7)?)?)?,
        })
    };
    text.lines().skip(1).filter_map(route).collect()
}

fn sysctls(config: &Config, facts: &mut Facts) {
    let mut names = vec!["net/ipv4/ip_forward".to_owned(), "net/ipv4/vs/conntrack".to_owned()];
    let labels = moving(config);
    let mut interfaces: BTreeSet<&str> =
        labels.iter().map(|moving| interface_of(moving.label)).collect();
    interfaces.extend(facts.routes.iter().map(|route| route.interface.as_str()));
    interfaces.extend(facts.addresses.iter().map(|address| interface_of(&address.label)));
    interfaces.insert("all");
    for interface in interfaces {
        for name in [
            "forwarding",
            "promote_secondaries",
            "rp_filter",
            "send_redirects",
            "arp_ignore",
            "arp_announce",
        ] {
            names.push(format!("net/ipv4/conf/{interface}/{name}"));
        }
    }
    for name in names {
        let text = fs::read_to_string(Path::new("/proc/sys").join(&name));
        if let Some(value) = text.ok().and_then(|text| text.trim().parse().ok()) {
            facts.sysctls.insert(name, value);
        }
    }
}

/// Whether a module can be used.
fn module(name: &str) -> Result<Module, String> {
    let loaded = fs::read_to_string("/proc/modules").unwrap_or_default();
    let is_loaded = loaded.lines().any(|line| line.split(' ').next() == Some(name));
    if is_loaded || (name == "ip_vs" && Path::new("/proc/net/ip_vs").exists()) {
        return Ok(Module::Usable);
    }
    let output = run::run("modprobe", &["--dry-run", "--verbose", name])?;
    let locked = fs::read_to_string("/proc/sys/kernel/modules_disabled");
    Ok(judge_module(&output, locked.is_ok_and(|text| text.trim() == "1")))
}

/// `modprobe --dry-run --verbose` says what it would do: `insmod FILE`, `install COMMAND`, nothing
/// where the module is built in; it fails where there is none.
fn judge_module(output: &run::Output, locked: bool) -> Module {
    if !output.success {
        return Module::Missing;
    }
    let kept = |line: &&str| {
        let line = line.trim();
        line.starts_with("install ") && (line.ends_with("/false") || line.ends_with("/true"))
    };
    match output.stdout.lines().find(kept) {
        Some(line) => Module::Blocked(line.trim().to_owned()),
        None if locked && output.stdout.contains("insmod ") => Module::Locked,
        None => Module::Usable,
    }
}

/// The addresses of both directors and of the real servers that may be asked for by ARP.
fn neighbours(config: &Config) -> Vec<Ipv4Addr> {
    let servers = config.active_blocks().flat_map(lvs_config::Virtual::active_servers);
    let mut all = directors(config);
    all.extend(servers.filter_map(|server| server.address));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_of_the_kernel() {
        if cfg!(target_endian = "big") {
            return;
        }
        let text = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t010010AC\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth1\t0000000A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\nrubbish\n";
        let found = routes(text);
        assert_eq!(found.len(), 2);
        assert_eq!(found[0].via, Some(Ipv4Addr::new(172, 16, 0, 1)));
        assert_eq!((found[0].metric, found[0].prefix), (100, 0));
        assert_eq!((found[1].network, found[1].prefix), (Ipv4Addr::new(10, 0, 0, 0), 24));
        assert_eq!((found[1].via, found[1].interface.as_str()), (None, "eth1"));
    }

    #[test]
    fn what_modprobe_would_do() {
        let output = |success, stdout: &str| run::Output {
            success,
            stdout: stdout.to_owned(),
            stderr: String::new(),
        };
        let insmod = "insmod /lib/modules/6.1/kernel/net/netfilter/ipvs/ip_vs.ko \n";
        for (success, stdout, locked, want) in [
            (true, insmod, false, Module::Usable),
            (true, insmod, true, Module::Locked),
            (true, "", true, Module::Usable),
            (true, "builtin ip_vs\n", true, Module::Usable),
            (false, "", false, Module::Missing),
            (
                true,
                "install /bin/false \n",
                false,
                Module::Blocked("install /bin/false".to_owned()),
            ),
            (true, "install /bin/true\n", false, Module::Blocked("install /bin/true".to_owned())),
            (true, "install /sbin/modprobe -i x\n", false, Module::Usable),
        ] {
            assert_eq!(judge_module(&output(success, stdout), locked), want, "{stdout}");
        }
    }
}
