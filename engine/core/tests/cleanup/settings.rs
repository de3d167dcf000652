//! Settings of cases, by their names in the configuration.

use std::sync::Arc;

use mailrace_core::address::{RewriteContext, Rewriting};
use mailrace_core::cleanup::{Classes, OctetSet, Settings};
use mailrace_core::lookup::Maps;

/// Returns the settings of a case that sets nothing.
pub(crate) fn defaults() -> Settings {
    let local = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.com".to_vec() };
    let mut settings = Settings {
        myhostname: b"mx.example.com".to_vec(),
        rewriting: Arc::new(Rewriting { local, ..Rewriting::default() }),
        ..Settings::default()
    };
    let usual = classes(b"envelope_sender,envelope_recipient,header_sender,header_recipient");
    settings.canonical.classes = usual;
    settings.sender_canonical.classes = usual;
    settings.recipient_canonical.classes = usual;
    settings.masquerade.classes = classes(b"envelope_sender,header_sender,header_recipient");
    settings
}

/// Returns the tables with this name.
pub(crate) fn maps<'s>(settings: &'s mut Settings, name: &str) -> &'s mut Maps {
    match name {
        "canonical_maps" => &mut settings.canonical.maps,
        "sender_canonical_maps" => &mut settings.sender_canonical.maps,
        "recipient_canonical_maps" => &mut settings.recipient_canonical.maps,
        "virtual_alias_maps" => &mut settings.virtual_alias.maps,
        "sender_bcc_maps" => &mut settings.bcc.sender_maps,
        "recipient_bcc_maps" => &mut settings.bcc.recipient_maps,
        "header_checks" => &mut settings.checks.header,
        "mime_header_checks" => &mut settings.checks.mime_header,
        "nested_header_checks" => &mut settings.checks.nested_header,
        "body_checks" => &mut settings.checks.body,
        _ => unreachable!("the list of tables has no {name}"),
    }
}

/// Changes a setting.
pub(crate) fn configure(settings: &mut Settings, name: &str, value: &[u8]) -> Result<(), String> {
    if address_setting(settings, name, value)? {
        return Ok(());
    }
    let is_yes = value == b"yes";
    match name {
        "hopcount_limit" => settings.hopcount_limit = number(value)?,
        "header_size_limit" => settings.header_size_limit = number(value)?,
        "header_address_token_limit" => settings.header_address_token_limit = number(value)?,
        "line_length_limit" => settings.line_length_limit = number(value)?,
        "always_add_missing_headers" => settings.always_add_missing_headers = is_yes,
        "undisclosed_recipients_header" => settings.undisclosed_recipients_header = value.to_vec(),
        "message_drop_headers" => settings.message_drop_headers = words(value).collect(),
        "message_strip_characters" => {
            settings.message_strip_characters = Some(Box::new(OctetSet::of(value)));
        }
        "message_reject_characters" => {
            settings.message_reject_characters = Some(Box::new(OctetSet::of(value)));
        }
        "smtputf8_autodetect" => settings.detects_smtputf8 = is_yes,
        "disable_mime_input_processing" => settings.mime.is_disabled = is_yes,
        "mime_nesting_limit" => settings.mime.nesting_limit = number(value)?,
        "mime_boundary_length_limit" => settings.mime.boundary_length_limit = number(value)?,
        "strict_mime_encoding_domain" => settings.mime.strict_encoding_domain = is_yes,
        "strict_7bit_headers" => settings.mime.strict_7bit_headers = is_yes,
        "strict_8bitmime_body" => settings.mime.strict_8bit_body = is_yes,
        "detect_8bit_encoding_header" => settings.mime.detects_8bit = is_yes,
        "body_checks_size_limit" => settings.checks.body_size_limit = number(value)?,
        "zone" => {
            settings.zone.offset_seconds = number::<i32>(value)? * 60;
            settings.zone.abbreviation = b"ZONE".to_vec();
        }
        _ => return Err(format!("unknown setting {name}")),
    }
    Ok(())
}

/// Returns false if `name` is no setting of addresses.
fn address_setting(settings: &mut Settings, name: &str, value: &[u8]) -> Result<bool, String> {
    let is_yes = value == b"yes";
    let rewriting = Arc::make_mut(&mut settings.rewriting);
    match name {
        "append_at_myorigin" => rewriting.rules.append_at_myorigin = is_yes,
        "append_dot_mydomain" => rewriting.rules.append_dot_mydomain = is_yes,
        "swap_bangpath" => rewriting.rules.swap_bangpath = is_yes,
        "allow_percent_hack" => rewriting.rules.allow_percent_hack = is_yes,
        "myorigin" => rewriting.local.origin = value.to_vec(),
        "remote_header_rewrite_domain" => {
            rewriting.remote = Some(RewriteContext { origin: value.to_vec(), domain: value.to_vec() });
        }
        "recipient_delimiter" => settings.recipient_delimiter = value.to_vec(),
        "propagate_canonical_extension" => settings.propagates_canonical_extension = is_yes,
        "propagate_virtual_extension" => settings.virtual_alias.propagates_extension = is_yes,
        "canonical_classes" => settings.canonical.classes = classes(value),
        "sender_canonical_classes" => settings.sender_canonical.classes = classes(value),
        "recipient_canonical_classes" => settings.recipient_canonical.classes = classes(value),
        "masquerade_classes" => settings.masquerade.classes = classes(value),
        "masquerade_domains" => {
            let domain = |word: &[u8]| match word.strip_prefix(b"!") {
                Some(domain) => (true, domain.to_vec()),
                None => (false, word.to_vec()),
            };
            settings.masquerade.domains = words(value).map(domain).collect();
        }
        "masquerade_exceptions" => {
            settings.masquerade.exceptions = words(value).map(<[u8]>::to_vec).collect()
        }
        "virtual_alias_expansion_limit" => settings.virtual_alias.expansion_limit = number(value)?,
        "virtual_alias_recursion_limit" => settings.virtual_alias.recursion_limit = number(value)?,
        "virtual_alias_address_length_limit" => settings.virtual_alias.address_length_limit = number(value)?,
        "always_bcc" => settings.bcc.always = value.to_vec(),
        "duplicate_filter_limit" => settings.duplicate_filter_limit = number(value)?,
        "enable_original_recipient" => settings.enable_original_recipient = is_yes,
        _ => return Ok(false),
    }
    Ok(true)
}

fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').filter(|word| !word.is_empty())
}

fn classes(value: &[u8]) -> Classes {
    let has = |name: &[u8]| words(value).any(|word| word == name);
    Classes {
        envelope_sender: has(b"envelope_sender"),
        envelope_recipient: has(b"envelope_recipient"),
        header_sender: has(b"header_sender"),
        header_recipient: has(b"header_recipient"),
    }
}

fn number<T: std::str::FromStr>(value: &[u8]) -> Result<T, String> {
    let text = String::from_utf8_lossy(value);
    text.parse().map_err(|_| format!("expected a number, not {text:?}"))
}
