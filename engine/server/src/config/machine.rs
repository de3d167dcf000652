//! Facts about the machine that the configuration uses: name, addresses, local time zone.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use mailrace_core::address::is_domain;
use mailrace_core::message::date::Zone;
use rustix::thread::CpuSet;

use super::reader::Machine;

impl Machine {
    /// Returns the facts about this machine. Uses no name server.
    pub(super) fn this() -> Self {
        let name = rustix::system::uname();
        Self { hostname: qualified(&name.nodename().to_string_lossy()) }
    }
}

/// Returns the processors that this process may run on.
pub(crate) fn own_processors() -> Vec<usize> {
    let Ok(set) = rustix::thread::sched_getaffinity(None) else { return vec![] };
    (0..CpuSet::MAX_CPU).filter(|processor| set.is_set(*processor)).collect()
}

/// Returns the current local time zone.
pub(crate) fn zone_now() -> Zone {
    let now = jiff::ZonedDateTime::now();
    let info = now.time_zone().to_offset_info(now.timestamp());
    Zone { offset_seconds: info.offset().seconds(), abbreviation: info.abbreviation().as_bytes().to_vec() }
}

/// Returns the first name of each address in `/etc/hosts`.
pub(super) fn host_names() -> HashMap<IpAddr, Box<[u8]>> {
    // Without the file no address has a name.
    let table = crate::files::read(Path::new("/etc/hosts"), HOSTS_SIZE_MAX).unwrap_or_default();
    names_in(&String::from_utf8_lossy(&table))
}

/// Maximum size of `/etc/hosts`, in bytes.
const HOSTS_SIZE_MAX: u64 = 16 << 20;

fn names_in(table: &str) -> HashMap<IpAddr, Box<[u8]>> {
    let mut names = HashMap::new();
    for line in table.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let address: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
        if let (Some(address), Some(name)) = (address, words.next().filter(|name| is_domain(name.as_bytes())))
        {
            names.entry(address.to_canonical()).or_insert_with(|| name.as_bytes().into());
        }
    }
    names
}

/// Returns the addresses of this machine's interfaces that /proc lists, and always the loopback addresses.
pub(super) fn own_addresses() -> Vec<IpAddr> {
    let mut addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    // The files may be missing: the kernel may lack IPv6, a sandbox may lack /proc.
    let table = std::fs::read_to_string("/proc/net/fib_trie").unwrap_or_default();
    addresses.extend(ipv4_addresses(&table).map(IpAddr::V4));
    let table = std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    addresses.extend(ipv6_addresses(&table).map(IpAddr::V6));
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// Returns this host's own addresses in the routing trie: `|-- ADDRESS` with `/32 host LOCAL` below.
fn ipv4_addresses(table: &str) -> impl Iterator<Item = Ipv4Addr> {
    let mut leaf = None;
    table.lines().filter_map(move |line| {
        let line = line.trim();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.parse().ok();
        } else if line == "/32 host LOCAL" {
            return leaf.take();
        }
        None
    })
}

/// Returns the addresses in the first column, 32 hexadecimal digits each.
fn ipv6_addresses(table: &str) -> impl Iterator<Item = Ipv6Addr> {
    let first_columns = table.lines().filter_map(|line| line.split_ascii_whitespace().next());
    first_columns.filter_map(|digits| u128::from_str_radix(digits, 16).ok()).map(Ipv6Addr::from)
}

/// Returns a host name with a domain, limited to characters that are valid in a host name.
fn qualified(name: &str) -> String {
    let is_of_name = |letter: &char| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '.');
    let name: String = name.chars().filter(is_of_name).collect();
    match name.trim_matches('.') {
        "" => "localhost.localdomain".to_owned(),
        name if name.contains('.') => name.to_owned(),
        name => format!("{name}.localdomain"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_name_gets_a_domain() {
        for (given, wanted) in [
            ("mx", "mx.localdomain"),
            ("mx.example.com", "mx.example.com"),
            ("mx.example.com.", "mx.example.com"),
            ("", "localhost.localdomain"),
            ("(none)", "none.localdomain"),
        ] {
            assert_eq!(qualified(given), wanted);
        }
    }

    #[test]
    fn the_first_name_of_an_address_is_used() {
        let names = names_in(
            "127.0.0.1 localhost lo # x\n::1\tsix\n127.0.0.1 other\n# 192.0.2.1 no\nx y\n192.0.2.2 1.2\n",
        );
        assert_eq!(names.len(), 2);
        assert_eq!(&*names[&IpAddr::V4(Ipv4Addr::LOCALHOST)], b"localhost");
    }

    #[test]
    fn addresses_are_found_in_the_kernels_tables() {
        let table = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.7\n        \
                     /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
        assert_eq!(ipv4_addresses(table).collect::<Vec<_>>(), [Ipv4Addr::new(192, 0, 2, 7)]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n";
        assert_eq!(ipv6_addresses(table).collect::<Vec<_>>(), [Ipv6Addr::LOCALHOST]);
    }
}
