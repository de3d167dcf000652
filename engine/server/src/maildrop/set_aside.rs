//! Files of the maildrop that may not enter the queue, in a directory of their own: `refused` in the queue's.
//!
//! A file keeps its owner and its time. Its new name is `NAME.STATE.REASON`: the name that it had, `refused` or `corrupt`,
//! and why, in characters that a name may have. Only the owner of the queue's directory and root may see or remove it.

use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use super::{Maildrop, is_message, new_name};

/// The directory's name.
const DIRECTORY: &str = "refused";
/// Only its owner.
const DIRECTORY_MODE: u32 = 0o700;
/// Bytes of a reason in a name: with the rest of the name they are fewer than NAME_MAX.
const REASON_SIZE_MAX: usize = 180;
/// How many names are tried for a file; others make names at random.
const ATTEMPTS_MAX: usize = 4;

/// The directory.
#[derive(Clone, Debug)]
pub(crate) struct SetAside(PathBuf);

/// Why a file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The message may not enter.
    Refused,
    /// It is no message, or a damaged one.
    Corrupt,
}

impl State {
    /// Its name in listings.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Corrupt => "corrupt",
        }
    }
}

/// A file that was set aside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The name that it had in the maildrop.
    pub(crate) id: String,
    pub(crate) state: State,
    pub(crate) reason: String,
    /// Its path now.
    pub(crate) path: PathBuf,
}

impl SetAside {
    /// That of a queue.
    pub(crate) fn of(queue: &Path) -> Self {
        Self(queue.join(DIRECTORY))
    }

    /// Moves the file called `name` here, out of the directory `maildrop`.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn put(&self, maildrop: impl AsFd, name: &str, state: State, reason: &[u8]) -> io::Result<()> {
        self.make()?;
        let mut id = name.to_owned();
        for _ in 0..ATTEMPTS_MAX {
            let target = self.0.join(file_name(&id, state, reason));
            match move_to(&maildrop, Path::new(name), &target) {
                // A user gives any file of its own any name.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => id = new_name()?,
                result => return result,
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// All that is here, in the order of their names. Files that were not set aside are left out.
    ///
    /// # Errors
    /// The file system's error; a directory that is not there is empty.
    pub(crate) fn list(&self) -> io::Result<Vec<Item>> {
        let entries = match std::fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut items = Vec::new();
        for entry in entries {
            items.extend(self.item(entry?.file_name()));
        }
        items.sort_unstable_by(|one: &Item, other| one.path.cmp(&other.path));
        Ok(items)
    }

    fn item(&self, file_name: OsString) -> Option<Item> {
        let path = self.0.join(&file_name);
        let text = String::from_utf8(file_name.into_vec()).ok()?;
        let mut parts = text.splitn(3, '.');
        let (id, state, reason) = (parts.next()?, parts.next()?, parts.next()?);
        let state = [State::Refused, State::Corrupt].into_iter().find(|it| it.name() == state)?;
        is_message(id).then(|| Item { id: id.to_owned(), state, reason: decoded(reason), path })
    }

    fn make(&self) -> io::Result<()> {
        match DirBuilder::new().mode(DIRECTORY_MODE).create(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            made => made?,
        }
        let of_queue = self.0.parent().unwrap_or_else(|| Path::new(".")).metadata()?;
        if of_queue.uid() != rustix::process::geteuid().as_raw() {
            chown(&self.0, Some(of_queue.uid()), Some(of_queue.gid()))?;
        }
        // The process's mask may have taken from it.
        std::fs::set_permissions(&self.0, Permissions::from_mode(DIRECTORY_MODE))
    }
}

impl Item {
    /// Gives the file back to the maildrop: an engine tries it again.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn release(&self, maildrop: &Maildrop) -> io::Result<()> {
        move_to(CWD, &self.path, &maildrop.path().join(&self.id))
    }

    /// Removes the file.
    ///
    /// # Errors
    /// The file system's error.
    pub(crate) fn delete(&self) -> io::Result<()> {
        std::fs::remove_file(&self.path)
    }
}

/// Renames a file of a directory, and replaces none.
fn move_to(directory: impl AsFd, from: &Path, to: &Path) -> io::Result<()> {
    match renameat_with(&directory, from, CWD, to, RenameFlags::NOREPLACE) {
        // Such as NFS: no other process creates files there.
        Err(Errno::INVAL | Errno::NOSYS) if to.symlink_metadata().is_err() => {
            Ok(rustix::fs::renameat(&directory, from, CWD, to)?)
        }
        Err(Errno::INVAL | Errno::NOSYS) => Err(io::ErrorKind::AlreadyExists.into()),
        result => Ok(result?),
    }
}

fn file_name(id: &str, state: State, reason: &[u8]) -> String {
    format!("{id}.{}.{}", state.name(), encoded(reason))
}

/// A reason as part of a name: `_` for a space, `%` and two digits for what neither a name nor a terminal should have.
fn encoded(reason: &[u8]) -> String {
    let mut text = String::new();
    for octet in reason {
        let letter = match octet {
            b' ' => "_".to_owned(),
            b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'+' | b'.' | b',' | b':' | b'=' | b'@' => {
                char::from(*octet).to_string()
            }
            octet => format!("%{octet:02X}"),
        };
        if text.len() + letter.len() > REASON_SIZE_MAX {
            break;
        }
        text += &letter;
    }
    text
}

fn decoded(text: &str) -> String {
    let mut octets = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        match (first, digits.and_then(|digits| u8::from_str_radix(digits, 16).ok())) {
            (b'%', Some(octet)) => {
                octets.push(octet);
                rest = behind.get(2..).unwrap_or_default();
                continue;
            }
            (b'_', _) => octets.push(b' '),
            _ => octets.push(*first),
        }
        rest = behind;
    }
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use super::*;
    use crate::maildrop::tests::queue;

    #[test]
    fn reasons_round_trip_through_file_names() {
        for reason in ["550 5.7.1 not here", "a_b/c%d\n\u{1b}", "", "..", "gr\u{fc}n"] {
            let encoded = encoded(reason.as_bytes());
            assert!(encoded.bytes().all(|octet| octet.is_ascii_graphic() && octet != b'/'), "{encoded}");
            assert_eq!(decoded(&encoded), reason);
        }
        assert_eq!(encoded(b"550 5.7.1 not_here"), "550_5.7.1_not%5Fhere");
        assert!(encoded("\u{fc}".repeat(1000).as_bytes()).len() <= REASON_SIZE_MAX);
    }

    #[test]
    fn a_file_is_set_aside_and_released() {
        let (queue, maildrop) = queue("aside");
        let aside = SetAside::of(&queue);
        assert_eq!(aside.list().unwrap(), []);
        let directory = File::open(maildrop.path()).unwrap();
        let name = "0".repeat(32);
        for content in ["one", "two"] {
            std::fs::write(maildrop.path().join(&name), content).unwrap();
            aside.put(&directory, &name, State::Refused, b"550 5.7.1 no").unwrap();
        }
        // Neither replaces the other, though their owner has given them one name.
        let items = aside.list().unwrap();
        assert_eq!(items.len(), 2);
        assert!(items.iter().all(|item| item.state == State::Refused && item.reason == "550 5.7.1 no"));
        let mode = queue.join(DIRECTORY).metadata().unwrap().mode();
        assert_eq!(mode & 0o7777, DIRECTORY_MODE);
        std::fs::write(queue.join(DIRECTORY).join("note"), "somebody's").unwrap();
        assert_eq!(aside.list().unwrap(), items);
        items[0].release(&maildrop).unwrap();
        assert_eq!(std::fs::read(maildrop.path().join(&name)).unwrap(), b"one");
        assert_eq!(items[0].release(&maildrop).unwrap_err().kind(), io::ErrorKind::NotFound);
        items[1].delete().unwrap();
        assert_eq!(aside.list().unwrap(), []);
        std::fs::remove_dir_all(queue).unwrap();
    }
}
