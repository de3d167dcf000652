//! Owns the rig of the machine that stops: its memory is gone, its disk has all that it ever was given.
//!
//! The queue's ext4 lies in a file on an XFS. A clone of that file by reference (FICLONE) is taken in a millisecond,
//! atomically and under the running engine: it is the disk at that moment.

use std::path::{Path, PathBuf};

use mailrace_io::sim::Random;

use super::device::{EXT4_OPTIONS, LoopDevice, Mount, Place, make_ext4, require_root};
use super::{Look, Rig, empty};
use crate::error::ProofError;
use crate::program::{require, run};

/// Fields go from the last to the first that was set up.
#[derive(Debug)]
pub struct CloneRig {
    queue: Mount,
    _queue_device: LoopDevice,
    host: Mount,
    _host_device: LoopDevice,
    place: Place,
}

impl CloneRig {
    /// Sets it up in a directory of its own in `parent`.
    ///
    /// # Errors
    /// [`ProofError`]; nothing is left.
    pub fn new(parent: &Path) -> Result<Self, ProofError> {
        require_root()?;
        require(&["losetup", "mount", "umount", "mkfs.xfs", "mkfs.ext4", "cp"])?;
        let place = Place::new(parent)?;
        let host_device = LoopDevice::attach(&place.sparse("host.img", HOST_SIZE)?, true)?;
        run("mkfs.xfs", ["-q", "-f", "-K", "-m", "reflink=1", host_device.path()])?;
        let host = Mount::new(host_device.path(), &place.join("host"), "xfs", "noatime")?;
        let disk = place.sparse("host/disk.img", QUEUE_SIZE)?;
        let queue_device = LoopDevice::attach(&disk, true)?;
        make_ext4(queue_device.path())?;
        let queue = Mount::new(queue_device.path(), &place.join("queue"), "ext4", EXT4_OPTIONS)?;
        Ok(Self { queue, _queue_device: queue_device, host, _host_device: host_device, place })
    }

    fn image(&self, name: &str) -> PathBuf {
        self.host.directory().join(name)
    }

    fn copy(&self, from: &str, to: &str) -> Result<PathBuf, ProofError> {
        let (from, to) = (self.image(from), self.image(to));
        // Otherwise the clone would be written over what the last one shares.
        let _ = std::fs::remove_file(&to);
        run("cp", [Path::new("--reflink=always"), &from, &to])?;
        Ok(to)
    }
}

impl Rig for CloneRig {
    fn directory(&self) -> &Path {
        self.queue.directory()
    }

    fn cut(&mut self) -> Result<(), ProofError> {
        self.copy("disk.img", "cut.img").map(drop)
    }

    fn ends_writing(&self) -> bool {
        false
    }

    fn remains(&mut self, _: &mut Random, look: &mut Look<'_>) -> Result<(), ProofError> {
        // The clone itself stays as it was cut.
        let image = self.copy("cut.img", "after.img")?;
        let device = LoopDevice::attach(&image, true)?;
        let after = Mount::new(device.path(), &self.place.join("after"), "ext4", EXT4_OPTIONS)?;
        look("the disk at that moment", after.directory())
    }

    fn renew(&mut self) -> Result<(), ProofError> {
        empty(self.queue.directory())
    }

    fn keep(&self) -> &Path {
        self.place.keep()
    }
}

const HOST_SIZE: u64 = 6 << 30;
const QUEUE_SIZE: u64 = 1 << 30;
