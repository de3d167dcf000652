//! Delivery status notifications (RFC 3461, 3464, 6522, 6533), as Postfix's bounce(8) sends them.
//!
//! [`NoticeSettings::addressees`] names the recipients of a report, [`Kind::lists`] which recipients it is about, and [`Report`]
//! writes it: bytes in, bytes out, without I/O and without a clock. A report is a message without trace field and
//! Message-Id, which cleanup adds.

mod header_section;
mod kind;
mod notice;
mod report;
mod status;
mod template;
mod text;

pub use kind::{Audience, Kind};
pub use mailrace_core::record::delivery::{Action, Cause};
pub use notice::{Addressee, NoticeSettings};
pub use report::{Notice, Report, ReportSettings, ReportedRecipient};
pub use template::{Problem, TemplateError, Templates};

#[cfg(test)]
mod tests;
