//! How a drop file is read: as what any user of the machine may have written, and may still be changing.

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::time::Duration;

use mailrace_core::Timestamp;
use mailrace_core::record::submission::{ContentChecksum, HEADER_SIZE, Header, Submission, SubmissionError};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::log::now;

/// Bytes of content that are read at once.
pub(crate) const PART_SIZE: usize = 64 * 1024;
/// A file's time may lie this far in the future; a later one counts as now. As in Postfix.
const FUTURE_MAX: Duration = Duration::from_secs(2 * 3600);

/// Why a file is not read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// It is no longer there, or holds nothing yet.
    Gone,
    /// It is not a regular file: it holds nothing.
    Irregular,
    /// It is no message that could be taken, now or later.
    Unusable(&'static str),
    /// It is no drop file, or damaged.
    Submission(SubmissionError),
    /// Anything else may pass.
    System(io::Error),
}

impl From<SubmissionError> for ReadError {
    fn from(error: SubmissionError) -> Self {
        Self::Submission(error)
    }
}

impl ReadError {
    /// A file that ends before it should is damaged; anything else may pass.
    fn reading(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            return Self::Submission(SubmissionError::Damaged);
        }
        Self::System(error)
    }
}

/// Opens the file of this name in `directory`, which is on `device`.
///
/// # Errors
/// [`ReadError`].
pub(crate) fn open(directory: impl AsFd, name: &str, device: u64) -> Result<(File, Metadata), ReadError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(directory, name, flags, Mode::empty()) {
        Ok(file) => File::from(file),
        Err(Errno::NOENT) => return Err(ReadError::Gone),
        // A symbolic link; a socket, or a device without its driver.
        Err(Errno::LOOP | Errno::NXIO) => return Err(ReadError::Irregular),
        Err(Errno::ACCESS) => return Err(ReadError::Unusable("the engine may not read it")),
        Err(error) => return Err(ReadError::System(error.into())),
    };
    let of_file = file.metadata().map_err(ReadError::System)?;
    if of_file.is_dir() {
        return Err(ReadError::Unusable("it is a directory"));
    }
    if !of_file.is_file() {
        return Err(ReadError::Irregular);
    }
    if of_file.len() == 0 {
        return Err(ReadError::Gone);
    }
    // Another name may be that of another user's file that the user could not read.
    if of_file.nlink() > 1 {
        return Err(ReadError::Unusable("it has another name too"));
    }
    if of_file.dev() != device {
        return Err(ReadError::Unusable("it is on another file system"));
    }
    Ok((file, of_file))
}

/// When the message was written, but not in the future.
pub(crate) fn arrival(of_file: &Metadata) -> Timestamp {
    let now = now();
    // Its owner sets the file's time as it likes.
    let seconds = u64::try_from(of_file.mtime()).unwrap_or(0);
    if seconds > now.unix_seconds() + FUTURE_MAX.as_secs() {
        return now;
    }
    let microseconds = seconds * 1_000_000 + u64::try_from(of_file.mtime_nsec() / 1000).unwrap_or(0);
    Timestamp::from_unix_microseconds(microseconds)
}

/// Reads the header.
///
/// # Errors
/// [`ReadError`].
pub(crate) fn read_header(file: &File, of_file: &Metadata) -> Result<Header, ReadError> {
    let mut header = [0; HEADER_SIZE];
    // A shorter file has no header.
    match file.read_exact_at(&mut header, 0) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            return Err(SubmissionError::NotOurs.into());
        }
        read => read.map_err(ReadError::System)?,
    }
    Ok(Header::decode(&header, of_file.len())?)
}

/// Reads the envelope's bytes, of which the header says how many there are.
///
/// # Errors
/// [`ReadError`].
pub(crate) fn read_envelope(file: &File, header: &Header) -> Result<Vec<u8>, ReadError> {
    let mut envelope = vec![0; header.envelope_size as usize];
    let at = header.envelope_at().ok_or(SubmissionError::Damaged)?;
    file.read_exact_at(&mut envelope, at).map_err(ReadError::reading)?;
    Ok(envelope)
}

/// Reads header and envelope.
///
/// # Errors
/// [`ReadError`]; also for an envelope that is larger than `envelope_size_max`.
pub(crate) fn read_submission(
    file: &File,
    of_file: &Metadata,
    envelope_size_max: u32,
) -> Result<(Header, Submission), ReadError> {
    let header = read_header(file, of_file)?;
    if header.envelope_size > envelope_size_max {
        return Err(ReadError::Unusable("its envelope is too large"));
    }
    let submission = Submission::decode(&header, &read_envelope(file, &header)?)?;
    Ok((header, submission))
}

/// The content of a drop file, part by part, with CRLF line ends.
#[derive(Debug)]
pub(crate) struct Content {
    file: File,
    header: Header,
    at: u64,
    checksum: ContentChecksum,
    is_line_open: bool,
}

impl Content {
    pub(crate) fn new(file: File, header: Header) -> Self {
        Self { file, header, at: 0, checksum: ContentChecksum::new(), is_line_open: false }
    }

    /// The file that it is read from.
    pub(crate) const fn file(&self) -> &File {
        &self.file
    }

    /// The next part, and whether it is the last: that comes only when all of it was found undamaged.
    ///
    /// # Errors
    /// [`ReadError`].
    pub(crate) fn next(&mut self) -> Result<(Vec<u8>, bool), ReadError> {
        let left = self.header.content_size - self.at;
        let size = usize::try_from(left).unwrap_or(PART_SIZE).min(PART_SIZE);
        let mut part = vec![0; size];
        self.file.read_exact_at(&mut part, HEADER_SIZE as u64 + self.at).map_err(ReadError::reading)?;
        self.at += size as u64;
        self.checksum.add(&part);
        let is_last = self.at == self.header.content_size;
        if is_last && self.checksum.value() != self.header.content_checksum {
            return Err(SubmissionError::Damaged.into());
        }
        let mut octets = Vec::with_capacity(size + size / 16);
        for line in part.split_inclusive(|octet| *octet == b'\n') {
            let text = line.strip_suffix(b"\n").unwrap_or(line);
            // A CR that is no line end is a space, as in any content.
            octets.extend(text.iter().map(|octet| if *octet == b'\r' { b' ' } else { *octet }));
            self.is_line_open = text.len() == line.len();
            if !self.is_line_open {
                octets.extend_from_slice(b"\r\n");
            }
        }
        if is_last && self.is_line_open {
            octets.extend_from_slice(b"\r\n");
        }
        Ok((octets, is_last))
    }
}

#[cfg(test)]
mod tests;
