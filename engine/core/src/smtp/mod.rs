//! SMTP (RFC 5321) as state machines: octets in, replies and events out.
//!
//! The server's side is [`Session`], the one place that decides what may come next. The caller owns the connection: it
//! hands received octets to [`Session::feed`], sends the replies that were written, and acts on the event. See [`Event`]
//! for what each asks of the caller.

pub mod client;
mod extension;
pub mod reply;
mod server;

pub use server::{
    BareNewline, ClassTables, Context, DeadEnd, Event, ListedAddresses, Observer, REPLIES_SIZE_MAX, Reject,
    Routes, Session, Settings, Step, Verdict, is_destination_permitted,
};
