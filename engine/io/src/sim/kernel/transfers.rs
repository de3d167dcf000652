//! Writes and reads of files, from their beginning to their end.

use std::io;

use super::{Due, EIO, Kernel};
use crate::sim::Fault;
use crate::sim::disk::{read_error, write_error};
use crate::sim::files::{Landing, SECTOR_SIZE};
use crate::sim::world::{State, Step};
use crate::{BLOCK_ALIGNMENT, Block, Completion, FileId, FileKind, Instant, Token};

/// How long a write takes when the disk is slow, as a multiple.
const SLOW_FACTOR: u32 = 400;

/// A write under way.
#[derive(Debug)]
pub(in crate::sim) struct Write {
    token: Token,
    file: FileId,
    pub(in crate::sim) number: u64,
    pub(in crate::sim) block: Block,
    pub(in crate::sim) offset: usize,
    is_durable: bool,
}

/// A read under way.
#[derive(Debug)]
pub(super) struct Read {
    token: Token,
    file: FileId,
    number: u64,
    buffer: Vec<u8>,
    offset: u64,
    /// Number of bytes, if they were read when it began.
    count: Option<usize>,
}

impl State {
    pub(super) fn start_write(
        &mut self,
        worker: usize,
        token: Token,
        file: FileId,
        block: Block,
        offset: u64,
        is_durable: bool,
    ) {
        let (size, offset) = (block.len(), usize::try_from(offset).expect("simulated files are small"));
        let kernel = &mut self.kernels[worker];
        let attached = kernel.files.get_mut(file);
        assert!(size > 0, "a write of nothing");
        if attached.file.kind == FileKind::Direct {
            let is_aligned = offset.is_multiple_of(BLOCK_ALIGNMENT) && size.is_multiple_of(BLOCK_ALIGNMENT);
            assert!(is_aligned, "a direct write is not aligned: {size} octets at {offset}");
        }
        let overlaps = |(from, to): &(usize, usize)| *from < offset + size && offset < *to;
        assert!(!attached.writing.iter().any(overlaps), "writes under way overlap at {offset}");
        let number = attached.file.number;
        attached.writing.push((offset, offset + size));
        assert!(offset + size <= self.files.size(number), "a write reaches past the end of its file");
        let time = self.disk_time();
        self.note("write into file {} begins: {} octets at {}", [number, size as u64, offset as u64]);
        let write = Write { token, file, number, block, offset, is_durable };
        self.kernels[worker].complete_at(time, Due::Write(write));
    }

    pub(super) fn end_write(&mut self, worker: usize, write: Write, completions: &mut Vec<Completion>) {
        let Write { token, file, number, block, offset, is_durable } = write;
        let step = self.step();
        if step != Step::Go {
            // Its outcome is never reported.
            let landing = Landing::Torn;
            self.files.put(number, block.filled(), offset, false, landing, &mut self.disk_random);
            return;
        }
        let attached = self.kernels[worker].files.get_mut(file);
        attached.writing.retain(|(from, _)| *from != offset);
        self.kernels[worker].files.end(file);
        let is_broken = self.files.is_broken(number);
        let is_failing = self.orders.take_failure() || is_broken;
        let failure = write_error(self).or_else(|| is_failing.then(|| io::Error::from_raw_os_error(EIO)));
        let refusal = self.require_writable().err();
        let landing = match refusal {
            Some(_) => Landing::Nowhere,
            None if self.is_calm => Landing::FirstHalf,
            None => Landing::Torn,
        };
        let is_flush_failing = self.disk_fault(Fault::FlushError);
        let is_lost = self.disk_fault(Fault::LostWrite);
        let is_misdirected = self.disk_fault(Fault::MisdirectedWrite);
        let is_rotting = self.disk_fault(Fault::BitRot);
        let Self { files, disk_random, .. } = self;
        let octets = block.filled();
        let result = if let Some(error) = refusal.or(failure) {
            files.put(number, octets, offset, false, landing, disk_random);
            Err(error)
        } else if is_flush_failing && is_durable {
            files.put(number, octets, offset, false, Landing::Whole, disk_random);
            files.fail_flush(number, disk_random);
            Err(io::Error::from_raw_os_error(EIO))
        } else if is_lost || is_misdirected {
            files.note_lost(number, octets, offset);
            if is_misdirected {
                files.misdirect(octets, disk_random);
            }
            Ok(())
        } else {
            files.put(number, octets, offset, is_durable, Landing::Whole, disk_random);
            Ok(())
        };
        if is_rotting {
            files.rot(disk_random);
        }
        let what = if result.is_ok() {
            "write into file {} at {} is done"
        } else {
            "write into file {} at {} failed"
        };
        self.note(what, [number, offset as u64, 0]);
        completions.push(Completion::Written { token, block, result });
    }

    pub(super) fn start_read(
        &mut self,
        worker: usize,
        token: Token,
        file: FileId,
        mut buffer: Vec<u8>,
        offset: u64,
    ) {
        let sim_file = &self.kernels[worker].files.get_mut(file).file;
        sim_file.kind.check_read();
        let number = sim_file.number;
        let time = self.disk_time();
        self.note("read of file {} begins: {} octets at {}", [number, buffer.len() as u64, offset]);
        // It finds what was there when it began or what is there when it ends, as the disk likes.
        let is_early = self.disk_coin();
        let count = is_early.then(|| self.read(number, &mut buffer, offset));
        let read = Read { token, file, number, buffer, offset, count };
        self.kernels[worker].complete_at(time, Due::Read(read));
    }

    pub(super) fn end_read(&mut self, worker: usize, read: Read, completions: &mut Vec<Completion>) {
        let Read { token, file, number, mut buffer, offset, count } = read;
        if self.is_over() {
            // Its outcome is never reported.
            return;
        }
        self.kernels[worker].files.end(file);
        let result = match read_error(self, number) {
            Some(error) => Err(error),
            None => Ok(count.unwrap_or_else(|| self.read(number, &mut buffer, offset))),
        };
        let what =
            if result.is_ok() { "read of file {} at {} is done" } else { "read of file {} at {} failed" };
        self.note(what, [number, offset, 0]);
        completions.push(Completion::Read { token, buffer, result });
    }

    /// Reads what is there now: of a write under way, any of its sectors may be.
    fn read(&mut self, number: u64, buffer: &mut [u8], offset: u64) -> usize {
        let count = self.files.read(number, buffer, offset);
        if self.is_calm {
            return count;
        }
        let end = offset + count as u64;
        for write in self.kernels.iter().flat_map(Kernel::writes).filter(|write| write.number == number) {
            for (index, sector) in write.block.filled().chunks(SECTOR_SIZE).enumerate() {
                let start = (write.offset + index * SECTOR_SIZE) as u64;
                let (from, to) = (offset.max(start), end.min(start + sector.len() as u64));
                if from < to && self.disk_random.one_in(2) {
                    let place = |at: u64, base: u64| usize::try_from(at - base).expect("both are in memory");
                    buffer[place(from, offset)..place(to, offset)]
                        .copy_from_slice(&sector[place(from, start)..place(to, start)]);
                }
            }
        }
        count
    }

    /// When a write or read ends that begins now.
    fn disk_time(&mut self) -> Instant {
        let most =
            self.conditions.write_time * if self.disk_fault(Fault::SlowDisk) { SLOW_FACTOR } else { 1 };
        Self::soon(self.now, most, &mut self.disk_random)
    }
}
