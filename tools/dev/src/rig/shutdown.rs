//! Owns the rig of the file system that is shut down: what is in its memory and in its journal's memory never reaches
//! the disk, and all writes fail from then on.

use std::path::{Path, PathBuf};

use mailrace_io::sim::Random;

use super::device::{EXT4_OPTIONS, LoopDevice, Mount, Place, make_ext4, require_root};
use super::{Look, Rig, empty};
use crate::error::ProofError;
use crate::program::{require, run};

/// Fields go from the last to the first that was set up.
#[derive(Debug)]
pub struct ShutdownRig {
    /// `None` only where mounting it again failed.
    queue: Option<Mount>,
    directory: PathBuf,
    device: LoopDevice,
    place: Place,
}

impl ShutdownRig {
    /// Sets it up in a directory of its own in `parent`.
    ///
    /// # Errors
    /// [`ProofError`]; nothing is left.
    pub fn new(parent: &Path) -> Result<Self, ProofError> {
        require_root()?;
        require(&["losetup", "mount", "umount", "mkfs.ext4", "xfs_io"])?;
        let place = Place::new(parent)?;
        let device = LoopDevice::attach(&place.sparse("disk.img", QUEUE_SIZE)?, true)?;
        make_ext4(device.path())?;
        let directory = place.join("queue");
        let queue = Some(Mount::new(device.path(), &directory, "ext4", EXT4_OPTIONS)?);
        Ok(Self { queue, directory, device, place })
    }

    fn mount_again(&mut self) -> Result<(), ProofError> {
        self.queue = None;
        self.queue = Some(Mount::new(self.device.path(), &self.directory, "ext4", EXT4_OPTIONS)?);
        Ok(())
    }
}

impl Rig for ShutdownRig {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn cut(&mut self) -> Result<(), ProofError> {
        // EXT4_IOC_SHUTDOWN without a last flush of the journal; xfs_io has the ioctl under XFS's name.
        let arguments = ["-x", "-c", "shutdown"].map(Path::new).into_iter().chain([self.directory.as_path()]);
        run("xfs_io", arguments).map(drop)
    }

    fn ends_writing(&self) -> bool {
        true
    }

    fn remains(&mut self, _: &mut Random, look: &mut Look<'_>) -> Result<(), ProofError> {
        self.mount_again()?;
        look("the disk after a shutdown", &self.directory)
    }

    fn renew(&mut self) -> Result<(), ProofError> {
        if self.queue.is_none() {
            self.mount_again()?;
        }
        empty(&self.directory)
    }

    fn keep(&self) -> &Path {
        self.place.keep()
    }
}

const QUEUE_SIZE: u64 = 1 << 30;
