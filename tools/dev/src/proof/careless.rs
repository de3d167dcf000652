//! Owns a writer that says of everything that it is stored and makes nothing durable: the control. A rig that finds
//! nothing missing after it would find nothing missing after anything.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use mailrace_io::{BLOCK_ALIGNMENT, Block, Disk, FileKind, OsDisk, OsFile};
use mailrace_postmark::{Fate, Found, Identity, Ledger};

use crate::error::ProofError;

/// Writes until it is dropped or cannot.
#[derive(Debug)]
pub struct Careless {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Careless {
    /// Makes its file in `directory`, durably and zero-filled as a segment is, and begins to write into it.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn start(directory: &Path, kind: FileKind, ledger: &Arc<Ledger>) -> Result<Self, ProofError> {
        let failed = || ProofError::on(directory);
        let disk = OsDisk::new(directory).map_err(failed())?;
        let file = disk.create(FILE, SIZE, kind).map_err(failed())?;
        let mut zeros = Block::new(ZEROS_SIZE);
        zeros.extend(&vec![0; ZEROS_SIZE]);
        for offset in (0..SIZE).step_by(ZEROS_SIZE) {
            disk.write_at(&file, zeros.filled(), offset).map_err(failed())?;
        }
        disk.sync(&file).and_then(|()| disk.sync_directory("")).map_err(failed())?;
        let stop = Arc::new(AtomicBool::new(false));
        let (ledger, is_stopped) = (Arc::clone(ledger), Arc::clone(&stop));
        let thread = std::thread::spawn(move || write(&disk, &file, &ledger, &is_stopped));
        Ok(Self { stop, thread: Some(thread) })
    }
}

impl Drop for Careless {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Each message begins a block and says there which it is.
fn write(disk: &OsDisk, file: &OsFile, ledger: &Ledger, stop: &AtomicBool) {
    let mut offset = 0;
    while !stop.load(Ordering::Relaxed) {
        let identity = ledger.begin();
        let content = identity.content();
        let mut block = Block::new((HEAD_SIZE + content.len()).next_multiple_of(BLOCK_ALIGNMENT));
        block.extend(&identity.run.to_le_bytes());
        block.extend(&identity.number.to_le_bytes());
        block.extend(&content);
        block.pad(BLOCK_ALIGNMENT);
        if offset + block.len() as u64 > SIZE {
            return;
        }
        ledger.note(identity, Fate::Offered);
        if disk.write_at(file, block.filled(), offset).is_err() {
            return;
        }
        ledger.note(identity, Fate::Accepted(identity.to_string()));
        offset += block.len() as u64;
    }
}

/// What of it is left in `directory`.
///
/// # Errors
/// When the file cannot be read.
pub fn look(directory: &Path) -> Result<Vec<Found>, ProofError> {
    let path: PathBuf = directory.join(FILE);
    let octets = std::fs::read(&path).map_err(ProofError::on(&path))?;
    let mut found = Vec::new();
    for block in (0..octets.len()).step_by(BLOCK_ALIGNMENT).filter_map(|offset| octets.get(offset..)) {
        let number = |place: usize| {
            block.get(place..place + 4).and_then(|it| it.try_into().ok()).map_or(0, u32::from_le_bytes)
        };
        let identity = Identity { run: number(0), number: number(4) };
        if block.get(HEAD_SIZE..).and_then(Identity::of_content) == Some(identity) {
            let is_whole = block.get(HEAD_SIZE..).is_some_and(|rest| rest.starts_with(&identity.content()));
            found.push(Found {
                id: identity.to_string(),
                identity: Some(identity),
                is_whole,
                is_held: false,
            });
        }
    }
    Ok(found)
}

const FILE: &str = "careless";
const SIZE: u64 = 64 << 20;
const ZEROS_SIZE: usize = 1 << 20;
/// Bytes before a message: its run and number.
const HEAD_SIZE: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use mailrace_postmark::Account;

    #[test]
    fn finds_everything_without_a_cut() {
        let directory = std::env::temp_dir().join(format!("mailrace-careless-{}", std::process::id()));
        let ledger = Arc::new(Ledger::new(3));
        let careless = Careless::start(&directory, FileKind::Buffered, &ledger).unwrap();
        while ledger.snapshot().len() < 50 {
            std::thread::yield_now();
        }
        drop(careless);
        let found = look(&directory).unwrap();
        let letters = ledger.snapshot();
        let account = Account::new(&letters, &letters, 3, &found);
        assert!(account.is_right() && account.expected >= 48, "{account}");
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
