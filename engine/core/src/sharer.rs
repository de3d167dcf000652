//! Names clients and their networks where they share something that is bounded.

use core::net::IpAddr;

/// One of those who share something that is bounded: a client, and the network that it is in.
///
/// A client is an address (of IPv6 the first 64 bits: a host has all of them), its network the first 24 bits of that (of
/// IPv6 the first 48, which is what one site has). The numbers serve to compare sharers, and for nothing else.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sharer {
    /// Clients of one network have the same.
    pub network: u128,
    /// Connections of one client have the same.
    pub client: u128,
}

impl Sharer {
    /// The users of this machine. No client has this address, `::`.
    pub const OF_USERS: Self = Self { network: 0, client: 0 };

    /// The client that has this address.
    #[must_use]
    pub fn of_client(address: IpAddr) -> Self {
        const IPV4: u128 = 0xffff << 32;
        let client = match address.to_canonical() {
            IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
            IpAddr::V6(address) => address.to_bits() & !u128::from(u64::MAX),
        };
        let network =
            if client & !0xffff_ffff == IPV4 { client & !0xff } else { client & !(u128::MAX >> 48) };
        Self { network, client }
    }

    /// A connection whose address may be a proxy's and says nothing of who speaks: a client and a network of its own.
    #[must_use]
    pub fn of_connection(address: IpAddr, port: u16) -> Self {
        // These bits are zero in all addresses of clients, and no port is zero.
        let client = Self::of_client(address).client | u128::from(port) << 48;
        Self { network: client, client }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(address: &str) -> Sharer {
        Sharer::of_client(address.parse().unwrap())
    }

    #[test]
    fn distinguishes_networks_and_clients() {
        assert_eq!(client("192.0.2.1"), client("::ffff:192.0.2.1"));
        assert_eq!(client("192.0.2.1").network, client("192.0.2.255").network);
        assert_ne!(client("192.0.2.1").client, client("192.0.2.2").client);
        assert_ne!(client("192.0.2.1").network, client("192.0.3.1").network);
        assert_eq!(client("2001:db8:1:2::1"), client("2001:db8:1:2:ffff::1"));
        assert_eq!(client("2001:db8:1:2::1").network, client("2001:db8:1:ffff::1").network);
        assert_ne!(client("2001:db8:1:2::1").client, client("2001:db8:1:ffff::1").client);
        assert_ne!(client("2001:db8:1::1").network, client("2001:db8:2::1").network);
    }

    #[test]
    fn proxy_connections_and_local_users_are_separate_clients() {
        for address in ["192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"] {
            let connection = |port| Sharer::of_connection(address.parse().unwrap(), port);
            assert_eq!(connection(25), connection(25));
            assert_ne!(connection(25).network, connection(26).network);
            for port in [1, 25, u16::MAX] {
                assert_ne!(connection(port).client, client(address).client);
                assert_ne!(connection(port).network, client(address).network);
                assert_ne!(connection(port).network, Sharer::OF_USERS.network);
            }
        }
    }
}
