//! A browser of sorts: it sends requests to the router, follows redirects, and fills in forms as they
//! stand on the page.

#![allow(dead_code, reason = "each test target uses a part of it")]

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use base64ct::{Base64, Encoding};
use hyper::service::Service;
use hyper_util::service::TowerToHyperService;
use lvs_config::{BlockKind, Document};
use lvs_store::{History, Store, Version};
use piranha_gui::app::{App, router};
use piranha_gui::gate::Peer;
use piranha_gui::options::{OPTIONS, Options};

const HOST: &str = "lvs1:3636";

/// A director with a page.
pub(crate) struct Site {
    app: Arc<App>,
    directory: PathBuf,
    _kept: Option<tempfile::TempDir>,
}

impl Site {
    /// With this lvs.cf; the password is `secret`.
    pub(crate) fn with_file(text: &str) -> Self {
        let site = Self::without_file();
        site.write(text);
        site
    }

    /// Without one.
    pub(crate) fn without_file() -> Self {
        let kept = tempfile::tempdir().unwrap();
        fs::create_dir(kept.path().join("ha")).unwrap();
        // SHA-1, which is quickly computed.
        fs::write(kept.path().join("passwd"), "piranha:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
            .unwrap();
        let site = Self::at(kept.path());
        Self { _kept: Some(kept), ..site }
    }

    /// In a directory that such a site has made.
    pub(crate) fn at(directory: &Path) -> Self {
        let at = |name: &str| directory.join(name).into_os_string();
        let words = [
            ("-c", at("ha/lvs.cf")),
            ("--passwd", at("passwd")),
            ("--state", at("state")),
            ("--log", at("log")),
            ("--lvsd-control", at("lvsd.sock")),
            ("--pulse-control", at("pulse.sock")),
        ];
        let words: Vec<std::ffi::OsString> =
            words.into_iter().flat_map(|(option, path)| [option.into(), path]).collect();
        let options = Options::new(&daemon::args::parse(&OPTIONS, words).unwrap()).unwrap();
        let app = Arc::new(App::new(options).unwrap());
        Self { app, directory: directory.to_owned(), _kept: None }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn path(&self) -> PathBuf {
        self.directory.join("ha/lvs.cf")
    }

    pub(crate) fn write(&self, text: &str) {
        fs::write(self.path(), text).unwrap();
    }

    pub(crate) fn file(&self) -> String {
        fs::read_to_string(self.path()).unwrap()
    }

    pub(crate) fn document(&self) -> Document {
        Document::new(self.file().into_bytes())
    }

    pub(crate) const fn block(&self, index: usize) -> lvs_config::Path {
        lvs_config::Path::Block { kind: BlockKind::Virtual, index }
    }

    pub(crate) fn versions(&self) -> Vec<Version> {
        Store::new(self.path(), History::new(self.directory.join("state/history")))
            .versions()
            .unwrap()
    }

    pub(crate) fn browser(&self) -> Browser {
        self.browser_as("secret")
    }

    pub(crate) fn browser_as(&self, password: &str) -> Browser {
        Browser {
            app: Arc::clone(&self.app),
            pages: router(&self.app),
            password: password.to_owned(),
        }
    }

    /// Something that answers as an lvsd does which runs this `serial_no`. Comes back when the page
    /// knows.
    pub(crate) async fn lvsd_runs(&self, serial_no: i64) {
        let listener = UnixListener::bind(self.directory.join("lvsd.sock")).unwrap();
        let status = serde_json::json!({
            "version": "0.9.0", "pid": 1, "file": "/etc/sysconfig/ha/lvs.cf", "serial_no": serial_no,
            "uptime_s": 1, "reload_error": null, "table_error": null, "virtual_servers": [],
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut line = String::new();
                let _ = BufReader::new(stream.try_clone().unwrap()).read_line(&mut line);
                let _ = writeln!(stream, "{status}");
            }
        });
        tokio::spawn(piranha_gui::live::watch(Arc::clone(&self.app)));
        while self.app.live.snapshot().lvsd.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Somebody at the page.
pub(crate) struct Browser {
    app: Arc<App>,
    pages: Router,
    password: String,
}

/// What came back, after all redirects.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    /// Of the page in the end, without what is behind its question mark.
    pub(crate) path: String,
    pub(crate) text: String,
}

/// Names and values of a form.
pub(crate) type Form = Vec<(String, String)>;

impl Browser {
    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path, String::new()).await
    }

    /// Fills in the form of a page and sends it.
    pub(crate) async fn submit(&self, page: &str, entries: &[(&str, &str)]) -> Answer {
        let form = self.get(page).await.form(page);
        self.send(page, &form, entries).await
    }

    /// Sends a form with these entries in it.
    pub(crate) async fn send(
        &self,
        page: &str,
        form: &[(String, String)],
        entries: &[(&str, &str)],
    ) -> Answer {
        let mut form = form.to_vec();
        for (name, value) in entries {
            form.retain(|(other, _)| other != name);
            form.push(((*name).to_owned(), (*value).to_owned()));
        }
        let encode =
            |text: &str| -> String { text.bytes().map(|byte| format!("%{byte:02X}")).collect() };
        let pairs: Vec<String> = form
            .iter()
            .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
            .collect();
        self.request("POST", page, pairs.join("&")).await
    }

    /// What forms carry.
    pub(crate) fn token(&self) -> String {
        self.app.secret.token("piranha")
    }

    async fn request(&self, method: &str, path: &str, body: String) -> Answer {
        let (mut method, mut path, mut body) = (method.to_owned(), path.to_owned(), body);
        loop {
            let password = Base64::encode_string(format!("piranha:{}", self.password).as_bytes());
            let request = Request::builder()
                .method(method.as_str())
                .uri(&path)
                .header(header::HOST, HOST)
                .header(header::ORIGIN, format!("http://{HOST}"))
                .header(header::AUTHORIZATION, format!("Basic {password}"))
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .extension(Peer(SocketAddr::from(([192, 0, 2, 7], 40000))))
                .body(Body::from(body))
                .unwrap();
            let answer = TowerToHyperService::new(self.pages.clone()).call(request).await.unwrap();
            let status = answer.status();
            let next = answer.headers().get(header::LOCATION).cloned();
            let bytes = to_bytes(answer.into_body(), usize::MAX).await.unwrap();
            let text = String::from_utf8(bytes.to_vec()).unwrap();
            if !status.is_redirection() {
                let path = path.split('?').next().unwrap().to_owned();
                assert!(
                    !text.contains("style=\"") && !text.contains("onclick"),
                    "against the policy"
                );
                return Answer { status, path, text };
            }
            path = next.unwrap().to_str().unwrap().to_owned();
            (method, body) = ("GET".to_owned(), String::new());
        }
    }
}

impl Answer {
    /// Something was done, and this was said.
    pub(crate) fn expect_good(&self, part: &str) {
        let text = unescape(&self.text);
        assert_eq!(self.status, StatusCode::OK, "{} {text}", self.path);
        assert!(text.contains("class=\"note good\"") && text.contains(part), "{part} in {text}");
    }

    /// The fields of the form that goes to `action`, as they stand there.
    pub(crate) fn form(&self, action: &str) -> Form {
        let start = format!("method=\"post\" action=\"{action}\"");
        let begin = self.text.find(&start).unwrap_or_else(|| panic!("{action} in {}", self.text));
        let inside = self.text[begin..].split("</form>").next().unwrap();
        let mut form = Form::new();
        for tag in inside.split('<') {
            let tag = tag.split('>').next().unwrap_or_default();
            let name = attribute(tag, "name");
            match (tag.split([' ', '\n']).next(), name) {
                (Some("input"), Some(name))
                    if attribute(tag, "type").as_deref() != Some("radio") =>
                {
                    form.push((name, attribute(tag, "value").unwrap_or_default()));
                }
                (Some("select"), Some(name)) => form.push((name, String::new())),
                (Some("option"), _) if tag.ends_with(" selected") => {
                    form.last_mut().unwrap().1 = attribute(tag, "value").unwrap_or_default();
                }
                _ => {}
            }
        }
        form
    }

    /// One field of it.
    pub(crate) fn value(&self, action: &str, name: &str) -> String {
        let form = self.form(action);
        let field = form.into_iter().find(|(other, _)| other == name);
        field.unwrap_or_else(|| panic!("{name} in {}", self.text)).1
    }

    /// The text of the element with this id, tags included.
    pub(crate) fn element(&self, id: &str) -> String {
        let start = self
            .text
            .find(&format!("id=\"{id}\""))
            .unwrap_or_else(|| panic!("{id} in {}", self.text));
        let end = self.text[start..].find("\n</div>\n").map_or(self.text.len(), |end| start + end);
        unescape(&self.text[start..end])
    }
}

fn attribute(tag: &str, name: &str) -> Option<String> {
    let start = tag.find(&format!(" {name}=\""))? + name.len() + 3;
    Some(unescape(tag[start..].split('"').next()?))
}

fn unescape(text: &str) -> String {
    let mut text = text.to_owned();
    for (entity, character) in
        [("&#60;", "<"), ("&#62;", ">"), ("&#34;", "\""), ("&#39;", "'"), ("&#38;", "&")]
    {
        text = text.replace(entity, character);
    }
    text
}
