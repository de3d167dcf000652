//! SMTP sessions: limits of the dialogue and of errors.

use std::sync::Arc;
use std::time::Duration;

use mailrace_core::address::{Destinations, Rewriting};
use mailrace_core::smtp::{self, BareNewline};

use super::queue::QueueParameters;
use super::reader::{Reader, parameters};
use super::value::{Octets, Refusal};
use super::{Configuration, Tables};

parameters! {
    /// Limits of an SMTP session, and error handling.
    pub struct SessionParameters titled "SMTP sessions";

    /// Maximum size of message content; 0: no limit.
    message_size_limit: Octets = 10240000;
    /// Maximum length of a command line in bytes. A longer line of message content is processed in pieces.
    line_length_limit: u32 = 2048 in 512 ..= 65_536;
    /// Maximum number of recipients per message.
    smtpd_recipient_limit: u32 = 1000 in 1 ..= 1_000_000;
    /// Number of recipients beyond `smtpd_recipient_limit` that are refused without counting as errors.
    smtpd_recipient_overshoot_limit: u32 = 1000 in 1 ..= 1_000_000;
    /// Number of errors after which replies are delayed.
    smtpd_soft_error_limit: u32 = 10 in 1 ..= 1_000_000;
    /// Number of errors at which the session ends.
    smtpd_hard_error_limit: u32 = 20 in 1 ..= 1_000_000;
    /// Delay per reply after `smtpd_soft_error_limit` errors.
    smtpd_error_sleep_time: Duration = "1s" in 0 ..= 600;
    /// Number of junk commands (commands that do not advance a mail transaction, such as NOOP, VRFY and RSET) after which
    /// each further one counts as an error.
    smtpd_junk_command_limit: u32 = 100 in 1 ..= 1_000_000;
    /// Requires HELO or EHLO before MAIL.
    smtpd_helo_required: bool = false;
    /// Refuses VRFY.
    disable_vrfy_command: bool = false;
    /// Refuses paths without angle brackets and similar deviations from RFC 821.
    strict_rfc821_envelopes: bool = false;
    /// Accepts local-parts that begin with a hyphen, which delivery programs may mistake for an option.
    allow_min_user: bool = false;
    /// Action for a line that ends in a bare LF, from clients outside `mynetworks`. The default is the same as in
    /// Postfix 3.9 and later.
    smtpd_forbid_bare_newline: BareNewline = "normalize";
    /// Refuses commands that a client sends before it is allowed to pipeline them.
    smtpd_forbid_unauth_pipelining: bool = true;
}

/// Generous estimate of the envelope size of a recipient with its DSN options, in bytes.
const ENVELOPE_RECIPIENT_SIZE: u64 = 1000;

impl SessionParameters {
    /// Checks that an envelope fits into a batch. Recipients make up most of an envelope.
    pub(super) fn check(&self, queue: &QueueParameters, reader: &mut Reader<'_>) {
        if u64::from(self.smtpd_recipient_limit) * ENVELOPE_RECIPIENT_SIZE > queue.block_size.0 {
            let reason = "is more than fits into a batch of block_size in [queue]";
            let remedy = "lower it, or set block_size to a KiB for each recipient";
            reader.refuse("smtpd_recipient_limit", Refusal::new(reason, remedy));
        }
    }
}

impl Configuration {
    /// Returns the settings of the SMTP session.
    pub(super) fn session_settings(
        &self,
        rewriting: &Arc<Rewriting>,
        destinations: &Arc<Destinations>,
        tables: &Tables,
    ) -> smtp::Settings {
        let session = &self.session;
        smtp::Settings {
            myhostname: self.domains.myhostname.0.clone().into_bytes(),
            mail_name: self.domains.mail_name.clone().into_bytes(),
            message_size_limit: session.message_size_limit.0,
            smtpd_recipient_limit: session.smtpd_recipient_limit,
            smtpd_recipient_overshoot_limit: session.smtpd_recipient_overshoot_limit,
            smtpd_soft_error_limit: session.smtpd_soft_error_limit,
            smtpd_hard_error_limit: session.smtpd_hard_error_limit,
            smtpd_junk_command_limit: session.smtpd_junk_command_limit,
            smtpd_error_sleep_time_ms: u32::try_from(session.smtpd_error_sleep_time.as_millis())
                .unwrap_or(u32::MAX),
            smtpd_forbid_bare_newline: session.smtpd_forbid_bare_newline,
            smtpd_forbid_unauth_pipelining: session.smtpd_forbid_unauth_pipelining,
            smtpd_helo_required: session.smtpd_helo_required,
            disable_vrfy_command: session.disable_vrfy_command,
            strict_rfc821_envelopes: session.strict_rfc821_envelopes,
            allow_min_user: session.allow_min_user,
            line_length_limit: session.line_length_limit as usize,
            rewriting: Arc::clone(rewriting),
            destinations: Arc::clone(destinations),
            listed_addresses: self
                .listed_addresses(self.session_routes(rewriting, destinations, tables), tables),
        }
    }
}
