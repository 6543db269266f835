//! The broker's second listener: for the house, by TLS, with a login.
//!
//! In: the state folder, the box's certificate and a port. Out: what Mosquitto needs to know of it. What the house may do there
//! is said in [`super::rights`].

use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::{logins, rights};

/// Where clients look first.
pub const USUAL_PORT: u16 = 8883;

/// The listener for the house.
pub struct HouseBroker {
    /// Its port.
    pub port: u16,
    /// The file with its login, `user:password`.
    pub login: PathBuf,
    /// Its certificate and the key of that, by Mosquitto's names for them.
    pub files: [(&'static str, Vec<u8>); 2],
}

impl HouseBroker {
    /// With the certificate of this folder, which must be there, and a login, made if there is none.
    ///
    /// # Errors
    /// One of the folders cannot be read or written.
    pub fn prepare(state: &Path, certificate: &Path, port: u16) -> Result<Self> {
        let read = |name: &str| {
            let file = certificate.join(name);
            std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        Ok(Self {
            port,
            login: logins::kept(state, "mqtt-login", rights::HOUSE)?,
            files: [
                ("certfile", read("cert.pem")?),
                ("keyfile", read("key.pem")?),
            ],
        })
    }
}

/// The usual port if nobody listens there, else any free one.
pub fn free_port() -> Result<u16> {
    let usual = TcpListener::bind((Ipv4Addr::UNSPECIFIED, USUAL_PORT));
    let listener = usual.or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
    let address = listener.and_then(|listener| listener.local_addr());
    Ok(address
        .context("no port is free for the house's broker")?
        .port())
}
