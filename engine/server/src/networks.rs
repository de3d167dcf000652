//! Lists of networks, as `mynetworks` writes them.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An ordered list of networks; the first that holds an address decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(Vec<Network>);

/// One item of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    /// The first address; IPv4 as the low 32 bits.
    first: u128,
    /// How many low bits may differ.
    free_bits: u32,
    is_ipv4: bool,
    /// Written with `!`: what matches is not in the list.
    is_exclusion: bool,
}

/// Why a text is not a network.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NetworkError {
    pub(crate) reason: String,
    /// What to write instead.
    pub(crate) remedy: String,
}

impl NetworkError {
    const fn new(reason: String, remedy: String) -> Self {
        Self { reason, remedy }
    }
}

impl Networks {
    /// Reads the items of a list.
    pub(crate) fn parse(items: &[String]) -> Result<Self, NetworkError> {
        items.iter().map(|item| Network::read(item)).collect::<Result<_, _>>().map(Self)
    }

    /// Whether `address` is in the list. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let (number, is_ipv4) = number_of(address.to_canonical());
        let first = self.0.iter().find(|network| network.holds(number, is_ipv4));
        first.is_some_and(|network| !network.is_exclusion)
    }

    /// Whether nothing is in the list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Network {
    fn holds(&self, number: u128, is_ipv4: bool) -> bool {
        let difference = (number ^ self.first).checked_shr(self.free_bits).unwrap_or(0);
        is_ipv4 == self.is_ipv4 && difference == 0
    }

    /// Reads `10.0.0.0/8`, `192.0.2.1`, `[2001:db8::]/32` or `[::1]`, each with any number of `!` before it.
    fn read(item: &str) -> Result<Self, NetworkError> {
        let pattern = item.trim_start_matches('!');
        let is_exclusion = (item.len() - pattern.len()) % 2 == 1;
        let (address, prefix) = pattern.split_once('/').map_or((pattern, None), |(a, p)| (a, Some(p)));
        let address = read_address(address)?;
        let (number, is_ipv4) = number_of(address);
        let bits = if is_ipv4 { 32 } else { 128 };
        let prefix = match prefix {
            None => bits,
            Some(text) => read_prefix(text, bits).ok_or_else(|| {
                NetworkError::new(format!("{item:?} has a bad prefix length"), format!("write /0 to /{bits}"))
            })?,
        };
        let network = Self { first: number, free_bits: bits - prefix, is_ipv4, is_exclusion };
        let first = network.first_address();
        if number != first {
            let proper = Self { first, ..network };
            return Err(NetworkError::new(
                format!("{item:?} has host bits that are not zero"),
                format!("write {proper:#} if that network is meant"),
            ));
        }
        Ok(network)
    }

    fn first_address(&self) -> u128 {
        u128::MAX.checked_shl(self.free_bits).unwrap_or(0) & self.first
    }
}

impl fmt::Display for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_exclusion {
            formatter.write_str("!")?;
        }
        match u32::try_from(self.first) {
            Ok(address) if self.is_ipv4 => {
                write!(formatter, "{}/{}", Ipv4Addr::from(address), 32 - self.free_bits)
            }
            _ => write!(formatter, "[{}]/{}", Ipv6Addr::from(self.first), 128 - self.free_bits),
        }
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, network) in self.0.iter().enumerate() {
            write!(formatter, "{}{network}", if index > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

fn read_address(text: &str) -> Result<IpAddr, NetworkError> {
    let address = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    address.ok_or_else(|| {
        let remedy = if text.parse::<Ipv6Addr>().is_ok() {
            format!("write the IPv6 address in brackets: [{text}]")
        } else {
            "write networks such as 10.0.0.0/8, 192.0.2.1 or [2001:db8::]/32 (tables and files are not read here)"
                .to_owned()
        };
        NetworkError::new(format!("{text:?} is not a network"), remedy)
    })
}

/// Digits only: `+8` and ` 8` are none.
fn read_prefix(text: &str, bits: u32) -> Option<u32> {
    let is_number = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    text.parse().ok().filter(|prefix| is_number && *prefix <= bits)
}

fn number_of(address: IpAddr) -> (u128, bool) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), true),
        IpAddr::V6(address) => (u128::from(address), false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn networks(items: &[&str]) -> Networks {
        Networks::parse(&items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn networks_contain_their_addresses() {
        let table: &[(&[&str], &str, bool)] = &[
            (&["127.0.0.0/8", "[::1]/128"], "127.255.255.255", true),
            (&["127.0.0.0/8", "[::1]/128"], "128.0.0.0", false),
            (&["127.0.0.0/8", "[::1]/128"], "126.255.255.255", false),
            (&["127.0.0.0/8", "[::1]/128"], "::1", true),
            (&["127.0.0.0/8", "[::1]/128"], "::2", false),
            (&["127.0.0.0/8"], "::ffff:127.0.0.1", true),
            (&["[::ffff:0:0]/96"], "127.0.0.1", false),
            (&["192.0.2.7"], "192.0.2.7", true),
            (&["192.0.2.7"], "192.0.2.6", false),
            (&["0.0.0.0/0"], "255.255.255.255", true),
            (&["0.0.0.0/0"], "2001:db8::1", false),
            (&["[::]/0"], "2001:db8::1", true),
            (&["[2001:db8::]/32"], "2001:db8:ffff::1", true),
            (&["[2001:db8::]/32"], "2001:db9::1", false),
            (&["!10.0.0.5", "10.0.0.0/8"], "10.0.0.5", false),
            (&["!10.0.0.5", "10.0.0.0/8"], "10.0.0.6", true),
            (&["10.0.0.0/8", "!10.0.0.5"], "10.0.0.5", true),
            (&["!!10.0.0.5"], "10.0.0.5", true),
            (&[], "127.0.0.1", false),
        ];
        for (items, address, wanted) in table {
            assert_eq!(networks(items).contains(address.parse().unwrap()), *wanted, "{items:?} {address}");
        }
    }

    #[test]
    fn rejects_invalid_networks() {
        for item in [
            "",
            "!",
            "10.0.0.0/33",
            "10.0.0.0/",
            "10.0.0.0/+8",
            "10.0.0.0/-1",
            "10.0.0/8",
            "10.0.0.1/8",
            "::1/128",
            "[::1]/129",
            "[::1",
            "[127.0.0.1]/8",
            "example.com",
            "/etc/networks",
            "cidr:table",
            "[fe80::1%eth0]",
        ] {
            assert!(Network::read(item).is_err(), "{item}");
        }
        let refusal = Network::read("10.1.2.3/8").unwrap_err();
        assert!(refusal.remedy.contains("10.0.0.0/8"), "{}", refusal.remedy);
        let refusal = Network::read("::1").unwrap_err();
        assert!(refusal.remedy.contains("[::1]"), "{}", refusal.remedy);
    }

    #[test]
    fn lists_are_shown_as_they_are_written() {
        let text = "127.0.0.0/8, [::1]/128, !10.0.0.5/32";
        assert_eq!(networks(&["127.0.0.0/8", "[::1]", "!10.0.0.5"]).to_string(), text);
    }

    proptest! {
        #[test]
        fn an_address_is_in_its_own_network(number: u32, prefix in 0u32..=32) {
            let mask = u32::MAX.checked_shl(32 - prefix).unwrap_or(0);
            let item = format!("{}/{prefix}", Ipv4Addr::from(number & mask));
            prop_assert!(networks(&[&item]).contains(Ipv4Addr::from(number).into()));
            if prefix > 0 {
                let outside = number ^ (1 << (32 - prefix));
                prop_assert!(!networks(&[&item]).contains(Ipv4Addr::from(outside).into()));
            }
        }

        #[test]
        fn any_text_is_parsed_or_refused(item in ".{0,60}") {
            let _ = Network::read(&item);
        }
    }
}
