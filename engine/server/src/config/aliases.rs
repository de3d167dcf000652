//! Recipients: virtual aliases, blind copies, duplicates.

use mailrace_core::cleanup::{Bcc, VirtualAlias};

use super::reader::parameters;
use super::value::{DomainList, TableList};
use super::{Configuration, Tables};

parameters! {
    /// Virtual aliases, blind copies and duplicate recipients.
    pub struct AliasParameters titled "Aliases and copies";

    /// Tables that expand recipients to other recipients.
    virtual_alias_maps: TableList = [];
    /// Domains whose recipients are all virtual aliases, or tables with such domains as keys. Domains are matched exactly.
    /// Any client may send mail to them.
    virtual_alias_domains: DomainList = "$virtual_alias_maps";
    /// Maximum number of recipients that one recipient may expand to.
    virtual_alias_expansion_limit: u32 = 1000 in 1 ..= 1_000_000;
    /// Maximum nesting depth of virtual aliases.
    virtual_alias_recursion_limit: u32 = 1000 in 1 ..= 1_000_000;
    /// Maximum length of an expanded address, in bytes.
    virtual_alias_address_length_limit: u32 = 1000 in 64 ..= 65_536;
    /// Maximum number of virtual alias lookups per message in tables on servers, in addition to 20 per recipient. A message
    /// that needs more is deferred (451 4.6.0), like one with an alias loop.
    [engine] alias_question_limit: u32 = 5000 in 100 ..= 10_000_000;
    /// Address that receives a blind copy of every message.
    always_bcc: String = "";
    /// Tables that map a reverse-path to the address that receives a blind copy.
    sender_bcc_maps: TableList = [];
    /// Tables that map a recipient to the address that receives a blind copy.
    recipient_bcc_maps: TableList = [];
    /// Maximum number of recipients per message that are checked for duplicates; 0: no limit.
    duplicate_filter_limit: u32 = 1000;
    /// Treats recipients that expand to the same address as distinct if the client specified different addresses.
    enable_original_recipient: bool = true;
}

impl Configuration {
    /// Returns the settings of the virtual alias pass.
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
    /// Returns the settings of the auto-BCC pass.
    pub(super) fn bcc(&self, tables: &Tables) -> Bcc {
        Bcc {
            always: self.always_bcc.clone().into_bytes(),
            sender_maps: tables.of(&self.sender_bcc_maps),
            recipient_maps: tables.of(&self.recipient_bcc_maps),
        }
    }
}
