//! Settings of the SMTP client, by Postfix's names.

use std::time::Duration;

use mailrace_core::smtp::client::{Awaited, Protocol};

/// Settings of the SMTP or LMTP client.
#[derive(Clone, Debug)]
pub struct SmtpSettings {
    /// The protocol that it speaks.
    pub protocol: Protocol,
    /// Name of this host (`myhostname`): a server of this name is this host.
    pub own_name: Box<[u8]>,
    /// The name in EHLO, HELO and LHLO (`smtp_helo_name`, `lmtp_lhlo_name`).
    pub helo_name: Box<[u8]>,
    /// Most bytes of a line of content without its end; longer ones are broken (`smtp_line_length_limit`). 0: no limit.
    pub line_length_limit: usize,
    /// How long a connection waits for another message to the same destination (`smtp_connection_cache_time_limit`); zero: it
    /// is closed (`smtp_connection_cache_on_demand`).
    pub connection_cache_time: Duration,
    /// Most addresses that are tried (`smtp_mx_address_limit`); 0: no limit.
    pub address_limit: usize,
    /// Most addresses whose server was ready for a transaction (`smtp_mx_session_limit`); 0: no limit.
    pub session_limit: u32,
    /// How long the client waits.
    pub timeouts: Timeouts,
}

/// How long the client waits for each step of the server.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For the connection (`smtp_connect_timeout`).
    pub connect: Duration,
    /// For the greeting, and for the reply to EHLO or HELO (`smtp_helo_timeout`).
    pub helo: Duration,
    /// For the reply to MAIL (`smtp_mail_timeout`).
    pub mail: Duration,
    /// For the reply to RCPT (`smtp_rcpt_timeout`).
    pub rcpt: Duration,
    /// For the reply to DATA (`smtp_data_init_timeout`).
    pub data_init: Duration,
    /// For the server to take a piece of content (`smtp_data_xfer_timeout`).
    pub data_xfer: Duration,
    /// For the reply to the end of content (`smtp_data_done_timeout`).
    pub data_done: Duration,
    /// For the server to take QUIT (`smtp_quit_timeout`).
    pub quit: Duration,
}

impl Timeouts {
    /// How long the answer to this may take.
    pub(super) const fn of(&self, awaited: Awaited) -> Duration {
        match awaited {
            Awaited::Greeting | Awaited::Ehlo | Awaited::Lhlo | Awaited::Helo => self.helo,
            Awaited::Mail => self.mail,
            Awaited::Recipient => self.rcpt,
            Awaited::Data => self.data_init,
            Awaited::Chunk | Awaited::Content => self.data_done,
            Awaited::Reset | Awaited::Other | Awaited::Quit => self.quit,
        }
    }
}
