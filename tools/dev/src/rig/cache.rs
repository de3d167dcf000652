//! Owns the rig of the disk with a volatile cache: what was written to it and not flushed may be lost, in any choice
//! and in any order.
//!
//! The queue's ext4 lies on a loop device over a file that qemu-storage-daemon exports through FUSE. It logs each
//! write and each flush that reaches it (`blklogwrites`); from the log, disks are made that a cut may leave.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use mailrace_io::sim::Random;

use super::device::{EXT4_OPTIONS, LoopDevice, Mount, Place, make_ext4, require_root};
use super::write_log::{Unflushed, WriteLog};
use super::{Look, Rig};
use crate::error::ProofError;
use crate::program::{command, not_started, require, run};

/// A file whose writes are logged; it is there as long as the daemon runs.
#[derive(Debug)]
pub struct Export {
    daemon: Child,
    file: PathBuf,
}

impl Export {
    /// Starts the daemon with these block devices, of which `node` becomes the file `file` of `size` bytes.
    ///
    /// # Errors
    /// [`ProofError::Missing`] and [`ProofError::Failed`].
    pub fn start(devices: &[String], node: &str, file: &Path, size: u64) -> Result<Self, ProofError> {
        std::fs::write(file, "").map_err(ProofError::on(file))?;
        let mut daemon = command("qemu-storage-daemon");
        for device in devices {
            daemon.arg(if device.starts_with("throttle-group") { "--object" } else { "--blockdev" });
            daemon.arg(device);
        }
        let export =
            format!("type=fuse,id=export,node-name={node},mountpoint={},writable=on", file.display());
        daemon.arg("--export").arg(export).stdin(Stdio::null()).stderr(Stdio::piped());
        let daemon = daemon.spawn().map_err(|error| not_started("qemu-storage-daemon", &error))?;
        let mut export = Self { daemon, file: file.to_owned() };
        let deadline = Instant::now() + PATIENCE;
        while std::fs::metadata(file).map(|it| it.len()).unwrap_or(0) != size {
            let has_ended = export.daemon.try_wait().map_err(ProofError::on(file))?.is_some();
            if has_ended || Instant::now() > deadline {
                return Err(export.failure());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(export)
    }

    /// Kills the daemon: all reads and writes of the file fail from then on.
    pub fn kill(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }

    fn failure(&mut self) -> ProofError {
        let _ = self.daemon.kill();
        let mut message = String::new();
        if let Some(errors) = self.daemon.stderr.as_mut() {
            let _ = std::io::Read::read_to_string(errors, &mut message);
        }
        let message = message.trim().to_owned();
        // Without FUSE there is nothing that could be installed.
        if message.contains("fuse") && !Path::new("/dev/fuse").exists() {
            return ProofError::NoLoopDevices(message);
        }
        ProofError::Failed { program: "qemu-storage-daemon", message }
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.kill();
        // A daemon that was killed leaves its mount.
        if let Err(error) = run("umount", [&self.file]) {
            eprintln!("mailrace-dev: {error}");
        }
    }
}

/// Fields go from the last to the first that was set up.
#[derive(Debug)]
pub struct CacheRig {
    live: Option<Live>,
    /// Entries of the log when the power was cut.
    count: u64,
    directory: PathBuf,
    place: Place,
}

#[derive(Debug)]
struct Live {
    _queue: Mount,
    _device: LoopDevice,
    _export: Export,
}

impl CacheRig {
    /// Sets it up in a directory of its own in `parent`, which is best in memory: the log takes all that is written.
    ///
    /// # Errors
    /// [`ProofError`]; nothing is left.
    pub fn new(parent: &Path) -> Result<Self, ProofError> {
        require_root()?;
        require(&["losetup", "mount", "umount", "mkfs.ext4", "qemu-storage-daemon"])?;
        let place = Place::new(parent)?;
        let directory = place.join("queue");
        let mut rig = Self { live: None, count: 0, directory, place };
        rig.renew()?;
        Ok(rig)
    }
}

impl Rig for CacheRig {
    fn directory(&self) -> &Path {
        &self.directory
    }

    fn cut(&mut self) -> Result<(), ProofError> {
        self.count = WriteLog::count(&self.place.join("log.img"))?;
        Ok(())
    }

    fn ends_writing(&self) -> bool {
        false
    }

    fn remains(&mut self, random: &mut Random, look: &mut Look<'_>) -> Result<(), ProofError> {
        self.live = None;
        let log = WriteLog::read(&self.place.join("log.img"), self.count)?;
        for (name, unflushed) in STATES {
            let image = self.place.sparse("after.img", QUEUE_SIZE)?;
            log.replay(&image, *unflushed, random)?;
            let device = LoopDevice::attach(&image, false)?;
            let after = Mount::new(device.path(), &self.place.join("after"), "ext4", EXT4_OPTIONS)?;
            look(&format!("{name}, of {} writes not flushed", log.unflushed()), after.directory())?;
        }
        Ok(())
    }

    fn renew(&mut self) -> Result<(), ProofError> {
        self.live = None;
        let (disk, log) =
            (self.place.sparse("disk.img", QUEUE_SIZE)?, self.place.sparse("log.img", LOG_SIZE)?);
        let devices = [
            format!("driver=file,node-name=disk,filename={}", disk.display()),
            format!("driver=file,node-name=log,filename={}", log.display()),
            "driver=blklogwrites,node-name=logged,file=disk,log=log,log-sector-size=4096,\
             log-super-update-interval=1"
                .to_owned(),
        ];
        let export = Export::start(&devices, "logged", &self.place.join("exported.img"), QUEUE_SIZE)?;
        let device = LoopDevice::attach(&self.place.join("exported.img"), false)?;
        make_ext4(device.path())?;
        let queue = Mount::new(device.path(), &self.directory, "ext4", EXT4_OPTIONS)?;
        self.live = Some(Live { _queue: queue, _device: device, _export: export });
        Ok(())
    }

    fn keep(&self) -> &Path {
        self.place.keep()
    }
}

/// The disks that are made from one log.
const STATES: &[(&str, Unflushed)] = &[
    ("all that was not flushed is lost", Unflushed::Lost),
    ("some of it is lost", Unflushed::Some),
    ("another part of it is lost", Unflushed::Some),
    ("nothing is lost", Unflushed::Kept),
];
const QUEUE_SIZE: u64 = 512 << 20;
const LOG_SIZE: u64 = 4 << 30;
/// How long the daemon may take to start.
const PATIENCE: Duration = Duration::from_secs(20);
