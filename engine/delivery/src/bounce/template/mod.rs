//! The sentences of reports: built in, or from a file (`bounce_template_file`, in the format of Postfix's bounce(5)).
//!
//! A file has up to four sections, each `failure_template = <<EOF`, the lines of the template, and a line `EOF`. The lines
//! begin with the fields Charset, From, Subject and Postmaster-Subject; what is missing keeps its built-in value. The text
//! follows, with `$name`, `${name}` and `$(name)` for values of parameters and `$$` for a dollar.

mod error;
mod file;
mod macros;

pub use error::{Problem, TemplateError};

use super::Kind;

/// The templates of all kinds of reports, with the values of parameters in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    failure: Template,
    delay: Template,
    success: Template,
    verify: Template,
}

/// What reports of one kind say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Template {
    /// Character set of the text.
    pub charset: Box<[u8]>,
    /// Body of the From field.
    pub from: Box<[u8]>,
    /// Body of the Subject field.
    pub subject: Box<[u8]>,
    /// Body of the Subject field of a postmaster's copy; empty for kinds without copies.
    pub postmaster_subject: Box<[u8]>,
    /// Lines that end with CRLF.
    pub text: Box<[u8]>,
}

impl Templates {
    /// Returns the built-in templates.
    ///
    /// `lookup`: the value of the parameter with this name, `None` if there is none. Names of hosts are shown as it returns
    /// them: to show an IDNA name in Unicode, return it so.
    ///
    /// # Errors
    /// `lookup` does not know `myhostname`, `delay_warning_time` or `maximal_queue_lifetime`, or the last two are not times.
    pub fn built_in(lookup: &dyn Fn(&str) -> Option<Vec<u8>>) -> Result<Self, TemplateError> {
        let mut templates = Self::default();
        templates.read("built-in templates", BUILT_IN.as_bytes(), lookup)?;
        Ok(templates)
    }

    /// Replaces the templates that a file has. `file`: its name, for errors; `content`: all of it; `lookup`: as in
    /// [`Templates::built_in`].
    ///
    /// # Errors
    /// The first thing that is invalid, with its line; templates before it may have been replaced.
    pub fn read(
        &mut self,
        file: &str,
        content: &[u8],
        lookup: &dyn Fn(&str) -> Option<Vec<u8>>,
    ) -> Result<(), TemplateError> {
        file::read(self, content, lookup).map_err(|(line, problem)| TemplateError {
            file: file.into(),
            line,
            problem,
        })
    }

    pub(super) const fn of(&self, kind: Kind) -> &Template {
        match kind {
            Kind::Failure => &self.failure,
            Kind::Delay => &self.delay,
            Kind::Success => &self.success,
            Kind::Verify => &self.verify,
        }
    }

    const fn of_mut(&mut self, kind: Kind) -> &mut Template {
        match kind {
            Kind::Failure => &mut self.failure,
            Kind::Delay => &mut self.delay,
            Kind::Success => &mut self.success,
            Kind::Verify => &mut self.verify,
        }
    }
}

impl Template {
    /// Whether the text is in ASCII, as far as the file says: reports in which it is not ASCII call it UTF-8.
    pub(super) fn is_us_ascii(&self) -> bool {
        self.charset.eq_ignore_ascii_case(b"us-ascii")
    }
}

const BUILT_IN: &str = "\
failure_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Undelivered Mail Returned to Sender
Postmaster-Subject: Postmaster Copy: Undelivered Mail

This report comes from the mail system of $myhostname.

Your message could not be delivered to the recipients listed below.
The reason follows each address. The message, or its header section,
is attached.

If you need help, write to the postmaster and include this report.
You may leave out the text of your message.
EOF
delay_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Delayed Mail (still being retried)
Postmaster-Subject: Postmaster Warning: Delayed Mail

This report comes from the mail system of $myhostname.

This is only a warning: delivery of your message is still being
attempted. Please do not send it again.

After more than $delay_warning_time_hours hour(s) it has not reached the recipients listed
below. Attempts end when the message is $maximal_queue_lifetime_days day(s) old.

If you need help, write to the postmaster and include this report.
EOF
success_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Successful Mail Delivery Report

This report comes from the mail system of $myhostname.

Your message was delivered to the recipients listed below, or passed
on to another mail system, which may still report that it could not
deliver the message.
EOF
verify_template = <<EOF
Charset: us-ascii
From: Mail Delivery System <MAILER-DAEMON>
Subject: Mail Delivery Status Report

This report comes from the mail system of $myhostname.

You requested a report on delivery to the recipients listed below.
EOF
";

#[cfg(test)]
mod tests;
