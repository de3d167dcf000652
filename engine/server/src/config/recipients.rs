//! Recipient validation: the tables of the addresses that exist.

use std::sync::Arc;

use mailrace_core::smtp::{ClassTables, ListedAddresses, Routes};

use super::reader::parameters;
use super::value::{DomainList, RelayRestrictions, SenderRestrictions, TableList};
use super::{Configuration, Tables};

parameters! {
    /// Tables of the addresses that exist in our domains, and what happens to others.
    pub struct RecipientParameters titled "Recipient validation";

    /// Refuses recipients in our own domains that no table lists, and recipients whose route is `error` or `retry`. Tables of
    /// canonical addresses and virtual aliases list an address too.
    smtpd_reject_unlisted_recipient: bool = true;
    /// Refuses the recipients of mail whose sender is an address in our own domains that no table lists, or an address whose
    /// route is `error` or `retry`.
    smtpd_reject_unlisted_sender: bool = false;
    /// Restrictions on senders. Only `reject_unlisted_sender` is supported, which is the same as
    /// `smtpd_reject_unlisted_sender`.
    smtpd_sender_restrictions: SenderRestrictions = [];
    /// Restrictions on destinations. Only this value is supported; Postfix's default also permits authenticated clients, and
    /// defers instead of refusing.
    smtpd_relay_restrictions: RelayRestrictions = ["permit_mynetworks", "reject_unauth_destination"];
    /// Tables with the addresses of local domains as keys, with or without the domain; empty: all addresses exist. Postfix's
    /// default, the accounts of this machine and its aliases, is not supported yet. `postmaster` always exists.
    local_recipient_maps: TableList = [];
    /// Tables with the addresses of `relay_domains` as keys; empty: all addresses exist.
    relay_recipient_maps: TableList = [];
    /// Domains whose addresses are mailboxes without an account on this machine, or tables with such domains as keys. Domains
    /// are matched exactly. Any client may send mail to them.
    virtual_mailbox_domains: DomainList = "$virtual_mailbox_maps";
    /// Tables with the addresses of `virtual_mailbox_domains` as keys; empty: all addresses exist.
    virtual_mailbox_maps: TableList = [];
    /// Reply code for an address of a local domain that no table lists.
    unknown_local_recipient_reject_code: u16 = 550 in 400 ..= 599;
    /// Reply code for an address of `relay_domains` that no table lists.
    unknown_relay_recipient_reject_code: u16 = 550 in 400 ..= 599;
    /// Reply code for an address of `virtual_alias_domains` that is not in `virtual_alias_maps`.
    unknown_virtual_alias_reject_code: u16 = 550 in 400 ..= 599;
    /// Reply code for an address of `virtual_mailbox_domains` that no table lists.
    unknown_virtual_mailbox_reject_code: u16 = 550 in 400 ..= 599;
}

impl Configuration {
    /// Returns the tables of the addresses that exist, with the routes that may lead nowhere.
    pub(super) fn listed_addresses(
        &self,
        routes: Option<Arc<dyn Routes>>,
        tables: &Tables,
    ) -> Arc<ListedAddresses> {
        let recipients = &self.recipients;
        let class = |maps, reject_code| ClassTables { maps: tables.of(maps), reject_code };
        let RecipientParameters {
            local_recipient_maps,
            relay_recipient_maps,
            virtual_mailbox_maps,
            unknown_local_recipient_reject_code,
            unknown_relay_recipient_reject_code,
            unknown_virtual_mailbox_reject_code,
            ..
        } = recipients;
        Arc::new(ListedAddresses {
            smtpd_reject_unlisted_recipient: recipients.smtpd_reject_unlisted_recipient,
            smtpd_reject_unlisted_sender: recipients.smtpd_reject_unlisted_sender
                || recipients.smtpd_sender_restrictions.rejects_unlisted,
            recipient_canonical_maps: tables.of(&self.rewriting.recipient_canonical_maps),
            sender_canonical_maps: tables.of(&self.rewriting.sender_canonical_maps),
            canonical_maps: tables.of(&self.rewriting.canonical_maps),
            virtual_alias_maps: tables.of(&self.aliases.virtual_alias_maps),
            local: class(local_recipient_maps, *unknown_local_recipient_reject_code),
            virtual_mailbox: class(virtual_mailbox_maps, *unknown_virtual_mailbox_reject_code),
            relay: class(relay_recipient_maps, *unknown_relay_recipient_reject_code),
            unknown_virtual_alias_reject_code: recipients.unknown_virtual_alias_reject_code,
            recipient_delimiter: self.rewriting.recipient_delimiter.clone().into_bytes(),
            routes,
        })
    }
}
