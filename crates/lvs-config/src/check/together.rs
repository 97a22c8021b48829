//! Checks of the active blocks against each other and against the directors.

use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

use super::Checker;
use crate::config::{BlockKind, Forwarding, Protocol, Virtual};
use crate::diagnostic::{Code, show};
use crate::document::Path;

/// What the kernel tells services apart by.
#[derive(PartialEq, Eq, Hash)]
enum Service {
    Address(Ipv4Addr, u16, Protocol),
    Mark(u32),
}

fn service_of(block: &Virtual) -> Option<Service> {
    match block.fwmark {
        0 => Some(Service::Address(block.addr()?, block.port, block.protocol)),
        mark => Some(Service::Mark(mark)),
    }
}

impl Checker<'_> {
    pub(super) fn together(&mut self, kind: BlockKind) {
        let config = self.config;
        let active: Vec<(Path, &Virtual)> = config
            .blocks(kind)
            .iter()
            .enumerate()
            .filter(|(_, block)| block.active)
            .map(|(index, block)| (Path::Block { kind, index }, block))
            .collect();
        self.duplicate_services(&active);
        self.labels(&active);
        self.addresses(&active);
        self.servers_that_are_virtual(&active);
    }

    fn duplicate_services(&mut self, active: &[(Path, &Virtual)]) {
        let mut seen: HashMap<Service, u32> = HashMap::new();
        for (path, block) in active {
            let Some(service) = service_of(block) else { continue };
            let (key, what) = match service {
                Service::Mark(mark) => ("fwmark", format!("firewall mark {mark}")),
                Service::Address(address, port, protocol) => {
                    ("address", format!("{address}:{port} ({protocol})"))
                }
            };
            if let Some(line) = seen.insert(service, block.line) {
                self.at_key(
                    Code::DuplicateService,
                    *path,
                    key,
                    &format!("{what} is the service of the block on line {line} already"),
                    "put all servers into one block, or set one block's active to 0",
                );
            }
        }
    }

    /// Several blocks may share an address and its label; two addresses cannot share one.
    fn labels(&mut self, active: &[(Path, &Virtual)]) {
        let mut bearers: HashMap<&str, Ipv4Addr> = HashMap::new();
        let config = self.config;
        if let (Some(router), Some(label), Forwarding::Nat) =
            (&config.nat_router, &config.nat_router_device, config.network)
        {
            bearers.insert(label, router.addr);
        }
        for (path, block) in active {
            let (Some(address), Some(label)) = (block.addr(), block.device.as_deref()) else {
                continue;
            };
            let bearer = *bearers.entry(label).or_insert(address);
            if bearer != address {
                let label = show(label.as_bytes());
                self.at_key(
                    Code::LabelConflict,
                    *path,
                    "address",
                    &format!("{label} bears {bearer} already"),
                    "give each address a label of its own: eth0:1, eth0:2, ...",
                );
            }
        }
    }

    fn addresses(&mut self, active: &[(Path, &Virtual)]) {
        let directors: HashSet<Ipv4Addr> = self.config.director_addresses().collect();
        let mut labels: HashMap<Ipv4Addr, &str> = HashMap::new();
        let mut masks: HashMap<Ipv4Addr, Ipv4Addr> = HashMap::new();
        for (path, block) in active {
            let Some(address) = block.addr() else { continue };
            if directors.contains(&address) {
                self.at_key(
                    Code::VipIsDirector,
                    *path,
                    "address",
                    &format!("{address} is a director's own address"),
                    "use an address that no machine has",
                );
            }
            if let Some(label) = block.device.as_deref() {
                let first = *labels.entry(address).or_insert(label);
                if first != label {
                    let (label, first) = (show(label.as_bytes()), show(first.as_bytes()));
                    self.at_key(
                        Code::TwoLabels,
                        *path,
                        "address",
                        &format!("{address} stands on {label} here, on {first} above"),
                        "use one label for one address",
                    );
                }
            }
            if let Some(mask) = block.vip_nmask {
                let first = *masks.entry(address).or_insert(mask);
                if first != mask {
                    self.at_key(
                        Code::TwoNetmasks,
                        *path,
                        "vip_nmask",
                        &format!("{address} has netmask {mask} here, {first} above"),
                        "use one netmask for one address",
                    );
                }
            }
        }
    }

    /// A server that is another block's virtual address; its own block has been looked at.
    fn servers_that_are_virtual(&mut self, active: &[(Path, &Virtual)]) {
        let virtual_addresses: HashSet<Ipv4Addr> =
            active.iter().filter_map(|(_, block)| block.addr()).collect();
        for (path, block) in active {
            for (index, server) in block.servers.iter().enumerate().filter(|(_, s)| s.active) {
                let Some(address) = server.address else { continue };
                if virtual_addresses.contains(&address) && block.addr() != Some(address) {
                    self.at_key(
                        Code::ServerIsVip,
                        path.server(index),
                        "address",
                        &format!("{address} is the virtual address of another block"),
                        "give the real server's own address",
                    );
                }
            }
        }
    }
}
