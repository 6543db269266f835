//! Where the box can be asked, for people and for programs.
//!
//! In: what was started, and by which addresses others reach this machine. Out: text.
//! Must never show the broker's password, nor tell a program a pairing code.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cloister_program::node::Node;

use crate::access::commands::spaced;

/// How others get in.
#[derive(Default)]
pub struct Entrance {
    /// Of the certificate, where the page's port speaks TLS.
    pub fingerprint: Option<String>,
    /// A pairing code, where others reach the page.
    pub code: Option<String>,
    /// The state folder, for the owner's commands.
    pub state: PathBuf,
}

/// Where the box can be asked.
pub struct Endpoints<'a> {
    /// Where the page listens.
    pub listen: SocketAddr,
    /// How others get in.
    pub entrance: Entrance,
    /// By which addresses other machines reach this one.
    pub home_network: Vec<Ipv4Addr>,
    /// The broker's URL, with its password if it has one.
    pub broker: &'a str,
    /// The port of the broker's listener for the house, and the file with its login, where there is one.
    pub house: Option<(u16, &'a Path)>,
    /// The name of this box in topics.
    pub node: &'a Node,
}

impl Endpoints<'_> {
    /// `{"page": URL, "fingerprint": of its certificate or null, "broker": URL without password, "lan_broker_port":
    /// number or null, "node": name, "topics": prefix}`, stable.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "page": self.page(),
            "fingerprint": self.entrance.fingerprint,
            "broker": format!("{}://{}", self.broker_parts().0, self.broker_parts().1),
            "lan_broker_port": self.house.map(|(port, _)| port),
            "node": self.node.to_string(),
            "topics": format!("cloister/{}/", self.node),
        })
    }

    /// What a person needs to know, with commands to paste.
    pub fn instructions(&self) -> String {
        let node = self.node;
        let (scheme, place) = self.broker_parts();
        let (usual_port, tls) = match scheme {
            "mqtts" => ("8883", " --cafile CA.pem"),
            _ => ("1883", ""),
        };
        let (host, port) = place.rsplit_once(':').unwrap_or((place, usual_port));
        let (host, port) = if port.parse::<u16>().is_ok() {
            (host, port)
        } else {
            (place, usual_port)
        };
        let host = host.trim_matches(['[', ']']);
        let login = if self.broker.contains('@') {
            " -u USER -P PASSWORD"
        } else {
            ""
        };
        let page = self.pages();
        let house = self.house.map_or_else(String::new, |(port, login)| {
            let state = self.entrance.state.display();
            format!(
                "\n          mqtts on port {port} from your network: user and password in {}, certificate {state}/tls/cert.pem",
                login.display()
            )
        });
        let how = if scheme.starts_with("ws") {
            // Debian's mosquitto_pub speaks no WebSocket.
            "Ask with any MQTT client that speaks WebSocket.".to_owned()
        } else {
            let connect = format!("-h {host} -p {port}{tls}{login}");
            format!(
                "Ask over MQTT: paste the first line into one terminal, the second into another.
    mosquitto_sub {connect} -v -t 'cloister/{node}/answer/#'
    mosquitto_pub {connect} -t 'cloister/{node}/ask' -m 'What is a cloister?'"
            )
        };
        format!(
            "
  Page    {page}
  MQTT    {scheme}://{place}{house}
          cloister/{node}/ask           a question, as plain text or JSON
          cloister/{node}/answer/<id>   its answer
          cloister/{node}/stream/<id>   its pieces, when asked for
          cloister/{node}/cancel        the id of an ask to stop
          cloister/{node}/status        online or offline

  {how}

  Ctrl-C stops everything.
"
        )
    }

    /// The page's lines: how to reach it, and how others get in.
    fn pages(&self) -> String {
        let page = self.page();
        let ip = self.listen.ip();
        if ip.is_loopback() {
            return page;
        }
        let mut lines = Vec::new();
        if ip.is_unspecified() {
            let port = self.listen.port();
            let others = self.home_network.iter();
            let scheme = self.scheme();
            lines.extend(others.map(|ip| format!("{scheme}://{ip}:{port}/   from your network")));
            lines.push(format!("{page}   from this machine"));
        } else {
            lines.push(page);
        }
        if let Some(code) = &self.entrance.code {
            let (code, state) = (spaced(code), self.entrance.state.display());
            lines.push(format!(
                "Pair a browser with the code {code}, good once, for ten minutes; `cloister pair --state {state}` shows another."
            ));
            lines.push(format!(
                "A program needs a key: `cloister keys add NAME --state {state}`."
            ));
        }
        match &self.entrance.fingerprint {
            Some(fingerprint) => {
                lines.push("Browsers say once that nobody has signed its certificate. It has this fingerprint:".into());
                lines.push(fingerprint.clone());
            }
            None => lines.push(
                "Nothing is encrypted: who listens to the network's traffic reads along.".into(),
            ),
        }
        lines.join("\n          ")
    }

    /// The page as this machine reaches it.
    fn page(&self) -> String {
        let ip = if self.listen.ip().is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.listen.ip()
        };
        let place = SocketAddr::new(ip, self.listen.port());
        format!("{}://{place}/", self.scheme())
    }

    fn scheme(&self) -> &'static str {
        match self.entrance.fingerprint {
            Some(_) => "https",
            None => "http",
        }
    }

    /// The scheme, and host, port and path as written in the URL, without user and password.
    fn broker_parts(&self) -> (&str, &str) {
        let (scheme, rest) = self
            .broker
            .split_once("://")
            .unwrap_or(("mqtt", self.broker));
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        (scheme, place.trim_end_matches('/'))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static NODE: LazyLock<Node> = LazyLock::new(|| Node::parse("attic").unwrap());

    fn endpoints(broker: &str) -> Endpoints<'_> {
        Endpoints {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            entrance: Entrance::default(),
            home_network: vec![Ipv4Addr::new(192, 168, 1, 20)],
            broker,
            house: None,
            node: &NODE,
        }
    }

    #[test]
    fn the_pasted_pair_names_the_real_port_and_node() {
        let text = endpoints("mqtt://127.0.0.1:1884").instructions();
        assert!(
            text.contains("mosquitto_sub -h 127.0.0.1 -p 1884 -v -t 'cloister/attic/answer/#'"),
            "{text}"
        );
        assert!(
            text.contains("mosquitto_pub -h 127.0.0.1 -p 1884 -t 'cloister/attic/ask'"),
            "{text}"
        );
    }

    #[test]
    fn a_page_on_loopback_is_told_with_no_other_address() {
        let text = endpoints("mqtt://127.0.0.1").instructions();
        assert!(text.contains("Page    http://127.0.0.1:8080/\n"), "{text}");
        assert!(!text.contains("192.168.1.20"), "{text}");
    }

    #[test]
    fn an_open_page_is_told_by_the_address_that_a_phone_can_use_and_how_one_gets_in() {
        let open = Endpoints {
            listen: "0.0.0.0:8080".parse().unwrap(),
            entrance: Entrance {
                fingerprint: Some("AB:CD".into()),
                code: Some("12345678".into()),
                state: "/s".into(),
            },
            ..endpoints("mqtt://127.0.0.1")
        };
        let text = open.instructions();
        assert!(
            text.contains("Page    https://192.168.1.20:8080/ "),
            "{text}"
        );
        assert!(text.contains("https://127.0.0.1:8080/ "), "{text}");
        assert!(
            text.contains("1234 5678")
                && text.contains("pair --state /s")
                && text.contains("AB:CD"),
            "{text}"
        );
        assert!(!text.contains("Nothing is encrypted"), "{text}");
        let json = open.json();
        assert_eq!(json["page"], "https://127.0.0.1:8080/");
        assert_eq!(json["fingerprint"], "AB:CD");
        assert!(!json.to_string().contains("5678"), "{json}");

        let of_one = Endpoints {
            listen: "192.168.1.20:80".parse().unwrap(),
            ..endpoints("mqtt://127.0.0.1")
        };
        let text = of_one.instructions();
        assert!(text.contains("Page    http://192.168.1.20:80/\n"), "{text}");
        assert!(text.contains("Nothing is encrypted"), "{text}");
    }

    #[test]
    fn the_brokers_password_is_never_printed() {
        let endpoints = endpoints("mqtt://me:s3cret@[::1]:1884/");
        let text = format!("{}{}", endpoints.instructions(), endpoints.json());
        assert!(!text.contains("s3cret"), "{text}");
        assert!(
            text.contains("-h ::1 -p 1884 -u USER -P PASSWORD"),
            "{text}"
        );
    }

    #[test]
    fn a_broker_without_a_port_is_at_1883() {
        let text = endpoints("mqtt://broker.lan").instructions();
        assert!(text.contains("-h broker.lan -p 1883 -t"), "{text}");
    }

    #[test]
    fn a_broker_with_tls_or_websocket_is_told_as_such() {
        let tls = endpoints("mqtts://me:s3cret@broker.lan");
        assert_eq!(tls.json()["broker"], "mqtts://broker.lan");
        let text = tls.instructions();
        assert!(
            text.contains("-h broker.lan -p 8883 --cafile CA.pem -u USER"),
            "{text}"
        );
        let text = endpoints("ws://broker.lan:9001/mqtt").instructions();
        assert!(text.contains("ws://broker.lan:9001/mqtt"), "{text}");
        assert!(!text.contains("mosquitto_pub"), "{text}");
    }
}
