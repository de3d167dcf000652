//! Owns the parameters of the cleanup passes: addresses, tables, checks; names and defaults are Postfix's.

use super::document::Section;
use super::reader::settings;
use super::value::{Octets, TableName};

settings! {
    /// Postfix's parameters of address rewriting and content checks.
    pub struct RewritingParameters in Section::Top, comes with None;

    /// Domains without a dot get mydomain.
    append_dot_mydomain: bool = "false";
    /// `site!user` is `user@site`.
    swap_bangpath: bool = "true";
    /// `user%domain` is `user@domain`.
    allow_percent_hack: bool = "true";
    /// What separates a mailbox from its extension; any of these characters.
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
    /// Domains whose subdomains are hidden; `!domain` is not, with all below it.
    masquerade_domains: Vec<String> = "[]";
    /// Local-parts that are not hidden.
    masquerade_exceptions: Vec<String> = "[]";
    /// What masquerade_domains hides.
    masquerade_classes: Vec<String> = "[\"envelope_sender\", \"header_sender\", \"header_recipient\"]";

    /// Replaces recipients.
    virtual_alias_maps: Vec<TableName> = "[]";
    /// Domains of which all recipients are replaced, and tables that have them as keys; mail for them is taken from anybody.
    virtual_alias_domains: Vec<String> = "\"$virtual_alias_maps\"";
    /// Recipients that one recipient may become.
    virtual_alias_expansion_limit: u32 = "1000" in 1 ..= 1_000_000;
    /// Depth of virtual aliases.
    virtual_alias_recursion_limit: u32 = "1000" in 1 ..= 1_000_000;
    /// Octets of an address that virtual aliases make.
    virtual_alias_address_length_limit: u32 = "1000" in 64 ..= 65_536;
    /// Extensions are kept by these tables: canonical, virtual.
    propagate_unmatched_extensions: Vec<String> = "[\"canonical\", \"virtual\"]";
    /// Gets a copy of every message.
    always_bcc: String = "\"\"";
    /// Who gets a copy, by the reverse-path.
    sender_bcc_maps: Vec<TableName> = "[]";
    /// Who gets a copy, by each recipient.
    recipient_bcc_maps: Vec<TableName> = "[]";
    /// Recipients that are compared to find duplicates; 0: all.
    duplicate_filter_limit: u32 = "1000";
    /// Recipients that were given differently are different.
    enable_original_recipient: bool = "true";

    /// Recipients that are taken from a header section.
    extract_recipient_limit: u32 = "10240" in 1 ..= 1_000_000;
    /// Address tokens of one field.
    header_address_token_limit: u32 = "10240" in 1 ..= 1_000_000;
    /// Looks at each field of the header section.
    header_checks: Vec<TableName> = "[]";
    /// Looks at fields of MIME, and at those of parts.
    mime_header_checks: Vec<TableName> = "\"$header_checks\"";
    /// Looks at the fields of attached messages.
    nested_header_checks: Vec<TableName> = "\"$header_checks\"";
    /// Looks at each line of bodies.
    body_checks: Vec<TableName> = "[]";
    /// Octets of each part that body_checks looks at; 0: all.
    body_checks_size_limit: Octets = "51200";
    /// Characters that content is refused for, written as in C.
    message_reject_characters: String = "\"\"";
    /// Characters that are taken out of content, written as in C.
    message_strip_characters: String = "\"\"";
    /// Multiparts within each other.
    mime_nesting_limit: u32 = "100" in 1 ..= 10_000;
    /// Octets of a boundary that are compared.
    mime_boundary_length_limit: u32 = "2048" in 1 ..= 65_536;
    /// Encoded multiparts and messages are refused.
    strict_mime_encoding_domain: bool = "false";
    /// Fields beyond ASCII are refused.
    strict_7bit_headers: bool = "false";
    /// Fields beyond ASCII, and bodies that do not say that they are, are refused.
    strict_8bitmime: bool = "false";
    /// Bodies beyond ASCII that do not say so are refused.
    strict_8bitmime_body: bool = "false";
    /// Content is not read as MIME.
    disable_mime_input_processing: bool = "false";
    /// Content that says it is 8bit is.
    detect_8bit_encoding_header: bool = "true";
    /// Where mail from may use UTF-8 without saying so: sendmail, verify and others.
    smtputf8_autodetect_classes: Vec<String> = "[\"sendmail\", \"verify\"]";
}
