//! Limits of the queue manager.

use std::time::Duration;

use super::retry::RetrySettings;
use super::window::WindowSettings;
use crate::bounce::NoticeSettings;

/// Limits of the queue manager.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Most messages in the active queue (`qmgr_message_active_limit`).
    pub message_active_limit: usize,
    /// Most recipients of messages in the active queue; a single message may have more (`qmgr_message_recipient_limit`).
    pub message_recipient_limit: usize,
    /// Each transport, by its number in routes.
    pub transports: Vec<TransportSettings>,
    /// How long deferred mail waits.
    pub retry: RetrySettings,
    /// Failures are deferred instead (`soft_bounce`).
    pub soft_bounce: bool,
    /// When the sender learns of a delay (`delay_warning_time`); zero: never.
    pub delay_warning_time: Duration,
    /// Who gets which report.
    pub notices: NoticeSettings,
}

/// Limits of one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportSettings {
    /// Most recipients of one transaction (`default_destination_recipient_limit`, `NAME_destination_recipient_limit`); 0: no
    /// limit.
    pub recipient_limit: usize,
    /// Most deliveries at once, to all destinations (`default_process_limit`).
    pub process_limit: u32,
    /// Concurrency of each destination.
    pub window: WindowSettings,
    /// Pause after each delivery to a destination, which then has one at a time (`default_destination_rate_delay`); zero: none.
    pub rate_delay: Duration,
    /// Mail waits for a flush (`defer_transports`).
    pub is_deferred: bool,
}
