mod allowance;
mod content;
mod draining;
mod replies;
mod shortage;
mod submission;
mod tables;

use std::time::Duration;

use crossbeam::channel::{Sender, unbounded};
use mailrace_core::address::{Destinations, Domains};
use mailrace_core::cleanup::Bcc;
use mailrace_core::lookup::{LookupError, LookupTable, Maps, Ticket};
use mailrace_core::smtp;
use mailrace_io::sim::{Peer, SimDisk, SimIo, World};
use mailrace_spool::reader::Queue;
use mailrace_spool::{Draft, Mark, SegmentKeeper, SegmentSpool, Settings, State};

use super::*;
use crate::config::{Configuration, Sources, Tables};
use crate::log;
use crate::log::LogFormat;

/// One worker in a calm simulated world.
struct Rig {
    worker: Worker<SimIo, SegmentSpool<SimDisk>>,
    keeper: SegmentKeeper<SimDisk>,
    disk: SimDisk,
    controls: Sender<Control>,
    is_running: bool,
}

const SPOOL: Settings = Settings {
    segment_size: 256 << 10,
    spare_segments: 1,
    kept_segments: 1,
    block_size: 64 << 10,
    blocks: 2,
    writes_in_flight: 1,
    queue_minfree: 0,
    message_size_limit: 0,
};

pub(super) fn settings() -> WorkerSettings {
    let configuration = Configuration::load(&Sources::default()).unwrap();
    let settings = configuration.worker_settings(1, &Tables::default());
    let destinations =
        Destinations { relay_domains: ["example.com"].into_iter().collect(), ..Destinations::default() };
    WorkerSettings {
        smtp: smtp::Settings {
            destinations: Arc::new(destinations),
            message_size_limit: 10 << 20,
            ..settings.smtp
        },
        clients: KnownClients { mynetworks: crate::networks::Networks::default(), ..settings.clients },
        max_connections: 100,
        content_memory: 1 << 20,
        ..settings
    }
}

/// The clients of [`settings`], with this address as the only one of this machine.
pub(super) fn own_address(address: [u8; 4]) -> KnownClients {
    KnownClients { own_addresses: vec![address.into()], ..settings().clients }
}

impl Rig {
    fn new(settings: WorkerSettings) -> Self {
        Self::with_spool(settings, &SPOOL)
    }

    fn with_spool(settings: WorkerSettings, spool: &Settings) -> Self {
        let disk = World::calm().disk();
        let mut opened = mailrace_spool::open(&disk, spool, 1).unwrap();
        let log = log::start(LogFormat::Text, 0).unwrap().writer();
        let telemetry = Telemetry::new(log, Arc::default());
        let io = disk.world().boot(1).remove(0);
        let (controls, receiver) = unbounded();
        let spool = opened.spools.remove(0);
        let worker = Worker::new(io, spool, opened.shared, Arc::new(settings), telemetry, receiver, 2000);
        Self { worker, keeper: opened.keeper, disk, controls, is_running: true }
    }

    fn turn(&mut self) {
        self.keeper.step();
        self.is_running = self.worker.turn_by(Some(Instant::default())).unwrap();
        if !self.is_running {
            // What it queued last begins without another wait.
            self.disk.world().check_ended(0);
            self.disk.world().enter(0);
        }
    }

    /// Turns until nothing more comes of it; time stands still.
    fn settle(&mut self) {
        for _ in 0..200 {
            if self.is_running {
                self.turn();
            }
        }
    }

    fn connect(&mut self) -> Peer {
        self.connect_from("127.0.0.1")
    }

    fn connect_from(&mut self, address: &str) -> Peer {
        let client = self.worker.io.connect_from(address.parse().unwrap());
        self.settle();
        client
    }

    /// What the server says to `octets`.
    fn say(&mut self, client: &Peer, octets: &[u8]) -> String {
        client.send(octets);
        self.settle();
        String::from_utf8(client.take()).unwrap()
    }

    fn begin_content(&mut self, client: &Peer) {
        self.say(client, b"EHLO a.example\r\n");
        let replies = self.say(client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n");
        assert!(replies.ends_with("354 End data with <CR><LF>.<CR><LF>\r\n"), "{replies}");
    }

    /// State and content of all messages, oldest first.
    fn queue(&self) -> Vec<(State, String)> {
        let queue = Queue::read(&self.disk, true).unwrap();
        let ids: Vec<_> = queue.ids().collect();
        let content = |id| {
            let mut content = Vec::new();
            queue.content(id, &mut content).unwrap();
            String::from_utf8(content).unwrap()
        };
        ids.into_iter().map(|(id, state, _)| (state, content(id))).collect()
    }
}

/// A transaction in one piece, as a client that pipelines sends it.
fn transaction(body: &str) -> Vec<u8> {
    format!(
        "MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT {} LAST\r\nSubject: s\r\n\r\n{body}",
        body.len() + 14
    )
    .into_bytes()
}

#[test]
fn a_client_that_goes_away_leaves_nothing() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.begin_content(&client);
    client.send(&vec![b'x'; 200_000]);
    rig.settle();
    client.shut();
    rig.settle();
    assert!(client.is_closed());
    assert_eq!(rig.queue(), []);
    assert_eq!((rig.worker.engine.memory(), rig.worker.io.lent()), (0, 0));
}

#[test]
fn a_silent_client_is_told_and_closed() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    let _ = client.take();
    rig.worker.io.pass(Duration::from_secs(299));
    rig.settle();
    assert_eq!(client.take(), b"");
    rig.worker.io.pass(Duration::from_secs(2));
    rig.settle();
    assert!(String::from_utf8(client.take()).unwrap().starts_with("421 4.4.2 "));
    assert!(client.is_closed());
}

#[test]
fn connections_beyond_the_limit_are_told() {
    let mut rig = Rig::new(WorkerSettings { max_connections: 1, ..settings() });
    let first = rig.connect();
    let second = rig.connect();
    assert!(String::from_utf8(second.take()).unwrap().starts_with("421 4.3.2 "));
    assert!(second.is_closed());
    assert!(rig.say(&first, b"NOOP\r\n").ends_with("250 2.0.0 Ok\r\n"));
}

#[test]
fn marks_are_durable_when_they_are_answered() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    for body in ["one", "two", "three"] {
        rig.say(&client, &transaction(body));
    }
    let (sender, answers) = unbounded();
    for (mark, selection) in [(Mark::Hold, Selection::All), (Mark::Done, Selection::All)] {
        let sender = sender.clone();
        let answer = Answer::new(move |marked| sender.send(marked).unwrap());
        rig.controls.send(Control::Mark { mark, selection, answer }).unwrap();
        rig.settle();
        assert_eq!(answers.try_recv(), Ok(Marked { messages: 3, ..Marked::default() }));
        rig.disk.cut_power();
        let states: Vec<State> = rig.queue().into_iter().map(|(state, _)| state).collect();
        match mark {
            Mark::Hold => assert_eq!(states, [State::Hold; 3]),
            _ => assert_eq!(states, []),
        }
    }
}

#[test]
fn an_idle_connection_is_small() {
    // 224 bytes are a size class of the allocator; the next one has 256.
    assert!(size_of::<connection::Connection<Draft>>() <= 224);
}
