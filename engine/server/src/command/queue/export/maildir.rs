//! Maildir: each message is written to tmp/ and renamed into new/, under a name that its queue id alone determines.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use mailrace_spool::reader::Entry;

use super::{Target, delivered, make_directory, sync_directory, write_file};

pub(super) struct Maildir {
    path: PathBuf,
    /// Names in new/ and cur/, without flags.
    present: HashSet<String>,
}

impl Maildir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        make_directory(path)?;
        let mut present = HashSet::new();
        for name in ["tmp", "new", "cur"] {
            make_directory(&path.join(name))?;
        }
        for name in ["new", "cur"] {
            for entry in std::fs::read_dir(path.join(name))? {
                let name = entry?.file_name().to_string_lossy().into_owned();
                // A mail reader adds flags after a colon.
                let base = name.split_once(':').map_or(name.as_str(), |(base, _)| base);
                if base.ends_with(SUFFIX) {
                    present.insert(base.to_owned());
                }
            }
        }
        Ok(Self { path: path.to_owned(), present })
    }
}

impl Target for Maildir {
    fn put(&mut self, entry: &Entry, content: &[u8]) -> io::Result<bool> {
        let seconds = entry.id.time().unix_microseconds() / 1_000_000;
        let name = format!("{seconds}.{}{SUFFIX}", entry.id);
        if !self.present.insert(name.clone()) {
            return Ok(false);
        }
        let (temporary, path) = (self.path.join("tmp").join(&name), self.path.join("new").join(&name));
        write_file(&temporary, &path, &delivered(entry, content))?;
        Ok(true)
    }

    fn settle(&mut self) -> io::Result<()> {
        sync_directory(&self.path.join("new"))?;
        // There, copies of an earlier export may have been read since.
        sync_directory(&self.path.join("cur"))
    }
}

/// Where others have the host's name: the id is unique in its queue.
const SUFFIX: &str = ".mailrace";

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{Place, entry};
    use super::*;

    #[test]
    fn a_repeated_export_writes_nothing_twice_even_when_mail_was_read() {
        let place = Place::new("maildir");
        let path = place.0.join("box");
        let mut maildir = Maildir::open(&path).unwrap();
        assert!(maildir.put(&entry(1), b"Subject: one\r\n\r\n").unwrap());
        assert!(maildir.put(&entry(2), b"Subject: two\r\n\r\n").unwrap());
        assert!(!maildir.put(&entry(2), b"Subject: two\r\n\r\n").unwrap());
        maildir.settle().unwrap();
        let names: Vec<_> =
            fs::read_dir(path.join("new")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 2);
        let read = format!("{}:2,S", names[0].to_str().unwrap());
        fs::rename(path.join("new").join(&names[0]), path.join("cur").join(read)).unwrap();
        // One that did not get as far as its name.
        fs::write(path.join("tmp").join("1740800000.x.mailrace"), "half").unwrap();
        let mut maildir = Maildir::open(&path).unwrap();
        assert!(!maildir.put(&entry(1), b"Subject: one\r\n\r\n").unwrap());
        assert!(!maildir.put(&entry(2), b"Subject: two\r\n\r\n").unwrap());
        assert!(maildir.put(&entry(3), b"Subject: three\r\n\r\n").unwrap());
        assert_eq!(fs::read_dir(path.join("new")).unwrap().count(), 2);
    }
}
