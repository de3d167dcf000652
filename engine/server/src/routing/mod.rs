//! Which transport takes a recipient's mail, and to which next hop, as Postfix's trivial-rewrite(8) resolves it.
//!
//! The class of the recipient's domain names a transport. Without a next hop of its own, the sender's, `relayhost` or the
//! domain is the next hop. `transport_maps` may replace both. Tables on servers may answer later.

mod session;
mod tables;
#[cfg(test)]
pub(crate) mod tests;
mod way;

use std::sync::Arc;

use bumpalo::Bump;
use mailrace_core::address::{Destinations, DomainClass, Rewriting, is_domain, split_domain};
use mailrace_core::lookup::{Asker, LookupError};

pub(crate) use tables::ResolverTables;
use way::Entry;
pub(crate) use way::{Way, split_status};

/// Finds the way of a recipient. Parameters have Postfix's names.
#[derive(Clone, Debug)]
pub(crate) struct Resolver {
    /// Domains by class.
    pub(crate) destinations: Arc<Destinations>,
    /// How keys are spelled.
    pub(crate) rewriting: Arc<Rewriting>,
    /// `recipient_delimiter`
    pub(crate) recipient_delimiter: Vec<u8>,
    /// `local_transport`
    pub(crate) local: Way,
    /// `virtual_transport`
    pub(crate) virtual_mailbox: Way,
    /// `relay_transport`
    pub(crate) relay: Way,
    /// `default_transport`
    pub(crate) other: Way,
    /// `relayhost`; empty: none.
    pub(crate) relayhost: Box<str>,
    /// Tables of recipients and senders.
    pub(crate) tables: ResolverTables,
}

/// A step of a resolution, for explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// The class of the domain.
    Class(DomainClass),
    /// A parameter applies.
    Parameter(&'static str, &'a str),
    /// A table of a parameter has a value for a key.
    Found {
        /// The parameter that names the table.
        parameter: &'static str,
        /// The key; for tables of senders the address that was searched.
        key: &'a [u8],
        /// The value.
        value: &'a [u8],
    },
}

/// The way of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved {
    /// Class of the domain; `None`: the address has no domain that can be one.
    pub(crate) class: Option<DomainClass>,
    /// Transport and next hop.
    pub(crate) way: Way,
}

/// Transport of addresses that mail is returned for.
pub(crate) const ERROR: &str = "error";
/// Transport of addresses that mail is deferred for.
pub(crate) const RETRY: &str = "retry";

impl Resolver {
    /// Finds the way of mail from `sender` to `address`, both in internal form. `asker`: on whose behalf tables are
    /// searched; `observe` is called with each step.
    ///
    /// # Errors
    /// [`LookupError`] of a table.
    pub(crate) fn resolve(
        &self,
        sender: &[u8],
        address: &[u8],
        asker: Asker<'_>,
        observe: &mut dyn FnMut(Step<'_>),
    ) -> Result<Resolved, LookupError> {
        if address.is_empty() {
            return Ok(Resolved { class: None, way: Way::error("5.1.3 null recipient address") });
        }
        let (_, domain) = split_domain(address);
        let domain = domain.unwrap_or(&self.rewriting.local.origin);
        let domain = domain.strip_suffix(b".").unwrap_or(domain);
        if !is_domain(domain) {
            return Ok(Resolved { class: None, way: Way::error("5.1.3 bad address syntax") });
        }
        let class = if self.destinations.is_local(domain) {
            DomainClass::Local
        } else {
            self.destinations.class_beyond_local(domain, asker)?
        };
        observe(Step::Class(class));
        // Domains may have UTF-8, and is_domain takes any bytes above 127.
        let domain_text = String::from_utf8_lossy(domain);
        let mut way = match class {
            DomainClass::VirtualAlias => {
                let way = Way::error("5.1.1 User unknown in virtual alias table");
                return Ok(Resolved { class: Some(class), way });
            }
            DomainClass::Local => self.own(&self.local, "local_transport", &domain_text, observe),
            DomainClass::VirtualMailbox => {
                self.own(&self.virtual_mailbox, "virtual_transport", &domain_text, observe)
            }
            DomainClass::Relay | DomainClass::Default => {
                self.foreign(class, sender, &domain_text, asker, observe)?
            }
        };
        let arena = Bump::new();
        if let Some((key, value)) =
            self.tables.transport(&arena, address, domain, &self.recipient_delimiter, asker)?
        {
            observe(Step::Found { parameter: "transport_maps", key, value });
            way = Entry::parse(value).apply(way, &domain_text);
        }
        Ok(Resolved { class: Some(class), way })
    }

    /// Returns the way that the transport of a class of own domains gives.
    fn own(
        &self,
        given: &Way,
        parameter: &'static str,
        domain: &str,
        observe: &mut dyn FnMut(Step<'_>),
    ) -> Way {
        observe(Step::Parameter(parameter, &given.to_string()));
        given.or_next_hop(domain)
    }

    /// Returns the way of mail for others: the next hop is that of the transport, the sender's, `relayhost` or the domain.
    fn foreign(
        &self,
        class: DomainClass,
        sender: &[u8],
        domain: &str,
        asker: Asker<'_>,
        observe: &mut dyn FnMut(Step<'_>),
    ) -> Result<Way, LookupError> {
        let arena = Bump::new();
        let of_sender = if class == DomainClass::Default {
            self.sender_value(
                &arena,
                ("sender_dependent_default_transport_maps", &self.tables.sender_transport),
                (sender, &self.tables.null_transport_key),
                asker,
                observe,
            )?
        } else {
            None
        };
        let way = match (of_sender, class) {
            (Some(value), _) => Way::parse(&String::from_utf8_lossy(value)),
            (None, DomainClass::Relay) => {
                observe(Step::Parameter("relay_transport", &self.relay.to_string()));
                self.relay.clone()
            }
            (None, _) => {
                observe(Step::Parameter("default_transport", &self.other.to_string()));
                self.other.clone()
            }
        };
        if !way.next_hop.is_empty() {
            return Ok(way);
        }
        let relay = self.sender_value(
            &arena,
            ("sender_dependent_relayhost_maps", &self.tables.sender_relayhost),
            (sender, &self.tables.null_relayhost_key),
            asker,
            observe,
        )?;
        if let Some(relay) = relay {
            return Ok(way.or_next_hop(&String::from_utf8_lossy(relay)));
        }
        if self.relayhost.is_empty() {
            return Ok(way.or_next_hop(domain));
        }
        observe(Step::Parameter("relayhost", &self.relayhost));
        Ok(way.or_next_hop(&self.relayhost))
    }
}
