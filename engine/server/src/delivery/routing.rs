//! Next hops by the classes of domains (Postfix's ADDRESS_CLASS_README).

use std::sync::{Arc, PoisonError, RwLock};

use mailrace_core::address::{Destinations, DomainClass, split_domain};
use mailrace_core::envelope::Recipient;
use mailrace_core::{Envelope, Sharer};
use mailrace_delivery::{NextHop, Reason};

/// Where mail goes. Its clones share the destinations, which a reload replaces.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    destinations: Arc<RwLock<Arc<Destinations>>>,
    relayhost: NextHop,
}

impl Routing {
    /// Mail that is not for this host goes to `relayhost`.
    pub(crate) fn new(destinations: Arc<Destinations>, relayhost: NextHop) -> Self {
        Self { destinations: Arc::new(RwLock::new(destinations)), relayhost }
    }

    /// Uses other destinations from now on.
    pub(crate) fn replace(&self, destinations: Arc<Destinations>) {
        *self.destinations.write().unwrap_or_else(PoisonError::into_inner) = destinations;
    }

    /// The next hop of a recipient, or why there is none.
    pub(crate) fn next_hop(&self, envelope: &Envelope, recipient: &Recipient) -> Result<NextHop, Reason> {
        if let Some(filter) = &envelope.content_filter {
            return filter_hop(filter).ok_or_else(unavailable);
        }
        let destinations = Arc::clone(&self.destinations.read().unwrap_or_else(PoisonError::into_inner));
        let (_, domain) = split_domain(&recipient.address);
        let Some(domain) = domain.filter(|domain| !destinations.is_local(domain)) else {
            return Err(unavailable());
        };
        match destinations.class_beyond_local(domain, Sharer::default().into()) {
            Ok(DomainClass::VirtualAlias) => Err(Reason::new(5, 1, 1, "User unknown in virtual alias table")),
            Ok(DomainClass::Local | DomainClass::VirtualMailbox) => Err(unavailable()),
            Ok(DomainClass::Relay | DomainClass::Default) => Ok(self.relayhost),
            Err(_) => Err(Reason::new(4, 3, 0, "address resolver failure")),
        }
    }
}

/// The next hop of a check's FILTER, `smtp:[ADDRESS]:PORT`.
fn filter_hop(filter: &[u8]) -> Option<NextHop> {
    let text = std::str::from_utf8(filter).ok()?;
    let next_hop = text.strip_prefix("smtp:").or_else(|| text.strip_prefix("relay:"))?;
    NextHop::parse(next_hop).ok()
}

/// There is no transport for it.
fn unavailable() -> Reason {
    Reason::new(4, 3, 0, "mail transport unavailable")
}

#[cfg(test)]
mod tests {
    use mailrace_core::address::{Domains, Subdomains};

    use super::*;

    #[test]
    fn only_mail_for_others_goes_to_the_relay_host() {
        let domains = |name: &[u8]| {
            let mut domains = Domains::new(Subdomains::Never);
            domains.add_name(name, false);
            domains
        };
        let destinations = Destinations {
            mydestination: domains(b"example.com"),
            virtual_alias_domains: domains(b"virtual.example"),
            virtual_mailbox_domains: domains(b"mailbox.example"),
            ..Destinations::default()
        };
        let relayhost = NextHop::parse("[192.0.2.1]").unwrap();
        let routing = Routing::new(Arc::new(destinations), relayhost);
        let hop = |address: &[u8], filter: Option<&[u8]>| {
            let envelope = Envelope { content_filter: filter.map(Into::into), ..Envelope::default() };
            let recipient = Recipient { address: address.to_vec(), ..Recipient::default() };
            routing.next_hop(&envelope, &recipient).map_err(|reason| reason.status.to_string())
        };
        assert_eq!(hop(b"a@example.net", None), Ok(relayhost));
        assert_eq!(hop(b"a@example.com", None), Err("4.3.0".to_owned()));
        assert_eq!(hop(b"a", None), Err("4.3.0".to_owned()));
        assert_eq!(hop(b"a@virtual.example", None), Err("5.1.1".to_owned()));
        assert_eq!(hop(b"a@mailbox.example", None), Err("4.3.0".to_owned()));
        let filter = NextHop::parse("[192.0.2.7]:10025").unwrap();
        assert_eq!(hop(b"a@example.com", Some(b"smtp:[192.0.2.7]:10025")), Ok(filter));
        assert_eq!(hop(b"a@example.net", Some(b"scan:dummy")), Err("4.3.0".to_owned()));
        routing.replace(Arc::new(Destinations {
            mydestination: domains(b"example.net"),
            ..Destinations::default()
        }));
        assert_eq!(hop(b"a@example.net", None), Err("4.3.0".to_owned()));
    }
}
