//! Owns turning a configuration into what the engine's parts are set to.

use mailrace_core::{cleanup, smtp};
use mailrace_spool as spool;

use super::machine::{own_addresses, zone_now};
use super::{Configuration, Octets};
use crate::worker::WorkerSettings;

impl Configuration {
    /// What workers are set to; all of it may change on reload but for the sums of the table `[engine]`.
    #[must_use]
    pub fn worker_settings(&self, workers: u16) -> WorkerSettings {
        let own_addresses = own_addresses();
        let has =
            |name: &str| self.parameters.local_header_rewrite_clients.iter().any(|client| client == name);
        let workers = usize::from(workers).max(1);
        let memory_limit = usize::try_from(self.engine.memory_limit.0).unwrap_or(usize::MAX);
        WorkerSettings {
            smtp: self.session_settings(own_addresses.clone()),
            cleanup: self.cleanup_settings(),
            mynetworks: self.parameters.mynetworks.clone(),
            own_addresses,
            is_own_address_local: has("permit_inet_interfaces"),
            is_mynetworks_local: has("permit_mynetworks"),
            smtpd_timeout: self.parameters.smtpd_timeout,
            drain_timeout: self.engine.drain_timeout,
            max_connections: (self.engine.max_connections as usize).div_ceil(workers),
            content_memory: (memory_limit / workers).saturating_sub(self.fixed_memory()),
            log_connections: self.engine.log_connections,
        }
    }

    /// Octets of a worker's memory that are there from the start: receive buffers, blocks, log lines.
    fn fixed_memory(&self) -> usize {
        let Octets(blocks) = self.queue.block_size;
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(self.blocks());
        let log = usize::try_from(self.engine.log_memory.0).unwrap_or(usize::MAX);
        blocks.saturating_add(RECEIVE_MEMORY).saturating_add(log)
    }

    fn blocks(&self) -> usize {
        2 * self.queue.writes_in_flight as usize
    }

    /// The sizes of the spool.
    #[must_use]
    pub fn spool_settings(&self, workers: u16) -> spool::Settings {
        let size = |octets: Octets| usize::try_from(octets.0).unwrap_or(usize::MAX);
        spool::Settings {
            segment_size: self.queue.segment_size.0,
            spare_segments: self.queue.spare_segments as usize * usize::from(workers).max(1),
            kept_segments: self.queue.kept_segments as usize,
            block_size: size(self.queue.block_size),
            blocks: self.blocks(),
            writes_in_flight: self.queue.writes_in_flight as usize,
            queue_minfree: self.parameters.queue_minfree.0,
            message_size_limit: self.parameters.message_size_limit.0,
        }
    }

    fn session_settings(&self, own_addresses: Vec<std::net::IpAddr>) -> smtp::Settings {
        let parameters = &self.parameters;
        smtp::Settings {
            myhostname: parameters.myhostname.clone().into_bytes(),
            mail_name: parameters.mail_name.clone().into_bytes(),
            message_size_limit: parameters.message_size_limit.0,
            smtpd_recipient_limit: parameters.smtpd_recipient_limit,
            smtpd_recipient_overshoot_limit: parameters.smtpd_recipient_overshoot_limit,
            smtpd_soft_error_limit: parameters.smtpd_soft_error_limit,
            smtpd_hard_error_limit: parameters.smtpd_hard_error_limit,
            smtpd_junk_command_limit: parameters.smtpd_junk_command_limit,
            smtpd_error_sleep_time_ms: u32::try_from(parameters.smtpd_error_sleep_time.as_millis())
                .unwrap_or(u32::MAX),
            smtpd_forbid_bare_newline: parameters.smtpd_forbid_bare_newline,
            smtpd_forbid_unauth_pipelining: parameters.smtpd_forbid_unauth_pipelining,
            smtpd_helo_required: parameters.smtpd_helo_required,
            disable_vrfy_command: parameters.disable_vrfy_command,
            strict_rfc821_envelopes: parameters.strict_rfc821_envelopes,
            line_length_limit: parameters.line_length_limit as usize,
            myorigin: parameters.myorigin.clone().into_bytes(),
            destinations: smtp::Destinations {
                mydestination: parameters.mydestination.iter().collect(),
                relay_domains: parameters.relay_domains.iter().collect(),
                own_addresses,
            },
        }
    }

    /// What the cleanup passes are set to.
    #[must_use]
    pub fn cleanup_settings(&self) -> cleanup::Settings {
        let parameters = &self.parameters;
        let lower = |name: &String| name.trim_end_matches(':').to_ascii_lowercase().into_bytes();
        cleanup::Settings {
            myhostname: parameters.myhostname.clone().into_bytes(),
            mail_name: parameters.mail_name.clone().into_bytes(),
            myorigin: parameters.myorigin.clone().into_bytes(),
            append_at_myorigin: parameters.append_at_myorigin,
            hopcount_limit: parameters.hopcount_limit,
            header_size_limit: usize::try_from(parameters.header_size_limit.0).unwrap_or(usize::MAX),
            always_add_missing_headers: parameters.always_add_missing_headers,
            undisclosed_recipients_header: parameters.undisclosed_recipients_header.clone().into_bytes(),
            message_drop_headers: parameters.message_drop_headers.iter().map(lower).collect(),
            remote_header_rewrite_domain: parameters.remote_header_rewrite_domain.clone().into_bytes(),
            zone: zone_now(),
        }
    }
}

/// Octets of a worker's receive buffers.
pub(crate) const RECEIVE_MEMORY: usize = 4 << 20;
