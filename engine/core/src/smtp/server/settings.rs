//! Settings of a session; names and defaults are Postfix's.

use alloc::sync::Arc;
use alloc::vec::Vec;

use super::ListedAddresses;
use crate::address::{Destinations, Rewriting};

/// Settings that all sessions of a worker share; replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host's name: greeting, EHLO and 421 replies.
    pub myhostname: Vec<u8>,
    /// The software's name, in the greeting.
    pub mail_name: Vec<u8>,
    /// Largest message content in bytes, line ends as CRLF; 0: no limit.
    pub message_size_limit: u64,
    /// Most recipients of a message.
    pub smtpd_recipient_limit: u32,
    /// Number of recipients beyond the limit that are refused before each counts as an error.
    pub smtpd_recipient_overshoot_limit: u32,
    /// Number of errors from which each reply is delayed by [`Settings::smtpd_error_sleep_time_ms`].
    pub smtpd_soft_error_limit: u32,
    /// Number of errors at which the session ends.
    pub smtpd_hard_error_limit: u32,
    /// Number of commands that do nothing beyond which each counts as an error.
    pub smtpd_junk_command_limit: u32,
    /// Delay of a reply in milliseconds.
    pub smtpd_error_sleep_time_ms: u32,
    /// Meaning of a line that ends in LF alone, from clients that are not trusted.
    pub smtpd_forbid_bare_newline: BareNewline,
    /// Refuse commands that came before the client could know it may send them.
    pub smtpd_forbid_unauth_pipelining: bool,
    /// Refuse MAIL without HELO or EHLO.
    pub smtpd_helo_required: bool,
    /// Refuse VRFY.
    pub disable_vrfy_command: bool,
    /// Refuse addresses without angle brackets and with spaces before them.
    pub strict_rfc821_envelopes: bool,
    /// Take local-parts that begin with a hyphen.
    pub allow_min_user: bool,
    /// Longest command line in bytes, without its line end.
    pub line_length_limit: usize,
    /// How addresses are completed, for the relay decision.
    pub rewriting: Arc<Rewriting>,
    /// Allowed destinations.
    pub destinations: Arc<Destinations>,
    /// Existing addresses of these destinations.
    pub listed_addresses: Arc<ListedAddresses>,
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
            allow_min_user: false,
            line_length_limit: 2048,
            rewriting: Arc::default(),
            destinations: Arc::default(),
            listed_addresses: Arc::default(),
        }
    }
}

/// Meaning of a line that ends in LF alone (`smtpd_forbid_bare_newline`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareNewline {
    /// A line end like any other: also ends content. Open to smuggling.
    Accept,
    /// A line end that ends no content.
    Normalize,
    /// Refused: 550 5.5.2.
    Reject,
}
