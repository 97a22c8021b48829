//! What the command line says.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use daemon::args::{Opt, Parsed, flag, option};

use crate::server::Limits;

/// The page's port, as it has always been.
pub const PORT: u16 = 3636;

/// Every option of piranha-gui.
pub const OPTIONS: [Opt; 13] = [
    flag("nodaemon", Some('n'), "Do not run as a daemon; log to the terminal as well"),
    flag("verbose", Some('v'), "Log more"),
    option("configfile", Some('c'), "FILE", "Configuration file (/etc/sysconfig/ha/lvs.cf)"),
    option("listen", Some('l'), "ADDRESS", "ADDRESS:PORT, ADDRESS or PORT (0.0.0.0:3636)"),
    option("user", Some('u'), "NAME", "The user to run as (piranha)"),
    option("passwd", None, "FILE", "Password file (/etc/sysconfig/ha/conf/piranha.passwd)"),
    flag("tls", None, "HTTPS, with a certificate of its own making unless one is given"),
    option("tls-cert", None, "FILE", "Certificate and its chain, PEM"),
    option("tls-key", None, "FILE", "The certificate's private key, PEM, not encrypted"),
    option("state", None, "DIR", "Versions, events, own certificate (/var/lib/piranha)"),
    option("log", None, "DIR", "The access log's directory (/var/log/piranha)"),
    option("lvsd-control", None, "PATH", "lvsd's control socket (/run/piranha/lvsd.sock)"),
    option("pulse-control", None, "PATH", "pulse's control socket (/run/piranha/pulse.sock)"),
];

/// How the page runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Stay on the terminal.
    pub nodaemon: bool,
    /// Log more.
    pub verbose: bool,
    /// lvs.cf.
    pub file: PathBuf,
    /// Where it listens.
    pub listen: SocketAddr,
    /// The system's user to run as; ignored unless started as root.
    pub user: String,
    /// The password file.
    pub passwords: PathBuf,
    /// Whether and how to speak TLS.
    pub tls: Option<Certificate>,
    /// Where versions of lvs.cf, events and an own certificate are kept.
    pub state: PathBuf,
    /// Where the access log is written.
    pub log: PathBuf,
    /// lvsd's control socket.
    pub lvsd: PathBuf,
    /// pulse's control socket.
    pub pulse: PathBuf,
    /// What clients may take; always the usual on a command line.
    pub limits: Limits,
}

/// Where a certificate comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certificate {
    /// Made at the first start, kept in the state directory.
    Own,
    /// From files.
    Files {
        /// The certificate, then its chain.
        chain: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
}

impl Options {
    /// Takes the options from a command line that was understood.
    ///
    /// # Errors
    /// Says which value cannot be used, and what would be one that can.
    pub fn new(parsed: &Parsed) -> Result<Self, String> {
        let path = |long: &str, usual: &str| {
            let given = parsed.bytes(long).map(|bytes| {
                PathBuf::from(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(bytes))
            });
            // A daemon's directory is `/`.
            given.map_or_else(
                || PathBuf::from(usual),
                |given| std::path::absolute(&given).unwrap_or(given),
            )
        };
        let listen = parsed.text("listen").map_or(Ok(anywhere(PORT)), |text| address(&text))?;
        let tls = match (parsed.has("tls-cert"), parsed.has("tls-key")) {
            (true, true) => {
                Some(Certificate::Files { chain: path("tls-cert", ""), key: path("tls-key", "") })
            }
            (false, false) => parsed.has("tls").then_some(Certificate::Own),
            (true, false) => return Err("--tls-cert needs --tls-key as well".to_owned()),
            (false, true) => return Err("--tls-key needs --tls-cert as well".to_owned()),
        };
        Ok(Self {
            nodaemon: parsed.has("nodaemon"),
            verbose: parsed.has("verbose"),
            file: path("configfile", "/etc/sysconfig/ha/lvs.cf"),
            listen,
            user: parsed.text("user").unwrap_or_else(|| piranha_passwd::USER.to_owned()),
            passwords: path("passwd", piranha_passwd::PATH),
            tls,
            state: path("state", "/var/lib/piranha"),
            log: path("log", "/var/log/piranha"),
            lvsd: path("lvsd-control", lvsd::status::SOCKET),
            pulse: path("pulse-control", pulse::status::SOCKET),
            limits: Limits::default(),
        })
    }
}

const fn anywhere(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)
}

/// `192.0.2.1:3636`, `[2001:db8::1]:3636`, `192.0.2.1`, `2001:db8::1`, `3636`.
fn address(text: &str) -> Result<SocketAddr, String> {
    let whole = text.parse().ok();
    let host = || text.parse().ok().map(|host: IpAddr| SocketAddr::new(host, PORT));
    let port = || text.parse().ok().map(anywhere);
    whole.or_else(host).or_else(port).ok_or_else(|| {
        format!("--listen={text}: neither ADDRESS:PORT nor ADDRESS nor PORT, as 192.0.2.1:3636")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use daemon::args::parse;

    fn options(words: &[&str]) -> Result<Options, String> {
        let words = words.iter().map(std::ffi::OsString::from);
        Options::new(&parse(&OPTIONS, words).unwrap())
    }

    #[test]
    fn listens_where_it_is_told() {
        for (text, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80"),
            ("127.0.0.1", "127.0.0.1:3636"),
            ("8080", "0.0.0.0:8080"),
            ("[::1]:80", "[::1]:80"),
            ("::1", "[::1]:3636"),
        ] {
            let listen = options(&["--listen", text]).unwrap().listen;
            assert_eq!(listen, expected.parse().unwrap(), "{text}");
        }
        assert_eq!(options(&[]).unwrap().listen, "0.0.0.0:3636".parse().unwrap());
        assert!(options(&["-l", "lvs1"]).unwrap_err().contains("--listen=lvs1"));
        assert!(options(&["-l", "70000"]).is_err());
    }

    #[test]
    fn a_certificate_has_two_files() {
        assert_eq!(options(&["--tls"]).unwrap().tls, Some(Certificate::Own));
        assert_eq!(options(&[]).unwrap().tls, None);
        let files = options(&["--tls-cert=/c", "--tls-key=/k"]).unwrap().tls;
        assert_eq!(files, Some(Certificate::Files { chain: "/c".into(), key: "/k".into() }));
        assert!(options(&["--tls-cert=/c"]).unwrap_err().contains("--tls-key"));
        assert!(options(&["--tls-key=/k"]).is_err());
    }
}
