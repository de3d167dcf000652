//! Log of the durable canned responder: batches of content in a circular file.

use std::collections::VecDeque;
use std::fmt;
use std::io;

use mailrace_io::{
    BLOCK_ALIGNMENT, Block, ConnectionId, Disk, FileId, FileKind, Io, Operation, OsDisk, Token,
};

/// A preallocated, zero-filled circular file, and the batches that are being written to it.
#[derive(Debug)]
pub struct Log {
    file: FileId,
    offset: u64,
    /// Number of the batch that is being filled; earlier ones are closed or in flight.
    current: u64,
    gathering: Batch,
    /// Full batches that wait for a write to complete.
    closed: VecDeque<Batch>,
    in_flight: Vec<(u64, Vec<Waiter>)>,
    /// Waiters whose content began in an earlier, incomplete batch.
    late: Vec<Waiter>,
    spare_blocks: Vec<Block>,
    spare_waiters: Vec<Vec<Waiter>>,
}

#[derive(Debug)]
struct Batch {
    block: Block,
    waiters: Vec<Waiter>,
}

/// A client that waits for its content to be durable.
#[derive(Clone, Copy, Debug)]
struct Waiter {
    connection: ConnectionId,
    /// Batches that hold the content.
    first: u64,
    last: u64,
}

impl Log {
    /// Creates the file.
    ///
    /// # Errors
    /// [`LogError`] when the file system refuses.
    pub fn create(disk: &OsDisk, io: &mut impl Io<Disk = OsDisk>) -> Result<Self, LogError> {
        let failed = |operation| move |source| LogError { operation, source };
        match disk.remove(FILE_NAME) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove")(error)),
            _ => {}
        }
        let file = disk.create(FILE_NAME, FILE_SIZE, FileKind::Direct).map_err(failed("create"))?;
        let mut zeros = Block::new(BLOCK_SIZE);
        zeros.extend(&vec![0; BLOCK_SIZE]);
        for offset in (0..FILE_SIZE).step_by(BLOCK_SIZE) {
            disk.write_at(&file, zeros.filled(), offset).map_err(failed("write"))?;
        }
        disk.sync(&file).map_err(failed("sync"))?;
        disk.sync_directory("").map_err(failed("sync"))?;
        Ok(Self {
            file: io.attach(file),
            offset: 0,
            current: 0,
            gathering: Batch { block: Block::new(BLOCK_SIZE), waiters: Vec::new() },
            closed: VecDeque::new(),
            in_flight: Vec::new(),
            late: Vec::new(),
            spare_blocks: Vec::new(),
            spare_waiters: Vec::new(),
        })
    }

    /// Returns the number of the batch that receives the next bytes.
    pub fn current_batch(&self) -> u64 {
        self.current + u64::from(self.gathering.block.room() == 0)
    }

    /// Appends content to the current batch.
    pub fn append(&mut self, mut octets: &[u8]) {
        while !octets.is_empty() {
            if self.gathering.block.room() == 0 {
                self.close_batch();
            }
            let (now, later) = octets.split_at(octets.len().min(self.gathering.block.room()));
            self.gathering.block.extend(now);
            octets = later;
        }
    }

    /// Ends the content that began in batch `first`. Its client is released when all of it is durable.
    pub fn wait_for(&mut self, connection: ConnectionId, first: u64) {
        self.gathering.waiters.push(Waiter { connection, first, last: self.current });
    }

    /// Starts writes, up to the number that may be in flight.
    pub fn advance(&mut self, io: &mut impl Io) {
        while self.in_flight.len() < IN_FLIGHT_MAX {
            if self.closed.is_empty() {
                if self.gathering.block.is_empty() {
                    return;
                }
                self.close_batch();
            }
            let Some(Batch { mut block, waiters }) = self.closed.pop_front() else { return };
            let number = self.current - 1 - self.closed.len() as u64;
            block.pad(BLOCK_ALIGNMENT);
            if self.offset + block.len() as u64 > FILE_SIZE {
                self.offset = 0;
            }
            let offset = self.offset;
            self.offset += block.len() as u64;
            self.in_flight.push((number, waiters));
            io.submit(Token(number), Operation::Write { file: self.file, block, offset, is_durable: true });
        }
    }

    /// Handles a completed write. `released` receives the clients whose content is now durable.
    pub fn written(&mut self, token: Token, mut block: Block, released: &mut Vec<ConnectionId>) {
        block.clear();
        self.spare_blocks.push(block);
        let Some(at) = self.in_flight.iter().position(|(number, _)| *number == token.0) else { return };
        let (_, mut waiters) = self.in_flight.swap_remove(at);
        let oldest = self.in_flight.iter().map(|(number, _)| *number).min().unwrap_or(u64::MAX);
        // The last batches of all waiters in `late` are complete; only earlier ones can be missing.
        self.late.append(&mut waiters);
        self.late.retain(|waiter| {
            let is_released = waiter.first == waiter.last || waiter.last < oldest;
            if is_released {
                released.push(waiter.connection);
            }
            !is_released
        });
        self.spare_waiters.push(waiters);
    }

    fn close_batch(&mut self) {
        let block = self.spare_blocks.pop().unwrap_or_else(|| Block::new(BLOCK_SIZE));
        let waiters = self.spare_waiters.pop().unwrap_or_default();
        self.closed.push_back(std::mem::replace(&mut self.gathering, Batch { block, waiters }));
        self.current += 1;
    }
}

/// Reason why the log could not be created.
#[derive(Debug)]
pub struct LogError {
    operation: &'static str,
    source: io::Error,
}

impl fmt::Display for LogError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "the log's file: {} failed: {}", self.operation, self.source)
    }
}

impl std::error::Error for LogError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

const FILE_NAME: &str = "canned.log";
const FILE_SIZE: u64 = 256 << 20;
const BLOCK_SIZE: usize = 1 << 20;
const IN_FLIGHT_MAX: usize = 4;
