//! What applying a file does to the IPVS table, as commands.

use ipvs::{Change, VirtualService, plan};
use lvs_config::Config;
use lvsd::site::{Block, Site, site};

/// One change of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does: `remove server 10.0.0.3:80 from TCP 10.0.0.1:80`.
    pub text: String,
    /// The command that would do it.
    pub command: String,
}

/// What becomes of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effect {
    /// In their order, as if all servers were up.
    pub steps: Vec<Step>,
    /// Parts of the new file that lvsd cannot act on.
    pub problems: Vec<String>,
}

/// What lvsd does when it goes from one file to another; from `None` it starts.
#[must_use]
pub fn effect(old: Option<&Config>, new: &Config) -> Effect {
    let (wanted, problems) = site(new);
    let current = old.map(|old| site(old).0);
    let mut changes = Vec::new();
    let timeouts_before = current.as_ref().map(|site| site.timeouts).unwrap_or_default();
    if wanted.timeouts != timeouts_before {
        changes.push(Change::SetTimeouts(wanted.timeouts));
    }
    let table = |site: &Site| site.blocks.iter().map(entry).collect::<Vec<_>>();
    changes.extend(plan(&current.as_ref().map(table).unwrap_or_default(), &table(&wanted)));
    let steps = changes.iter().map(|change| Step {
        text: change.to_string(),
        command: format!("{} {}", wanted.ipvsadm_path, change.ipvsadm_args().join(" ")),
    });
    Effect { steps: steps.collect(), problems: problems.iter().map(ToString::to_string).collect() }
}

/// A block as it stands in the table while all its servers are up.
fn entry(block: &Block) -> VirtualService {
    let destinations =
        block.members.iter().map(|member| block.destination(member, member.weight)).collect();
    VirtualService { service: block.service, destinations }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "virtual web {
active = 1
address = 192.0.2.10 eth0:1
server a {
address = 10.0.0.11
active = 1
}
server b {
address = 10.0.0.12
active = 1
}
}
";

    fn commands(old: Option<&str>, new: &str) -> Vec<String> {
        let config = |text: &str| {
            lvs_config::parse(text.as_bytes(), &lvs_config::NoResolver).config.unwrap()
        };
        let old = old.map(config);
        let effect = effect(old.as_ref(), &config(new));
        effect.steps.into_iter().map(|step| step.command).collect()
    }

    #[test]
    fn from_file_to_file() {
        assert_eq!(
            commands(None, TEXT),
            [
                "/sbin/ipvsadm -A -t 192.0.2.10:80 -s wlc",
                "/sbin/ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.11:80 -m -w 1",
                "/sbin/ipvsadm -a -t 192.0.2.10:80 -r 10.0.0.12:80 -m -w 1",
            ]
        );
        assert_eq!(commands(Some(TEXT), TEXT), [""; 0]);
        let less = TEXT.replace("10.0.0.12\nactive = 1", "10.0.0.12\nactive = 0");
        assert_eq!(
            commands(Some(TEXT), &less),
            ["/sbin/ipvsadm -d -t 192.0.2.10:80 -r 10.0.0.12:80"]
        );
        let timeouts = format!("udp_timeout = 9\n{TEXT}");
        assert_eq!(commands(Some(TEXT), &timeouts), ["/sbin/ipvsadm --set 0 0 9"]);
        assert_eq!(
            commands(Some(TEXT), "primary = 10.0.0.1\n"),
            ["/sbin/ipvsadm -D -t 192.0.2.10:80"]
        );
    }

    #[test]
    fn what_cannot_be_acted_on_is_said() {
        let text = TEXT.replace("10.0.0.12", "10.0.0.11");
        let config = lvs_config::parse(text.as_bytes(), &lvs_config::NoResolver).config.unwrap();
        let problems = effect(None, &config).problems;
        assert_eq!(problems.len(), 1);
        assert!(problems[0].contains("in the block already"), "{problems:?}");
    }
}
