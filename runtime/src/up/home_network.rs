//! By which addresses the other machines in the home network reach this one.
//!
//! In: the kernel's lists of routes and of addresses. Out: addresses.
//! Must never send anything to find out.

use std::ffi::CStr;
use std::net::Ipv4Addr;

/// The IPv4 addresses of the interfaces that lead to the rest of the network: those of the default route,
/// which leaves out the bridges of containers; without such a route, of all interfaces but loopback.
pub fn addresses() -> Vec<Ipv4Addr> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    reachable(&default_interfaces(&routes), &own_addresses())
}

fn reachable(default: &[&str], own: &[(String, Ipv4Addr)]) -> Vec<Ipv4Addr> {
    own.iter()
        .filter(|(interface, address)| {
            !address.is_loopback() && (default.is_empty() || default.contains(&interface.as_str()))
        })
        .map(|(_, address)| *address)
        .collect()
}

/// The interfaces of the default routes in the text of `/proc/net/route`.
fn default_interfaces(routes: &str) -> Vec<&str> {
    routes
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let interface = fields.next()?;
            (fields.next()? == "00000000").then_some(interface)
        })
        .collect()
}

/// The IPv4 addresses of this machine with the names of their interfaces.
fn own_addresses() -> Vec<(String, Ipv4Addr)> {
    let mut list = std::ptr::null_mut();
    // SAFETY: getifaddrs writes the head of its list to `list` and keeps no pointer to it.
    if unsafe { libc::getifaddrs(&raw mut list) } != 0 {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut entry = list;
    // SAFETY: each entry of the list is null, at its end, or valid until freeifaddrs below.
    while let Some(this) = unsafe { entry.as_ref() } {
        entry = this.ifa_next;
        // SAFETY: an address is null or a valid socket address of some family.
        let family = unsafe { this.ifa_addr.as_ref() }.map(|address| address.sa_family);
        if family == Some(libc::AF_INET as libc::sa_family_t) {
            // SAFETY: an address of this family is a sockaddr_in; it may be less aligned than one.
            let address = unsafe { this.ifa_addr.cast::<libc::sockaddr_in>().read_unaligned() };
            // SAFETY: the name is a C string, valid as long as the entry.
            let name = unsafe { CStr::from_ptr(this.ifa_name) };
            let address = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
            found.push((name.to_string_lossy().into_owned(), address));
        }
    }
    // SAFETY: `list` came from getifaddrs, and no entry is used after this.
    unsafe { libc::freeifaddrs(list) };
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUTES: &str = "Iface\tDestination\tGateway\tFlags\nwlan0\t00000000\t0101A8C0\t0003\nwlan0\t0001A8C0\t00000000\t0001\ndocker0\t000011AC\t00000000\t0001\n";

    fn own() -> Vec<(String, Ipv4Addr)> {
        vec![
            ("lo".into(), Ipv4Addr::LOCALHOST),
            ("docker0".into(), Ipv4Addr::new(172, 17, 0, 1)),
            ("wlan0".into(), Ipv4Addr::new(192, 168, 1, 20)),
        ]
    }

    #[test]
    fn a_phone_is_told_the_address_on_the_default_route() {
        assert_eq!(
            reachable(&default_interfaces(ROUTES), &own()),
            [Ipv4Addr::new(192, 168, 1, 20)]
        );
    }

    #[test]
    fn without_a_default_route_every_address_but_loopback_is_told() {
        assert_eq!(reachable(&[], &own()).len(), 2);
    }

    #[test]
    fn this_machine_has_its_loopback_address() {
        assert!(own_addresses().contains(&("lo".into(), Ipv4Addr::LOCALHOST)));
    }
}
