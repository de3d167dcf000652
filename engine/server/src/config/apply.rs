//! Owns turning a configuration into what the engine's parts are set to.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use mailrace_core::address::{Destinations, Domains, RewriteContext, RewriteRules, Rewriting};
use mailrace_core::cleanup::{Bcc, Canonical, Checks, Classes, Masquerade, Mime, OctetSet, VirtualAlias};
use mailrace_core::{cleanup, smtp};
use mailrace_spool as spool;

use super::machine::{host_names, own_addresses, zone_now};
use super::value::{is_table, pattern};
use super::{Configuration, Octets, Tables, characters};
use crate::services::PickupSettings;
use crate::worker::WorkerSettings;

impl Configuration {
    /// What workers are set to; all of it may change on reload but for the sums of the table `[engine]`.
    #[must_use]
    pub fn worker_settings(&self, workers: u16, tables: &Tables) -> WorkerSettings {
        let own_addresses = own_addresses();
        let rewriting = Arc::new(self.address_rewriting());
        let destinations = Arc::new(self.destinations(own_addresses.clone(), tables));
        let has =
            |name: &str| self.parameters.local_header_rewrite_clients.iter().any(|client| client == name);
        let workers = usize::from(workers).max(1);
        WorkerSettings {
            smtp: self.session_settings(&rewriting, &destinations),
            cleanup: self.cleanup_settings(rewriting, destinations, tables),
            mynetworks: self.parameters.mynetworks.clone(),
            host_names: if self.parameters.smtpd_peername_lookup { host_names() } else { HashMap::new() },
            own_addresses,
            is_own_address_local: has("permit_inet_interfaces"),
            is_mynetworks_local: has("permit_mynetworks"),
            smtpd_timeout: self.parameters.smtpd_timeout,
            drain_timeout: self.engine.drain_timeout,
            connection_count_limit: self.parameters.smtpd_client_connection_count_limit,
            event_limit_exceptions: self.parameters.smtpd_client_event_limit_exceptions.clone(),
            client_allowance: self.engine.client_allowance,
            workers,
            max_connections: (self.engine.max_connections as usize).div_ceil(workers),
            content_memory: self.content_memory(workers),
            log_connections: self.engine.log_connections,
        }
    }

    /// Octets that each of so many workers may have for content, envelopes and input.
    fn content_memory(&self, workers: usize) -> usize {
        match usize::try_from(self.engine.memory_limit.0).unwrap_or(usize::MAX) {
            0 => (MEMORY_DEFAULT / workers).saturating_sub(self.fixed_memory()).max(CONTENT_MEMORY_DEFAULT),
            limit => (limit / workers).saturating_sub(self.fixed_memory()),
        }
    }

    /// The least `memory_limit` with which so many workers are of use.
    pub(super) fn least_memory(&self, workers: usize) -> usize {
        self.fixed_memory().saturating_add(CONTENT_MEMORY_MIN).saturating_mul(workers)
    }

    /// Bytes of a worker's memory beside what clients hold: blocks, log lines, receive buffers, and the copies of what comes
    /// in them in the turn in which memory runs out and in the next, before receiving has stopped.
    fn fixed_memory(&self) -> usize {
        let Octets(blocks) = self.queue.block_size;
        let blocks = usize::try_from(blocks).unwrap_or(usize::MAX).saturating_mul(self.blocks());
        let log = usize::try_from(self.engine.log_memory.0).unwrap_or(usize::MAX);
        blocks.saturating_add(3 * RECEIVE_MEMORY).saturating_add(log)
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

    /// How local submissions are taken.
    #[must_use]
    pub(crate) fn pickup_settings(&self) -> PickupSettings {
        PickupSettings {
            in_flight: self.engine.submissions_in_flight as usize,
            // In the queue an envelope takes as much as in a drop file, at least.
            envelope_size_max: u32::try_from(self.queue.block_size.0).unwrap_or(u32::MAX),
        }
    }

    /// How addresses are completed.
    #[must_use]
    pub fn address_rewriting(&self) -> Rewriting {
        let (parameters, rewriting) = (&self.parameters, &self.rewriting);
        let remote = parameters.remote_header_rewrite_domain.clone().into_bytes();
        Rewriting {
            rules: RewriteRules {
                append_at_myorigin: parameters.append_at_myorigin,
                append_dot_mydomain: rewriting.append_dot_mydomain,
                swap_bangpath: rewriting.swap_bangpath,
                allow_percent_hack: rewriting.allow_percent_hack,
            },
            local: RewriteContext {
                origin: parameters.myorigin.clone().into_bytes(),
                domain: parameters.mydomain.clone().into_bytes(),
            },
            remote: (!remote.is_empty()).then(|| RewriteContext { origin: remote.clone(), domain: remote }),
        }
    }

    fn destinations(&self, own_addresses: Vec<IpAddr>, tables: &Tables) -> Destinations {
        let domains = |parameter: &str, items: &[String]| {
            let mut domains = Domains::new(self.parameters.subdomains(parameter));
            let maps = tables.of(parameter);
            let mut maps = maps.each();
            for (item, is_excluded) in items.iter().map(|item| pattern(item)) {
                if is_table(item) {
                    maps.by_ref().take(1).for_each(|table| domains.add_tables(table, is_excluded));
                } else {
                    domains.add_name(item.as_bytes(), is_excluded);
                }
            }
            domains
        };
        Destinations {
            mydestination: domains("mydestination", &self.parameters.mydestination),
            virtual_alias_domains: domains("virtual_alias_domains", &self.rewriting.virtual_alias_domains),
            relay_domains: domains("relay_domains", &self.parameters.relay_domains),
            own_addresses,
        }
    }

    fn session_settings(
        &self,
        rewriting: &Arc<Rewriting>,
        destinations: &Arc<Destinations>,
    ) -> smtp::Settings {
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
            allow_min_user: parameters.allow_min_user,
            line_length_limit: parameters.line_length_limit as usize,
            rewriting: Arc::clone(rewriting),
            destinations: Arc::clone(destinations),
        }
    }

    /// What the cleanup passes are set to.
    fn cleanup_settings(
        &self,
        rewriting: Arc<Rewriting>,
        destinations: Arc<Destinations>,
        tables: &Tables,
    ) -> cleanup::Settings {
        let (parameters, addresses) = (&self.parameters, &self.rewriting);
        let lower = |name: &String| name.trim_end_matches(':').to_ascii_lowercase().into_bytes();
        let size = |octets: Octets| usize::try_from(octets.0).unwrap_or(usize::MAX);
        let propagates =
            |name: &str| addresses.propagate_unmatched_extensions.iter().any(|extension| extension == name);
        let canonical =
            |name: &str, words: &[String]| Canonical { maps: tables.of(name), classes: classes(words) };
        let is_utf8_detected =
            addresses.smtputf8_autodetect_classes.iter().any(|class| class == "sendmail" || class == "all");
        let octets = |text: &str| {
            let characters = characters(text).unwrap_or_default();
            (!characters.is_empty()).then(|| Box::new(OctetSet::of(&characters)))
        };
        cleanup::Settings {
            myhostname: parameters.myhostname.clone().into_bytes(),
            mail_name: parameters.mail_name.clone().into_bytes(),
            rewriting,
            destinations,
            recipient_delimiter: addresses.recipient_delimiter.clone().into_bytes(),
            canonical: canonical("canonical_maps", &addresses.canonical_classes),
            sender_canonical: canonical("sender_canonical_maps", &addresses.sender_canonical_classes),
            recipient_canonical: canonical(
                "recipient_canonical_maps",
                &addresses.recipient_canonical_classes,
            ),
            propagates_canonical_extension: propagates("canonical"),
            masquerade: Masquerade {
                domains: addresses
                    .masquerade_domains
                    .iter()
                    .map(|domain| masquerade_domain(domain))
                    .collect(),
                exceptions: addresses.masquerade_exceptions.iter().map(lower).collect(),
                classes: if addresses.masquerade_domains.is_empty() {
                    Classes::default()
                } else {
                    classes(&addresses.masquerade_classes)
                },
            },
            virtual_alias: VirtualAlias {
                maps: tables.of("virtual_alias_maps"),
                propagates_extension: propagates("virtual"),
                expansion_limit: addresses.virtual_alias_expansion_limit as usize,
                question_limit: self.engine.alias_question_limit as usize,
                recursion_limit: addresses.virtual_alias_recursion_limit as usize,
                address_length_limit: addresses.virtual_alias_address_length_limit as usize,
            },
            bcc: Bcc {
                always: addresses.always_bcc.clone().into_bytes(),
                sender_maps: tables.of("sender_bcc_maps"),
                recipient_maps: tables.of("recipient_bcc_maps"),
            },
            duplicate_filter_limit: addresses.duplicate_filter_limit as usize,
            enable_original_recipient: addresses.enable_original_recipient,
            checks: Checks {
                header: tables.of("header_checks"),
                mime_header: tables.of("mime_header_checks"),
                nested_header: tables.of("nested_header_checks"),
                body: tables.of("body_checks"),
                body_size_limit: size(addresses.body_checks_size_limit),
            },
            mime: Mime {
                is_disabled: addresses.disable_mime_input_processing,
                nesting_limit: addresses.mime_nesting_limit as usize,
                boundary_length_limit: addresses.mime_boundary_length_limit as usize,
                strict_encoding_domain: addresses.strict_mime_encoding_domain,
                strict_7bit_headers: addresses.strict_7bit_headers || addresses.strict_8bitmime,
                strict_8bit_body: addresses.strict_8bitmime_body || addresses.strict_8bitmime,
                detects_8bit: addresses.detect_8bit_encoding_header,
            },
            hopcount_limit: parameters.hopcount_limit,
            header_size_limit: size(parameters.header_size_limit),
            header_address_token_limit: addresses.header_address_token_limit as usize,
            line_length_limit: parameters.line_length_limit as usize,
            always_add_missing_headers: parameters.always_add_missing_headers,
            undisclosed_recipients_header: parameters.undisclosed_recipients_header.clone().into_bytes(),
            message_drop_headers: parameters.message_drop_headers.iter().map(lower).collect(),
            message_strip_characters: octets(&addresses.message_strip_characters),
            message_reject_characters: octets(&addresses.message_reject_characters),
            detects_smtputf8: is_utf8_detected,
            zone: zone_now(),
        }
    }
}

/// The classes that a list names.
fn classes(words: &[String]) -> Classes {
    let has = |name: &str| words.iter().any(|word| word == name);
    Classes {
        envelope_sender: has("envelope_sender"),
        envelope_recipient: has("envelope_recipient"),
        header_sender: has("header_sender"),
        header_recipient: has("header_recipient"),
    }
}

/// A domain that hides its hosts, or with `!` one that does not.
fn masquerade_domain(text: &str) -> (bool, Vec<u8>) {
    let domain = text.trim_start_matches('!');
    let is_left_alone = (text.len() - domain.len()) % 2 == 1;
    (is_left_alone, domain.to_ascii_lowercase().into_bytes())
}

/// What `memory_limit = 0` comes to where there are few workers, and what each of many workers has beside its fixed
/// buffers.
const MEMORY_DEFAULT: usize = 256 << 20;
const CONTENT_MEMORY_DEFAULT: usize = 48 << 20;
/// Octets that a worker needs beside them.
const CONTENT_MEMORY_MIN: usize = 4 << 20;
/// Octets of a worker's receive buffers.
pub(crate) const RECEIVE_MEMORY: usize = 4 << 20;
