//! Checks of one active block and its servers.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use super::Checker;
use super::global::LONGEST_TIMEOUT;
use crate::config::{BlockKind, Forwarding, Protocol, Server, Virtual};
use crate::diagnostic::{Code, show};
use crate::document::Path;

impl Checker<'_> {
    pub(super) fn block(&mut self, path: Path, block: &Virtual) {
        self.virtual_address(path, block);
        match path {
            Path::Block { kind: BlockKind::Failover, .. } => self.failover_commands(path, block),
            _ => {
                self.service(path, block);
                self.health_check(path, block);
                self.servers(path, block);
            }
        }
    }

    fn virtual_address(&mut self, path: Path, block: &Virtual) {
        let name = show(block.name.as_bytes());
        match (block.address.is_some(), block.fwmark) {
            (true, _) => {}
            (false, 0) => self.at_key(
                Code::NoAddress,
                path,
                "address",
                &format!("{name} is active but has no address"),
                "add `address = ADDRESS DEVICE`, e.g. 10.0.0.100 eth0:1, or set active to 0",
            ),
            (false, mark) => self.at_key(
                Code::MarkWithoutAddress,
                path,
                "address",
                &format!(
                    "{name} (mark {mark}) has no address that the active director could raise"
                ),
                "add `address = ADDRESS DEVICE`, unless the marked traffic comes here by itself",
            ),
        }
        if let Some(device) = block.device.as_deref().filter(|_| block.address.is_some()) {
            self.label(path, "address", device);
        }
        if let Some(mask) = block.vip_nmask {
            self.netmask(Code::NetmaskHoles, path, "vip_nmask", mask);
        }
    }

    fn failover_commands(&mut self, path: Path, block: &Virtual) {
        if block.start_cmd.is_none() {
            self.at_block(
                Code::NoStartCommand,
                path,
                "this failover block has no start_cmd: nothing is started on failover",
                "add `start_cmd = \"COMMAND\"` and `stop_cmd = \"COMMAND\"`",
            );
        }
        self.program(path, "start_cmd", block.start_cmd.as_deref().map(str::as_bytes));
        self.program(path, "stop_cmd", block.stop_cmd.as_deref().map(str::as_bytes));
    }

    fn service(&mut self, path: Path, block: &Virtual) {
        if let Some(mask) = block.pmask {
            self.netmask(Code::PmaskHoles, path, "pmask", mask);
            if block.persistent == 0 {
                self.at_key(
                    Code::PmaskUnused,
                    path,
                    "pmask",
                    "pmask has no effect without persistent",
                    "add `persistent = SECONDS`, or remove pmask",
                );
            }
        }
        if block.persistent > LONGEST_TIMEOUT {
            self.too_long(path, "persistent");
        }
        if block.port == 0 && block.fwmark == 0 && block.persistent == 0 {
            self.at_key(
                Code::PortZero,
                path,
                "port",
                "port 0 means all ports, which needs persistence",
                "add `persistent = SECONDS`, or give a port",
            );
        }
        for (key, command) in [("start_cmd", &block.start_cmd), ("stop_cmd", &block.stop_cmd)] {
            if command.is_some() {
                self.at_key(
                    Code::UnusedInVirtual,
                    path,
                    key,
                    &format!("{key} has no effect in a virtual block"),
                    "remove it, or use active_cmd and inactive_cmd",
                );
            }
        }
        self.program(path, "client_monitor", block.client_monitor.as_deref().map(str::as_bytes));
        self.program(path, "load_monitor", block.load_monitor.as_deref().map(str::as_bytes));
    }

    fn health_check(&mut self, path: Path, block: &Virtual) {
        if block.timeout == 0 {
            self.at_key(
                Code::TimeoutZero,
                path,
                "timeout",
                "timeout is 0: checks need at least a second between them",
                "set timeout to 1 or more, or leave it out: it is 10 then",
            );
        }
        self.program(path, "send_program", block.send_program.as_deref());
        if block.send_program.is_some() {
            if block.send.is_some() {
                self.at_key(
                    Code::SendIgnored,
                    path,
                    "send",
                    "send has no effect next to send_program",
                    "remove one of the two",
                );
            }
            if block.expect.is_none() {
                self.at_key(
                    Code::ProgramWithoutExpect,
                    path,
                    "send_program",
                    "the program's output is compared with expect, which is not set",
                    "add `expect = \"TEXT\"`: what the program prints for a server that is up",
                );
            }
        } else if block.protocol == Protocol::Udp && block.send.is_none() {
            self.udp_check(path, block);
        }
        if block.use_regex && block.expect.is_none() {
            self.at_key(
                Code::RegexUnused,
                path,
                "use_regex",
                "use_regex has no effect without expect",
                "add `expect = \"EXPRESSION\"`, or remove use_regex",
            );
        }
    }

    /// Nothing is sent, so that no UDP server has anything to answer.
    fn udp_check(&mut self, path: Path, block: &Virtual) {
        let (key, message) = match (&block.expect, block.port) {
            (Some(_), _) => ("expect", "a UDP server says nothing before it is asked"),
            (None, 80) => {
                ("protocol", "the default check of port 80 asks a web server, over UDP here")
            }
            (None, _) => ("protocol", "this UDP block has no check that a server would answer"),
        };
        self.at_key(
            Code::UdpCheck,
            path,
            key,
            message,
            "add `send = \"TEXT\"` with something that servers answer, or a send_program",
        );
    }

    fn servers(&mut self, path: Path, block: &Virtual) {
        if block.active_servers().next().is_none() && block.sorry_server.is_none() {
            self.at_block(
                Code::NoActiveServer,
                path,
                "none of this block's servers is active",
                "add a server with `active = 1`, or set the block's active to 0",
            );
        }
        let stands_for_directors = self.serves_directors_only(block);
        let mut seen: HashMap<(Ipv4Addr, u16), u32> = HashMap::new();
        for (index, server) in block.servers.iter().enumerate().filter(|(_, server)| server.active)
        {
            let path = path.server(index);
            let Some(address) = server.address else {
                self.at_key(
                    Code::ServerWithoutAddress,
                    path,
                    "address",
                    "this server is active but has no address",
                    "add `address = ADDRESS`, or set active to 0",
                );
                continue;
            };
            if let Some(line) = seen.insert((address, server.port), server.line) {
                self.at_block(
                    Code::DuplicateServer,
                    path,
                    &format!("{address}:{} is the server on line {line} already", server.port),
                    "remove one of the two, or raise the weight instead",
                );
            }
            self.server_address(path, block, address, stands_for_directors);
            self.server_port(path, block, server);
        }
    }

    /// The block that only moves an address from director to director, as the gateway of
    /// the real servers does: its servers are the directors themselves.
    fn serves_directors_only(&self, block: &Virtual) -> bool {
        block
            .active_servers()
            .filter_map(|server| server.address)
            .all(|address| self.config.director_addresses().any(|director| director == address))
    }

    fn server_address(
        &mut self,
        path: Path,
        block: &Virtual,
        address: Ipv4Addr,
        stands_for_directors: bool,
    ) {
        let is_director = self.config.director_addresses().any(|director| director == address);
        if is_director && !stands_for_directors {
            self.at_key(
                Code::ServerIsDirector,
                path,
                "address",
                &format!("{address} is a director's own address"),
                "name the real server, unless the director is meant to serve as well",
            );
        }
        if block.addr() == Some(address) {
            self.at_key(
                Code::ServerIsVip,
                path,
                "address",
                &format!(
                    "{address} is this block's virtual address: the director would ask itself"
                ),
                "give the real server's own address",
            );
        }
        if block.sorry_server == Some(address) {
            self.at_key(
                Code::SorryIsServer,
                path,
                "address",
                &format!("{address} is this block's sorry_server too: both fail together"),
                "use a sorry_server that is none of the servers",
            );
        }
    }

    fn server_port(&mut self, path: Path, block: &Virtual, server: &Server) {
        let is_mapped = server.port != block.port && block.port != 0 && block.fwmark == 0;
        if is_mapped && self.config.network != Forwarding::Nat {
            self.at_key(
                Code::PortMapping,
                path,
                "port",
                &format!(
                    "with network = {} packets reach this server at port {}, not {}",
                    self.config.network, block.port, server.port
                ),
                "let the server listen on the virtual port, or set network to nat",
            );
        }
    }
}
