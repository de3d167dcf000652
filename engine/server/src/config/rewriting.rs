//! Owns the parameters of address rewriting: read and checked now, in force with the release that rewrites.

use super::document::Section;
use super::reader::settings;
use super::value::TableName;

settings! {
    /// Postfix's parameters of address rewriting.
    pub struct RewritingParameters in Section::Top, comes with Some("address rewriting");

    /// Domains without a dot get mydomain.
    append_dot_mydomain: bool = "false";
    /// `site!user` is `user@site`.
    swap_bangpath: bool = "true";
    /// `user%domain` is `user@domain`.
    allow_percent_hack: bool = "true";
    /// What separates a mailbox from its extension.
    recipient_delimiter: String = "\"\"";
    /// Rewrites all addresses.
    canonical_maps: Vec<TableName> = "[]";
    /// What canonical_maps rewrites.
    canonical_classes: Vec<String> = "[\"envelope_sender\", \"envelope_recipient\", \"header_sender\", \"header_recipient\"]";
    /// Rewrites addresses of senders.
    sender_canonical_maps: Vec<TableName> = "[]";
    /// What sender_canonical_maps rewrites.
    sender_canonical_classes: Vec<String> = "[\"envelope_sender\", \"header_sender\"]";
    /// Rewrites addresses of recipients.
    recipient_canonical_maps: Vec<TableName> = "[]";
    /// What recipient_canonical_maps rewrites.
    recipient_canonical_classes: Vec<String> = "[\"envelope_recipient\", \"header_recipient\"]";
    /// Domains whose subdomains are hidden.
    masquerade_domains: Vec<String> = "[]";
    /// Local-parts that are not hidden.
    masquerade_exceptions: Vec<String> = "[]";
    /// What masquerade_domains hides.
    masquerade_classes: Vec<String> = "[\"envelope_sender\", \"header_sender\", \"header_recipient\"]";
    /// Replaces recipients.
    virtual_alias_maps: Vec<TableName> = "[]";
    /// Domains of which all recipients are replaced.
    virtual_alias_domains: Vec<String> = "[]";
    /// Recipients that one recipient may become.
    virtual_alias_expansion_limit: u32 = "1000" in 1 ..= 1_000_000;
    /// Depth of virtual aliases.
    virtual_alias_recursion_limit: u32 = "1000" in 1 ..= 1_000_000;
    /// Octets of an address that virtual aliases make.
    virtual_alias_address_length_limit: u32 = "1000" in 64 ..= 65_536;
    /// Extensions are kept by these tables.
    propagate_unmatched_extensions: Vec<String> = "[\"canonical\", \"virtual\"]";
    /// Recipients that are compared to find duplicates.
    duplicate_filter_limit: u32 = "1000";
    /// Address tokens of one field.
    header_address_token_limit: u32 = "10240" in 1 ..= 1_000_000;
    /// The original recipient is kept.
    enable_original_recipient: bool = "true";
}
