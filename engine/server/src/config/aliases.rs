//! Recipients: virtual aliases, copies, duplicates.

use mailrace_core::cleanup::{Bcc, VirtualAlias};

use super::reader::parameters;
use super::value::{DomainList, TableList};
use super::{Configuration, Tables};

parameters! {
    /// Which recipients are replaced, added and compared.
    pub struct AliasParameters titled "Aliases and copies";

    /// Tables that replace recipients.
    virtual_alias_maps: TableList = [];
    /// Domains in which all recipients are replaced, and tables that have them as keys; they match exactly. Mail for them is
    /// accepted from any client.
    virtual_alias_domains: DomainList = "$virtual_alias_maps";
    /// Recipients that one recipient may be expanded to.
    virtual_alias_expansion_limit: u32 = 1000 in 1 ..= 1_000_000;
    /// Deepest nesting of virtual aliases.
    virtual_alias_recursion_limit: u32 = 1000 in 1 ..= 1_000_000;
    /// Longest address that an expansion may give, in bytes.
    virtual_alias_address_length_limit: u32 = 1000 in 64 ..= 65_536;
    /// Questions about virtual aliases that a message may put to tables on servers, beside 20 for each of its recipients.
    /// Beyond that the message is deferred (451 4.6.0), like one whose aliases have no end.
    [engine] alias_question_limit: u32 = 5000 in 100 ..= 10_000_000;
    /// Address that receives a copy of every message.
    always_bcc: String = "";
    /// Tables that say who receives a copy, by reverse-path.
    sender_bcc_maps: TableList = [];
    /// Tables that say who receives a copy, by recipient.
    recipient_bcc_maps: TableList = [];
    /// Recipients of a message that are compared to find duplicates; 0: all.
    duplicate_filter_limit: u32 = 1000;
    /// Keeps recipients apart that clients gave as different addresses.
    enable_original_recipient: bool = true;
}

impl Configuration {
    /// How recipients are replaced.
    pub(super) fn virtual_alias(&self, tables: &Tables) -> VirtualAlias {
        let aliases = &self.aliases;
        VirtualAlias {
            maps: tables.of(&aliases.virtual_alias_maps),
            propagates_extension: self.rewriting.propagate_unmatched_extensions.virtual_alias,
            expansion_limit: aliases.virtual_alias_expansion_limit as usize,
            question_limit: aliases.alias_question_limit as usize,
            recursion_limit: aliases.virtual_alias_recursion_limit as usize,
            address_length_limit: aliases.virtual_alias_address_length_limit as usize,
        }
    }
}

impl AliasParameters {
    /// Who receives copies.
    pub(super) fn bcc(&self, tables: &Tables) -> Bcc {
        Bcc {
            always: self.always_bcc.clone().into_bytes(),
            sender_maps: tables.of(&self.sender_bcc_maps),
            recipient_maps: tables.of(&self.recipient_bcc_maps),
        }
    }
}
