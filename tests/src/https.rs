//! A real HTTPS server: nginx, with a certificate signed by itself.

use std::{
    env, fs,
    net::TcpStream,
    path::PathBuf,
    process::{self, Command},
    sync::OnceLock,
    time::Duration,
};

use crate::{
    PATIENCE,
    node::{Node, poll},
    process::Running,
};

/// nginx on a node. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    /// The process, which runs in the foreground.
    pub process: Running,
}

impl Node {
    /// Starts nginx on `address` (`10.0.0.21:443`), speaking TLS and answering every request with
    /// 200 and this body. Returns when it accepts connections.
    #[track_caller]
    #[must_use = "the server stops when it is dropped"]
    pub fn nginx(&self, address: &str, body: &str) -> Nginx {
        let pem = certificate().as_ref().unwrap_or_else(|e| panic!("no certificate: {e}"));
        let dir = self.dir().join(format!("nginx-{}", address.replace([':', '.', '[', ']'], "-")));
        let config = dir.join("nginx.conf");
        fs::create_dir_all(&dir)
            .and_then(|()| fs::write(dir.join("server.pem"), pem))
            .and_then(|()| fs::write(&config, configuration(&dir.to_string_lossy(), address, body)))
            .unwrap_or_else(|e| panic!("{}: {}: {e}", self.name(), dir.display()));
        let process = self.spawn(format!("nginx -e stderr -c {}", config.display()));
        let target = address.parse();
        let target = target.unwrap_or_else(|e| panic!("{}: {address}: {e}", self.name()));
        let accepts = || {
            let one = Duration::from_secs(1);
            self.enter(|| TcpStream::connect_timeout(&target, one)).ok().map(drop)
        };
        let ended = || (!process.is_running()).then_some(());
        let ready = poll(PATIENCE, || accepts().or_else(ended)).is_some();
        if !ready || !process.is_running() {
            panic!("{}: nginx does not serve {address}:\n{}", self.name(), process.text());
        }
        Nginx { process }
    }
}

fn configuration(dir: &str, address: &str, body: &str) -> String {
    let body = body.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "");
    // A single process, which writes nowhere but to its own directory.
    format!(
        "daemon off;\nmaster_process off;\npid {dir}/pid;\nerror_log stderr;\n\
         events {{ worker_connections 1024; }}\n\
         http {{\n  access_log off;\n  default_type text/plain;\n\
         \x20 client_body_temp_path {dir}/body;\n  proxy_temp_path {dir}/proxy;\n\
         \x20 fastcgi_temp_path {dir}/fastcgi;\n  uwsgi_temp_path {dir}/uwsgi;\n\
         \x20 scgi_temp_path {dir}/scgi;\n\
         \x20 server {{\n    listen {address} ssl;\n\
         \x20   ssl_certificate {dir}/server.pem;\n    ssl_certificate_key {dir}/server.pem;\n\
         \x20   location / {{ return 200 \"{body}\"; }}\n  }}\n}}\n"
    )
}

/// Key and certificate in one PEM text, made once per test program.
fn certificate() -> &'static Result<String, String> {
    static PEM: OnceLock<Result<String, String>> = OnceLock::new();
    PEM.get_or_init(|| {
        let path: PathBuf = env::temp_dir().join(format!("lab-{}.pem", process::id()));
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
            .args(["-nodes", "-days", "2", "-subj", "/CN=lab", "-keyout", "-", "-out"])
            .arg(&path)
            .output()
            .map_err(|e| format!("openssl: {e}"))?;
        let made = fs::read_to_string(&path);
        // Nothing of it stays behind, whether it was made or not.
        let _ = fs::remove_file(&path);
        match made {
            Ok(certificate) if output.status.success() => {
                Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &certificate)
            }
            _ => Err(format!("openssl: {}", String::from_utf8_lossy(&output.stderr))),
        }
    })
}
