//! By which addresses the other machines in the home network reach this one.
//!
//! In: the kernel's lists of routes and of addresses. Out: addresses.
//! Must never send anything to find out.

use std::ffi::CStr;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// The most addresses that are looked at.
const MOST: usize = 64;

/// The IPv4 addresses of the interfaces that lead to the rest of the network: those of the default route,
/// which leaves out the bridges of containers; without such a route, of all interfaces but loopback.
pub fn addresses() -> Vec<Ipv4Addr> {
    // To nobody: the kernel answers about the network that a socket is in.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0));
    socket.map_or_else(|_| Vec::new(), |socket| addresses_of(&socket))
}

/// The same of the network that this socket is in, which need not be this process's own.
pub fn addresses_of(socket: &impl AsFd) -> Vec<Ipv4Addr> {
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    reachable(&default_interfaces(&routes), &own_addresses(socket.as_fd()))
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

/// The IPv4 addresses of the network that a socket is in, with the names of their interfaces (`SIOCGIFCONF`).
fn own_addresses(socket: BorrowedFd<'_>) -> Vec<(String, Ipv4Addr)> {
    // SAFETY: zeros are a valid `ifreq`.
    let mut found: [libc::ifreq; MOST] = unsafe { std::mem::zeroed() };
    let mut request = libc::ifconf {
        ifc_len: size_of_val(&found) as libc::c_int,
        ifc_ifcu: libc::__c_anonymous_ifc_ifcu {
            ifcu_req: found.as_mut_ptr(),
        },
    };
    // SAFETY: the kernel writes at most so many bytes into the list, and how many into the request; both live for the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFCONF, &raw mut request) } != 0 {
        return Vec::new();
    }
    let n = request.ifc_len.unsigned_abs() as usize / size_of::<libc::ifreq>();
    let of = |entry: &libc::ifreq| {
        // SAFETY: the kernel ends a name with a zero.
        let name = unsafe { CStr::from_ptr(entry.ifr_name.as_ptr()) };
        // SAFETY: it gives addresses of this family alone; one may be less aligned than the structure.
        let address = unsafe {
            (&raw const entry.ifr_ifru.ifru_addr)
                .cast::<libc::sockaddr_in>()
                .read_unaligned()
        };
        let address = Ipv4Addr::from(address.sin_addr.s_addr.to_ne_bytes());
        (name.to_string_lossy().into_owned(), address)
    };
    found.iter().take(n).map(of).collect()
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
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        assert!(own_addresses(socket.as_fd()).contains(&("lo".into(), Ipv4Addr::LOCALHOST)));
    }
}
