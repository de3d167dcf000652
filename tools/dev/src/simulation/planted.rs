//! Bugs planted between the engine and its simulated kernel, to prove that the oracle finds them.
//!
//! None of them has a switch in the engine. The engine's operations are changed on their way to the kernel: a write that
//! should be durable is passed on as one that is not, and so on. Only for a checksum that is not compared there is no such
//! operation; instead every read changes the checksum in a record to match its bytes, so that comparing it never fails.

use std::io;

use mailrace_core::record::spool::{
    RECORD_ALIGNMENT, RECORD_HEADER_SIZE, RecordHeader, SEGMENT_HEADER_SIZE, SegmentHeader, checksum,
};
use mailrace_io::sim::{SimDisk, SimFile, SimIo};
use mailrace_io::{
    Block, Completion, Disk, FileId, FileKind, Instant, Io, IoError, Operation, Piece, Token, Waker,
};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Writes are reported durable without a flush.
    FlushLeftOut,
    /// A write is reported complete too early.
    ReplyEarly,
    /// Records are taken whose payload does not match their checksum.
    ChecksumIgnored,
    /// A segment is used again with the salt of an earlier use.
    SaltRepeated,
    /// A receive buffer is given back twice.
    BufferTwice,
    /// An emptied segment is not made unreadable.
    EraseLeftOut,
    /// New names of files are not made durable.
    NamesNotDurable,
    /// Files are never made durable as a whole.
    SyncLeftOut,
    /// A write that failed is taken for done.
    ErrorIgnored,
    /// Two pieces of a connection change places.
    PiecesSwapped,
    /// Replies are sent twice.
    ReplyTwice,
    /// The last byte of what was received together is dropped.
    OctetLost,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::FlushLeftOut,
        Self::ReplyEarly,
        Self::ChecksumIgnored,
        Self::SaltRepeated,
        Self::BufferTwice,
        Self::EraseLeftOut,
        Self::NamesNotDurable,
        Self::SyncLeftOut,
        Self::ErrorIgnored,
        Self::PiecesSwapped,
        Self::ReplyTwice,
        Self::OctetLost,
    ];

    /// Its name in commands and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FlushLeftOut => "flush-left-out",
            Self::ReplyEarly => "reply-early",
            Self::ChecksumIgnored => "checksum-ignored",
            Self::SaltRepeated => "salt-repeated",
            Self::BufferTwice => "buffer-twice",
            Self::EraseLeftOut => "erase-left-out",
            Self::NamesNotDurable => "names-not-durable",
            Self::SyncLeftOut => "sync-left-out",
            Self::ErrorIgnored => "error-ignored",
            Self::PiecesSwapped => "pieces-swapped",
            Self::ReplyTwice => "reply-twice",
            Self::OctetLost => "octet-lost",
        }
    }

    /// The bug of this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|bug| bug.name() == name)
    }
}

/// A simulated disk, seen through a bug or none.
#[derive(Clone, Debug)]
pub(super) struct PlantedDisk {
    inner: SimDisk,
    bug: Option<Bug>,
}

impl PlantedDisk {
    pub(super) const fn new(inner: SimDisk, bug: Option<Bug>) -> Self {
        Self { inner, bug }
    }

    /// Makes the checksums of records in `octets`, read at `offset`, fit what the records hold.
    fn forge(&self, file: &SimFile, octets: &mut [u8], offset: u64) -> io::Result<()> {
        let mut block = vec![0; SEGMENT_HEADER_SIZE];
        self.inner.read_at(file, &mut block, 0)?;
        let Ok(segment) = SegmentHeader::decode(&block) else { return Ok(()) };
        let mut place =
            usize::try_from(offset.next_multiple_of(RECORD_ALIGNMENT as u64) - offset).unwrap_or(0);
        while let Some(head) = octets.get(place..place + RECORD_HEADER_SIZE) {
            let at = offset + place as u64;
            if let Some(mut record) = RecordHeader::decode(head, segment.salt, at) {
                let mut payload = vec![0; record.length as usize];
                self.inner.read_at(file, &mut payload, at + RECORD_HEADER_SIZE as u64)?;
                record.payload_checksum = checksum(&payload, segment.salt);
                octets[place..place + RECORD_HEADER_SIZE].copy_from_slice(&record.encode(segment.salt, at));
            }
            place += RECORD_ALIGNMENT;
        }
        Ok(())
    }
}

impl Disk for PlantedDisk {
    type File = SimFile;

    fn list(&self, directory: &str) -> io::Result<Vec<String>> {
        self.inner.list(directory)
    }

    fn make_directory(&self, directory: &str) -> io::Result<()> {
        self.inner.make_directory(directory)
    }

    fn open(&self, path: &str, kind: FileKind) -> io::Result<SimFile> {
        self.inner.open(path, kind)
    }

    fn create(&self, path: &str, size: u64, kind: FileKind) -> io::Result<SimFile> {
        self.inner.create(path, size, kind)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename_new(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.inner.remove(path)
    }

    fn sync_directory(&self, directory: &str) -> io::Result<()> {
        if self.bug == Some(Bug::NamesNotDurable) { Ok(()) } else { self.inner.sync_directory(directory) }
    }

    fn lock(&self, path: &str) -> io::Result<SimFile> {
        self.inner.lock(path)
    }

    fn is_locked(&self, path: &str) -> io::Result<bool> {
        self.inner.is_locked(path)
    }

    fn random(&self) -> io::Result<u64> {
        let bits = self.inner.random()?;
        Ok(if self.bug == Some(Bug::SaltRepeated) { 7 } else { bits })
    }

    fn space(&self) -> io::Result<(u64, u64)> {
        self.inner.space()
    }

    fn size(&self, file: &SimFile) -> io::Result<u64> {
        self.inner.size(file)
    }

    fn is_direct(&self, file: &SimFile) -> bool {
        self.inner.is_direct(file)
    }

    fn read_at(&self, file: &SimFile, octets: &mut [u8], offset: u64) -> io::Result<usize> {
        let count = self.inner.read_at(file, octets, offset)?;
        if self.bug == Some(Bug::ChecksumIgnored) {
            self.forge(file, &mut octets[..count], offset)?;
        }
        Ok(count)
    }

    fn write_at(&self, file: &SimFile, octets: &[u8], offset: u64) -> io::Result<()> {
        let is_erasure =
            octets.len() == SEGMENT_HEADER_SIZE && offset == 0 && octets.iter().all(|octet| *octet == 0);
        if is_erasure && self.bug == Some(Bug::EraseLeftOut) {
            return Ok(());
        }
        self.inner.write_at(file, octets, offset)
    }

    fn sync(&self, file: &SimFile) -> io::Result<()> {
        if self.bug == Some(Bug::SyncLeftOut) { Ok(()) } else { self.inner.sync(file) }
    }
}

/// A worker's simulated kernel, seen through a bug or none.
#[derive(Debug)]
pub(super) struct PlantedIo {
    inner: SimIo,
    bug: Option<Bug>,
    /// Reported complete, and not complete yet.
    early: Vec<Completion>,
}

/// Set in the tokens of writes that were reported complete too early.
const EARLY: u64 = 1 << 62;

impl PlantedIo {
    pub(super) const fn new(inner: SimIo, bug: Option<Bug>) -> Self {
        Self { inner, bug, early: Vec::new() }
    }
}

impl Io for PlantedIo {
    type Disk = PlantedDisk;

    fn attach(&mut self, file: SimFile) -> FileId {
        self.inner.attach(file)
    }

    fn detach(&mut self, file: FileId) -> SimFile {
        self.inner.detach(file)
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        let (mut token, mut operation) = (token, operation);
        match (self.bug, &mut operation) {
            (Some(Bug::FlushLeftOut), Operation::Write { is_durable, .. }) => *is_durable = false,
            (Some(Bug::ReplyTwice), Operation::Send(_, octets)) => octets.extend_from_within(..),
            (Some(Bug::ReplyEarly), Operation::Write { block, .. }) => {
                let mut copy = Block::new(block.capacity());
                copy.extend(block.filled());
                let block = std::mem::replace(block, copy);
                self.early.push(Completion::Written { token, block, result: Ok(()) });
                token.0 |= EARLY;
            }
            _ => {}
        }
        self.inner.submit(token, operation);
    }

    fn wait(&mut self, deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError> {
        completions.append(&mut self.early);
        let start = completions.len();
        self.inner.wait(deadline, completions)?;
        match self.bug {
            Some(Bug::ReplyEarly) => completions.retain(
                |completion| !matches!(completion, Completion::Written { token, .. } if token.0 & EARLY != 0),
            ),
            Some(Bug::ErrorIgnored) => {
                for completion in &mut completions[start..] {
                    if let Completion::Written { result, .. } = completion {
                        *result = Ok(());
                    }
                }
            }
            Some(Bug::PiecesSwapped) => {
                let is_received = |completion: &Completion| match completion {
                    Completion::Received { connection, .. } => Some(*connection),
                    _ => None,
                };
                for index in start + 1..completions.len() {
                    let connection = is_received(&completions[index]);
                    if connection.is_some() && connection == is_received(&completions[index - 1]) {
                        completions.swap(index - 1, index);
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn received(&self, piece: &Piece) -> &[u8] {
        let octets = self.inner.received(piece);
        // Of many, so that not every command is broken.
        let is_cut = self.bug == Some(Bug::OctetLost) && octets.len() > 1000;
        if is_cut { &octets[..octets.len() - 1] } else { octets }
    }

    fn recycle(&mut self, piece: Piece) {
        if self.bug == Some(Bug::BufferTwice) {
            self.inner.recycle_early(&piece);
        }
        self.inner.recycle(piece);
    }

    fn now(&mut self) -> Instant {
        self.inner.now()
    }

    fn wall_clock(&mut self) -> u64 {
        self.inner.wall_clock()
    }

    fn random(&mut self) -> u64 {
        self.inner.random()
    }

    fn waker(&self) -> Waker {
        self.inner.waker()
    }
}
