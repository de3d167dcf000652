//! Routing: which transport takes a recipient's mail, and to which next hop (Postfix's trivial-rewrite(8)).

use std::sync::Arc;

use mailrace_core::address::{Destinations, Rewriting, Subdomains};
use mailrace_core::smtp::Routes;

use super::reader::{Reader, parameters};
use super::value::{DeliveryChoice, NextHops, TableList, TransportName};
use super::{Configuration, Tables};
use crate::routing::{Resolver, ResolverTables, Way};

parameters! {
    /// Where mail goes. Each recipient is of a class, by its domain: local (`mydestination`), virtual alias, virtual mailbox,
    /// relay (`relay_domains`) or default (all others), and each class has a transport. A transport is `smtp`, `relay` or
    /// `lmtp`; `error`, `retry` and `discard` return, defer or drop mail with the text that follows, and SMTP sessions refuse
    /// recipients of `error` and `retry` (`smtpd_reject_unlisted_recipient`). Mail for `local`, `virtual`
    /// and other transports is deferred, because they do not exist yet. A next hop is `DOMAIN`, `[HOST]` or `[ADDRESS]`, with
    /// `:PORT` if it is not the default, for LMTP also `unix:PATH`; several are tried in turn.
    pub struct RoutingParameters titled "Routing";

    /// Whether queued mail is delivered: `yes`, `no`, or `auto`: if a parameter says where mail goes, that is if `relayhost`,
    /// `transport_maps`, `relay_transport`, `default_transport`, `virtual_transport` or a table of senders is not at its
    /// default. Otherwise all mail stays in the queue.
    [engine] delivery: DeliveryChoice = "auto";
    /// Next hop of mail of the classes relay and default; empty: the domain of the recipient.
    relayhost: NextHops = "";
    /// Tables from recipients to `TRANSPORT:NEXTHOP`. The keys are the address, the address without its extension, its domain,
    /// `.PARENT` of the domain, and `*`. They do not apply to virtual alias domains.
    transport_maps: TableList = [];
    /// Transport of `relay_domains`, as `TRANSPORT` or `TRANSPORT:NEXTHOP`.
    relay_transport: TransportName = "relay";
    /// Transport of mail of the class default.
    default_transport: TransportName = "smtp";
    /// Transport of `mydestination`. There is no local delivery yet: mail of `local` is deferred.
    local_transport: TransportName = "local:$myhostname";
    /// Transport of `virtual_mailbox_domains`. There is no delivery to virtual mailboxes yet: mail of `virtual` is deferred.
    virtual_transport: TransportName = "virtual";
    /// Tables from senders to next hops, which replace `relayhost`. The keys are the address, the address without its extension,
    /// and `@DOMAIN`. The value `DUNNO` ends the search without a result.
    sender_dependent_relayhost_maps: TableList = [];
    /// Tables from senders to transports, which replace `default_transport`. Keys and `DUNNO` as in
    /// `sender_dependent_relayhost_maps`.
    sender_dependent_default_transport_maps: TableList = [];
    /// Key of the null sender in `sender_dependent_relayhost_maps`.
    empty_address_relayhost_maps_lookup_key: String = "<>";
    /// Key of the null sender in `sender_dependent_default_transport_maps`.
    empty_address_default_transport_maps_lookup_key: String = "<>";
    /// Next hops that are tried when those of a recipient cannot be found or reached. Takes effect at startup.
    smtp_fallback_relay: NextHops = "";
    /// Transports whose mail waits for `mailrace queue flush`. Takes effect at startup.
    defer_transports: Vec<String> = [];
    /// Accepted, without effect: there is no local delivery yet.
    home_mailbox: String = "";
}

impl Configuration {
    /// Returns whether queued mail is delivered.
    #[must_use]
    pub fn delivers(&self) -> bool {
        let routing = &self.routing;
        match routing.delivery {
            DeliveryChoice::Yes => true,
            DeliveryChoice::No => false,
            DeliveryChoice::Auto => {
                !routing.relayhost.0.is_empty()
                    || !routing.relay_transport.is_plain("relay")
                    || !routing.default_transport.is_plain("smtp")
                    || !routing.virtual_transport.is_plain("virtual")
                    || [
                        &routing.transport_maps,
                        &routing.sender_dependent_relayhost_maps,
                        &routing.sender_dependent_default_transport_maps,
                    ]
                    .into_iter()
                    .any(|maps| !maps.is_empty())
            }
        }
    }

    /// Returns what finds the way of a recipient.
    pub(crate) fn resolver(
        &self,
        destinations: Arc<Destinations>,
        rewriting: Arc<Rewriting>,
        tables: &Tables,
    ) -> Resolver {
        let routing = &self.routing;
        let way = |name: &TransportName| Way {
            transport: name.transport.as_str().into(),
            next_hop: name.next_hop.as_str().into(),
        };
        let parents = self.domains.parent_domain_matches_subdomains.transport_maps;
        Resolver {
            destinations,
            rewriting,
            recipient_delimiter: self.rewriting.recipient_delimiter.clone().into_bytes(),
            local: way(&routing.local_transport),
            virtual_mailbox: way(&routing.virtual_transport),
            relay: way(&routing.relay_transport),
            other: way(&routing.default_transport),
            relayhost: routing.relayhost.0.as_str().into(),
            tables: ResolverTables {
                transport: tables.of(&routing.transport_maps),
                transport_parents: if parents { Subdomains::OfEach } else { Subdomains::OfDotted },
                sender_relayhost: tables.of(&routing.sender_dependent_relayhost_maps),
                sender_transport: tables.of(&routing.sender_dependent_default_transport_maps),
                null_relayhost_key: routing.empty_address_relayhost_maps_lookup_key.clone().into_bytes(),
                null_transport_key: routing
                    .empty_address_default_transport_maps_lookup_key
                    .clone()
                    .into_bytes(),
            },
        }
    }

    /// Returns the routes that a session validates addresses by; `None` if all of them lead somewhere, so that a session has
    /// nothing to look up.
    pub(super) fn session_routes(
        &self,
        rewriting: &Arc<Rewriting>,
        destinations: &Arc<Destinations>,
        tables: &Tables,
    ) -> Option<Arc<dyn Routes>> {
        let resolver = self.resolver(Arc::clone(destinations), Arc::clone(rewriting), tables);
        resolver.may_lead_nowhere().then(|| Arc::new(resolver) as Arc<dyn Routes>)
    }

    /// Returns the local-part of the sender of mail for the postmaster.
    pub(crate) fn double_bounce_local_part(&self) -> &str {
        let sender = &self.notices.double_bounce_sender;
        sender.split_once('@').map_or(sender, |(local, _)| local)
    }

    /// Returns which transports that deliver send one recipient per transaction, by their numbers.
    pub(crate) fn single_recipient_transports(&self) -> Vec<bool> {
        super::delivery::TRANSPORTS.iter().map(|(name, _)| self.recipient_limit(name) == 1).collect()
    }
}

impl RoutingParameters {
    /// Returns a note for each parameter that is set and has no effect.
    pub(super) fn notes(&self, reader: &Reader<'_>) -> Vec<String> {
        if self.home_mailbox.is_empty() {
            return Vec::new();
        }
        let place = reader.place("home_mailbox");
        vec![format!("{place}: home_mailbox: has no effect, because there is no local delivery yet")]
    }
}
