//! The directory in which local submissions wait for the engine: `maildrop` in the
//! queue directory.
//!
//! Every user may create a file there and only the directory's owner may list it, so that submission needs no
//! privileged program. Users are separated by file names that cannot be guessed, files that only their owner
//! and the engine's group may read (the directory passes its group on), and the sticky bit.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use mailrace_core::record::submission::{ContentChecksum, HEADER_SIZE, Header, Submission};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, RenameFlags};
use rustix::rand::GetRandomFlags;

use crate::log::now;

mod reading;
mod set_aside;

pub(crate) use reading::{
    Content, PART_SIZE, ReadError, arrival, open, read_envelope, read_header, read_submission,
};
pub(crate) use set_aside::{Item, SetAside, State};

/// The directory's name.
pub(crate) const DIRECTORY: &str = "maildrop";
/// Set-group-id, sticky, `rwx-wx-wx`.
const DIRECTORY_MODE: u32 = 0o3733;
/// Permissions that others need to pass through the queue's directory.
const PASSAGE: u32 = 0o011;
/// Suffix of the name of a file that is being written.
pub(crate) const UNFINISHED: &str = ".new";
/// Digits of a file's name.
const NAME_SIZE: usize = 32;

/// The directory of submitted messages.
#[derive(Clone, Debug)]
pub(crate) struct Maildrop(PathBuf);

impl Maildrop {
    /// Returns the maildrop of a queue.
    pub(crate) fn of(queue: &Path) -> Self {
        Self(queue.join(DIRECTORY))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// The directory of the queue that it belongs to.
    pub(crate) fn queue(&self) -> &Path {
        self.0.parent().unwrap_or_else(|| Path::new("."))
    }

    /// Creates the directory if it is missing, for the queue's owner, and lets others pass through the queue's. A mode that
    /// the operator has set stays.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn make(&self) -> io::Result<()> {
        if self.0.is_dir() {
            return Ok(());
        }
        let made = self.make_new();
        // Another process may have created it meanwhile.
        if self.0.is_dir() { Ok(()) } else { made }
    }

    fn make_new(&self) -> io::Result<()> {
        let queue = self.queue();
        // The directory gets its name when it is complete.
        let unfinished = queue.join(format!("{DIRECTORY}{UNFINISHED}"));
        match DirBuilder::new().mode(0o700).create(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let of_queue = queue.metadata()?;
        if of_queue.uid() != rustix::process::geteuid().as_raw() {
            chown(&unfinished, Some(of_queue.uid()), Some(of_queue.gid()))?;
        }
        std::fs::set_permissions(&unfinished, Permissions::from_mode(DIRECTORY_MODE))?;
        std::fs::set_permissions(queue, Permissions::from_mode(of_queue.mode() & 0o7777 | PASSAGE))?;
        // One that is in use already must stay.
        rustix::fs::renameat_with(CWD, &unfinished, CWD, &self.0, RenameFlags::NOREPLACE)?;
        File::open(queue)?.sync_all()
    }

    /// Begins a file: one without a name where the file system has those, so that nothing is left of it whatever ends the
    /// process.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn create(&self) -> io::Result<DropFile> {
        self.create_unnamed().or_else(|_| self.create_named())
    }

    /// # Errors
    /// The file system has no unnamed files (NFS, overlayfs before Linux 6.3), or there is no `/proc` to name one through.
    fn create_unnamed(&self) -> io::Result<DropFile> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(rustix::fs::open(&self.0, flags, Mode::RUSR | Mode::WUSR)?);
        unnamed(&file).symlink_metadata()?;
        DropFile::begin(file, self.0.join(new_name()?), None)
    }

    fn create_named(&self) -> io::Result<DropFile> {
        let name = new_name()?;
        let path = self.0.join(&name);
        let unfinished = self.0.join(name + UNFINISHED);
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&unfinished)?;
        DropFile::begin(file, path, Some(unfinished))
    }
}

/// A name that no other user can guess. In the order of their names files are in the order of time.
fn new_name() -> io::Result<String> {
    let mut random = [0; 8];
    rustix::rand::getrandom(&mut random, GetRandomFlags::empty())?;
    Ok(format!("{:016x}{:016x}", now().unix_microseconds(), u64::from_ne_bytes(random)))
}

/// How linkat(2) finds a file without a name.
fn unnamed(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// Whether a file of this name is a message.
pub(crate) fn is_message(name: &str) -> bool {
    name.len() == NAME_SIZE && name.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
}

/// A file that is being written; removed when it is dropped unfinished.
#[derive(Debug)]
pub(crate) struct DropFile {
    file: File,
    path: PathBuf,
    /// Its name until it is finished, if it has one.
    unfinished: Option<PathBuf>,
    content_size: u64,
    checksum: ContentChecksum,
    is_over: bool,
}

impl DropFile {
    fn begin(file: File, path: PathBuf, unfinished: Option<PathBuf>) -> io::Result<Self> {
        let checksum = ContentChecksum::new();
        let mut begun = Self { file, path, unfinished, content_size: 0, checksum, is_over: false };
        begun.file.write_all(&[0; HEADER_SIZE])?;
        Ok(begun)
    }

    /// The name that it has until it is finished: to be removed when the process is ended from outside.
    pub(crate) fn unfinished(&self) -> Option<&Path> {
        self.unfinished.as_deref()
    }

    /// Adds content, with LF line ends.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.checksum.add(content);
        self.content_size += content.len() as u64;
        self.file.write_all(content)
    }

    /// The content that was written, to be read again, and the header that says what it is.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn written(&self) -> io::Result<(File, Header)> {
        Ok((
            self.file.try_clone()?,
            Header::new(self.content_size, self.checksum.value(), &[]).map_err(io::Error::other)?,
        ))
    }

    /// Gives the file its name. When this returns the message is durable.
    ///
    /// `commit` is called when all is written, before an engine can find the file.
    ///
    /// # Errors
    /// The file system's error; then the file is removed, unless an engine has taken it already.
    pub(crate) fn finish(mut self, submission: &Submission, commit: impl FnOnce()) -> io::Result<()> {
        let envelope = submission.encode().map_err(io::Error::other)?;
        self.file.write_all(&envelope)?;
        self.file.seek(SeekFrom::Start(0))?;
        let header =
            Header::new(self.content_size, self.checksum.value(), &envelope).map_err(io::Error::other)?;
        self.file.write_all(&header.encode())?;
        self.file.set_permissions(Permissions::from_mode(0o640))?;
        self.file.sync_all()?;
        commit();
        match &self.unfinished {
            Some(unfinished) => std::fs::rename(unfinished, &self.path)?,
            None => rustix::fs::linkat(CWD, unnamed(&self.file), CWD, &self.path, AtFlags::SYMLINK_FOLLOW)?,
        }
        // From here on this name is what an early end has to remove.
        self.unfinished = Some(self.path.clone());
        match File::open(self.path.parent().unwrap_or_else(|| Path::new("."))) {
            Ok(directory) => directory.sync_all(),
            // Without permission to list the directory it cannot be opened. The new name is in the same transaction of the
            // file system as the file's new change time, and so durable with the file (ext4, XFS, btrfs).
            Err(_) => self.file.sync_all(),
        }?;
        self.is_over = true;
        Ok(())
    }
}

impl Drop for DropFile {
    fn drop(&mut self) {
        if !self.is_over
            && let Some(unfinished) = &self.unfinished
        {
            // What is left the engine removes after a day.
            let _ = std::fs::remove_file(unfinished);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A new queue's directory and its maildrop.
    pub(crate) fn queue(name: &str) -> (PathBuf, Maildrop) {
        let directory = std::env::temp_dir().join(format!("mailrace-maildrop-{name}-{}", std::process::id()));
        // One of an earlier process of this number.
        let _ = std::fs::remove_dir_all(&directory);
        DirBuilder::new().mode(0o700).create(&directory).unwrap();
        let maildrop = Maildrop::of(&directory);
        maildrop.make().unwrap();
        (directory, maildrop)
    }

    fn names(maildrop: &Maildrop) -> Vec<String> {
        let entries = std::fs::read_dir(maildrop.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn an_unnamed_file_leaves_nothing() {
        let (directory, maildrop) = queue("unnamed");
        // The temporary directory may be on a file system that has no such files.
        if let Ok(mut file) = maildrop.create_unnamed() {
            file.write(b"x\n").unwrap();
            assert_eq!(file.unfinished(), None);
            assert!(names(&maildrop).is_empty());
        }
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn any_user_may_submit_and_only_the_owner_may_list() {
        let (directory, maildrop) = queue("modes");
        let mode = |path: &Path| path.metadata().unwrap().mode() & 0o7777;
        assert_eq!((mode(maildrop.path()), mode(&directory)), (0o3733, 0o711));
        // A mode that the operator has set stays.
        std::fs::set_permissions(maildrop.path(), Permissions::from_mode(0o3730)).unwrap();
        std::fs::set_permissions(&directory, Permissions::from_mode(0o700)).unwrap();
        maildrop.make().unwrap();
        assert_eq!((mode(maildrop.path()), mode(&directory)), (0o3730, 0o700));
        std::fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_file_gets_its_name_when_it_is_complete() {
        let (directory, maildrop) = queue("names");
        let mut file = maildrop.create_named().unwrap();
        file.write(b"x\n").unwrap();
        assert!(names(&maildrop)[0].ends_with(UNFINISHED));
        drop(file);
        assert!(names(&maildrop).is_empty(), "an unfinished file is removed");
        for create in [Maildrop::create_named, Maildrop::create] {
            let mut file = create(&maildrop).unwrap();
            file.write(b"x\n").unwrap();
            file.finish(&Submission::default(), || {}).unwrap();
            let names = names(&maildrop);
            assert!(names.len() == 1 && is_message(&names[0]), "{names:?}");
            let path = maildrop.path().join(&names[0]);
            let of_file = path.metadata().unwrap();
            assert_eq!((of_file.mode() & 0o7777, of_file.nlink()), (0o640, 1));
            assert_eq!(of_file.gid(), maildrop.path().metadata().unwrap().gid());
            std::fs::remove_file(path).unwrap();
        }
        std::fs::remove_dir_all(directory).unwrap();
    }
}
