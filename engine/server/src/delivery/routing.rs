//! The route of a recipient, or what is decided without an attempt (Postfix's qmgr_message_resolve).

use std::sync::{Arc, PoisonError, RwLock};

use mailrace_core::address::{DomainClass, split_domain};
use mailrace_core::envelope::Recipient;
use mailrace_core::lookup::{LookupError, split_extension};
use mailrace_core::record::delivery::Status;
use mailrace_core::{Envelope, Sharer, smtp};
use mailrace_delivery::{Action, Cause, Outcome, Route, Routed};

use crate::config::{Configuration, TRANSPORTS, Tables};
use crate::routing::{Resolved, Resolver, Way, split_status};

/// Where mail goes. Its clones share the settings, which a reload replaces.
///
/// Tables in files answer at once. A table on a server answers [`Routed::Pending`] for a question that is under way, and the
/// dispatcher asks again after `Answer::TableAnswered`. [`Lookups::tell`](crate::tables::Lookups::tell) takes the one function
/// that is called, on the lookups thread, with the ticket of each answered question. That function, which passes tickets to
/// the workers, must also send `Answer::TableAnswered` to the dispatcher and wake it. The answer is then in the table's cache
/// (`lookup_cache_time`), a failure for two seconds.
#[derive(Clone, Debug)]
pub(crate) struct Routing {
    settings: Arc<RwLock<Arc<RoutingSettings>>>,
}

#[derive(Debug)]
struct RoutingSettings {
    resolver: Resolver,
    /// Local-part of `double_bounce_sender`.
    double_bounce: Box<[u8]>,
    /// Transports that send one recipient per transaction, by their numbers.
    single_recipient: Vec<bool>,
}

impl RoutingSettings {
    fn new(configuration: &Configuration, session: &smtp::Settings, tables: &Tables) -> Arc<Self> {
        let (destinations, rewriting) = (Arc::clone(&session.destinations), Arc::clone(&session.rewriting));
        Arc::new(Self {
            resolver: configuration.resolver(destinations, rewriting, tables),
            double_bounce: configuration.double_bounce_local_part().as_bytes().into(),
            single_recipient: configuration.single_recipient_transports(),
        })
    }
}

impl Routing {
    /// Routes by a configuration, with the destinations of its sessions.
    pub(crate) fn new(configuration: &Configuration, session: &smtp::Settings, tables: &Tables) -> Self {
        Self { settings: Arc::new(RwLock::new(RoutingSettings::new(configuration, session, tables))) }
    }

    /// Routes by another configuration from now on.
    pub(crate) fn replace(&self, configuration: &Configuration, session: &smtp::Settings, tables: &Tables) {
        let settings = RoutingSettings::new(configuration, session, tables);
        *self.settings.write().unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Returns the route of a recipient, or what is decided about it. Does not block.
    pub(crate) fn route(&self, envelope: &Envelope, recipient: &Recipient) -> Routed {
        let settings = Arc::clone(&self.settings.read().unwrap_or_else(PoisonError::into_inner));
        let address = &*recipient.address;
        if let Some(filter) = &envelope.content_filter {
            let domain = split_domain(address).1.unwrap_or_default();
            let way = Way::parse(&String::from_utf8_lossy(filter));
            return settings.routed(&way.or_next_hop(&String::from_utf8_lossy(domain)), address);
        }
        let asker = Sharer::default().into();
        match settings.resolver.resolve(&envelope.sender, address, asker, &mut |_| {}) {
            Ok(Resolved { class: Some(DomainClass::Local), .. }) if settings.is_double_bounce(address) => {
                let cause = Cause::new(2, 0, 0, "undeliverable postmaster notification discarded");
                Routed::Decided(Outcome::Sent(cause, Some(Action::Delivered)))
            }
            Ok(resolved) => settings.routed(&resolved.way, address),
            Err(LookupError::Pending(ticket)) => Routed::Pending(ticket),
            Err(LookupError::Unavailable) => deferred(4, 3, 0, "address resolver failure"),
        }
    }
}

impl RoutingSettings {
    /// Mail for the sender of notices is what became of a notice that failed.
    fn is_double_bounce(&self, address: &[u8]) -> bool {
        split_domain(address).0.eq_ignore_ascii_case(&self.double_bounce)
    }

    fn routed(&self, way: &Way, address: &[u8]) -> Routed {
        if let Some(outcome) = decided(way) {
            return Routed::Decided(outcome);
        }
        let number = TRANSPORTS.iter().position(|(name, _)| *name == &*way.transport);
        let Some((index, transport)) = number.and_then(|index| Some((index, u16::try_from(index).ok()?)))
        else {
            return deferred(4, 3, 0, "mail transport unavailable");
        };
        let is_single = self.single_recipient.get(index).copied().unwrap_or_default();
        let mailbox = is_single.then(|| self.mailbox(address));
        Routed::To(Route { transport, next_hop: way.comparable_next_hop().into(), mailbox })
    }

    /// The address without its extension, in lower case.
    fn mailbox(&self, address: &[u8]) -> Arc<[u8]> {
        let (local, _) = split_domain(address);
        let (user, _) = split_extension(local, &self.resolver.recipient_delimiter);
        let rest = address.get(local.len()..).unwrap_or_default();
        [user, rest].concat().to_ascii_lowercase().into()
    }
}

/// The outcome of the transports that attempt nothing: `error`, `retry` and `discard`.
fn decided(way: &Way) -> Option<Outcome> {
    let (class, is_sent) = match &*way.transport {
        "error" => (5, false),
        "retry" => (4, false),
        "discard" => (2, true),
        _ => return None,
    };
    let (status, text) = split_status(&way.next_hop);
    let status = status.unwrap_or(Status { class, subject: 0, detail: 0 });
    let is_temporary = class == 4 || class == 5 && status.class == 4;
    let class = if is_temporary { 4 } else { class };
    let cause = Cause::new(class, status.subject, status.detail, text);
    Some(match (is_sent, is_temporary) {
        (true, _) => Outcome::Sent(cause, Some(Action::Delivered)),
        (false, true) => Outcome::Deferred(cause),
        (false, false) => Outcome::Failed(cause),
    })
}

fn deferred(class: u8, subject: u16, detail: u16, text: &str) -> Routed {
    Routed::Decided(Outcome::Deferred(Cause::new(class, subject, detail, text)))
}

#[cfg(test)]
mod tests;
