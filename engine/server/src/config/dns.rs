//! Name lookups: MX records and addresses of next hops.

use std::net::{IpAddr, SocketAddr};

use mailrace_delivery::hosts::{AddressPreference, HostSettings, Protocols};

use super::Configuration;
use super::machine::own_addresses;
use super::reader::parameters;
use super::value::ResolverOptions;
use crate::edge::dns::{DnsSettings, HostLookup, SystemFiles};

parameters! {
    /// MX records and addresses of next hops. These parameters take effect at startup.
    pub struct DnsParameters titled "Name lookups";

    /// Where addresses of hosts are looked up: `dns`, or `native`, which is `/etc/hosts` and then the DNS. With both, a next
    /// hop without MX lookup (`[mail.example.com]`) is looked for in `/etc/hosts` first, and an MX host in the DNS first.
    /// Postfix's default is `dns`.
    smtp_host_lookup: HostLookup = ["dns", "native"];
    /// Domains in which the DNS is searched for host names: `res_defnames`, the first one of the search list for names
    /// without a dot; `res_dnsrch`, all of the search list.
    smtp_dns_resolver_options: ResolverOptions = [];
    /// Looks up no MX records, and addresses as if `smtp_host_lookup` were `native`.
    disable_dns_lookups: bool = false;
    /// Looks up a domain as a host when the lookup of its MX records fails, instead of deferring mail.
    ignore_mx_lookup_error: bool = false;
    /// Defers mail when no MX host of a domain has an address, instead of returning it.
    smtp_defer_if_no_mx_address_found: bool = false;
    /// Maximum number of addresses of a next hop that are tried; 0: no limit.
    smtp_mx_address_limit: u32 = 5 in 0 ..= 1000;
    /// Tries addresses of equal preference in random order.
    smtp_randomize_addresses: bool = true;
    /// Family of addresses that is tried first among those of equal preference: `any`, `ipv4` or `ipv6`.
    smtp_address_preference: AddressPreference = "any";
    /// Keeps addresses of both families when `smtp_mx_address_limit` leaves some of a next hop's addresses out.
    smtp_balance_inet_protocols: bool = true;
    /// Families of addresses that mail is sent to: `all`, `ipv4` or `ipv6`. The families that mail is received over are those
    /// of `listen` in `[engine]`.
    inet_protocols: Protocols = ["all"];
    /// Addresses at which a proxy or an address translator receives mail for this host. As with those of `listen` with port
    /// 25, mail is not sent there.
    proxy_interfaces: Vec<IpAddr> = [];
}

impl Configuration {
    /// Returns how next hops are looked up.
    #[must_use]
    pub fn dns_settings(&self) -> DnsSettings {
        let dns = &self.dns;
        let ResolverOptions { appends_domain, searches_domains } = dns.smtp_dns_resolver_options;
        DnsSettings {
            hosts: HostSettings {
                address_limit: dns.smtp_mx_address_limit as usize,
                is_random: dns.smtp_randomize_addresses,
                preference: dns.smtp_address_preference,
                is_balanced: dns.smtp_balance_inet_protocols,
                protocols: dns.inet_protocols,
                own: self.own_mail_addresses(&own_addresses()),
                defers_without_address: dns.smtp_defer_if_no_mx_address_found,
                ignores_mx_lookup_error: dns.ignore_mx_lookup_error,
            },
            host_lookup: dns.smtp_host_lookup,
            is_disabled: dns.disable_dns_lookups,
            appends_domain,
            searches_domains,
            system: SystemFiles::default(),
        }
    }

    /// The addresses at which this host receives mail at port 25. `interfaces`: those of its interfaces.
    ///
    /// At another port, port 25 may be another server's, and mail for it does not loop.
    fn own_mail_addresses(&self, interfaces: &[IpAddr]) -> Box<[IpAddr]> {
        let mut own = self.dns.proxy_interfaces.clone();
        for listen in self.connections.listen.iter().filter(|listen| listen.port() == SMTP_PORT) {
            match listen {
                SocketAddr::V4(address) if address.ip().is_unspecified() => {
                    own.extend(interfaces.iter().filter(|address| address.is_ipv4()));
                }
                SocketAddr::V6(address) if address.ip().is_unspecified() => {
                    own.extend(interfaces.iter().filter(|address| address.is_ipv6()));
                }
                address => own.push(address.ip()),
            }
        }
        own.sort_unstable();
        own.dedup();
        own.into()
    }
}

/// The port of SMTP.
const SMTP_PORT: u16 = 25;

#[cfg(test)]
mod tests {
    use crate::config::tests::check;

    fn own(text: &str) -> Vec<String> {
        let configuration = check(text).unwrap();
        let interfaces = ["127.0.0.1", "192.0.2.1", "2001:db8::1"].map(|address| address.parse().unwrap());
        configuration.own_mail_addresses(&interfaces).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn own_addresses_are_those_that_receive_mail_at_port_25() {
        assert!(own("").is_empty());
        assert_eq!(own("[engine]\nlisten = [\"192.0.2.9:25\", \"192.0.2.8:587\"]"), ["192.0.2.9"]);
        assert_eq!(own("[engine]\nlisten = [\"0.0.0.0:25\"]"), ["127.0.0.1", "192.0.2.1"]);
        assert_eq!(own("[engine]\nlisten = [\"[::]:25\"]"), ["2001:db8::1"]);
        assert_eq!(own("proxy_interfaces = [\"198.51.100.1\"]"), ["198.51.100.1"]);
    }
}
