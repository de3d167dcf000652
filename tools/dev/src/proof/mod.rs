//! Owns proofs on the real thing: the program `mailrace` on test disks, killed and cut off under load, and the account
//! of its promises.

pub mod careless;
pub mod engine;
pub mod kill9;
pub mod life;
pub mod powercut;
pub mod sender;
