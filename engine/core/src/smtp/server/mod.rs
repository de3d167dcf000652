//! The server's side of a dialogue.

mod command;
mod content;
mod event;
mod parameter;
mod relay;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod transaction;

pub use event::{Context, Event, Observer, Reject, Step, Verdict};
pub use relay::is_destination_permitted;
pub use session::{REPLIES_SIZE_MAX, Session};
pub use settings::{BareNewline, Settings};
