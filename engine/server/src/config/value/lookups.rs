//! Values about name lookups.

use std::net::IpAddr;

use mailrace_delivery::hosts::{AddressPreference, Protocols};

use super::words::words;
use super::{Refusal, Setting, wrong_type};
use crate::config::reader::Raw;
use crate::edge::dns::HostLookup;

/// Where addresses of hosts are looked up.
impl Setting for HostLookup {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [dns, native] = words(raw, ["dns", "native"])?;
        if dns || native {
            Ok(Self { dns, native })
        } else {
            Err(Refusal::new("no hosts could be found", "write \"dns\", \"native\" or both"))
        }
    }
}

/// How names are searched in the DNS (`smtp_dns_resolver_options`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolverOptions {
    /// `res_defnames`.
    pub appends_domain: bool,
    /// `res_dnsrch`.
    pub searches_domains: bool,
}

impl Setting for ResolverOptions {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [appends_domain, searches_domains] = words(raw, ["res_defnames", "res_dnsrch"])?;
        Ok(Self { appends_domain, searches_domains })
    }
}

impl Setting for AddressPreference {
    const KIND: &str = "`any`, `ipv4` or `ipv6`";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text == "any" => Ok(Self::Any),
            Raw::Text(text) if text == "ipv4" => Ok(Self::Ipv4),
            Raw::Text(text) if text == "ipv6" => Ok(Self::Ipv6),
            other => Err(wrong_type(other, "a preference", "write \"any\", \"ipv4\" or \"ipv6\"")),
        }
    }
}

/// The families of IP addresses in use.
impl Setting for Protocols {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match words(raw, ["all", "ipv4", "ipv6"])? {
            [true, ..] | [_, true, true] => Ok(Self::All),
            [_, true, false] => Ok(Self::Ipv4),
            [_, false, true] => Ok(Self::Ipv6),
            [false, false, false] => {
                Err(Refusal::new("no address could be used", "write \"all\", \"ipv4\" or \"ipv6\""))
            }
        }
    }
}

/// Addresses of hosts.
impl Setting for Vec<IpAddr> {
    const KIND: &str = "addresses";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let parse = |item: String| {
            let bare = item.strip_prefix('[').and_then(|item| item.strip_suffix(']')).unwrap_or(&item);
            let address = bare.parse();
            address.map_err(|_| {
                Refusal::new(format!("{item:?} is not an address"), "write 192.0.2.1, 2001:db8::1")
            })
        };
        Vec::<String>::read(raw)?.into_iter().map(parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: Setting>(text: &str) -> Result<T, String> {
        T::read(&Raw::Text(text.to_owned())).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn hosts_are_looked_up_somewhere() {
        assert_eq!(read("native, dns"), Ok(HostLookup { dns: true, native: true }));
        assert_eq!(read("dns"), Ok(HostLookup { dns: true, native: false }));
        assert_eq!(read::<HostLookup>("").unwrap_err(), "no hosts could be found");
        assert_eq!(read::<HostLookup>("nis").unwrap_err(), "\"nis\" is not known");
    }

    #[test]
    fn families_are_all_or_some() {
        for (text, protocols) in [
            ("all", Protocols::All),
            ("ipv6, ipv4", Protocols::All),
            ("ipv4", Protocols::Ipv4),
            ("ipv6", Protocols::Ipv6),
        ] {
            assert_eq!(read(text), Ok(protocols), "{text}");
        }
        assert!(read::<Protocols>("").is_err());
    }

    #[test]
    fn addresses_may_have_brackets() {
        let addresses = read::<Vec<IpAddr>>("192.0.2.1, [2001:db8::1]").unwrap();
        assert_eq!(
            addresses.iter().map(ToString::to_string).collect::<Vec<_>>(),
            ["192.0.2.1", "2001:db8::1"]
        );
        assert_eq!(read::<Vec<IpAddr>>("here").unwrap_err(), "\"here\" is not an address");
    }
}
