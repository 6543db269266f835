//! Where the broker is, how it is reached, and who we are there.
//!
//! In: a URL and the names of files. Out: a checked [`Broker`].
//! Must never show a password, ask a name server, or trust a CA that its owner did not name.

use std::fmt;
use std::hash::Hasher;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use cloister_program::node::Node;
use siphasher::sip::SipHasher24;

/// What a URL looks like.
const SHAPE: &str = "mqtt://[user:password@]host[:1883], or mqtts://host[:8883], ws://host[:80]/path, wss://host[:443]/path";

/// The longest login file, in bytes: MQTT's own limits, and a line's end.
const MAX_LOGIN_BYTES: u64 = 2 * 65_535 + 3;

/// The hexadecimal digits of a password of 128 random bits, as `cloister` makes them.
const MADE_PASSWORD: usize = 32;

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

    /// The files that are read again for each connection.
    pub fn files(&self) -> Vec<&Path> {
        let mut files: Vec<&Path> = Vec::new();
        if let Login::File(file) = &self.login {
            files.push(file);
        }
        if let Some(tls) = &self.tls {
            files.push(&tls.cafile);
            files.extend(
                tls.own
                    .iter()
                    .flat_map(|(certificate, key)| [&**certificate, &**key]),
            );
        }
        files
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

impl Broker {
    /// What the broker knows the connection by: whoever connects by the same name cuts it off. Where a program has made the
    /// password nobody else can tell it; from that of a person it could be told what the password is, by who guesses.
    ///
    /// # Errors
    /// The file of the login cannot be read.
    pub fn client_id(&self, node: &Node) -> Result<String> {
        let usual = format!("cloister-{node}");
        let Login::File(file) = &self.login else {
            return Ok(usual);
        };
        let (_, password) = read_login(file)?;
        if password.len() != MADE_PASSWORD {
            return Ok(usual);
        }
        let Ok(key) = u128::from_str_radix(&password, 16) else {
            return Ok(usual);
        };
        let mut hasher = SipHasher24::new_with_key(&key.to_be_bytes());
        hasher.write(usual.as_bytes());
        Ok(format!("{usual}-{:016x}", hasher.finish()))
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
mod tests;
