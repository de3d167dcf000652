//! Segments do what every backend must.

use std::collections::BTreeMap;

use mailrace_core::QueueId;
use mailrace_core::record::delivery::Progress;
use mailrace_io::sim::{SimDisk, SimIo, World};

use super::{Life, damage, find};
use crate::conformance::{Backend, check};
use crate::reader::Queue;
use crate::{SegmentReader, SegmentSpool, State};

impl Backend for Life {
    type Spool = SegmentSpool<SimDisk>;
    type Io = SimIo;
    type Reader = SegmentReader<SimDisk>;

    const MOVES: bool = true;

    fn new() -> Self {
        Self::begin(&World::calm().disk())
    }

    fn spool(&mut self) -> &mut Self::Spool {
        &mut self.spool
    }

    fn work(&mut self) {
        self.step();
        self.keep();
    }

    fn reader(&mut self) -> (&mut Self::Reader, &mut SimIo) {
        (&mut self.reader, &mut self.reader_io)
    }

    fn damage(&mut self, octets: &[u8]) {
        let (path, place) = find(&self.disk, octets);
        damage(&self.disk, &path, place);
    }

    fn cut_power(self) -> Self {
        let disk = Self::cut_power(self);
        Self::begin(&disk)
    }

    fn messages(&self) -> BTreeMap<QueueId, (State, Vec<u8>)> {
        let queue = Queue::read(&self.disk, false).unwrap();
        let content = |id| {
            let mut content = Vec::new();
            queue.content(id, &mut content).unwrap();
            content
        };
        queue.ids().map(|(id, state, _)| (id, (state, content(id)))).collect()
    }

    fn progress(&self, id: QueueId) -> Progress {
        Queue::read(&self.disk, false).unwrap().entry(id).unwrap().unwrap().progress
    }
}

#[test]
fn segments_are_a_backend() {
    check::<Life>();
}
