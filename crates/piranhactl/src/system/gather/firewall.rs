//! The firewall's rules, by the programs that list them.

use super::run::{exists, run};
use crate::system::facts::{Firewall, Maker};
use crate::system::firewall::{Chain, Ruleset, Tool, parse_iptables, parse_nft};
use std::fs;
use std::path::Path;

/// A listing, or why there is none.
type Listing = Option<Result<Vec<Chain>, String>>;

/// Reads the rules of all three kinds that a kernel may have at the same time: those that nft(8)
/// made, those of the iptables that makes nft's rules, and those of the older iptables.
pub(super) fn read() -> Firewall {
    let (legacy_program, newer_program) = programs();
    // The older iptables loads its tables by being asked for them; what is not loaded has no rules.
    let tables = fs::read_to_string("/proc/net/ip_tables_names").unwrap_or_default();
    let has_legacy = !tables.trim().is_empty();
    let legacy: Listing = match (has_legacy, legacy_program) {
        (false, _) => None,
        (true, Some(program)) => Some(list_iptables(program)),
        (true, None) => {
            Some(Err("there are iptables rules, but no program to list them".to_owned()))
        }
    };
    let newer: Listing = newer_program.map(list_iptables);
    let native: Listing = if exists("nft") {
        Some(list_nft())
    } else {
        // Its rules cannot be there without the module; built in, they could.
        let possible = Path::new("/sys/module/nf_tables").exists() && newer.is_none();
        possible.then(|| Err("there may be nftables rules, but no nft to list them".to_owned()))
    };
    let maker = maker(has_legacy, legacy_program, newer_program);
    join(legacy, newer, native, maker)
}

/// The programs that list the older and the newer kind of iptables rules.
fn programs() -> (Option<&'static str>, Option<&'static str>) {
    let found = |program: &'static str| exists(program).then_some(program);
    match (found("iptables-legacy-save"), found("iptables-nft-save")) {
        (None, None) => match found("iptables-save") {
            Some(program) => {
                let version = run("iptables", &["--version"]).map(|output| output.stdout);
                let is_newer = version.is_ok_and(|text| text.contains("nf_tables"));
                if is_newer { (None, Some(program)) } else { (Some(program), None) }
            }
            None => (None, None),
        },
        found => found,
    }
}

/// What rules are best made with: what the present ones were made with.
fn maker(has_legacy: bool, legacy: Option<&str>, newer: Option<&str>) -> Maker {
    let changes = |saves: &str| saves.trim_end_matches("-save").to_owned();
    if exists("firewall-cmd")
        && run("firewall-cmd", &["--state"]).is_ok_and(|output| output.success)
    {
        return Maker::Firewalld;
    }
    match (legacy, newer) {
        (Some(program), _) if has_legacy => Maker::Iptables(changes(program)),
        _ if exists("iptables") => Maker::Iptables("iptables".to_owned()),
        (_, Some(program)) | (Some(program), None) if !exists("nft") => {
            Maker::Iptables(changes(program))
        }
        _ => Maker::Nft,
    }
}

fn list_iptables(program: &str) -> Result<Vec<Chain>, String> {
    let output = run(program, &[])?;
    if !output.success {
        return Err(format!("{program}: {}", first_line(&output.stderr)));
    }
    Ok(parse_iptables(&output.stdout, program.trim_end_matches("-save")))
}

fn list_nft() -> Result<Vec<Chain>, String> {
    let output = run("nft", &["--json", "list", "ruleset"])?;
    if !output.success {
        return Err(format!("nft --json: {}", first_line(&output.stderr)));
    }
    parse_nft(&output.stdout).map_err(|error| format!("nft --json: {error}"))
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or("failed without a word")
}

/// Puts the listings together. The newer iptables shows its own rules better than nft does.
fn join(legacy: Listing, newer: Listing, native: Listing, maker: Maker) -> Firewall {
    let mut unread = Vec::new();
    let mut chains = |listing: Listing| match listing {
        None => Vec::new(),
        Some(Ok(chains)) => chains,
        Some(Err(why)) => {
            unread.push(why);
            Vec::new()
        }
    };
    // Without it nft's listing is enough; what it cannot say of them counts as not known.
    let newer = if matches!(native, Some(Ok(_))) { newer.filter(Result::is_ok) } else { newer };
    let legacy = chains(legacy);
    let newer = chains(newer);
    let mut all = chains(native);
    let shown_better = |chain: &Chain| {
        let of_ip = chain.tool == Tool::Nft { family: "ip".to_owned() };
        of_ip && newer.iter().any(|own| own.table == chain.table && own.name == chain.name)
    };
    all.retain(|chain| !shown_better(chain));
    all.extend(newer);
    all.extend(legacy);
    let unread = (!unread.is_empty()).then(|| unread.join("; "));
    Firewall { rules: Ruleset { chains: all }, unread, maker }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listings_are_put_together() {
        let chain = |tool: Tool, table: &str, name: &str| {
            let mut chains = parse_iptables(&format!("*{table}\n:{name} ACCEPT\n"), "x");
            chains[0].tool = tool;
            chains.remove(0)
        };
        let nft = |family: &str| Tool::Nft { family: family.to_owned() };
        let iptables = |program: &str| Tool::Iptables { program: program.to_owned() };
        let native = vec![
            chain(nft("inet"), "filter", "INPUT"),
            chain(nft("ip"), "filter", "INPUT"),
            chain(nft("ip"), "own", "INPUT"),
        ];
        let newer = vec![chain(iptables("iptables"), "filter", "INPUT")];
        let legacy = vec![chain(iptables("iptables-legacy"), "filter", "INPUT")];
        let all = join(Some(Ok(legacy)), Some(Ok(newer)), Some(Ok(native.clone())), Maker::Nft);
        let tools: Vec<&Tool> = all.rules.chains.iter().map(|chain| &chain.tool).collect();
        let want = [nft("inet"), nft("ip"), iptables("iptables"), iptables("iptables-legacy")];
        assert_eq!(tools, want.iter().collect::<Vec<_>>());
        assert_eq!(all.unread, None);

        let error = || Some(Err("no".to_owned()));
        let all = join(None, error(), Some(Ok(native)), Maker::Nft);
        assert_eq!((all.rules.chains.len(), all.unread), (3, None), "nft lists them as well");
        let all = join(None, error(), error(), Maker::Nft);
        assert_eq!(all.unread.as_deref(), Some("no; no"));
        assert_eq!(join(None, None, None, Maker::Nft).unread, None);
    }
}
