//! Kinds of reports, what they say of a recipient, and which recipients want them.

use mailrace_core::{Notify, Recipient};

/// What a report is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Recipients that will never be reached.
    Failure,
    /// Recipients that are still tried.
    Delay,
    /// Recipients that were reached, for senders that asked with `NOTIFY=SUCCESS`.
    Success,
    /// All recipients, for `sendmail -bv` and `sendmail -v`.
    Verify,
}

/// The reader of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// The sender of the original.
    Sender,
    /// The postmaster, who gets a copy of what the sender is sent.
    Postmaster,
    /// The postmaster in place of a sender: the original has the null reverse-path.
    DoubleBounce,
}

impl Kind {
    /// Whether `recipient` is listed in a report of this kind. A report that lists no recipient is not sent.
    ///
    /// NOTIFY (RFC 3461, section 4.1) binds reports to the sender; postmasters see all recipients.
    #[must_use]
    pub const fn lists(self, recipient: &Recipient, audience: Audience) -> bool {
        let notify = recipient.notify;
        match (audience, self) {
            (Audience::Sender, Self::Failure) => notify.is_empty() || notify.contains(Notify::FAILURE),
            (Audience::Sender, Self::Delay) => notify.is_empty() || notify.contains(Notify::DELAY),
            (Audience::Sender, Self::Success) => notify.contains(Notify::SUCCESS),
            (Audience::Sender, Self::Verify) | (Audience::Postmaster | Audience::DoubleBounce, _) => true,
        }
    }

    /// Whether the report is about a message that was not delivered.
    pub(super) const fn is_trouble(self) -> bool {
        matches!(self, Self::Failure | Self::Delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notify_decides_which_recipients_a_sender_reads_of() {
        let listed = |notify: Notify| {
            let recipient = Recipient { notify, ..Recipient::default() };
            let kinds = [Kind::Failure, Kind::Delay, Kind::Success, Kind::Verify];
            assert!(kinds.iter().all(|kind| kind.lists(&recipient, Audience::Postmaster)));
            assert!(Kind::Failure.lists(&recipient, Audience::DoubleBounce));
            kinds.map(|kind| kind.lists(&recipient, Audience::Sender))
        };
        assert_eq!(listed(Notify::default()), [true, true, false, true]);
        assert_eq!(listed(Notify::NEVER), [false, false, false, true]);
        assert_eq!(listed(Notify::SUCCESS), [false, false, true, true]);
        assert_eq!(listed(Notify::FAILURE), [true, false, false, true]);
        assert_eq!(listed(Notify::DELAY.with(Notify::SUCCESS)), [false, true, true, true]);
    }
}
