//! Parameters whose value is a list of known words.

use mailrace_core::cleanup::Classes;

use super::{Refusal, Setting, is_not};
use crate::config::reader::Raw;

/// Returns which of the known `words` the list contains.
pub(super) fn words<const COUNT: usize>(raw: &Raw, words: [&str; COUNT]) -> Result<[bool; COUNT], Refusal> {
    let listed = Vec::<String>::read(raw)?;
    let unknown = listed.iter().map(String::as_str).filter(|word| !words.contains(word));
    is_not(unknown, "known", "known", &format!("write some of {}", words.join(", ")))?;
    Ok(words.map(|word| listed.iter().any(|listed| listed == word)))
}

/// Classes of addresses to rewrite.
impl Setting for Classes {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [envelope_sender, envelope_recipient, header_sender, header_recipient] =
            words(raw, ["envelope_sender", "envelope_recipient", "header_sender", "header_recipient"])?;
        Ok(Self { envelope_sender, envelope_recipient, header_sender, header_recipient })
    }
}

/// Kinds of tables whose results keep the extension of an address (`propagate_unmatched_extensions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExtensionTables {
    /// Canonical tables.
    pub canonical: bool,
    /// Virtual aliases.
    pub virtual_alias: bool,
}

impl Setting for ExtensionTables {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [canonical, virtual_alias, ..] =
            words(raw, ["canonical", "virtual", "alias", "forward", "generic", "include"])?;
        Ok(Self { canonical, virtual_alias })
    }
}

/// Mail sources whose messages are scanned for UTF-8 (`smtputf8_autodetect_classes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MailSources {
    /// Locally submitted mail.
    pub sendmail: bool,
}

impl Setting for MailSources {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [all, sendmail, ..] =
            words(raw, ["all", "sendmail", "bounce", "forward", "notify", "smtpd", "verify"])?;
        Ok(Self { sendmail: sendmail || all })
    }
}

/// Clients whose header sections are rewritten (`local_header_rewrite_clients`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalClients {
    /// This machine.
    pub inet_interfaces: bool,
    /// Clients in `mynetworks`.
    pub mynetworks: bool,
}

impl Setting for LocalClients {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [inet_interfaces, mynetworks] = words(raw, ["permit_inet_interfaces", "permit_mynetworks"])?;
        Ok(Self { inet_interfaces, mynetworks })
    }
}

/// Restrictions on senders (`smtpd_sender_restrictions`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderRestrictions {
    /// `reject_unlisted_sender`.
    pub rejects_unlisted: bool,
}

impl Setting for SenderRestrictions {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let listed = Vec::<String>::read(raw)?;
        let others = listed.iter().map(String::as_str).filter(|word| *word != "reject_unlisted_sender");
        is_not(others, "supported", "supported", "write \"reject_unlisted_sender\", or remove it")?;
        Ok(Self { rejects_unlisted: !listed.is_empty() })
    }
}

/// Restrictions on destinations (`smtpd_relay_restrictions`), which always are `permit_mynetworks` and
/// `reject_unauth_destination`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RelayRestrictions;

impl Setting for RelayRestrictions {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        if Vec::<String>::read(raw)? == ["permit_mynetworks", "reject_unauth_destination"] {
            return Ok(Self);
        }
        let remedy = "write \"permit_mynetworks, reject_unauth_destination\", or remove it";
        Err(Refusal::new("other restrictions are not supported yet", remedy))
    }
}

/// Classes of mail trouble that the postmaster is informed of (`notify_classes`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoticeClasses {
    /// Copies of reports about failures.
    pub bounce: bool,
    /// Failures of mail from the null sender.
    pub double_bounce: bool,
    /// Copies of reports about delays.
    pub delay: bool,
}

impl Setting for NoticeClasses {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [bounce, double_bounce, delay, ..] =
            words(raw, ["bounce", "2bounce", "delay", "data", "policy", "protocol", "resource", "software"])?;
        Ok(Self { bounce, double_bounce, delay })
    }
}

/// Lists in which a domain matches its subdomains (`parent_domain_matches_subdomains`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubdomainLists {
    /// `relay_domains`.
    pub relay_domains: bool,
    /// `transport_maps`.
    pub transport_maps: bool,
}

impl Setting for SubdomainLists {
    const KIND: &str = "words";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let [relay_domains, transport_maps, ..] = words(
            raw,
            [
                "relay_domains",
                "transport_maps",
                "debug_peer_list",
                "fast_flush_domains",
                "mynetworks",
                "permit_mx_backup_networks",
                "qmqpd_authorized_clients",
                "smtpd_access_maps",
                "smtpd_client_event_limit_exceptions",
            ],
        )?;
        Ok(Self { relay_domains, transport_maps })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_all_unknown_words() {
        let read = |text: &str| Classes::read(&Raw::Text(text.to_owned()));
        assert_eq!(read("header_sender").unwrap(), Classes { header_sender: true, ..Classes::default() });
        assert_eq!(read("a").unwrap_err().reason, "\"a\" is not known");
        assert_eq!(read("a, header_sender, b").unwrap_err().reason, "\"a\", \"b\" are not known");
    }
}
