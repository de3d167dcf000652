//! Owns what a session is set to; names and defaults are Postfix's.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::IpAddr;

/// What every session of a worker shares; replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host's name: greeting, EHLO and 421 replies.
    pub myhostname: Vec<u8>,
    /// The software's name, in the greeting.
    pub mail_name: Vec<u8>,
    /// Octets of a message's content at most, line ends as CRLF; 0: no limit.
    pub message_size_limit: u64,
    /// Recipients of a message at most.
    pub smtpd_recipient_limit: u32,
    /// So many recipients beyond the limit are refused before each counts as an error.
    pub smtpd_recipient_overshoot_limit: u32,
    /// From so many errors on each reply is held back by [`Settings::smtpd_error_sleep_time_ms`].
    pub smtpd_soft_error_limit: u32,
    /// At so many errors the session ends.
    pub smtpd_hard_error_limit: u32,
    /// Beyond so many commands that do nothing each counts as an error.
    pub smtpd_junk_command_limit: u32,
    /// How long a reply is held back, in milliseconds.
    pub smtpd_error_sleep_time_ms: u32,
    /// What a line that ends in LF alone means, to clients that are not trusted.
    pub smtpd_forbid_bare_newline: BareNewline,
    /// Refuse commands that came before the client could know it may send them.
    pub smtpd_forbid_unauth_pipelining: bool,
    /// Refuse MAIL without HELO or EHLO.
    pub smtpd_helo_required: bool,
    /// Refuse VRFY.
    pub disable_vrfy_command: bool,
    /// Refuse addresses without angle brackets and blanks before them.
    pub strict_rfc821_envelopes: bool,
    /// Octets of a command line at most, its line end not counted.
    pub line_length_limit: usize,
    /// Completes addresses without domain, for the relay decision.
    pub myorigin: Vec<u8>,
    /// Where mail may go.
    pub destinations: Destinations,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            myhostname: b"localhost".to_vec(),
            mail_name: b"Mailrace".to_vec(),
            message_size_limit: 10_240_000,
            smtpd_recipient_limit: 1000,
            smtpd_recipient_overshoot_limit: 1000,
            smtpd_soft_error_limit: 10,
            smtpd_hard_error_limit: 20,
            smtpd_junk_command_limit: 100,
            smtpd_error_sleep_time_ms: 1000,
            smtpd_forbid_bare_newline: BareNewline::Normalize,
            smtpd_forbid_unauth_pipelining: true,
            smtpd_helo_required: false,
            disable_vrfy_command: false,
            strict_rfc821_envelopes: false,
            line_length_limit: 2048,
            myorigin: b"localhost".to_vec(),
            destinations: Destinations::default(),
        }
    }
}

/// What a line that ends in LF alone means (`smtpd_forbid_bare_newline`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareNewline {
    /// A line end like any other: also ends content. Open to smuggling.
    Accept,
    /// A line end that ends no content.
    Normalize,
    /// Refused: 550 5.5.2.
    Reject,
}

/// The domains that strangers may send to.
#[derive(Clone, Debug, Default)]
pub struct Destinations {
    /// Domains of this host (`mydestination`), in lower case.
    pub mydestination: DomainSet,
    /// Domains that mail is relayed to (`relay_domains`), in lower case.
    pub relay_domains: DomainSet,
    /// Addresses of this host: `user@[ADDRESS]` is local.
    pub own_addresses: Vec<IpAddr>,
}

/// A set of domains; an entry `.example.com` stands for all domains below `example.com`.
#[derive(Clone, Debug, Default)]
pub struct DomainSet(BTreeSet<Vec<u8>>);

/// Octets of a domain at most (RFC 5321 §4.5.3.1.2).
pub const DOMAIN_SIZE_MAX: usize = 255;

impl DomainSet {
    /// Whether `domain`, in any case, is in it.
    #[must_use]
    pub fn contains(&self, domain: &[u8]) -> bool {
        let mut memory = [0; DOMAIN_SIZE_MAX];
        let Some(lower) = memory.get_mut(..domain.len()) else { return false };
        lower.copy_from_slice(domain);
        lower.make_ascii_lowercase();
        let lower: &[u8] = lower;
        self.0.contains(lower)
            || memchr::memchr_iter(b'.', lower)
                .any(|dot| lower.get(dot..).is_some_and(|parent| self.0.contains(parent)))
    }
}

impl<Name: AsRef<[u8]>> FromIterator<Name> for DomainSet {
    fn from_iter<Names: IntoIterator<Item = Name>>(names: Names) -> Self {
        Self(names.into_iter().map(|name| name.as_ref().to_ascii_lowercase()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dot_in_front_stands_for_all_below() {
        let domains: DomainSet = ["Example.com", ".sub.example.org"].into_iter().collect();
        for (domain, is_in) in [
            ("example.com", true),
            ("EXAMPLE.COM", true),
            ("a.example.com", false),
            ("xexample.com", false),
            ("sub.example.org", false),
            ("a.sub.example.org", true),
            ("a.b.Sub.Example.org", true),
            ("", false),
        ] {
            assert_eq!(domains.contains(domain.as_bytes()), is_in, "{domain}");
        }
        assert!(!domains.contains(&[b'a'; 300]));
    }
}
