//! Reports to senders and postmasters.

use std::path::PathBuf;

use mailrace_delivery::bounce::{NoticeSettings, ReportSettings, Templates};

use super::Configuration;
use super::error::Fault;
use super::reader::{Reader, parameters};
use super::value::{Hours, NoticeClasses, Octets};

parameters! {
    /// Delivery status notifications (RFC 3464), and copies of them for the postmaster. These parameters take effect at
    /// startup.
    pub struct NoticeParameters titled "Reports";

    /// Defers mail that would be returned to its sender, for testing.
    soft_bounce: bool = false;
    /// Age at which the sender of a deferred message is informed of the delay, once; 0: never.
    delay_warning_time: Hours = "0h" in 0 ..= 87_600;
    /// Maximum size of a message that a report returns as a whole; of a larger one it has the header section.
    bounce_size_limit: Octets = 50000 in 1 ..= 1_099_511_627_776;
    /// File with the texts of reports, in the format of bounce(5); empty: built-in texts. A relative path is resolved in the
    /// directory of the configuration file.
    bounce_template_file: Option<PathBuf> = "";
    /// Classes of trouble that the postmaster is informed of: `bounce`, `2bounce` and `delay`. `data`, `policy`, `protocol`,
    /// `resource` and `software` are accepted, without effect.
    notify_classes: NoticeClasses = ["resource", "software"];
    /// Recipient of copies of reports about failures, in class `bounce`.
    bounce_notice_recipient: String = "postmaster";
    /// Recipient of reports about failed mail that has no sender, in classes `2bounce` and `bounce`.
    double_bounce_notice_recipient as "2bounce_notice_recipient": String = "postmaster";
    /// Recipient of copies of reports about delays, in class `delay`.
    delay_notice_recipient: String = "postmaster";
    /// Accepted, without effect: there are no notices about errors yet.
    error_notice_recipient: String = "postmaster";
    /// Sender of mail for the postmaster, which is never returned: a local-part, at `myhostname`.
    double_bounce_sender: String = "double-bounce";
}

/// Largest file of templates, in bytes.
const TEMPLATES_SIZE_MAX: u64 = 1 << 20;

impl NoticeParameters {
    /// Returns the texts of reports. After an error the reader has it.
    pub(super) fn templates(&self, reader: &mut Reader<'_>) -> Templates {
        let file = self.bounce_template_file.as_deref();
        let look_up = |name: &str| reader.text(name).map(String::into_bytes);
        let read = || {
            let mut templates = Templates::built_in(&look_up).map_err(Fault::Template)?;
            if let Some(file) = file {
                let content = crate::files::read(file, TEMPLATES_SIZE_MAX).map_err(Fault::Unreadable)?;
                templates.read(&file.to_string_lossy(), &content, &look_up).map_err(Fault::Template)?;
            }
            Ok(templates)
        };
        read().unwrap_or_else(|fault| {
            reader.refuse_file("bounce_template_file", fault);
            Templates::default()
        })
    }
}

impl Configuration {
    pub(super) fn notice_settings(&self) -> NoticeSettings {
        let notices = &self.notices;
        let address = |address: &String| address.as_bytes().into();
        NoticeSettings {
            copies_failures: notices.notify_classes.bounce,
            reports_double_bounces: notices.notify_classes.double_bounce,
            copies_delays: notices.notify_classes.delay,
            bounce_notice_recipient: address(&notices.bounce_notice_recipient),
            double_bounce_notice_recipient: address(&notices.double_bounce_notice_recipient),
            delay_notice_recipient: address(&notices.delay_notice_recipient),
            double_bounce_sender: self.double_bounce_address().into_bytes().into(),
        }
    }

    /// Returns the sender of mail for the postmaster.
    fn double_bounce_address(&self) -> String {
        let sender = &self.notices.double_bounce_sender;
        if sender.contains('@') { sender.clone() } else { format!("{sender}@{}", self.domains.myhostname.0) }
    }

    pub(super) fn report_settings(&self) -> ReportSettings {
        ReportSettings {
            host_name: self.domains.myhostname.0.as_bytes().into(),
            mail_name: self.domains.mail_name.as_bytes().into(),
            bounce_size_limit: self.notices.bounce_size_limit.0,
            maximal_queue_lifetime: self.delivery.maximal_queue_lifetime.0,
            smtputf8_enable: true,
            templates: self.templates.clone(),
        }
    }
}
