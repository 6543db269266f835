//! The names under which a browser may ask this box.
//!
//! In: the `Host` of a request. Out: whether it is an address, `localhost`, or a name of this machine.
//! A page of another site can make its own name point at this box (DNS rebinding); then its requests come
//! from the same origin as they go to, and only the name tells that they are not the box's own.

use std::net::{IpAddr, SocketAddr};

use axum::http::uri::Authority;

/// The names of this box, in lower case.
#[derive(Clone, Debug)]
pub struct Names {
    all: Vec<String>,
    /// How many of these, from the first on, no neighbour can point elsewhere, or the owner stands for.
    certain: usize,
}

impl Names {
    /// `localhost`, the machine's own name, that name in `.local`, and those that were `given`.
    pub fn new(given: &[String]) -> Self {
        // The kernel keeps it there; a machine without it has no name.
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::of(own.trim(), given)
    }

    fn of(own: &str, given: &[String]) -> Self {
        let mut names = vec!["localhost".to_owned()];
        names.extend(given.iter().map(|name| name.to_ascii_lowercase()));
        let certain = names.len();
        if !own.is_empty() {
            names.push(own.to_ascii_lowercase());
            let first = own.split('.').next().unwrap_or(own);
            names.push(format!("{first}.local").to_ascii_lowercase());
        }
        Self {
            all: names,
            certain,
        }
    }

    /// The page's address, for who types it: by this machine's name in `.local` unless one address alone is listened on.
    pub fn url(&self, encrypts: bool, listens: SocketAddr) -> String {
        let scheme = if encrypts { "https" } else { "http" };
        let local = self.all.iter().rfind(|name| name.ends_with(".local"));
        match local.filter(|_| listens.ip().is_unspecified()) {
            Some(name) => format!("{scheme}://{name}:{}", listens.port()),
            None => format!("{scheme}://{listens}"),
        }
    }

    /// All of them.
    pub fn all(&self) -> &[String] {
        &self.all
    }

    /// Whether `host`, with or without a port, is this box.
    pub fn has(&self, host: &str) -> bool {
        Self::is_among(host, &self.all)
    }

    /// As [`Names::has`], but for the names that the house's machines agree on among themselves.
    pub fn has_for_itself(&self, host: &str) -> bool {
        Self::is_among(host, &self.all[..self.certain])
    }

    fn is_among(host: &str, names: &[String]) -> bool {
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        // What stands before an `@` is no part of a name, and a port is a number.
        match host.strip_prefix(authority.host()) {
            Some("") => {}
            Some(_) if authority.port_u16().is_some() => {}
            _ => return false,
        }
        let host = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        address.parse::<IpAddr>().is_ok() || names.contains(&host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_and_the_own_names_are_this_box_and_other_names_are_not() {
        let names = Names::of("Garden.example", &["Cloister.lan".to_owned()]);
        for own in [
            "127.0.0.1:8080",
            "192.168.1.7",
            "[::1]:8080",
            "localhost:8080",
            "LOCALHOST",
            "localhost.:80",
            "garden.example",
            "garden.local:8080",
            "cloister.lan",
        ] {
            assert!(names.has(own), "{own}");
            let agreed = own.starts_with("garden");
            assert_eq!(names.has_for_itself(own), !agreed, "{own}");
        }
        for other in [
            "evil.example:8080",
            "garden",
            "garden.example.evil.example",
            "127.0.0.1.evil.example",
            "",
            "a b",
            "evil@",
            "me@127.0.0.1",
            "me@127.0.0.1:80",
            "127.0.0.1@evil.example",
            "localhost:",
            "localhost:80x",
            "localhost:99999",
            "localhost, evil.example",
            "localhost/",
        ] {
            assert!(!names.has(other), "{other}");
        }
    }
}
