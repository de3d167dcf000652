//! Validates addresses of our own domains: Postfix's `reject_unlisted_recipient` and `reject_unlisted_sender`.
//!
//! An address of an own domain that no table lists is refused in the session, because a message that is accepted for an
//! unknown recipient returns to a sender who may not have sent it. [`Session::reject_unlisted`] decides for both sides of
//! the envelope. An address of any domain whose route leads nowhere is refused with it, as Postfix does.

use alloc::borrow::Cow;
use alloc::sync::Arc;
use alloc::vec::Vec;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::Settings;
use super::decision::{Decision, Refusal};
use super::exchange::Exchange;
use super::rcpt::ForwardPath;
use super::relay::resolve;
use super::route::{DeadEnd, Routes};
use super::session::Session;
use crate::address::{Destinations, DomainClass};
use crate::lookup::{AddressLookup, Asker, KeyForm, LookupError, Maps, is_of_mail_system};
use crate::smtp::reply::{self, Filled};

/// Tables that list the addresses of our own domains; names and defaults are Postfix's.
#[derive(Clone, Debug)]
pub struct ListedAddresses {
    /// Refuse recipients that no table lists.
    pub smtpd_reject_unlisted_recipient: bool,
    /// Refuse senders that no table lists.
    pub smtpd_reject_unlisted_sender: bool,
    /// Lists recipients and senders.
    pub recipient_canonical_maps: Maps,
    /// Lists senders.
    pub sender_canonical_maps: Maps,
    /// Lists recipients and senders.
    pub canonical_maps: Maps,
    /// Lists recipients and senders; the only list of the virtual alias domains.
    pub virtual_alias_maps: Maps,
    /// `local_recipient_maps`.
    pub local: ClassTables,
    /// `virtual_mailbox_maps`.
    pub virtual_mailbox: ClassTables,
    /// `relay_recipient_maps`.
    pub relay: ClassTables,
    /// Reply code for an unlisted address of a virtual alias domain (`unknown_virtual_alias_reject_code`).
    pub unknown_virtual_alias_reject_code: u16,
    /// Characters, the first of which in a local-part starts its extension; empty: no extensions.
    pub recipient_delimiter: Vec<u8>,
    /// Routes, if one of them may lead nowhere.
    pub routes: Option<Arc<dyn Routes>>,
}

/// Tables of one class of domains.
#[derive(Clone, Debug)]
pub struct ClassTables {
    /// The tables; empty: every address of the class exists.
    pub maps: Maps,
    /// Reply code for an address that is not in the tables, 400 to 599.
    pub reject_code: u16,
}

impl Default for ClassTables {
    fn default() -> Self {
        Self { maps: Maps::default(), reject_code: REJECT_CODE }
    }
}

impl Default for ListedAddresses {
    fn default() -> Self {
        Self {
            smtpd_reject_unlisted_recipient: true,
            smtpd_reject_unlisted_sender: false,
            recipient_canonical_maps: Maps::default(),
            sender_canonical_maps: Maps::default(),
            canonical_maps: Maps::default(),
            virtual_alias_maps: Maps::default(),
            local: ClassTables::default(),
            virtual_mailbox: ClassTables::default(),
            relay: ClassTables::default(),
            unknown_virtual_alias_reject_code: REJECT_CODE,
            recipient_delimiter: Vec::new(),
            routes: None,
        }
    }
}

impl ListedAddresses {
    /// Returns the tables of a class, or `None` if every address of the class exists.
    fn own_maps(&self, class: DomainClass) -> Option<&Maps> {
        let maps = match class {
            DomainClass::VirtualAlias => return Some(&self.virtual_alias_maps),
            DomainClass::Local => &self.local.maps,
            DomainClass::VirtualMailbox => &self.virtual_mailbox.maps,
            DomainClass::Relay => &self.relay.maps,
            DomainClass::Default => return None,
        };
        (!maps.is_empty()).then_some(maps)
    }

    /// Whether there may be an address that no table lists, or that has no route.
    fn is_of_use(&self, destinations: &Destinations) -> bool {
        let own = [&self.local.maps, &self.virtual_mailbox.maps, &self.relay.maps];
        self.routes.is_some()
            || !destinations.virtual_alias_domains.is_empty()
            || !own.into_iter().all(Maps::is_empty)
    }

    fn may_wait(&self) -> bool {
        let canonical = [&self.recipient_canonical_maps, &self.sender_canonical_maps, &self.canonical_maps];
        let own = [&self.virtual_alias_maps, &self.local.maps, &self.virtual_mailbox.maps, &self.relay.maps];
        canonical.into_iter().chain(own).any(Maps::may_wait)
            || self.routes.as_ref().is_some_and(|routes| routes.may_wait())
    }
}

/// Side of the envelope that an address is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// The reverse-path.
    Sender,
    /// A forward-path.
    Recipient,
}

/// An address that is validated.
struct Validated<'a> {
    side: Side,
    /// In internal form.
    address: &'a [u8],
    /// The address on the other side of the envelope, which a route may depend on; internal form.
    other: &'a [u8],
}

/// Why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault<'a> {
    /// An own domain of this class has it, and no table lists it.
    Unlisted(DomainClass),
    /// Its route leads nowhere.
    DeadEnd(DeadEnd<'a>),
}

impl Session {
    /// Refuses an address (internal form) of an own domain that no table lists, and an address whose route leads nowhere.
    /// `side` decides which tables list it, and the text of the reply; `path` is the forward-path of the command.
    ///
    /// The result is the same for all clients and all commands; the caller decides whether to ask at all.
    pub(super) fn reject_unlisted<'t>(
        &mut self,
        exchange: &Exchange<'_>,
        path: &ForwardPath<'t>,
        side: Side,
        address: &'t [u8],
    ) -> Decision<'t> {
        let settings = exchange.settings;
        let (listed, destinations) = (settings.listed_addresses.as_ref(), settings.destinations.as_ref());
        if !listed.is_of_use(destinations) {
            return Decision::Accept;
        }
        // The route of a sender is that of a reply from the recipient, as in Postfix.
        let other: Cow<'_, [u8]> = match side {
            Side::Sender => path.address.into(),
            Side::Recipient if listed.routes.is_none() => Cow::default(),
            Side::Recipient => {
                self.envelope().map(|envelope| envelope.sender.clone()).unwrap_or_default().into()
            }
        };
        let validated = Validated { side, address, other: &other };
        let asker = self.asker(listed.may_wait() || destinations.may_wait());
        let (reason, reply) = match fault(settings, &validated, path.arena, asker) {
            Ok(None) => return Decision::Accept,
            Err(LookupError::Pending(ticket)) => return Decision::Ask(ticket),
            Err(LookupError::Unavailable) => ("lookup_failed", reply::LOOKUP_FAILED.with(address)),
            Ok(Some(Fault::Unlisted(class))) => {
                let reason = match side {
                    Side::Sender => "unlisted_sender",
                    Side::Recipient => "unlisted_recipient",
                };
                (reason, refusal_text(listed, side, class, address))
            }
            Ok(Some(Fault::DeadEnd(dead_end))) => {
                let reason = match side {
                    Side::Sender => "undeliverable_sender",
                    Side::Recipient => "undeliverable_recipient",
                };
                (reason, dead_end.reply(side, address))
            }
        };
        Decision::Refuse(Refusal::new(path.verb.name(), reason, reply).as_error())
    }
}

/// Returns why an address is refused; `None`: it has a route, and is listed, of a class without tables, or foreign. `arena`
/// receives the text of a route.
///
/// The tables are searched in Postfix's order. An address that has an alias or a canonical form exists, whatever it and its
/// route lead to. No table is searched if its answer could not lead to a refusal.
fn fault<'a>(
    settings: &Settings,
    validated: &Validated<'_>,
    arena: &'a Bump,
    asker: Asker<'_>,
) -> Result<Option<Fault<'a>>, LookupError> {
    let listed = settings.listed_addresses.as_ref();
    resolve(settings, validated.address, |target| {
        let class = target.class(&settings.destinations, asker)?;
        // `postmaster` must exist (RFC 5321 §4.5.1).
        let is_exempt = class == DomainClass::Local && is_of_mail_system(target.local);
        let own = listed.own_maps(class).filter(|_| !is_exempt);
        // Virtual alias domains have no routes.
        let routes = listed.routes.as_ref().filter(|_| class != DomainClass::VirtualAlias);
        if own.is_none() && routes.is_none() {
            return Ok(None);
        }
        let keys = Bump::new();
        let mut address = ArenaVec::with_capacity_in(target.local.len() + 1 + target.domain.len(), &keys);
        [target.local, b"@", target.domain].into_iter().for_each(|part| address.extend_from_slice_copy(part));
        let address = address.into_bump_slice();
        let dead_end = match routes {
            Some(routes) => routes.dead_end(arena, validated.other, address, asker)?,
            None => None,
        };
        if own.is_none() && dead_end.is_none() {
            return Ok(None);
        }
        let lookup = AddressLookup {
            arena: &keys,
            rewriting: &settings.rewriting,
            destinations: &settings.destinations,
            recipient_delimiter: &listed.recipient_delimiter,
            asker,
        };
        let of_senders = (validated.side == Side::Sender).then_some(&listed.sender_canonical_maps);
        let of_all = [&listed.canonical_maps, &listed.virtual_alias_maps];
        let own = own.filter(|_| class != DomainClass::VirtualAlias && dead_end.is_none());
        let searched =
            [&listed.recipient_canonical_maps].into_iter().chain(of_senders).chain(of_all).chain(own);
        for maps in searched.filter(|maps| !maps.is_empty()) {
            if lookup.find(maps, address, KeyForm::ExternalFirst)?.is_some() {
                return Ok(None);
            }
        }
        Ok(Some(dead_end.map_or(Fault::Unlisted(class), Fault::DeadEnd)))
    })
}

/// Returns the reply about an unlisted address of a class.
fn refusal_text<'t>(
    listed: &ListedAddresses,
    side: Side,
    class: DomainClass,
    address: &'t [u8],
) -> Filled<'t> {
    let (table, code): (&[u8], _) = match class {
        DomainClass::VirtualAlias => (b"virtual alias table", listed.unknown_virtual_alias_reject_code),
        DomainClass::VirtualMailbox => (b"virtual mailbox table", listed.virtual_mailbox.reject_code),
        DomainClass::Relay => (b"relay recipient table", listed.relay.reject_code),
        DomainClass::Local | DomainClass::Default => (b"local recipient table", listed.local.reject_code),
    };
    let reply = match (side, class) {
        (Side::Recipient, _) => &reply::UNLISTED_RECIPIENT,
        // Postfix derives this status from the one of a recipient.
        (Side::Sender, DomainClass::VirtualAlias) => &reply::UNLISTED_ALIAS_SENDER,
        (Side::Sender, _) => &reply::UNLISTED_SENDER,
    };
    reply.with_both(address, table).with_code(code)
}

/// Default of the `unknown_..._reject_code` parameters.
const REJECT_CODE: u16 = 550;

#[cfg(test)]
mod tests;
