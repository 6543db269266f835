//! Where the box can be asked, for people and for programs.
//!
//! In: what was started. Out: text.
//! Must never show the broker's password.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// Where the box can be asked.
pub struct Endpoints<'a> {
    /// Where the page listens.
    pub listen: SocketAddr,
    /// The broker's URL, with its password if it has one.
    pub broker: &'a str,
    /// The name of this box in topics.
    pub node: &'a str,
}

impl Endpoints<'_> {
    /// `{"page": URL, "broker": URL without password, "node": name, "topics": prefix}`, stable.
    pub fn json(&self) -> serde_json::Value {
        serde_json::json!({
            "page": self.page(),
            "broker": format!("mqtt://{}", self.broker_place()),
            "node": self.node,
            "topics": format!("cloister/{}/", self.node),
        })
    }

    /// What a person needs to know, with commands to paste.
    pub fn instructions(&self) -> String {
        let node = self.node;
        let place = self.broker_place();
        let (host, port) = place.rsplit_once(':').unwrap_or((place, "1883"));
        let (host, port) = if port.parse::<u16>().is_ok() {
            (host, port)
        } else {
            (place, "1883")
        };
        let host = host.trim_matches(['[', ']']);
        let login = if self.broker.contains('@') {
            " -u USER -P PASSWORD"
        } else {
            ""
        };
        let page = self.page();
        format!(
            "
  Page    {page}
  MQTT    mqtt://{place}
          cloister/{node}/ask           a question, as plain text or JSON
          cloister/{node}/answer/<id>   its answer
          cloister/{node}/stream/<id>   its pieces, when asked for
          cloister/{node}/cancel        the id of an ask to stop
          cloister/{node}/status        online or offline

  Ask over MQTT: paste the first line into one terminal, the second into another.
    mosquitto_sub -h {host} -p {port}{login} -v -t 'cloister/{node}/answer/#'
    mosquitto_pub -h {host} -p {port}{login} -t 'cloister/{node}/ask' -m 'What is a cloister?'

  Ctrl-C stops everything.
"
        )
    }

    /// The page as this machine reaches it.
    fn page(&self) -> String {
        let ip = if self.listen.ip().is_unspecified() {
            IpAddr::V4(Ipv4Addr::LOCALHOST)
        } else {
            self.listen.ip()
        };
        format!("http://{}/", SocketAddr::new(ip, self.listen.port()))
    }

    /// Host and port as written in the URL, without user and password.
    fn broker_place(&self) -> &str {
        let rest = self.broker.strip_prefix("mqtt://").unwrap_or(self.broker);
        let place = rest.rsplit_once('@').map_or(rest, |(_, place)| place);
        place.trim_end_matches('/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(broker: &str) -> Endpoints<'_> {
        Endpoints {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 8080)),
            broker,
            node: "attic",
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
}
