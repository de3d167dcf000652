//! Delivery: the next hop of mail for others, limits of the queue manager, and the SMTP client.

use std::sync::Arc;
use std::time::Duration;

use mailrace_delivery::NextHop;
use mailrace_delivery::agent::smtp::{SmtpSettings, Timeouts};
use mailrace_delivery::{dispatcher, manager};

use super::Configuration;
use super::reader::parameters;
use super::value::{HostName, Relay};

parameters! {
    /// Delivery of queued mail over SMTP. These parameters take effect at startup.
    pub struct DeliveryParameters titled "Delivery";

    /// Next hop of mail for domains that are not this host's: an address in brackets, with a port if it is not 25, such as
    /// `[192.0.2.1]:2525`. Empty: nothing is delivered, and all mail stays in the queue.
    relayhost: Relay = "";
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
    /// Maximum number of simultaneous deliveries to all destinations together.
    default_process_limit: u32 = 100 in 1 ..= 30_000;
    /// Maximum number of messages that are being delivered.
    qmgr_message_active_limit: u32 = 20000 in 1 ..= 10_000_000;
    /// Maximum number of recipients of messages that are being delivered.
    qmgr_message_recipient_limit: u32 = 20000 in 1 ..= 10_000_000;
    /// Minimum time until a deferred message is tried again.
    minimal_backoff_time: Duration = "300s" in 1 ..= 31_536_000;
    /// Maximum time until a deferred message is tried again.
    maximal_backoff_time: Duration = "4000s" in 1 ..= 31_536_000;
    /// Maximum length of a line of content, without its end; a longer one is continued in the next line after a space.
    /// 0: no limit.
    smtp_line_length_limit: u32 = 998 in 0 ..= 1_000_000;
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

impl Configuration {
    /// The next hop of mail for others, and the settings of the dispatcher; `None`: nothing is delivered.
    #[must_use]
    pub fn delivery_settings(&self) -> Option<(NextHop, dispatcher::Settings)> {
        let delivery = &self.delivery;
        let relayhost = delivery.relayhost.0?;
        let manager = manager::Settings {
            message_active_limit: delivery.qmgr_message_active_limit as usize,
            message_recipient_limit: delivery.qmgr_message_recipient_limit as usize,
            destination_recipient_limit: delivery.default_destination_recipient_limit as usize,
            process_limit: delivery.default_process_limit,
            window: manager::WindowSettings {
                initial: delivery.initial_destination_concurrency,
                limit: delivery.default_destination_concurrency_limit,
                failed_cohort_limit: delivery.default_destination_concurrency_failed_cohort_limit,
            },
            retry: manager::RetrySettings {
                minimal_backoff_time: delivery.minimal_backoff_time,
                maximal_backoff_time: delivery.maximal_backoff_time,
            },
        };
        let smtp = SmtpSettings {
            helo_name: delivery.smtp_helo_name.0.as_bytes().into(),
            line_length_limit: delivery.smtp_line_length_limit as usize,
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
        };
        Some((relayhost, dispatcher::Settings { manager, smtp: Arc::new(smtp) }))
    }
}
