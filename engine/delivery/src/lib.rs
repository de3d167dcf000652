//! Delivery: what takes messages out of the queue.
//!
//! [`manager::Manager`] decides which message is tried when, and which recipients go together; it does no I/O and has no
//! clock. [`agent::smtp::SmtpDelivery`] hands the recipients of one job over to a server, without I/O either.
//! [`dispatcher::Dispatcher`] runs both through a [`mailrace_io::Io`].
#![forbid(unsafe_code)]
#![warn(clippy::indexing_slicing)]

pub mod agent;
pub mod bounce;
pub mod dispatcher;
pub mod hosts;
pub mod manager;
mod outcome;
mod route;

pub use mailrace_core::record::delivery::{Action, Cause};
pub use outcome::{Health, Outcome};
pub use route::{HostName, NextHop, NextHopError, Route, Routed, Server};
