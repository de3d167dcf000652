//! The LMTP client.

use std::time::Duration;

use mailrace_core::smtp::client::Protocol;
use mailrace_delivery::agent::smtp::{SmtpSettings, Timeouts};

use super::Configuration;
use super::reader::parameters;
use super::value::HostName;

parameters! {
    /// The client of the transport `lmtp` (RFC 2033). These parameters take effect at startup.
    pub struct LmtpParameters titled "LMTP";

    /// Name that the LMTP client gives in LHLO.
    lmtp_lhlo_name: HostName = "$myhostname";
    /// Maximum length of a line of content, without its end; a longer one is continued in the next line after a space.
    /// 0: no limit.
    lmtp_line_length_limit: u32 = 998 in 0 ..= 1_000_000;
    /// Maximum number of addresses of a next hop that are tried per delivery; 0: no limit.
    lmtp_mx_address_limit: u32 = 5 in 0 ..= 100_000;
    /// Maximum number of servers of a next hop, ready for a transaction, that are tried per delivery; 0: no limit.
    lmtp_mx_session_limit: u32 = 2 in 0 ..= 100_000;
    /// Keeps a connection for the next message while more mail for its destination is waiting.
    lmtp_connection_cache_on_demand: bool = true;
    /// Time for which a connection is kept for another message.
    lmtp_connection_cache_time_limit: Duration = "2s" in 1 ..= 86_400;
    /// Time allowed for connecting; 0: 120 s.
    lmtp_connect_timeout: Duration = "0s" in 1 ..= 86_400, or 0;
    /// Time allowed for the greeting, and for the reply to LHLO.
    lmtp_lhlo_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Time allowed for the reply to MAIL.
    lmtp_mail_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Time allowed for the reply to RCPT.
    lmtp_rcpt_timeout: Duration = "300s" in 1 ..= 86_400;
    /// Time allowed for the reply to DATA.
    lmtp_data_init_timeout: Duration = "120s" in 1 ..= 86_400;
    /// Time allowed for the server to take a piece of content.
    lmtp_data_xfer_timeout: Duration = "180s" in 1 ..= 86_400;
    /// Time allowed for the replies to the end of content.
    lmtp_data_done_timeout: Duration = "600s" in 1 ..= 86_400;
    /// Time allowed for the server to take QUIT.
    lmtp_quit_timeout: Duration = "300s" in 1 ..= 86_400;
}

/// Time for connecting where the configuration leaves it to the system: about what Linux takes to give up.
const SYSTEM_CONNECT_TIMEOUT: Duration = Duration::from_secs(120);

impl Configuration {
    pub(super) fn lmtp_settings(&self) -> SmtpSettings {
        let lmtp = &self.lmtp;
        let keeps = lmtp.lmtp_connection_cache_on_demand;
        let connect = Some(lmtp.lmtp_connect_timeout).filter(|time| !time.is_zero());
        SmtpSettings {
            own_name: self.domains.myhostname.0.as_bytes().into(),
            protocol: Protocol::Lmtp,
            helo_name: lmtp.lmtp_lhlo_name.0.as_bytes().into(),
            line_length_limit: lmtp.lmtp_line_length_limit as usize,
            connection_cache_time: if keeps { lmtp.lmtp_connection_cache_time_limit } else { Duration::ZERO },
            address_limit: lmtp.lmtp_mx_address_limit as usize,
            session_limit: lmtp.lmtp_mx_session_limit,
            timeouts: Timeouts {
                connect: connect.unwrap_or(SYSTEM_CONNECT_TIMEOUT),
                helo: lmtp.lmtp_lhlo_timeout,
                mail: lmtp.lmtp_mail_timeout,
                rcpt: lmtp.lmtp_rcpt_timeout,
                data_init: lmtp.lmtp_data_init_timeout,
                data_xfer: lmtp.lmtp_data_xfer_timeout,
                data_done: lmtp.lmtp_data_done_timeout,
                quit: lmtp.lmtp_quit_timeout,
            },
        }
    }
}
