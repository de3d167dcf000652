//! Measures the file system alone: successive durable overwrites of 4 KiB, over the same `Io`.

use std::path::PathBuf;
use std::time::Duration;

use mailrace_io::uring::{Settings, Uring};
use mailrace_io::{BLOCK_ALIGNMENT, Block, Completion, Disk, FileKind, Io, Operation, OsDisk, Token};
use rustix::thread::{CpuSet, sched_setaffinity};

use crate::error::BenchError;

/// Latency of a durable write, in microseconds.
#[derive(Clone, Copy, Debug)]
pub struct ProbeReport {
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
}

/// Writes in `directory` for a time, from a separate thread on processor `cpu`.
///
/// The file is zero-filled first and then overwritten circularly, like the queue's segments, so that the timed writes change
/// no metadata.
///
/// # Errors
/// [`BenchError`] if the file system fails.
pub fn durable_writes(
    directory: PathBuf,
    time: Duration,
    cpu: Option<usize>,
) -> Result<ProbeReport, BenchError> {
    let thread = std::thread::spawn(move || {
        if let Some(cpu) = cpu {
            let mut set = CpuSet::new();
            set.set(cpu);
            sched_setaffinity(None, &set)
                .map_err(|error| BenchError::at("choosing a processor")(error.into()))?;
        }
        measure(&OsDisk::new(&directory).map_err(BenchError::on(&directory))?, time)
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

fn measure(disk: &OsDisk, time: Duration) -> Result<ProbeReport, BenchError> {
    let path = disk.root().join(FILE_NAME);
    // Remove the file of an earlier run, if there is one.
    let _ = disk.remove(FILE_NAME);
    let file = disk.create(FILE_NAME, FILE_SIZE, FileKind::Direct).map_err(BenchError::on(&path))?;
    let mut zeros = Block::new(ZERO_SIZE);
    zeros.extend(&vec![0; ZERO_SIZE]);
    for offset in (0..FILE_SIZE).step_by(ZERO_SIZE) {
        disk.write_at(&file, zeros.filled(), offset).map_err(BenchError::on(&path))?;
    }
    disk.sync(&file).map_err(BenchError::on(&path))?;
    disk.sync_directory("").map_err(BenchError::on(&path))?;

    let mut io = Uring::new(Settings { connections: 16, ..Settings::default() }).map_err(BenchError::Io)?;
    let file = io.attach(file);
    let mut block = Block::new(BLOCK_ALIGNMENT);
    block.extend(&[0x5a; BLOCK_ALIGNMENT]);
    let mut completions = Vec::new();
    let mut durations = Vec::new();
    let start = std::time::Instant::now();
    let mut offset = 0;
    while start.elapsed() < time {
        let began = std::time::Instant::now();
        io.submit(Token(0), Operation::Write { file, block, offset, is_durable: true });
        while completions.is_empty() {
            io.wait(None, &mut completions).map_err(BenchError::Io)?;
        }
        durations.push(began.elapsed());
        let Some(Completion::Written { block: memory, result, .. }) = completions.pop() else {
            unreachable!("nothing but the write was asked for");
        };
        result.map_err(BenchError::on(&path))?;
        block = memory;
        offset = (offset + BLOCK_ALIGNMENT as u64) % FILE_SIZE;
    }
    let _ = io.detach(file);
    disk.remove(FILE_NAME).map_err(BenchError::on(&path))?;
    durations.sort_unstable();
    let at = |quantile: usize| durations[(durations.len() - 1) * quantile / 100].as_secs_f64() * 1e6;
    Ok(ProbeReport { p50_us: at(50), p99_us: at(99) })
}

const FILE_NAME: &str = "probe";
const FILE_SIZE: u64 = 64 << 20;
const ZERO_SIZE: usize = 1 << 20;
