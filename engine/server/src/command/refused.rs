//! The part of `mailrace queue` for submissions that were set aside: what may not enter the queue, and what is no message.
//!
//! Their ids are the names that they had in the maildrop. Any user may have written them.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use mailrace_core::record::submission::{Header, Submission};
use mailrace_core::{Envelope, Origin, Protocol, Submitter};
use mailrace_spool::Mark;
use rustix::fs::{Mode, OFlags};

use super::envelope::{Full, Summary, json};
use super::{EXIT_DATA, EXIT_UNAVAILABLE, Failure};
use crate::maildrop::{Content, Item, Maildrop, SetAside, arrival, is_message, open, read_submission};

/// Whether this is the id of one, rather than of a message in the queue.
pub(super) fn is_id(id: &str) -> bool {
    is_message(id)
}

/// Lists them.
pub(super) fn list(queue: &Path, as_json: bool, out: &mut impl Write) -> Result<(), Failure> {
    for item in items(queue)? {
        let summary = summary(&item, read(&item).map(|read| read.envelope));
        let line = if as_json { json(&summary) } else { summary.line() };
        writeln!(out, "{line}").map_err(Failure::output)?;
    }
    Ok(())
}

/// Shows the envelope as JSON, or else the content.
pub(super) fn cat(queue: &Path, id: &str, is_envelope: bool, out: &mut impl Write) -> Result<(), Failure> {
    let item = item(queue, id)?;
    let path = item.path.display();
    let Some(read) = read(&item) else {
        return Err(Failure::new(EXIT_DATA, format!("{path} cannot be read as a message: {}", item.reason)));
    };
    if is_envelope {
        let origin = Origin { protocol: Protocol::Local, ..Origin::default() };
        let full = Full::new(summary(&item, Some(read.envelope.clone())), &origin, &read.envelope);
        return writeln!(out, "{}", json(&full)).map_err(Failure::output);
    }
    let mut content = Content::new(read.file, read.header);
    loop {
        let (part, is_last) =
            content.next().map_err(|_| Failure::new(EXIT_DATA, format!("{path} is damaged from here on")))?;
        out.write_all(&part).map_err(Failure::output)?;
        if is_last {
            return Ok(());
        }
    }
}

/// Deletes or releases submissions that were set aside. Those of which it fails, and those that are missing, keep nothing
/// from the others, and are named on standard error.
pub(super) fn mark(queue: &Path, mark: Mark, ids: &[String], out: &mut impl Write) -> Result<(), Failure> {
    let done = match mark {
        Mark::Done => "deleted",
        Mark::Release => "released",
        Mark::Hold => {
            let text = "a refused submission cannot be put on hold: release or delete it";
            return Err(Failure::new(EXIT_DATA, text));
        }
    };
    let mut count = 0;
    let mut status = None;
    for id in ids {
        let item = match item(queue, id) {
            Ok(item) => item,
            Err(failure) => {
                eprintln!("mailrace: {}", failure.text);
                status.get_or_insert(failure.status);
                continue;
            }
        };
        let result = match mark {
            Mark::Release => item.release(&Maildrop::of(queue)),
            Mark::Done | Mark::Hold => item.delete(),
        };
        match result {
            Ok(()) => count += 1,
            Err(error) => {
                eprintln!("mailrace: {}: {error}", item.path.display());
                status = Some(EXIT_UNAVAILABLE);
            }
        }
    }
    let plural = if count == 1 { "" } else { "s" };
    writeln!(out, "{count} refused submission{plural} {done}").map_err(Failure::output)?;
    status.map_or(Ok(()), |status| Err(Failure::reported(status)))
}

fn items(queue: &Path) -> Result<Vec<Item>, Failure> {
    SetAside::of(queue).list().map_err(|error| {
        Failure::new(
            EXIT_UNAVAILABLE,
            format!("cannot read refused submissions of {}: {error}", queue.display()),
        )
    })
}

fn item(queue: &Path, id: &str) -> Result<Item, Failure> {
    items(queue)?
        .into_iter()
        .find(|item| item.id == id)
        .ok_or_else(|| Failure::new(EXIT_DATA, format!("there is no refused submission {id}")))
}

/// A file that is a message.
struct Read {
    file: File,
    header: Header,
    envelope: Envelope,
}

/// `None` if it is none.
fn read(item: &Item) -> Option<Read> {
    let directory =
        rustix::fs::open(item.path.parent()?, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let device = File::from(directory.try_clone().ok()?).metadata().ok()?.dev();
    let (file, of_file) = open(directory.as_fd(), item.path.file_name()?.to_str()?, device).ok()?;
    let (header, submission) = read_submission(&file, &of_file, ENVELOPE_SIZE_MAX).ok()?;
    Some(Read { file, header, envelope: envelope(submission, &of_file) })
}

fn envelope(submission: Submission, of_file: &std::fs::Metadata) -> Envelope {
    let full_name = submission.full_name.clone();
    let submitter = Some(Box::new(Submitter { user_id: of_file.uid(), full_name }));
    Envelope { submitter, ..submission.into_envelope(arrival(of_file)) }
}

/// Bytes of an envelope that is shown: what the largest batch holds.
const ENVELOPE_SIZE_MAX: u32 = 16 << 20;

fn summary(item: &Item, envelope: Option<Envelope>) -> Summary {
    let of_file = item.path.symlink_metadata().ok();
    let size = of_file.as_ref().map_or(0, std::fs::Metadata::len);
    let envelope = envelope.unwrap_or_else(|| Envelope {
        arrival: of_file.as_ref().map(arrival).unwrap_or_default(),
        ..Envelope::default()
    });
    let origin = Origin { protocol: Protocol::Local, ..Origin::default() };
    Summary::of_submission(item.id.clone(), item.state.name(), &item.reason, size, &origin, &envelope)
}
