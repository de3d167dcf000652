//! Owns the maildrop as it is watched.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;

use rustix::fs::inotify::{self, WatchFlags};
use rustix::fs::{Mode, OFlags};

use crate::maildrop::Maildrop;

/// The maildrop as it is watched.
pub(super) struct Directory {
    pub(super) file: OwnedFd,
    pub(super) device: u64,
    inode: u64,
    pub(super) watch: OwnedFd,
}

impl Directory {
    pub(super) fn open(maildrop: &Maildrop) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let file = rustix::fs::open(maildrop.path(), flags, Mode::empty())?;
        let of_file = File::from(file.try_clone()?).metadata()?;
        let user = rustix::process::geteuid();
        if !user.is_root() && of_file.uid() != user.as_raw() {
            let text = "it does not belong to the engine's user, who could not remove files from it";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
        }
        let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC)?;
        let events =
            WatchFlags::MOVED_TO | WatchFlags::CREATE | WatchFlags::CLOSE_WRITE | WatchFlags::ONLYDIR;
        inotify::add_watch(&watch, maildrop.path(), events)?;
        Ok(Self { file, device: of_file.dev(), inode: of_file.ino(), watch })
    }

    /// Whether its path leads to it.
    pub(super) fn is_in_place(&self, maildrop: &Maildrop) -> bool {
        maildrop.path().metadata().is_ok_and(|it| (it.dev(), it.ino()) == (self.device, self.inode))
    }
}
