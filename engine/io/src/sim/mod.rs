//! A simulated kernel, network, disk and clock, from a seed.
//!
//! Several workers share one [`World`]. Everything takes time there, a random time, and completes in the order of that;
//! nothing waits: the code that runs the workers lets time pass. [`Faults`] go wrong as often as the seed says. The world ends
//! at any operation ([`World::set_fuse`]) and goes on from what the disk then holds ([`World::crash`]). A [calm](World::calm)
//! world has no chance, for tests that order what goes wrong.
//!
//! The contract of [`Io`](crate::Io) and [`Disk`](crate::Disk) is checked on the way, and a breach is a panic: an operation
//! names a connection that is closed or a file that is detached; a second send or receive while one is under way; a
//! direct write that is not aligned; writes under way that overlap; a read of a file that was opened to be written; a file
//! detached while it is written to or read from; a piece read after it was given back, or never given back.
//!
//! Not simulated: anything but one direct or buffered writer to a file, a kernel that reorders the bytes of a
//! connection, memory that runs out.

mod calm;
mod disk;
mod faults;
mod files;
mod kernel;
mod network;
mod peer;
mod random;
mod trace;
mod world;

pub use disk::{SimDisk, SimFile};
pub use faults::{Fault, Faults};
pub use files::Corruption;
pub use kernel::SimIo;
pub use peer::{Listener, Peer};
pub use random::Random;
pub use trace::{Event, Trace};
pub use world::{Conditions, Crash, World};

#[cfg(test)]
mod tests;
