//! The recipients of reports, and the envelopes of these.

use mailrace_core::{BodyType, Envelope, Recipient, Timestamp};

use super::{Audience, Kind, ReportSettings};

/// Which reports the postmaster gets (`notify_classes`), and the addresses of reports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NoticeSettings {
    /// Class `bounce`: copies of failure reports, and reports of double bounces.
    pub copies_failures: bool,
    /// Class `2bounce`: reports of double bounces.
    pub reports_double_bounces: bool,
    /// Class `delay`: copies of delay reports.
    pub copies_delays: bool,
    /// `bounce_notice_recipient`, in internal form like the others here.
    pub bounce_notice_recipient: Box<[u8]>,
    /// `2bounce_notice_recipient`.
    pub double_bounce_notice_recipient: Box<[u8]>,
    /// `delay_notice_recipient`.
    pub delay_notice_recipient: Box<[u8]>,
    /// `double_bounce_sender` with `myhostname` as its domain: the sender of what postmasters get.
    pub double_bounce_sender: Box<[u8]>,
}

/// A report that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addressee {
    /// Who reads it.
    pub audience: Audience,
    /// Its reverse-path; null for reports to senders (RFC 3461, section 6.1).
    pub sender: Box<[u8]>,
    /// Its only recipient.
    pub recipient: Box<[u8]>,
}

impl NoticeSettings {
    /// Returns the reports of a kind that an original from `sender` (internal form) leads to: none, one, or the sender's and
    /// the postmaster's copy. The recipients that each of them lists: see [`Kind::lists`].
    ///
    /// Mail from the null reverse-path is never answered; when it fails, the postmaster may get a report. A failure of that
    /// report ends the chain.
    #[must_use]
    pub fn addressees(&self, kind: Kind, sender: &[u8]) -> Vec<Addressee> {
        if sender.eq_ignore_ascii_case(&self.double_bounce_sender) {
            return Vec::new();
        }
        let to_postmaster = |audience, recipient: &[u8]| Addressee {
            audience,
            sender: self.double_bounce_sender.clone(),
            recipient: recipient.into(),
        };
        if sender.is_empty() {
            let is_due = kind == Kind::Failure && (self.copies_failures || self.reports_double_bounces);
            let report = to_postmaster(Audience::DoubleBounce, &self.double_bounce_notice_recipient);
            return if is_due { vec![report] } else { Vec::new() };
        }
        let report =
            Addressee { audience: Audience::Sender, sender: Box::default(), recipient: sender.into() };
        let mut reports = vec![report];
        match kind {
            Kind::Failure if self.copies_failures => {
                reports.push(to_postmaster(Audience::Postmaster, &self.bounce_notice_recipient));
            }
            Kind::Delay if self.copies_delays => {
                reports.push(to_postmaster(Audience::Postmaster, &self.delay_notice_recipient));
            }
            _ => {}
        }
        reports
    }
}

impl Addressee {
    /// Returns the envelope of the report. It asks for no report of its own: NOTIFY is not given.
    #[must_use]
    pub fn envelope(
        &self,
        settings: &ReportSettings,
        kind: Kind,
        original: &Envelope,
        now: Timestamp,
    ) -> Envelope {
        let is_eight_bit = settings.encoding(kind, original).is_eight_bit();
        Envelope {
            arrival: now,
            sender: self.sender.to_vec(),
            recipients: vec![Recipient { address: self.recipient.to_vec(), ..Recipient::default() }],
            body: if is_eight_bit { BodyType::EightBitMime } else { BodyType::Unstated },
            smtputf8: original.smtputf8,
            ..Envelope::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bounce::tests::settings as report_settings;

    fn settings() -> NoticeSettings {
        NoticeSettings {
            bounce_notice_recipient: b"bounces".as_slice().into(),
            double_bounce_notice_recipient: b"doubles".as_slice().into(),
            delay_notice_recipient: b"delays".as_slice().into(),
            double_bounce_sender: b"double-bounce@mx.example.com".as_slice().into(),
            ..NoticeSettings::default()
        }
    }

    /// `AUDIENCE <SENDER> RECIPIENT` of each report.
    fn due(settings: &NoticeSettings, kind: Kind, sender: &str) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let addressees = settings.addressees(kind, sender.as_bytes());
        let line =
            |to: &Addressee| format!("{:?} <{}> {}", to.audience, text(&to.sender), text(&to.recipient));
        addressees.iter().map(line).collect()
    }

    #[test]
    fn senders_get_reports_and_postmasters_copies_by_class() {
        let quiet = settings();
        for kind in [Kind::Failure, Kind::Delay, Kind::Success, Kind::Verify] {
            assert_eq!(due(&quiet, kind, "a@b.test"), ["Sender <> a@b.test"], "{kind:?}");
        }
        let bounces = NoticeSettings { copies_failures: true, ..settings() };
        let copy = "Postmaster <double-bounce@mx.example.com> bounces";
        assert_eq!(due(&bounces, Kind::Failure, "a@b.test"), ["Sender <> a@b.test", copy]);
        assert_eq!(due(&bounces, Kind::Delay, "a@b.test").len(), 1);
        let delays = NoticeSettings { copies_delays: true, ..settings() };
        let copy = "Postmaster <double-bounce@mx.example.com> delays";
        assert_eq!(due(&delays, Kind::Delay, "a@b.test"), ["Sender <> a@b.test", copy]);
        assert_eq!(due(&delays, Kind::Failure, "a@b.test").len(), 1);
    }

    #[test]
    fn the_null_reverse_path_is_never_answered() {
        let all = NoticeSettings { copies_delays: true, reports_double_bounces: true, ..settings() };
        assert_eq!(due(&settings(), Kind::Failure, ""), [""; 0]);
        let report = ["DoubleBounce <double-bounce@mx.example.com> doubles"];
        assert_eq!(due(&all, Kind::Failure, ""), report);
        let bounces = NoticeSettings { copies_failures: true, ..settings() };
        assert_eq!(due(&bounces, Kind::Failure, ""), report, "class bounce implies 2bounce, as in Postfix");
        for kind in [Kind::Delay, Kind::Success, Kind::Verify] {
            assert_eq!(due(&all, kind, ""), [""; 0], "{kind:?}");
        }
        let all = NoticeSettings { copies_failures: true, ..all };
        assert_eq!(due(&all, Kind::Failure, "Double-Bounce@mx.example.com"), [""; 0], "no triple bounce");
    }

    #[test]
    fn the_envelope_asks_for_nothing() {
        let original = Envelope { smtputf8: true, sender: b"a@b.test".to_vec(), ..Envelope::default() };
        let now = Timestamp::from_unix_microseconds(5);
        let addressees = settings().addressees(Kind::Failure, &original.sender);
        let envelope = addressees[0].envelope(&report_settings(), Kind::Failure, &original, now);
        let recipients = vec![Recipient { address: b"a@b.test".to_vec(), ..Recipient::default() }];
        let body = BodyType::EightBitMime;
        let expected = Envelope { arrival: now, recipients, body, smtputf8: true, ..Envelope::default() };
        assert_eq!(envelope, expected);
        let plain = ReportSettings { smtputf8_enable: false, ..report_settings() };
        let envelope = addressees[0].envelope(&plain, Kind::Failure, &Envelope::default(), now);
        assert_eq!(envelope.body, BodyType::Unstated);
    }
}
