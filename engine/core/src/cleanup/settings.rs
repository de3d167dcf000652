//! Owns what the passes are set to; names and defaults are Postfix's.

use alloc::vec;
use alloc::vec::Vec;

use crate::message::date::Zone;

/// Settings of the cleanup passes, shared by all messages; replaced as a whole on reload.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This host's name, in Received and Message-Id.
    pub myhostname: Vec<u8>,
    /// The software's name, in Received.
    pub mail_name: Vec<u8>,
    /// Completes addresses without domain.
    pub myorigin: Vec<u8>,
    /// Whether addresses without domain are completed.
    pub append_at_myorigin: bool,
    /// So many Received fields, ours included, are too many.
    pub hopcount_limit: u32,
    /// Octets of one field, folded lines included; the rest is cut off.
    pub header_size_limit: usize,
    /// Add missing fields also to mail from strangers.
    pub always_add_missing_headers: bool,
    /// Added when no recipient field is there; empty: nothing is.
    pub undisclosed_recipients_header: Vec<u8>,
    /// Names of fields that do not enter the queue, in lower case.
    pub message_drop_headers: Vec<Vec<u8>>,
    /// Completes addresses in the header section of strangers' mail; empty: it is left alone.
    pub remote_header_rewrite_domain: Vec<u8>,
    /// For dates.
    pub zone: Zone,
}

impl Default for Settings {
    fn default() -> Self {
        let names: [&[u8]; 4] = [b"bcc", b"content-length", b"resent-bcc", b"return-path"];
        Self {
            myhostname: b"localhost".to_vec(),
            mail_name: b"Mailrace".to_vec(),
            myorigin: b"localhost".to_vec(),
            append_at_myorigin: true,
            hopcount_limit: 50,
            header_size_limit: 102_400,
            always_add_missing_headers: false,
            undisclosed_recipients_header: vec![],
            message_drop_headers: names.iter().map(|name| name.to_vec()).collect(),
            remote_header_rewrite_domain: vec![],
            zone: Zone::default(),
        }
    }
}
