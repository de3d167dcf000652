//! The SMTP session as a state machine (RFC 5321): octets in, replies and events out.
//!
//! [`Session`] is the one place that decides what may come next. The caller owns the connection: it
//! hands received octets to [`Session::feed`], sends the replies that were written, and acts on the
//! event. See [`Event`] for what each asks of the caller.

mod session;

pub use session::{Context, Event, Observer, Reject, Session, Settings, Step, Verdict};
