//! Where the broker is, how it is reached, and who we are there.
//!
//! In: a URL and the names of files. Out: a checked [`Broker`].
//! Must never show a password, ask a name server, or trust a CA that its owner did not name.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

/// What a URL looks like.
const SHAPE: &str = "mqtt://[user:password@]host[:1883], or mqtts://host[:8883], ws://host[:80]/path, wss://host[:443]/path";

/// The longest login file, in bytes: MQTT's own limits, and a line's end.
const MAX_LOGIN_BYTES: u64 = 2 * 65_535 + 3;

/// Where the broker is and who we are there. Shows its address only, never its password.
#[derive(Clone, PartialEq, Eq)]
pub struct Broker {
    /// Address and port.
    pub address: SocketAddr,
    /// The host as the URL has it.
    pub host: String,
    /// What the connection is encrypted with; `None` for none.
    pub tls: Option<Tls>,
    /// The path to ask for, if MQTT goes over WebSocket.
    pub websocket: Option<String>,
    login: Login,
}

/// The files of TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The CAs that may have signed the broker's certificate.
    pub cafile: PathBuf,
    /// Our certificate and its key, if the broker wants one.
    pub own: Option<(PathBuf, PathBuf)>,
}

#[derive(Clone, PartialEq, Eq)]
enum Login {
    None,
    Given(String, String),
    File(PathBuf),
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.address.fmt(f)
    }
}

impl Broker {
    /// Reads a URL; its user and password may be percent-encoded. `hosts` is the text of the hosts file.
    pub fn parse(url: &str, hosts: &str) -> Result<Self> {
        let parts = url.split_once("://").and_then(|(scheme, rest)| {
            let (tls, websocket, port) = match scheme {
                "mqtt" => (false, false, 1883),
                "mqtts" => (true, false, 8883),
                "ws" => (false, true, 80),
                "wss" => (true, true, 443),
                _ => return None,
            };
            Some((rest, tls, websocket, port))
        });
        let Some((rest, tls, websocket, usual_port)) = parts else {
            bail!("the broker URL must look like {SHAPE}");
        };
        let (login, place) = match rest.rsplit_once('@') {
            Some((login, place)) => (Some(login), place),
            None => (None, rest),
        };
        let (place, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let is_path = websocket && path.bytes().all(|byte| byte.is_ascii_graphic());
        if !(matches!(path, "" | "/") || is_path) || place.contains(['?', '#']) {
            bail!("the broker URL has something after host and port; it must look like {SHAPE}");
        }
        let login = login
            .map(|login| {
                let (user, password) = login.split_once(':').unwrap_or((login, ""));
                anyhow::Ok(Login::Given(
                    percent_decoded(user)?,
                    percent_decoded(password)?,
                ))
            })
            .transpose()?;
        let (host, port) = match place.strip_prefix('[').and_then(|v6| v6.split_once(']')) {
            Some((host, "")) => (host, None),
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match place.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (place, None),
            },
        };
        let port = match port {
            Some(port) => port
                .parse()
                .ok()
                .filter(|port| *port != 0)
                .with_context(|| {
                    format!("the broker's port {port:?} is not a number from 1 to 65535")
                })?,
            None => usual_port,
        };
        Ok(Self {
            address: SocketAddr::new(address_of(host, hosts)?, port),
            host: host.to_owned(),
            tls: tls.then(Tls::default),
            websocket: websocket.then(|| match path {
                "" => "/".to_owned(),
                path => path.to_owned(),
            }),
            login: login.unwrap_or(Login::None),
        })
    }

    /// Takes user and password out of this file, which is looked into at once for the first time.
    pub fn with_login_file(mut self, file: Option<PathBuf>) -> Result<Self> {
        if let Some(file) = file {
            if self.login != Login::None {
                bail!("the login is given in the broker URL and by --login-file; keep one");
            }
            self.login = Login::File(file);
            self.login()?;
        }
        Ok(self)
    }

    /// Takes the files of TLS, and refuses them where they would be of no use.
    pub fn with_certificates(
        mut self,
        cafile: Option<PathBuf>,
        certfile: Option<PathBuf>,
        keyfile: Option<PathBuf>,
    ) -> Result<Self> {
        match (&mut self.tls, cafile) {
            (None, cafile) => {
                if cafile.is_some() || certfile.is_some() || keyfile.is_some() {
                    bail!(
                        "--cafile, --certfile and --keyfile are for mqtts:// and wss://, and the broker URL is neither"
                    );
                }
            }
            (Some(_), None) => bail!(
                "mqtts:// and wss:// need --cafile FILE: the certificate of the CA that signed the broker's; no other is trusted"
            ),
            (Some(tls), Some(cafile)) => {
                tls.cafile = cafile;
                tls.own = match (certfile, keyfile) {
                    (None, None) => None,
                    (Some(certificate), Some(key)) => Some((certificate, key)),
                    _ => bail!("--certfile and --keyfile belong together; give both"),
                };
            }
        }
        Ok(self)
    }

    /// User and password. Reads the file that holds them, which may have changed.
    pub fn login(&self) -> Result<Option<(String, String)>> {
        match &self.login {
            Login::None => Ok(None),
            Login::Given(user, password) => Ok(Some((user.clone(), password.clone()))),
            Login::File(file) => read_login(file).map(Some),
        }
    }
}

fn read_login(file: &Path) -> Result<(String, String)> {
    let read = || {
        let size = std::fs::metadata(file)?.len();
        if size > MAX_LOGIN_BYTES {
            return Err(std::io::Error::other(format!(
                "it has {size} bytes, no login is as long"
            )));
        }
        std::fs::read_to_string(file)
    };
    let text = read().with_context(|| format!("cannot read the login in {}", file.display()))?;
    let line = text.trim_end_matches(['\r', '\n']);
    match line.split_once(':') {
        Some((user, password)) if !user.is_empty() && !line.contains('\n') => {
            Ok((user.into(), password.into()))
        }
        _ => bail!("{} must hold one line user:password", file.display()),
    }
}

/// The address of `host`: itself, or the first line of the hosts file that names it.
fn address_of(host: &str, hosts: &str) -> Result<IpAddr> {
    if host.is_empty() {
        bail!("the broker URL names no host");
    }
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let named = hosts.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words
            .any(|name| name.eq_ignore_ascii_case(host))
            .then_some(address)
    });
    named.with_context(|| {
        format!("the broker {host:?} is neither an address nor a name in /etc/hosts; names are looked up nowhere else, so add it there or give the address")
    })
}

fn percent_decoded(text: &str) -> Result<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let byte = tail
            .get(..2)
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok())
            .context("the broker URL's user or password has a '%' without two hexadecimal digits; write '%25' for a '%'")?;
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).context("the broker URL's user or password is not UTF-8")
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOSTS: &str = "127.0.0.1 localhost # 10.0.0.1 commented\n::1 ip6-localhost\n# 9.9.9.9 off\n192.168.1.5\tbroker.lan Broker\n";

    fn broker(url: &str) -> Result<Broker> {
        Broker::parse(url, HOSTS)
    }

    #[test]
    fn the_host_is_an_address_or_a_name_in_the_hosts_file() {
        for (url, address) in [
            ("mqtt://127.0.0.1", "127.0.0.1:1883"),
            ("mqtt://127.0.0.1:18830/", "127.0.0.1:18830"),
            ("mqtt://[::1]:1884", "[::1]:1884"),
            ("mqtt://[::1]", "[::1]:1883"),
            ("mqtt://localhost", "127.0.0.1:1883"),
            ("mqtt://BROKER:1", "192.168.1.5:1"),
            ("mqtt://ip6-localhost", "[::1]:1883"),
        ] {
            assert_eq!(broker(url).unwrap().address.to_string(), address, "{url}");
        }
    }

    #[test]
    fn a_broker_that_cannot_be_reached_as_written_is_refused() {
        for url in [
            "127.0.0.1",
            "http://127.0.0.1",
            "mqttx://127.0.0.1",
            "mqtts://127.0.0.1/path",
            "ws://127.0.0.1/a path",
            "ws://127.0.0.1?query",
            "mqtt://",
            "mqtt://127.0.0.1:0",
            "mqtt://127.0.0.1:70000",
            "mqtt://127.0.0.1:x",
            "mqtt://127.0.0.1/topic",
            "mqtt://commented",
            "mqtt://off",
            "mqtt://example.com",
            "mqtt://a:%zz@127.0.0.1",
            "mqtt://a:%4@127.0.0.1",
        ] {
            assert!(broker(url).is_err(), "{url}");
        }
    }

    #[test]
    fn user_and_password_may_hold_any_character() {
        let found = broker("mqtt://me%3A:p@s:s%2Fü@localhost").unwrap();
        assert_eq!(
            found.login().unwrap(),
            Some(("me:".into(), "p@s:s/ü".into()))
        );
        assert_eq!(
            broker("mqtt://me@localhost").unwrap().login().unwrap(),
            Some(("me".into(), "".into()))
        );
    }

    #[test]
    fn the_password_is_never_shown() {
        let found = broker("mqtt://me:secret@localhost").unwrap();
        assert!(!format!("{found:?}").contains("secret"));
    }

    #[test]
    fn each_scheme_has_its_usual_port_and_a_websocket_its_path() {
        for (url, port, tls, path) in [
            ("mqtt://localhost", 1883, false, None),
            ("mqtts://localhost", 8883, true, None),
            ("ws://localhost", 80, false, Some("/")),
            ("wss://me:pass@[::1]/mqtt?x=1", 443, true, Some("/mqtt?x=1")),
            ("ws://localhost:9001/mqtt", 9001, false, Some("/mqtt")),
        ] {
            let found = broker(url).unwrap();
            assert_eq!(found.address.port(), port, "{url}");
            assert_eq!(found.tls.is_some(), tls, "{url}");
            assert_eq!(found.websocket.as_deref(), path, "{url}");
        }
    }

    #[test]
    fn a_login_file_holds_one_line_and_is_read_again_each_time() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("login");
        for bad in [
            "",
            "me",
            ":secret",
            "me:secret\nyou:secret",
            &"x".repeat(200_000),
        ] {
            std::fs::write(&file, bad).unwrap();
            let error = broker("mqtt://localhost")
                .unwrap()
                .with_login_file(Some(file.clone()));
            let error = format!("{:#}", error.unwrap_err());
            assert!(error.contains("login"), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
        std::fs::write(&file, "me:s:e c\r\n").unwrap();
        let found = broker("mqtt://localhost")
            .unwrap()
            .with_login_file(Some(file.clone()));
        let found = found.unwrap();
        assert_eq!(found.login().unwrap(), Some(("me".into(), "s:e c".into())));
        std::fs::write(&file, "me:new").unwrap();
        assert_eq!(found.login().unwrap(), Some(("me".into(), "new".into())));
        std::fs::remove_file(&file).unwrap();
        assert!(found.login().is_err());
        let twice = broker("mqtt://a:b@localhost")
            .unwrap()
            .with_login_file(Some(file));
        assert!(twice.unwrap_err().to_string().contains("keep one"));
    }

    #[test]
    fn certificates_belong_to_tls_and_tls_needs_its_ca() {
        let with = |url: &str, given: [Option<&str>; 3]| {
            let [ca, certificate, key] = given.map(|file| file.map(PathBuf::from));
            broker(url).unwrap().with_certificates(ca, certificate, key)
        };
        assert!(with("mqtt://localhost", [None; 3]).is_ok());
        assert!(with("mqtts://localhost", [Some("ca"), None, None]).is_ok());
        assert!(with("wss://localhost", [Some("ca"), Some("c"), Some("k")]).is_ok());
        for (url, given, named) in [
            ("mqtts://localhost", [None; 3], "need --cafile"),
            ("ws://localhost", [Some("ca"), None, None], "neither"),
            (
                "mqtts://localhost",
                [Some("ca"), Some("c"), None],
                "give both",
            ),
        ] {
            let error = with(url, given).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }
}
