//! Delivery: limits of the queue manager, and the SMTP client.

use std::sync::Arc;
use std::time::Duration;

use mailrace_core::smtp::client::Protocol;
use mailrace_delivery::agent::smtp::{SmtpSettings, Timeouts};
use mailrace_delivery::{dispatcher, manager};

use super::Configuration;
use super::reader::parameters;
use super::value::{Days, HostName};

parameters! {
    /// Delivery of queued mail. These parameters take effect at startup. `NAME_destination_concurrency_limit`,
    /// `NAME_destination_recipient_limit`, `NAME_initial_destination_concurrency`,
    /// `NAME_destination_concurrency_failed_cohort_limit` and `NAME_destination_rate_delay` replace the defaults below for the
    /// transport NAME, such as `smtp`, `relay` or `lmtp`.
    pub struct DeliveryParameters titled "Delivery";

    /// Name that the SMTP client gives in EHLO and HELO.
    smtp_helo_name: HostName = "$myhostname";
    /// Maximum number of simultaneous deliveries to one destination; 0: no limit.
    default_destination_concurrency_limit: u32 = 20 in 0 ..= 100_000;
    /// Number of simultaneous deliveries to a destination at first. Each success adds one, and each failure of the
    /// destination takes some away.
    initial_destination_concurrency: u32 = 5 in 1 ..= 100_000;
    /// Number of failed cohorts (failures in a row, as many as there were simultaneous deliveries) after which a destination
    /// is left alone for `minimal_backoff_time`; 0: never.
    default_destination_concurrency_failed_cohort_limit: u32 = 1 in 0 ..= 100_000;
    /// Maximum number of recipients per transaction; 0: no limit.
    default_destination_recipient_limit: u32 = 50 in 0 ..= 1_000_000;
    /// Pause between deliveries to one destination, which then has one delivery at a time; 0: none.
    default_destination_rate_delay: Duration = "0s" in 0 ..= 86_400;
    /// Maximum number of simultaneous deliveries of each transport to all destinations together.
    default_process_limit: u32 = 1000 in 1 ..= 30_000;
    /// Maximum number of messages that are being delivered.
    qmgr_message_active_limit: u32 = 20000 in 1 ..= 10_000_000;
    /// Maximum number of recipients of messages that are being delivered.
    qmgr_message_recipient_limit: u32 = 20000 in 1 ..= 10_000_000;
    /// Accepted, without effect: Postfix looks for deferred mail at this interval, Mailrace tries each message when it is due.
    queue_run_delay: Duration = "300s" in 1 ..= 31_536_000;
    /// Accepted, without effect: Postfix waits this long after a delivery agent has failed, Mailrace has no agents that can.
    transport_retry_time: Duration = "60s" in 1 ..= 31_536_000;
    /// Minimum time until a deferred message is tried again.
    minimal_backoff_time: Duration = "300s" in 1 ..= 31_536_000;
    /// Maximum time until a deferred message is tried again.
    maximal_backoff_time: Duration = "4000s" in 1 ..= 31_536_000;
    /// Age at which a deferred message is returned to its sender; 0: after the first attempt.
    maximal_queue_lifetime: Days = "5d" in 0 ..= 3650;
    /// Age at which a deferred message from the null sender, such as a report, is given up; 0: after the first attempt.
    bounce_queue_lifetime: Days = "5d" in 0 ..= 3650;
    /// Maximum length of a line of content, without its end; a longer one is continued in the next line after a space.
    /// 0: no limit.
    smtp_line_length_limit: u32 = 998 in 0 ..= 1_000_000;
    /// Maximum number of servers of a next hop, ready for a transaction, that are tried per delivery; 0: no limit.
    smtp_mx_session_limit: u32 = 2 in 0 ..= 100_000;
    /// Keeps a connection for the next message while more mail for its destination is waiting.
    smtp_connection_cache_on_demand: bool = true;
    /// Time for which a connection is kept for another message.
    smtp_connection_cache_time_limit: Duration = "2s" in 1 ..= 86_400;
    /// Time allowed for connecting.
    smtp_connect_timeout: Duration = "30s" in 1 ..= 86_400;
    /// Time allowed for the greeting, and for the reply to EHLO or HELO.
    smtp_helo_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Time allowed for the reply to MAIL.
    smtp_mail_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Time allowed for the reply to RCPT.
    smtp_rcpt_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Time allowed for the reply to DATA.
    smtp_data_init_timeout: Duration = "120s" in 1 ..= 86_400;
    /// Time allowed for the server to take a piece of content.
    smtp_data_xfer_timeout: Duration = "180s" in 1 ..= 86_400;
    /// Time allowed for the reply to the end of content.
    smtp_data_done_timeout: Duration = "600s" in 1 ..= 86_400;
    /// Time allowed for the server to take QUIT.
    smtp_quit_timeout: Duration = "300s" in 1 ..= 86_400;
}

/// The transports that deliver, in the order of their numbers in routes.
pub(crate) const TRANSPORTS: [(&str, Protocol); 3] =
    [("smtp", Protocol::Smtp), ("relay", Protocol::Smtp), ("lmtp", Protocol::Lmtp)];

impl Configuration {
    /// Returns the settings of the dispatcher; `None`: nothing is delivered.
    #[must_use]
    pub fn delivery_settings(&self) -> Option<dispatcher::Settings> {
        if !self.delivers() {
            return None;
        }
        let (smtp, lmtp) = (Arc::new(self.smtp_settings()), Arc::new(self.lmtp_settings()));
        let client = |protocol| match protocol {
            Protocol::Smtp => Arc::clone(&smtp),
            Protocol::Lmtp => Arc::clone(&lmtp),
        };
        Some(dispatcher::Settings {
            manager: self.manager_settings(),
            transports: TRANSPORTS.iter().map(|(_, protocol)| client(*protocol)).collect(),
            reports: Arc::new(self.report_settings()),
            own_name: self.domains.myhostname.0.as_str().into(),
            relayhost: self.routing.relayhost.0.to_lowercase().into(),
            fallback_relay: self.routing.smtp_fallback_relay.0.as_str().into(),
        })
    }

    /// Keeps the parameters of `running` that take effect only when delivery starts. Returns whether one differed.
    #[must_use]
    pub fn keep_delivery(&mut self, running: &Self) -> bool {
        let of = |configuration: &Self| {
            let Self { delivery, lmtp, notices, transport_limits, templates, routing, .. } = configuration;
            let started = (routing.smtp_fallback_relay.clone(), routing.defer_transports.clone());
            (
                delivery.clone(),
                lmtp.clone(),
                notices.clone(),
                transport_limits.clone(),
                templates.clone(),
                started,
            )
        };
        let (kept, is_different) = (of(running), of(self) != of(running));
        (self.delivery, self.lmtp, self.notices, self.transport_limits, self.templates, _) = kept;
        self.routing.smtp_fallback_relay = running.routing.smtp_fallback_relay.clone();
        self.routing.defer_transports = running.routing.defer_transports.clone();
        is_different
    }

    fn manager_settings(&self) -> manager::Settings {
        let delivery = &self.delivery;
        manager::Settings {
            message_active_limit: delivery.qmgr_message_active_limit as usize,
            message_recipient_limit: delivery.qmgr_message_recipient_limit as usize,
            transports: TRANSPORTS.iter().map(|(name, _)| self.transport_settings(name)).collect(),
            retry: manager::RetrySettings {
                minimal_backoff_time: delivery.minimal_backoff_time,
                maximal_backoff_time: delivery.maximal_backoff_time,
                maximal_queue_lifetime: delivery.maximal_queue_lifetime.0,
                bounce_queue_lifetime: delivery.bounce_queue_lifetime.0,
            },
            soft_bounce: self.notices.soft_bounce,
            delay_warning_time: self.notices.delay_warning_time.0,
            notices: self.notice_settings(),
        }
    }

    fn transport_settings(&self, name: &str) -> manager::TransportSettings {
        let delivery = &self.delivery;
        let own = self.transport_limits.of(name);
        manager::TransportSettings {
            recipient_limit: self.recipient_limit(name),
            process_limit: delivery.default_process_limit,
            window: manager::WindowSettings {
                initial: own.initial.unwrap_or(delivery.initial_destination_concurrency),
                limit: own.concurrency.unwrap_or(delivery.default_destination_concurrency_limit),
                failed_cohort_limit: own
                    .failed_cohorts
                    .unwrap_or(delivery.default_destination_concurrency_failed_cohort_limit),
            },
            rate_delay: own.rate_delay.unwrap_or(delivery.default_destination_rate_delay),
            is_deferred: self.routing.defer_transports.iter().any(|deferred| deferred == name),
        }
    }

    /// Returns the maximum number of recipients per transaction of a transport; 0: no limit.
    pub(super) fn recipient_limit(&self, transport: &str) -> usize {
        let own = self.transport_limits.of(transport).recipients;
        own.unwrap_or(self.delivery.default_destination_recipient_limit) as usize
    }

    fn smtp_settings(&self) -> SmtpSettings {
        let delivery = &self.delivery;
        let keeps = delivery.smtp_connection_cache_on_demand;
        SmtpSettings {
            own_name: self.domains.myhostname.0.as_bytes().into(),
            protocol: Protocol::Smtp,
            helo_name: delivery.smtp_helo_name.0.as_bytes().into(),
            line_length_limit: delivery.smtp_line_length_limit as usize,
            connection_cache_time: if keeps {
                delivery.smtp_connection_cache_time_limit
            } else {
                Duration::ZERO
            },
            address_limit: self.dns.smtp_mx_address_limit as usize,
            session_limit: delivery.smtp_mx_session_limit,
            timeouts: Timeouts {
                connect: delivery.smtp_connect_timeout,
                helo: delivery.smtp_helo_timeout,
                mail: delivery.smtp_mail_timeout,
                rcpt: delivery.smtp_rcpt_timeout,
                data_init: delivery.smtp_data_init_timeout,
                data_xfer: delivery.smtp_data_xfer_timeout,
                data_done: delivery.smtp_data_done_timeout,
                quit: delivery.smtp_quit_timeout,
            },
        }
    }
}

#[cfg(test)]
mod tests;
