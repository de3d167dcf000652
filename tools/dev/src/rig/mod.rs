//! Owns test disks whose power can be cut under a running engine, without any but the machine's own devices.
//!
//! Each models another machine: see [`clone`], [`cache`] and [`shutdown`]. They differ in what they can catch: a write
//! that was never asked to be durable is lost in all three; one that reached the device and was not flushed there is
//! lost in [`cache`] alone.

pub mod cache;
pub mod clone;
pub mod device;
pub mod leftovers;
pub mod shutdown;
pub mod write_log;

use std::path::Path;

use mailrace_io::sim::Random;

use crate::error::ProofError;

/// What is done with each state that a cut may have left: its name and where it is mounted.
pub type Look<'a> = dyn FnMut(&str, &Path) -> Result<(), ProofError> + 'a;

/// A disk that loses its power.
pub trait Rig {
    /// Where the file system is mounted that the power is cut of. It is empty after [`Rig::renew`].
    fn directory(&self) -> &Path;

    /// Cuts the power. What is written after this call has begun may or may not be left; what comes after its end
    /// is not.
    ///
    /// # Errors
    /// [`ProofError`].
    fn cut(&mut self) -> Result<(), ProofError>;

    /// Whether nothing can be written to the file system after a cut, so that whatever was ever acknowledged was
    /// acknowledged before it.
    fn ends_writing(&self) -> bool;

    /// Mounts each state that the cut may have left, in turn. [`Rig::directory`] must not be used afterwards.
    ///
    /// # Errors
    /// [`ProofError`], also of `look`.
    fn remains(&mut self, random: &mut Random, look: &mut Look<'_>) -> Result<(), ProofError>;

    /// Makes it ready for another life.
    ///
    /// # Errors
    /// [`ProofError`].
    fn renew(&mut self) -> Result<(), ProofError>;

    /// Keeps its files for inspection, and tells where they are.
    fn keep(&self) -> &Path;
}

/// Removes all that lies in the root of a file system.
fn empty(directory: &Path) -> Result<(), ProofError> {
    let entries = std::fs::read_dir(directory).map_err(ProofError::on(directory))?;
    for path in entries.flatten().map(|entry| entry.path()) {
        let removed =
            if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
        removed.map_err(ProofError::on(&path))?;
    }
    Ok(())
}
