//! Whose a packet is that leaves the box.
//!
//! In: an Ethernet frame and the interface it left by. Out: whose it is, and one line about it.
//! What the kernel sends by itself to find the neighbours that are meant to be there is told apart by what it asks:
//! ARP and IPv6 neighbour discovery for the addresses of this cable alone, and IPv6 multicast reports. A question for
//! any other neighbour is a leak: something inside wants to reach one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{BOX, BOX_6, BROKER_PORT, HOUSE_PORT, OUTSIDE, OUTSIDE_6, PAGE_PORT};

/// Whose a packet is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// An answer on a connection that a client has opened to the page's port.
    Client,
    /// On the connection to the broker.
    Broker,
    /// The kernel's own, to find the two neighbours on this cable.
    Kernel,
    /// Nobody's who may send.
    Leak,
}

/// The place that a packet left by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The box's own loopback.
    Loopback,
    /// The cable to the sinkhole.
    Cable,
}

/// Whose `frame` is, and from where to where it goes.
pub fn judge(interface: Interface, frame: &[u8]) -> (Whose, String) {
    let read = Reader(frame);
    let kind = read.u16(12).unwrap_or_default();
    let (whose, line) = match kind {
        0x0806 => arp(read),
        0x0800 => ipv4(read),
        0x86dd => ipv6(read),
        _ => (Whose::Leak, format!("Ethernet type {kind:#06x}")),
    };
    match interface {
        Interface::Cable => (whose, line),
        Interface::Loopback if is_of_own_broker(read) => {
            (Whose::Broker, format!("{line} on loopback"))
        }
        // Nothing else in the box has a reason to use loopback: all clients are outside.
        Interface::Loopback => (Whose::Leak, format!("{line} on loopback")),
    }
}

/// Whether it is TCP between this host and the broker that the box has of its own.
fn is_of_own_broker(read: Reader<'_>) -> bool {
    let is_tcp =
        read.u16(12) == Some(0x0800) && read.u8(14) == Some(0x45) && read.u8(23) == Some(6);
    let here = Some(Ipv4Addr::LOCALHOST);
    let ports = [read.u16(34), read.u16(36)];
    is_tcp && read.v4(26) == here && read.v4(30) == here && ports.contains(&Some(BROKER_PORT))
}

fn arp(read: Reader<'_>) -> (Whose, String) {
    let asked = read.v4(38);
    let whose = match asked {
        Some(OUTSIDE | BOX) => Whose::Kernel,
        _ => Whose::Leak,
    };
    (whose, format!("ARP for {}", shown(asked)))
}

fn ipv4(read: Reader<'_>) -> (Whose, String) {
    let header = usize::from(read.u8(14).unwrap_or_default() & 15) * 4;
    let from = read.v4(26).map(IpAddr::V4);
    let to = read.v4(30).map(IpAddr::V4);
    transport(read, 14 + header, read.u8(23), from, to)
}

fn ipv6(read: Reader<'_>) -> (Whose, String) {
    let (from, to) = (read.v6(22), read.v6(38));
    let (mut next, mut at) = (read.u8(20), 54);
    // Multicast reports come behind a hop-by-hop header with a router alert.
    if next == Some(0) {
        next = read.u8(at);
        at += 8 * (usize::from(read.u8(at + 1).unwrap_or_default()) + 1);
    }
    if next != Some(58) {
        return transport(read, at, next, from.map(IpAddr::V6), to.map(IpAddr::V6));
    }
    let kind = read.u8(at).unwrap_or_default();
    let on_the_cable = |address: Option<Ipv6Addr>| {
        address.is_some_and(|a| a == BOX_6 || a == OUTSIDE_6 || a.is_unicast_link_local())
    };
    let whose = match kind {
        // Version 2 of the multicast listener report, to all routers that listen to those.
        143 if to == Some(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0x16)) => Whose::Kernel,
        // A neighbour's question and answer: whom they are about.
        135 | 136 if on_the_cable(read.v6(at + 8)) => Whose::Kernel,
        _ => Whose::Leak,
    };
    (whose, format!("ICMPv6 type {kind} to {}", shown(to)))
}

fn transport(
    read: Reader<'_>,
    at: usize,
    protocol: Option<u8>,
    from: Option<IpAddr>,
    to: Option<IpAddr>,
) -> (Whose, String) {
    let (source, target) = (read.u16(at), read.u16(at + 2));
    let ends = format!(
        "{}:{} > {}:{}",
        shown(from),
        shown(source),
        shown(to),
        shown(target)
    );
    match protocol {
        Some(6) => {
            let flags = read.u8(at + 13).unwrap_or(2);
            // With SYN and without ACK a connection is opened.
            let opens = flags & 2 != 0 && flags & 16 == 0;
            let whose = if from != Some(BOX.into()) || to != Some(OUTSIDE.into()) {
                Whose::Leak
            } else if target == Some(BROKER_PORT) {
                Whose::Broker
            } else if [Some(PAGE_PORT), Some(HOUSE_PORT)].contains(&source) && !opens {
                Whose::Client
            } else {
                Whose::Leak
            };
            (whose, format!("TCP {ends}"))
        }
        Some(17) => {
            let what = if target == Some(53) { "DNS" } else { "UDP" };
            (Whose::Leak, format!("{what} {ends}"))
        }
        other => (
            Whose::Leak,
            format!(
                "IP protocol {} from {} to {}",
                shown(other),
                shown(from),
                shown(to)
            ),
        ),
    }
}

fn shown(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "?".into(), |value| value.to_string())
}

/// Numbers of a frame, where it is long enough.
#[derive(Clone, Copy)]
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn bytes<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at.checked_add(N)?)?.try_into().ok()
    }

    fn u8(self, at: usize) -> Option<u8> {
        self.0.get(at).copied()
    }

    fn u16(self, at: usize) -> Option<u16> {
        self.bytes(at).map(u16::from_be_bytes)
    }

    fn v4(self, at: usize) -> Option<Ipv4Addr> {
        self.bytes::<4>(at).map(Ipv4Addr::from)
    }

    fn v6(self, at: usize) -> Option<Ipv6Addr> {
        self.bytes::<16>(at).map(Ipv6Addr::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinkhole::{ELSEWHERE, NAME_SERVER};

    const SYN: u8 = 2;
    const ACK: u8 = 16;

    fn packet(protocol: u8, to: Ipv4Addr, ports: (u16, u16), flags: u8) -> Vec<u8> {
        packet_of(BOX, protocol, to, ports, flags)
    }

    fn packet_of(
        from: Ipv4Addr,
        protocol: u8,
        to: Ipv4Addr,
        ports: (u16, u16),
        flags: u8,
    ) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45]);
        frame.resize(23, 0);
        frame.extend([protocol, 0, 0]);
        frame.extend(from.octets());
        frame.extend(to.octets());
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame.resize(34 + 13, 0);
        frame.push(flags);
        frame
    }

    fn arp_for(target: Ipv4Addr) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x06]);
        frame.resize(38, 0);
        frame.extend(target.octets());
        frame
    }

    fn icmp_v6(kind: u8, to: Ipv6Addr, about: Ipv6Addr) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd]);
        frame.resize(20, 0);
        frame.extend([58, 255]);
        frame.extend(BOX_6.octets());
        frame.extend(to.octets());
        frame.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend(about.octets());
        frame
    }

    fn whose(frame: &[u8]) -> Whose {
        judge(Interface::Cable, frame).0
    }

    #[test]
    fn answers_to_clients_and_the_brokers_connection_are_whose_they_are() {
        let answer = packet(6, OUTSIDE, (PAGE_PORT, 50_000), ACK);
        assert_eq!(whose(&answer), Whose::Client);
        let accepted = packet(6, OUTSIDE, (PAGE_PORT, 50_000), SYN | ACK);
        assert_eq!(whose(&accepted), Whose::Client);
        let dialled = packet(6, OUTSIDE, (40_000, BROKER_PORT), SYN);
        assert_eq!(whose(&dialled), Whose::Broker);
        let asked = packet(6, OUTSIDE, (HOUSE_PORT, 50_000), ACK);
        assert_eq!(whose(&asked), Whose::Client);
        assert_eq!(judge(Interface::Loopback, &answer).0, Whose::Leak);
    }

    #[test]
    fn on_loopback_only_the_broker_of_its_own_is_spoken_to() {
        let here = Ipv4Addr::LOCALHOST;
        let on_loopback = |frame: &[u8]| judge(Interface::Loopback, frame).0;
        for ports in [(40_000, BROKER_PORT), (BROKER_PORT, 40_000)] {
            assert_eq!(
                on_loopback(&packet_of(here, 6, here, ports, SYN)),
                Whose::Broker
            );
            assert_eq!(
                on_loopback(&packet_of(here, 17, here, ports, 0)),
                Whose::Leak
            );
            assert_eq!(
                on_loopback(&packet_of(here, 6, BOX, ports, SYN)),
                Whose::Leak
            );
            assert_eq!(whose(&packet_of(here, 6, here, ports, SYN)), Whose::Leak);
        }
        assert_eq!(
            on_loopback(&packet_of(here, 6, here, (40_000, 53), SYN)),
            Whose::Leak
        );
    }

    #[test]
    fn whatever_else_leaves_is_a_leak() {
        for leak in [
            packet(6, OUTSIDE, (PAGE_PORT, 443), SYN),
            packet(6, OUTSIDE, (40_000, 443), ACK),
            packet(6, ELSEWHERE, (40_000, BROKER_PORT), SYN),
            packet(6, ELSEWHERE, (PAGE_PORT, 50_000), ACK),
            packet(17, NAME_SERVER, (40_000, 53), 0),
            packet(17, OUTSIDE, (PAGE_PORT, 50_000), 0),
            packet(1, OUTSIDE, (0, 0), 0),
            packet(6, OUTSIDE, (PAGE_PORT, 50_000), ACK)[..20].to_vec(),
            vec![],
        ] {
            assert_eq!(whose(&leak), Whose::Leak, "{leak:?}");
        }
        let (_, line) = judge(Interface::Cable, &packet(17, NAME_SERVER, (4, 53), 0));
        assert_eq!(line, "DNS 10.77.0.2:4 > 203.0.113.53:53");
    }

    #[test]
    fn the_kernel_may_look_for_the_neighbours_of_the_cable_and_for_no_other() {
        assert_eq!(whose(&arp_for(OUTSIDE)), Whose::Kernel);
        assert_eq!(whose(&arp_for(BOX)), Whose::Kernel);
        assert_eq!(whose(&arp_for(Ipv4Addr::new(10, 77, 0, 9))), Whose::Leak);
        let all: Ipv6Addr = "ff02::1:ff00:1".parse().unwrap();
        assert_eq!(whose(&icmp_v6(135, all, OUTSIDE_6)), Whose::Kernel);
        let other = "fd77::9".parse().unwrap();
        assert_eq!(whose(&icmp_v6(135, all, other)), Whose::Leak);
        let reports = "ff02::16".parse().unwrap();
        assert_eq!(whose(&icmp_v6(143, reports, BOX_6)), Whose::Kernel);
        assert_eq!(whose(&icmp_v6(143, OUTSIDE_6, BOX_6)), Whose::Leak);
        assert_eq!(whose(&icmp_v6(128, OUTSIDE_6, BOX_6)), Whose::Leak);
    }
}
