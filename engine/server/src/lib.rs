//! The programs' glue: configuration, log, metrics, services and commands around the engine's crates.
#![forbid(unsafe_code)]
// Whatever reads standard error may stop reading: a running engine reports through its log, which waits for nothing.
#![deny(clippy::print_stderr, clippy::print_stdout)]

pub mod command;
pub mod config;
mod delivery;
mod door;
pub mod edge;
mod file_system;
mod files;
pub mod log;
mod maildrop;
mod metrics;
mod networks;
pub mod process;
mod registration;
mod routing;
mod services;
pub mod tables;
pub mod worker;
