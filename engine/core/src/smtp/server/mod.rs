//! The server's side of a dialogue.

mod bdat;
mod command;
mod content;
mod data;
mod decision;
mod event;
mod exchange;
mod hello;
mod line;
mod mail;
mod parameter;
mod rcpt;
mod relay;
mod route;
mod session;
mod settings;
#[cfg(test)]
mod tests;
mod transaction;
mod unlisted;
mod vrfy;

pub use event::{Context, Event, Observer, Reject, Step, Verdict};
pub use relay::is_destination_permitted;
pub use route::{DeadEnd, Routes};
pub use session::{REPLIES_SIZE_MAX, Session};
pub use settings::{BareNewline, Settings};
pub use unlisted::{ClassTables, ListedAddresses};
