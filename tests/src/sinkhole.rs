//! The box in a network of its own, whose only way out is a sinkhole, and everything that leaves it.
//!
//! In: what the box is to go through. Out: every packet that left it, sorted by whose it is ([`packets`]).
//! The sinkhole is the default route and leads to every name server; nothing that is sent there is answered.
//! Must never let a packet out of this machine: the two namespaces are connected to each other alone.

pub mod appliance;
pub mod capture;
pub mod namespaces;
pub mod packets;

use std::net::{Ipv4Addr, Ipv6Addr};

/// The sinkhole's own address, where the clients and the broker are.
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// The box.
pub const BOX: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
/// The same of IPv6.
pub const OUTSIDE_6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
/// The same of IPv6.
pub const BOX_6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);
/// The name server in the box's `/etc/resolv.conf`: an address kept for documentation, beyond the default route.
pub const NAME_SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 53);
/// Another such address, for leaks.
pub const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
/// Where the box's page listens.
pub const PAGE_PORT: u16 = 8080;
/// Where the broker listens.
pub const BROKER_PORT: u16 = 1883;
/// Where the box's own broker listens for the house.
pub const HOUSE_PORT: u16 = 8883;
