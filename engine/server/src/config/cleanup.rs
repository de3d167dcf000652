//! Content cleanup: header section, MIME, characters.

use std::sync::Arc;

use mailrace_core::address::{Destinations, Rewriting};
use mailrace_core::cleanup::{self, Mime, OctetSet};

use super::machine::zone_now;
use super::reader::parameters;
use super::value::{Characters, MailSources, Octets};
use super::{Configuration, Tables};

parameters! {
    /// Limits on message content, and header fields that are added or removed.
    pub struct CleanupParameters titled "Content";

    /// Number of Received fields at which a message is refused.
    hopcount_limit: u32 = 50 in 1 ..= 100_000;
    /// Maximum size of a header field, including folded lines.
    header_size_limit: Octets = 102400 in 1024 ..= 16_777_216;
    /// Maximum number of address tokens per header field.
    header_address_token_limit: u32 = 10240 in 1 ..= 1_000_000;
    /// Header fields to remove.
    message_drop_headers: Vec<String> = ["bcc", "content-length", "resent-bcc", "return-path"];
    /// Adds missing header fields to mail from all clients, not only from those listed in `local_header_rewrite_clients`.
    always_add_missing_headers: bool = false;
    /// Header field to add to a message without a recipient field.
    undisclosed_recipients_header: String = "";
    /// Characters for which a message is refused; C escapes are supported.
    message_reject_characters: Characters = "";
    /// Characters to remove from messages; C escapes are supported.
    message_strip_characters: Characters = "";
    /// Maximum nesting depth of multiparts.
    mime_nesting_limit: u32 = 100 in 1 ..= 10_000;
    /// Number of bytes of a MIME boundary that are compared.
    mime_boundary_length_limit: u32 = 2048 in 1 ..= 65_536;
    /// Refuses multipart and message types that have a Content-Transfer-Encoding other than 7bit, 8bit or binary.
    strict_mime_encoding_domain: bool = false;
    /// Refuses header fields that contain 8-bit characters.
    strict_7bit_headers: bool = false;
    /// Turns on `strict_7bit_headers` and `strict_8bitmime_body`.
    strict_8bitmime: bool = false;
    /// Refuses bodies that contain 8-bit characters without declaring them.
    strict_8bitmime_body: bool = false;
    /// Does not parse content as MIME.
    disable_mime_input_processing: bool = false;
    /// Treats content as 8-bit if its Content-Transfer-Encoding says so.
    detect_8bit_encoding_header: bool = true;
    /// Mail sources for which SMTPUTF8 is detected from the content if it was not requested: `sendmail`, `verify` and
    /// others.
    smtputf8_autodetect_classes: MailSources = ["sendmail", "verify"];
}

impl CleanupParameters {
    const fn mime(&self) -> Mime {
        Mime {
            is_disabled: self.disable_mime_input_processing,
            nesting_limit: self.mime_nesting_limit as usize,
            boundary_length_limit: self.mime_boundary_length_limit as usize,
            strict_encoding_domain: self.strict_mime_encoding_domain,
            strict_7bit_headers: self.strict_7bit_headers || self.strict_8bitmime,
            strict_8bit_body: self.strict_8bitmime_body || self.strict_8bitmime,
            detects_8bit: self.detect_8bit_encoding_header,
        }
    }
}

impl Configuration {
    /// Returns the settings of the cleanup passes.
    pub(super) fn cleanup_settings(
        &self,
        rewriting: Arc<Rewriting>,
        destinations: Arc<Destinations>,
        tables: &Tables,
    ) -> cleanup::Settings {
        let Self { domains, session, aliases, cleanup, .. } = self;
        let [canonical, sender_canonical, recipient_canonical] = self.rewriting.canonical(tables);
        let set = |Characters(bytes): &Characters| (!bytes.is_empty()).then(|| Box::new(OctetSet::of(bytes)));
        let field_name = |name: &String| name.trim_end_matches(':').to_ascii_lowercase().into_bytes();
        cleanup::Settings {
            myhostname: domains.myhostname.0.clone().into_bytes(),
            mail_name: domains.mail_name.clone().into_bytes(),
            rewriting,
            destinations,
            recipient_delimiter: self.rewriting.recipient_delimiter.clone().into_bytes(),
            canonical,
            sender_canonical,
            recipient_canonical,
            propagates_canonical_extension: self.rewriting.propagate_unmatched_extensions.canonical,
            masquerade: self.rewriting.masquerade(),
            virtual_alias: self.virtual_alias(tables),
            bcc: aliases.bcc(tables),
            duplicate_filter_limit: aliases.duplicate_filter_limit as usize,
            enable_original_recipient: aliases.enable_original_recipient,
            checks: self.checks.checks(tables),
            mime: cleanup.mime(),
            hopcount_limit: cleanup.hopcount_limit,
            header_size_limit: cleanup.header_size_limit.in_memory(),
            header_address_token_limit: cleanup.header_address_token_limit as usize,
            line_length_limit: session.line_length_limit as usize,
            always_add_missing_headers: cleanup.always_add_missing_headers,
            undisclosed_recipients_header: cleanup.undisclosed_recipients_header.clone().into_bytes(),
            message_drop_headers: cleanup.message_drop_headers.iter().map(field_name).collect(),
            message_strip_characters: set(&cleanup.message_strip_characters),
            message_reject_characters: set(&cleanup.message_reject_characters),
            detects_smtputf8: cleanup.smtputf8_autodetect_classes.sendmail,
            zone: zone_now(),
        }
    }
}
