//! Names and domains: the names of this host, and the domains that it accepts mail for.

use std::net::IpAddr;

use mailrace_core::address::{Destinations, Subdomains};

use super::reader::parameters;
use super::value::{DomainList, DomainNames, HostName, SubdomainLists};
use super::{Configuration, Tables};

parameters! {
    /// Names of this host, and the domains that it accepts mail for.
    pub struct DomainParameters titled "Names and domains";

    /// Name of this host, used in the greeting, the EHLO reply, Received and Message-Id. `$system_hostname` is the system's
    /// host name, followed by `.localdomain` if it has no domain.
    myhostname: HostName = "$system_hostname";
    /// Domain of this host. `$myhostname_parent` is `myhostname` without its first label.
    mydomain: String = "$myhostname_parent";
    /// Domain to append to addresses that have none.
    myorigin: String = "$myhostname";
    /// Name of the software, used in the greeting and in Received.
    mail_name: String = "Mailrace";
    /// Domains whose mail is delivered locally; matched exactly. Tables are not supported.
    mydestination: DomainNames = "$myhostname, localhost.$mydomain, localhost";
    /// Domains for which this host relays mail from any client. Tables have domains as keys.
    relay_domains: DomainList = [];
    /// Lists in which a domain also matches its subdomains. In other lists only an entry or key such as `.example.com`
    /// matches subdomains.
    parent_domain_matches_subdomains: SubdomainLists = ["debug_peer_list", "fast_flush_domains", "mynetworks",
        "permit_mx_backup_networks", "qmqpd_authorized_clients", "relay_domains", "smtpd_access_maps"];
}

impl DomainParameters {
    /// Returns which entries of `relay_domains` match subdomains.
    pub(super) const fn relay_subdomains(&self) -> Subdomains {
        if self.parent_domain_matches_subdomains.relay_domains {
            Subdomains::OfEach
        } else {
            Subdomains::OfDotted
        }
    }
}

/// `mydestination`, `virtual_alias_domains` and `virtual_mailbox_domains` match exactly, as in Postfix.
const EXACT: Subdomains = Subdomains::Never;

impl Configuration {
    /// Returns the destinations that mail is accepted for.
    pub(super) fn destinations(&self, own_addresses: Vec<IpAddr>, tables: &Tables) -> Destinations {
        let relay_subdomains = self.domains.relay_subdomains();
        Destinations {
            mydestination: self.domains.mydestination.0.domains(EXACT, tables),
            virtual_alias_domains: self.aliases.virtual_alias_domains.domains(EXACT, tables),
            virtual_mailbox_domains: self.recipients.virtual_mailbox_domains.domains(EXACT, tables),
            relay_domains: self.domains.relay_domains.domains(relay_subdomains, tables),
            own_addresses,
        }
    }

    /// Returns a note for each domain in lists that must not share domains, as Postfix's resolver does. A domain of
    /// `relay_domains` may also be in `mydestination`.
    pub(super) fn shared_domain_notes(&self, tables: &Tables) -> Vec<String> {
        let Destinations {
            mydestination, virtual_alias_domains, virtual_mailbox_domains, relay_domains, ..
        } = &self.destinations(Vec::new(), tables);
        let here = (&self.domains.mydestination.0, mydestination);
        let alias = (&self.aliases.virtual_alias_domains, virtual_alias_domains);
        let mailbox = (&self.recipients.virtual_mailbox_domains, virtual_mailbox_domains);
        let relay = (&self.domains.relay_domains, relay_domains);
        [(here, alias), (here, mailbox), (alias, mailbox), (alias, relay), (mailbox, relay)]
            .into_iter()
            .flat_map(|(preferred, (list, domains))| list.shared_domain_notes(domains, preferred))
            .collect()
    }

    /// Returns a note for each domain with a leading dot in a list where such an entry matches nothing.
    pub(super) fn dotted_domain_notes(&self) -> Vec<String> {
        [
            self.domains.mydestination.0.dotted_domain_notes(EXACT),
            self.domains.relay_domains.dotted_domain_notes(self.domains.relay_subdomains()),
            self.aliases.virtual_alias_domains.dotted_domain_notes(EXACT),
            self.recipients.virtual_mailbox_domains.dotted_domain_notes(EXACT),
        ]
        .concat()
    }
}
