//! Who is at the other end of a connection, and for whom they ask.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;

use axum::http::HeaderMap;
use cloister_engine::{Client, Priority};

use super::gate::is_own;
use crate::access::{Key, Scope};

/// A local program that asks for others names each of them by this header.
const ASKER: &str = "cloister-asker";

/// Who asks, and how much of a hurry that is unless they say.
#[derive(Clone, Debug)]
pub struct Asker {
    pub client: Client,
    pub priority: Priority,
    /// Whether it is the owner, at the machine itself: who asks for others is not.
    pub owner: bool,
    /// Whether it may decide for all: the owner, or a key of this scope.
    pub admin: bool,
}

/// The other end of one connection.
#[derive(Clone, Debug)]
pub enum Peer {
    /// Over TCP.
    Address {
        /// From where.
        ip: IpAddr,
        /// Whether by TLS.
        encrypted: bool,
        /// The key that was shown, if one was needed.
        key: Option<Key>,
    },
    /// Over the Unix socket: the user's number, if the kernel tells.
    LocalUser(Option<u32>),
}

impl Peer {
    /// Who asks. A local program that asks for others carries messages, as the bridge does: a person at the page
    /// goes first.
    pub fn asker(&self, headers: &HeaderMap) -> Asker {
        let for_others = matches!(self, Self::LocalUser(_)) && headers.contains_key(ASKER);
        let owner = match self {
            Self::Address { ip, .. } => is_own(*ip),
            Self::LocalUser(_) => !for_others,
        };
        Asker {
            client: self.client(headers),
            priority: match for_others || self.key().is_some_and(|key| key.automation) {
                true => Priority::Automation,
                false => Priority::Interactive,
            },
            owner,
            admin: owner || self.key().is_some_and(|key| key.scope == Scope::Admin),
        }
    }

    /// The key that was shown, if one was needed.
    pub fn key(&self) -> Option<&Key> {
        match self {
            Self::Address { key, .. } => key.as_ref(),
            Self::LocalUser(_) => None,
        }
    }

    /// The client of a request: a key, or an address that needs none, or a local user, or one of those for whom a local
    /// user asks.
    /// A name that is claimed can only divide a user's own requests, never reach another user's.
    fn client(&self, headers: &HeaderMap) -> Client {
        Client(match self {
            // Who gets the name of a key that was revoked is not who had that.
            Self::Address { key: Some(key), .. } => format!("key {} of {}", key.name, key.added),
            Self::Address { ip, .. } => ip.to_string(),
            Self::LocalUser(user) => {
                let user = user.map_or_else(|| "unknown".to_owned(), |uid| uid.to_string());
                match headers.get(ASKER) {
                    None => format!("uid {user}"),
                    Some(asker) => {
                        format!(
                            "uid {user} for {}",
                            String::from_utf8_lossy(asker.as_bytes())
                        )
                    }
                }
            }
        })
    }
}

/// The users whose programs may speak as one of the box's: root, this process's own, and in an image that program's.
#[derive(Clone, Debug)]
pub struct Users(Vec<u32>);

impl Users {
    /// With this one's, where there is such a user. To be asked before the process is sealed.
    pub fn with(name: &str) -> Self {
        let own = std::fs::metadata("/proc/self").map(|process| process.uid());
        let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
        let named = passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        });
        Self([Some(0), own.ok(), named].into_iter().flatten().collect())
    }

    /// Whether this is one of them, speaking for itself.
    pub fn speak(&self, peer: &Peer, headers: &HeaderMap) -> bool {
        matches!(peer, Peer::LocalUser(Some(user)) if self.0.contains(user))
            && peer.asker(headers).owner
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: [u8; 4]) -> Peer {
        Peer::Address {
            ip: ip.into(),
            encrypted: false,
            key: None,
        }
    }

    #[test]
    fn a_local_program_may_name_those_it_asks_for_and_others_may_not() {
        let mut headers = HeaderMap::new();
        let (phone, local) = (from([10, 0, 0, 1]), Peer::LocalUser(Some(7)));
        assert_eq!(local.client(&headers).0, "uid 7");
        headers.insert(ASKER, "panel/answers".parse().expect("valid"));
        assert_eq!(local.client(&headers).0, "uid 7 for panel/answers");
        assert_eq!(phone.client(&headers).0, "10.0.0.1");
        assert_eq!(local.asker(&headers).priority, Priority::Automation);
        assert_eq!(phone.asker(&headers).priority, Priority::Interactive);
        let own = from([127, 0, 0, 1]);
        let users = Users(vec![0, 7]);
        assert!(users.speak(&local, &HeaderMap::new()) && !users.speak(&local, &headers));
        for other in [&own, &Peer::LocalUser(None), &Peer::LocalUser(Some(8))] {
            assert!(!users.speak(other, &HeaderMap::new()), "{other:?}");
        }
        assert!(own.asker(&headers).owner && local.asker(&HeaderMap::new()).owner);
        assert!(!phone.asker(&headers).owner && !local.asker(&headers).owner);
    }

    #[test]
    fn a_key_is_the_client_wherever_it_comes_from_and_may_be_a_programs() {
        let folder = tempfile::tempdir().unwrap();
        let access = crate::access::Access::of(folder.path());
        for (name, automation, priority) in [
            ("attic", false, Priority::Interactive),
            ("robot", true, Priority::Automation),
        ] {
            let secret = access.add(name, crate::access::Scope::Ask, automation);
            let peer = Peer::Address {
                ip: [10, 0, 0, 1].into(),
                encrypted: false,
                key: access.whose(&secret.unwrap()).unwrap(),
            };
            let asker = peer.asker(&HeaderMap::new());
            let client = format!("key {name} of ");
            assert!(asker.client.0.starts_with(&client), "{}", asker.client.0);
            assert_eq!(asker.priority, priority);
            assert!(!asker.owner && !asker.admin);
        }
    }
}
