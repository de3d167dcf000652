//! The SMTP session as a state machine (RFC 5321): octets in, replies and events out.
//!
//! [`Session`] is the one place that decides what may come next. The caller owns the connection: it
//! hands received octets to [`Session::feed`], sends the replies that were written, and acts on the
//! event. See [`Event`] for what each asks of the caller.

mod command;
mod content;
mod event;
mod parameter;
mod relay;
mod reply;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod transaction;

pub use event::{Context, Event, Observer, Reject, Step, Verdict};
pub use relay::is_destination_permitted;
pub use session::{REPLIES_SIZE_MAX, Session};
pub use settings::{BareNewline, Settings};
