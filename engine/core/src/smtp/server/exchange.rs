//! State of one call of a session.

use alloc::vec::Vec;

use super::event::{Context, Observer};
use super::settings::Settings;
use crate::smtp::reply::Filled;
use crate::timestamp::Timestamp;

/// The caller's [`Context`], and the replies that it will send.
pub(super) struct Exchange<'e> {
    pub(super) settings: &'e Settings,
    pub(super) wall: Timestamp,
    pub(super) is_storage_low: bool,
    pub(super) observer: &'e mut dyn Observer,
    pub(super) replies: &'e mut Vec<u8>,
}

impl<'e> Exchange<'e> {
    /// The exchange of one call.
    pub(super) fn new(context: &'e mut Context<'_>, replies: &'e mut Vec<u8>) -> Self {
        let Context { settings, wall, is_storage_low, observer } = context;
        Self { settings, wall: *wall, is_storage_low: *is_storage_low, observer: &mut **observer, replies }
    }

    /// Writes a reply and reports its code to the observer.
    pub(super) fn reply<'r>(&mut self, reply: impl Into<Filled<'r>>) {
        let filled = reply.into();
        self.observer.replied(filled.code);
        filled.write(self.replies, &self.settings.myhostname);
    }

    /// Writes a reply from a check's configuration, and reports its code.
    pub(super) fn reply_with_line(&mut self, line: &[u8]) {
        let digits = line.get(..3).unwrap_or_default();
        let code = digits.iter().fold(0, |code, digit| code * 10 + u16::from(digit.saturating_sub(b'0')));
        self.observer.replied(code);
        self.replies.extend_from_slice(line);
        self.replies.extend_from_slice(b"\r\n");
    }
}
