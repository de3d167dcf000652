//! Opens segments for readers, and closes them: both may block.

use std::io;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace_io::{Disk, FileKind, Waker};

use super::reader::SegmentReader;

/// What a reader asks for.
pub(crate) enum Request<F> {
    /// Open the segment at `path`.
    Open { sequence: u64, path: String, door: Sender<(u64, io::Result<F>)>, waker: Waker },
    /// Close a file. If it was removed, this frees its blocks.
    Close(F),
}

/// A reader's way to the opener.
#[derive(Clone, Debug)]
pub(crate) struct Door<F> {
    pub(crate) requests: Sender<Request<F>>,
    /// Wakes the reader.
    pub(crate) waker: Waker,
}

/// Opens segments for readers. It runs on its own thread.
#[derive(Debug)]
pub struct Opener<D: Disk> {
    disk: D,
    requests: Receiver<Request<D::File>>,
    sender: Sender<Request<D::File>>,
}

impl<D: Disk> Opener<D> {
    pub(crate) fn new(disk: D) -> Self {
        let (sender, requests) = channel::unbounded();
        Self { disk, requests, sender }
    }

    /// A reader of the queue, whose thread `waker` wakes when a file was opened for it.
    #[must_use]
    pub fn reader(&self, waker: Waker) -> SegmentReader<D> {
        SegmentReader::new(Door { requests: self.sender.clone(), waker })
    }

    /// Works until all readers are gone.
    pub fn run(self) {
        let Self { disk, requests, sender } = self;
        drop(sender);
        while let Ok(request) = requests.recv() {
            obey(&disk, request);
        }
    }

    /// Does all that was requested so far, without waiting.
    pub fn step(&self) {
        while let Ok(request) = self.requests.try_recv() {
            obey(&self.disk, request);
        }
    }
}

fn obey<D: Disk>(disk: &D, request: Request<D::File>) {
    match request {
        Request::Open { sequence, path, door, waker } => {
            // A reader that has ended needs no file.
            let _ = door.send((sequence, disk.open(&path, FileKind::Read)));
            waker.wake();
        }
        Request::Close(file) => drop(file),
    }
}

impl<F> std::fmt::Debug for Request<F> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Open { .. } => "Open",
            Self::Close(_) => "Close",
        })
    }
}
