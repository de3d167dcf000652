//! The client's side of SMTP and LMTP (RFC 5321, RFC 2033) without I/O: commands out, replies in.
//!
//! The caller owns the connection. It passes received bytes to [`ReplyReader::read`], each reply to
//! [`Session::reply_received`], and acts on the event. It asks [`Session::may_send`] before it appends a command to what
//! it sends. What to send, and what a refusal means for a message, is the caller's decision.

mod dot_stuffing;
mod downgrade;
mod extensions;
mod pipeline;
mod reply;
mod session;
#[cfg(test)]
mod tests;
mod xtext;

pub use dot_stuffing::DotStuffing;
pub use downgrade::{Downgrade, NESTING_MAX};
pub use extensions::Extensions;
pub use pipeline::Awaited;
pub use reply::{EnhancedStatus, InvalidReply, LINE_SIZE_MAX, REPLY_SIZE_MAX, Reply, ReplyReader, Violation};
pub use session::{Event, LineBreak, Protocol, Session};
pub use xtext::append_xtext;
