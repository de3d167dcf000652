//! The engine's process: threads, sockets and signals.

mod error;
mod limits;
mod listen;
mod reload;
mod report;
mod start;
mod threads;

pub use error::StartError;
pub use start::serve;

pub(crate) use report::{damage_text, stranger_text};
