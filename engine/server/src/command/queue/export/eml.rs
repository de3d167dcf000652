//! A directory of files: ID.eml with the content as stored, ID.json with the envelope.

use std::io;
use std::path::{Path, PathBuf};

use mailrace_spool::reader::Entry;

use super::{Target, make_directory, sync_directory, write_file};
use crate::command::envelope::{Full, json};
use crate::command::queue::summary;

pub(super) struct Directory(PathBuf);

impl Directory {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        make_directory(path)?;
        Ok(Self(path.to_owned()))
    }
}

impl Target for Directory {
    fn put(&mut self, entry: &Entry, content: &[u8]) -> io::Result<bool> {
        let path = |end: &str| self.0.join(format!("{}.{end}", entry.id));
        // The content comes last: where it has its name, all of the message is there.
        if path("eml").exists() {
            return Ok(false);
        }
        let full = json(&Full::new(summary(entry), &entry.origin, &entry.envelope)) + "\n";
        write_file(&path("json.tmp"), &path("json"), full.as_bytes())?;
        // The first name is durable before there is a second one.
        sync_directory(&self.0)?;
        write_file(&path("eml.tmp"), &path("eml"), content)?;
        Ok(true)
    }

    fn settle(&mut self) -> io::Result<()> {
        sync_directory(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::tests::{Place, entry};
    use super::*;

    #[test]
    fn writes_content_and_envelope_to_one_file_each() {
        let place = Place::new("eml");
        let mut directory = Directory::open(&place.0).unwrap();
        let content = b"Subject: x\r\n\r\na\rb\r\n";
        assert!(directory.put(&entry(1), content).unwrap());
        assert!(!directory.put(&entry(1), content).unwrap());
        directory.settle().unwrap();
        let id = entry(1).id;
        assert_eq!(fs::read(place.0.join(format!("{id}.eml"))).unwrap(), content);
        let text = fs::read_to_string(place.0.join(format!("{id}.json"))).unwrap();
        let envelope: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(envelope["sender"], "a@example.org");
        // A crash between the two leaves an envelope alone, and the next export writes both.
        fs::remove_file(place.0.join(format!("{id}.eml"))).unwrap();
        assert!(directory.put(&entry(1), content).unwrap());
    }
}
