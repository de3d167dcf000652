//! Finds what is in the maildrop: files that may be messages, and what others left there.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use rustix::fs::inotify::{self, ReadFlags};
use rustix::fs::{AtFlags, FileType};
use rustix::io::Errno;

use super::candidates::Candidates;
use super::directory::Directory;
use super::lines::{REMOVED, REPLACED, UNREADABLE};
use super::{CANDIDATES_MAX, PUT_ASIDE_MAX, Round, STEPS_MAX, name_of, text_of};
use crate::log::now as wall_clock;
use crate::maildrop::{State, UNFINISHED, is_message};

/// After this time an unfinished file is no longer being written.
const UNFINISHED_TIME_MAX: Duration = Duration::from_secs(24 * 3600);
/// After this time an empty file is no longer being written.
const EMPTY_TIME_MAX: Duration = Duration::from_secs(60);
/// The suffix that an earlier release gave to refused files.
const REFUSED_EARLIER: &str = ".refused";
/// The reason why a file is not a message.
pub(super) const IRREGULAR: &str = "it is not a regular file";

impl Round {
    /// Records new files. Returns whether there may be more.
    pub(super) fn read_events(&mut self) -> bool {
        let mut names = Vec::new();
        let mut octets = [MaybeUninit::uninit(); 16 * 1024];
        let mut reader = inotify::Reader::new(&self.directory.watch, &mut octets);
        // What was read from the kernel must be looked at.
        while names.len() < STEPS_MAX || !reader.is_buffer_empty() {
            let Ok(event) = reader.next() else { break };
            if event.events().contains(ReadFlags::QUEUE_OVERFLOW) {
                self.sweep.want();
            }
            names.push(event.file_name().map(|name| name.to_bytes().to_vec()).unwrap_or_default());
        }
        for name in &names {
            if let Some(name) = text_of(name).filter(|name| is_message(name)) {
                self.see(name, false);
            }
        }
        names.len() >= STEPS_MAX
    }

    /// Scans the next part of the directory, if it is time. Returns whether there may be more.
    pub(super) fn look(&mut self, now: Instant) -> bool {
        // Names that found no room are looked for again when there is some.
        if self.sweep.is_between() && self.fresh.len() <= CANDIDATES_MAX / 2 && self.fresh.take_overflow() {
            self.sweep.want();
        }
        if self.sweep.due(now) > now {
            return false;
        }
        if self.sweep.is_between() && !self.directory.is_in_place(&self.maildrop) {
            self.open_again();
        }
        let names = match self.sweep.slice(&self.directory.file, now) {
            Ok(names) => names,
            Err(error) => {
                self.lines
                    .say(UNREADABLE, None, |line| _ = line.text("reason", error.to_string().as_bytes()));
                return false;
            }
        };
        for name in &names {
            let Some(name) = text_of(name) else { continue };
            if is_message(name) {
                self.see(name, true);
            } else if name.strip_suffix(UNFINISHED).is_some_and(is_message) {
                self.remove_if_forgotten(name);
            } else if name.strip_suffix(REFUSED_EARLIER).is_some_and(is_message) {
                self.set_aside_earlier(name);
            }
        }
        !names.is_empty()
    }

    /// Another directory is in the maildrop's place, or none: that is where mail comes now.
    fn open_again(&mut self) {
        let opened = self.maildrop.make().and_then(|()| Directory::open(&self.maildrop));
        match &opened {
            Ok(_) => self.lines.say(REPLACED, None, |_| {}),
            Err(error) => {
                self.lines
                    .say(UNREADABLE, None, |line| _ = line.text("reason", error.to_string().as_bytes()));
            }
        }
        if let Ok(directory) = opened {
            self.directory = directory;
            (self.fresh, self.again) = (Candidates::new(CANDIDATES_MAX), Candidates::new(PUT_ASIDE_MAX));
            self.put_aside.clear();
        }
    }

    /// Records a file that may be a message. `is_walking`: it may have been there for long.
    fn see(&mut self, text: &str, is_walking: bool) {
        let Some(name) = name_of(text) else { return };
        if self.names.contains(&name) || self.put_aside.contains_key(&name) || self.stuck.contains(&name) {
            return;
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let Ok(of_file) = rustix::fs::statat(&self.directory.file, text, flags) else { return };
        let owner = of_file.st_uid;
        match FileType::from_raw_mode(of_file.st_mode) {
            FileType::RegularFile if of_file.st_size > 0 => self.fresh.add(owner, name),
            // Its writer may be about to write to it.
            FileType::RegularFile if is_walking && age(of_file.st_ctime) > EMPTY_TIME_MAX => {
                self.remove_empty(text, owner, "it is empty");
            }
            FileType::RegularFile => {}
            // It may hold a user's data.
            FileType::Directory => {}
            _ => self.remove_empty(text, owner, IRREGULAR),
        }
    }

    /// Its writer was killed.
    fn remove_if_forgotten(&mut self, name: &str) {
        let Ok(of_file) = rustix::fs::statat(&self.directory.file, name, AtFlags::SYMLINK_NOFOLLOW) else {
            return;
        };
        if age(of_file.st_mtime) > UNFINISHED_TIME_MAX
            && rustix::fs::unlinkat(&self.directory.file, name, AtFlags::empty()).is_ok()
        {
            self.lines.say(REMOVED, Some(of_file.st_uid), |line| {
                line.text("file", name.as_bytes()).text("reason", b"unfinished for 24 h");
            });
        }
    }

    pub(super) fn remove_empty(&mut self, name: &str, owner: u32, reason: &'static str) {
        let removed = rustix::fs::unlinkat(&self.directory.file, name, AtFlags::empty());
        match removed {
            Ok(()) => {
                self.numbers.refused.add(1);
                self.lines.say(REMOVED, Some(owner), |line| {
                    line.text("file", name.as_bytes()).text("reason", reason.as_bytes());
                });
            }
            Err(Errno::NOENT) => {}
            Err(error) => self.lines.failed("remove", name, Some(owner), &error.into()),
        }
    }

    fn set_aside_earlier(&mut self, name: &str) {
        let text = name.trim_end_matches(REFUSED_EARLIER);
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        let is_file = rustix::fs::statat(&self.directory.file, name, flags)
            .is_ok_and(|it| FileType::from_raw_mode(it.st_mode) == FileType::RegularFile);
        // Its name without the end may be another file's by now.
        let renamed = || {
            let no = rustix::fs::RenameFlags::NOREPLACE;
            rustix::fs::renameat_with(&self.directory.file, name, &self.directory.file, text, no)
        };
        if is_file && renamed().is_ok() {
            let reason = b"refused by an earlier release";
            // Should it fail, the file is a message again, and is refused again.
            let _ = self.aside.put(&self.directory.file, text, State::Refused, reason);
        }
    }
}

/// How long ago a file's time is; nothing for one in the future.
fn age(seconds: i64) -> Duration {
    let then = u64::try_from(seconds).unwrap_or(0);
    Duration::from_secs(wall_clock().unix_seconds().saturating_sub(then))
}
