mod replies;
mod shortage;
mod submission;

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
fn a_message_is_answered_when_it_is_durable() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    assert!(String::from_utf8(client.take()).unwrap().starts_with("220 "));
    rig.begin_content(&client);
    client.send(b"Subject: s\r\n\r\nbody\r\n.\r\n");
    // Received, gathered, submitted; not written yet.
    rig.turn();
    assert_eq!(client.take(), b"");
    rig.settle();
    let reply = String::from_utf8(client.take()).unwrap();
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    rig.disk.cut_power();
    let queue = rig.queue();
    assert_eq!(queue.len(), 1);
    assert!(queue[0].1.ends_with("\r\n\r\nbody\r\n"), "{queue:?}");
}

#[test]
fn it_does_not_matter_how_the_octets_come() {
    let dialogue =
        b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n".to_vec();
    let content = b"Subject: s\r\n\r\n..dots\r\n.\r\n";
    let mut contents = Vec::new();
    for size in [1, 2, 3, 7, 1000] {
        let settings = settings();
        let smtp = smtp::Settings { smtpd_forbid_unauth_pipelining: false, ..settings.smtp };
        let mut rig = Rig::new(WorkerSettings { smtp, ..settings });
        let client = rig.connect();
        for piece in dialogue.chunks(size).chain(content.chunks(size)) {
            client.send(piece);
            rig.turn();
            rig.turn();
        }
        rig.settle();
        let replies = String::from_utf8(client.take()).unwrap();
        assert!(replies.contains("250 2.0.0 Ok: queued as "), "{size}: {replies}");
        contents.push(rig.queue().remove(0).1.split_once("\r\n\r\n").unwrap().1.to_owned());
    }
    assert!(contents.iter().all(|content| content == ".dots\r\n"), "{contents:?}");
}

#[test]
fn large_messages_of_many_clients_are_whole() {
    let mut rig = Rig::new(settings());
    let clients: Vec<Peer> = (0..8).map(|_| rig.connect()).collect();
    let bodies: Vec<String> =
        (0..8).map(|number| format!("{number} line of the body\r\n").repeat(20_000 + number * 999)).collect();
    for client in &clients {
        rig.begin_content(client);
        client.send(b"Subject: s\r\n\r\n");
    }
    // In pieces that do not know lines, in turn.
    for start in (0..700_000).step_by(9_973) {
        for (client, body) in clients.iter().zip(&bodies) {
            if let Some(piece) = body.as_bytes().get(start..body.len().min(start + 9_973)) {
                client.send(piece);
            }
        }
        rig.turn();
    }
    for client in &clients {
        assert!(rig.say(client, b".\r\n").starts_with("250 2.0.0 Ok: queued as "));
    }
    let queue = rig.queue();
    assert_eq!(queue.len(), 8);
    for (body, (_, content)) in bodies.iter().zip(queue) {
        assert!(content.split_once("\r\n\r\n").unwrap().1 == body, "a body is not what was sent");
    }
    assert_eq!(rig.worker.io.lent(), 0);
}

/// 40 clients send content while nothing is written; which replies they get at the end.
fn content_while_the_disk_stands_still(piece: &[u8]) -> Vec<String> {
    let mut rig = Rig::new(settings());
    let clients: Vec<Peer> = (0..40).map(|_| rig.connect()).collect();
    for client in &clients {
        rig.begin_content(client);
    }
    rig.worker.io.hold_writes();
    for _ in 0..100 {
        for client in &clients {
            client.send(piece);
        }
        rig.turn();
        let memory = rig.worker.engine.memory();
        // What was received in the turn in which the limit was reached comes on top.
        assert!(memory < (1 << 20) + 40 * 3 * piece.len(), "{memory} octets");
    }
    rig.worker.io.release_writes();
    (0..5).for_each(|_| rig.settle());
    let replies: Vec<String> = clients.iter().map(|client| rig.say(client, b"\r\n.\r\n")).collect();
    assert_eq!((rig.worker.engine.memory(), rig.worker.io.lent()), (0, 0));
    let accepted = replies.iter().filter(|reply| reply.starts_with("250 2.0.0 Ok: queued as ")).count();
    assert_eq!(rig.queue().len(), accepted, "{replies:?}");
    replies
}

#[test]
fn memory_stays_bounded_while_the_disk_is_slow() {
    let replies = content_while_the_disk_stands_still("\r\nbody".repeat(600).as_bytes());
    assert!(replies.iter().all(|reply| reply.starts_with("250 ")), "{replies:?}");
}

#[test]
fn memory_stays_bounded_when_fields_do_not_end() {
    let replies = content_while_the_disk_stands_still(&[b'x'; 4000]);
    let is_right = |reply: &String| reply.starts_with("250 ") || reply.starts_with("452 4.3.1 ");
    assert!(replies.iter().all(is_right), "{replies:?}");
}

#[test]
fn a_failed_write_is_told_to_its_client_only() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    rig.disk.fail_writes(1);
    let replies = rig.say(&client, &transaction("lost"));
    assert!(replies.ends_with("451 4.3.0 Error: queue file write error\r\n"), "{replies}");
    let replies = rig.say(&client, &transaction("kept"));
    assert!(replies.contains(" queued as "), "{replies}");
    let queue = rig.queue();
    assert_eq!(queue.len(), 1);
    assert!(queue[0].1.ends_with("kept\r\n"));
}

#[test]
fn a_full_disk_refuses_mail_and_loses_none() {
    let mut rig = Rig::new(settings());
    rig.disk.world().set_capacity(1 << 20);
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    let body = "x".repeat(40_000);
    let mut accepted = 0;
    let reply = loop {
        let replies = rig.say(&client, &transaction(&body));
        if !replies.contains("queued as") {
            break replies;
        }
        accepted += 1;
        assert!(accepted < 100);
    };
    assert!(reply.contains("452 4.3.1 Insufficient system storage"), "{reply}");
    assert_eq!(rig.queue().len(), accepted);
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

/// A worker with strangers, who may take as much time as two connections and some receives.
fn rig_with_strangers(settings: WorkerSettings) -> Rig {
    Rig::new(WorkerSettings { client_allowance: Duration::from_micros(150), ..settings })
}

#[test]
fn a_client_that_sends_no_mail_waits_alone() {
    let mut rig = rig_with_strangers(settings());
    let [idler, other] = ["192.0.2.1", "192.0.2.2"].map(|address| rig.connect_from(address));
    let _ = (idler.take(), other.take());
    rig.say(&idler, b"EHLO a.example\r\n");
    let mut answered = 0;
    for _ in 0..100 {
        answered += rig.say(&idler, b"NOOP\r\n").len();
    }
    assert!((16 * 10..16 * 60).contains(&answered), "{answered}");
    assert!(rig.say(&other, b"NOOP\r\n").starts_with("250 "), "another client");
    rig.worker.io.pass(Duration::from_secs(59));
    rig.settle();
    assert!(!idler.take().is_empty(), "it has waited");
    assert!(!idler.is_closed());
}

#[test]
fn a_client_that_owes_is_turned_away_late() {
    let mut rig = rig_with_strangers(WorkerSettings { connection_count_limit: 1, ..settings() });
    let [first, second, third] = [(); 3].map(|()| rig.connect_from("192.0.2.1"));
    assert!(!first.take().is_empty());
    assert!(String::from_utf8(second.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(second.is_closed());
    rig.say(&first, b"EHLO a.example\r\n");
    let fourth = rig.connect_from("192.0.2.1");
    assert!(fourth.take().is_empty() && !fourth.is_closed(), "its client has used its allowance up");
    rig.worker.io.pass(Duration::from_secs(61));
    rig.settle();
    assert!(String::from_utf8(fourth.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(fourth.is_closed() && third.is_closed() && !first.is_closed());
}

#[test]
fn places_that_a_client_gives_back_are_free_while_others_wait_to_be_turned_away() {
    let mut rig = rig_with_strangers(WorkerSettings { connection_count_limit: 1, ..settings() });
    let first = rig.connect_from("192.0.2.1");
    let _ = first.take();
    let held: Vec<Peer> = (0..10).map(|_| rig.connect_from("192.0.2.1")).collect();
    assert!(held.last().unwrap().take().is_empty(), "it waits");
    first.shut();
    rig.settle();
    assert!(first.is_closed());
    let next = rig.connect_from("192.0.2.1");
    rig.worker.io.pass(Duration::from_secs(61));
    rig.settle();
    assert!(String::from_utf8(next.take()).unwrap().starts_with("220 "));
}

#[test]
fn what_waited_is_told_even_if_its_time_is_over_at_the_same_moment() {
    let smtpd_timeout = Duration::from_secs(60);
    let settings = WorkerSettings { connection_count_limit: 1, smtpd_timeout, ..settings() };
    let mut rig = rig_with_strangers(settings);
    let [first, ..] = [(); 10].map(|()| rig.connect_from("192.0.2.1"));
    let _ = first.take();
    let late = rig.connect_from("192.0.2.1");
    rig.worker.io.pass(Duration::from_secs(60));
    rig.settle();
    assert!(String::from_utf8(late.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(late.is_closed());
}

#[test]
fn a_drain_waits_for_no_client_that_owes() {
    let mut rig = rig_with_strangers(WorkerSettings { connection_count_limit: 1, ..settings() });
    let clients = [(); 10].map(|()| rig.connect_from("192.0.2.1"));
    let late = clients.last().unwrap();
    assert!(late.take().is_empty() && !late.is_closed(), "it waits");
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert!(String::from_utf8(late.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(clients.iter().all(Peer::is_closed));
    assert!(!rig.is_running);
}

#[test]
fn a_chunk_that_is_refused_at_its_end_is_answered_when_its_client_has_waited() {
    let smtpd_forbid_bare_newline = smtp::BareNewline::Reject;
    let smtp = smtp::Settings { smtpd_forbid_bare_newline, ..settings().smtp };
    let mut rig = rig_with_strangers(WorkerSettings { smtp, ..settings() });
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    rig.say(&client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\n");
    client.send(b"BDAT 200000\r\n");
    rig.settle();
    let reply = rig.say(&client, &[&[b'a'; 199_999][..], b"\n"].concat());
    assert_eq!(reply, "", "its client has used its allowance up");
    rig.worker.io.pass(Duration::from_secs(61));
    rig.settle();
    let reply = String::from_utf8(client.take()).unwrap();
    assert!(reply.starts_with("550 5.5.2 "), "{reply}");
}

/// A table that never answers.
#[derive(Debug, Default)]
struct Silent(std::sync::atomic::AtomicU64);

impl LookupTable for Silent {
    fn look_up<'a>(
        &'a self,
        _: &'a bumpalo::Bump,
        _: &[u8],
        _: mailrace_core::Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(asked < 1000, "the same question over and over");
        Err(LookupError::Pending(Ticket(asked)))
    }

    fn may_wait(&self) -> bool {
        true
    }
}

#[test]
fn a_question_of_the_session_waits_whatever_its_message_has_waited() {
    let silent = Arc::new(Silent::default());
    let asked = || silent.0.load(std::sync::atomic::Ordering::Relaxed);
    let maps = Maps::new(vec![Arc::clone(&silent) as Arc<dyn LookupTable>]);
    let mut relay_domains: Domains = ["example.com"].into_iter().collect();
    relay_domains.add_tables(maps, false);
    let destinations = Destinations { relay_domains, ..Destinations::default() };
    let smtp = smtp::Settings { destinations: Arc::new(destinations), ..settings().smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, ..settings() });
    let client = rig.connect();
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    let replies = rig.say(&client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT 3\r\na\r\n");
    assert!(replies.ends_with("250 2.0.0 Ok: 3 bytes\r\n"), "{replies}");
    assert_eq!(rig.say(&client, b"VRFY a@one.example\r\n"), "");
    assert_eq!(asked(), 1);
    rig.worker.io.pass(Duration::from_secs(101));
    rig.settle();
    rig.worker.engine.answered(Ticket(0));
    rig.settle();
    assert_eq!(String::from_utf8(client.take()).unwrap(), "");
    assert_eq!(asked(), 2, "it asks again, and waits again");
    let other = rig.connect();
    assert!(String::from_utf8(other.take()).unwrap().starts_with("220 "), "nobody else waits");
}

#[test]
fn a_message_waits_for_tables_so_long_and_no_longer() {
    let bcc = Bcc { sender_maps: Maps::new(vec![Arc::new(Silent::default())]), ..Bcc::default() };
    let cleanup = mailrace_core::cleanup::Settings { bcc, ..settings().cleanup };
    let mut rig = Rig::new(WorkerSettings { cleanup, ..settings() });
    let client = rig.connect();
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    assert!(!rig.say(&client, &transaction("x")).contains("queued as"));
    for asked in 0..3 {
        assert_eq!(String::from_utf8(client.take()).unwrap(), "", "{asked} answers did not come in time");
        rig.worker.io.pass(Duration::from_secs(40));
        rig.settle();
        rig.worker.engine.answered(Ticket(asked));
        rig.settle();
    }
    let replies = String::from_utf8(client.take()).unwrap();
    assert!(replies.lines().last().is_some_and(|reply| reply.starts_with("451 4.3.0 ")), "{replies}");
}

#[test]
fn of_a_client_that_has_sent_no_mail_little_is_read_at_once() {
    let mut rig = rig_with_strangers(settings());
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    client.send(&b"NOOP\r\n".repeat(100_000));
    rig.settle();
    assert!(client.unread() > 400_000, "{}", client.unread());
    assert!(rig.worker.engine.memory() < 100_000, "{}", rig.worker.engine.memory());
}

#[test]
fn accepted_mail_settles_what_a_client_owes() {
    let mut rig = rig_with_strangers(settings());
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    for number in 0..200 {
        let reply = rig.say(&client, &transaction("x"));
        assert!(reply.contains("bytes queued as "), "{number}: {reply}");
    }
}

#[test]
fn refused_mail_is_charged() {
    let cleanup = mailrace_core::cleanup::Settings { hopcount_limit: 1, ..settings().cleanup };
    let mut rig = rig_with_strangers(WorkerSettings { cleanup, ..settings() });
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    // As long as a subject and an empty line.
    let looping =
        String::from_utf8(transaction("x")).unwrap().replace("Subject: s\r\n\r\n", "Received: \r\n\r\n");
    let replies = (0..100).filter(|_| !rig.say(&client, looping.as_bytes()).is_empty()).count();
    assert!(replies < 90, "{replies}");
}

#[test]
fn one_client_has_so_many_connections() {
    let limited = || WorkerSettings { connection_count_limit: 2, ..settings() };
    let mut rig = Rig::new(limited());
    let clients = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|it| rig.connect_from(it));
    let codes = clients.each_ref().map(|client| String::from_utf8(client.take()).unwrap());
    let begins = |index: usize, code| assert!(codes[index].starts_with(code), "{index}: {codes:?}");
    begins(1, "220 ");
    begins(2, "421 4.7.0 ");
    begins(3, "220 ");
    assert!(clients[2].is_closed());
    rig.say(&clients[0], b"QUIT\r\n");
    assert!(rig.connect_from("192.0.2.1").take().starts_with(b"220 "));
    // This machine's own addresses may be those of a proxy.
    let mut rig = Rig::new(WorkerSettings { clients: own_address([192, 0, 2, 1]), ..limited() });
    let clients: Vec<_> = (0..5).map(|_| rig.connect_from("192.0.2.1")).collect();
    assert!(clients.iter().all(|client| client.take().starts_with(b"220 ")));
}

#[test]
fn who_owes_makes_room_for_others() {
    let mut rig = rig_with_strangers(WorkerSettings { max_connections: 2, ..settings() });
    let owing = rig.connect_from("192.0.2.1");
    let quiet = rig.connect_from("192.0.2.2");
    for _ in 0..100 {
        rig.say(&owing, b"NOOP\r\n");
    }
    assert!(rig.connect_from("192.0.2.3").take().starts_with(b"220 "));
    assert!(owing.is_closed() && !quiet.is_closed());
    assert!(rig.connect_from("192.0.2.4").take().starts_with(b"421 4.3.2 "));
}

#[test]
fn who_reads_nothing_is_cut_off_whatever_it_says() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    client.stop_reading();
    client.send(b"NOOP\r\n");
    for _ in 0..4 {
        assert!(!client.is_closed());
        rig.settle();
        rig.worker.io.pass(Duration::from_secs(90));
        client.send(b"N");
    }
    rig.settle();
    assert!(client.is_closed());
    // Nor does it have that much time for the last reply.
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    client.stop_reading();
    client.send(b"QUIT\r\n");
    rig.settle();
    assert!(!client.is_closed());
    rig.worker.io.pass(Duration::from_secs(6));
    rig.settle();
    assert!(client.is_closed());
}

#[test]
fn draining_ends_sessions_whose_message_is_refused_meanwhile() {
    let smtp = smtp::Settings { message_size_limit: 1000, ..settings().smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, ..settings() });
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    let replies = rig.say(&client, &[&[b'x'; 2000][..], b"\r\n.\r\n"].concat());
    assert!(replies.starts_with("552 5.3.4 ") && replies.contains("\r\n421 4.3.2 "), "{replies}");
    assert!(!rig.is_running);
    // Also where the refusal is held back for a while.
    let smtp = smtp::Settings { message_size_limit: 1000, smtpd_soft_error_limit: 1, ..settings().smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, ..settings() });
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert_eq!(rig.say(&client, &[&[b'x'; 2000][..], b"\r\n.\r\n"].concat()), "");
    rig.worker.io.pass(Duration::from_secs(2));
    let replies = rig.say(&client, b"");
    assert!(replies.starts_with("552 5.3.4 ") && replies.contains("\r\n421 4.3.2 "), "{replies}");
    assert!(!rig.is_running);
}

#[test]
fn draining_ends_idle_sessions_and_finishes_messages() {
    let mut rig = Rig::new(settings());
    let idle = rig.connect();
    let busy = rig.connect();
    let _ = idle.take();
    rig.begin_content(&busy);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert!(String::from_utf8(idle.take()).unwrap().starts_with("421 4.3.2 "));
    assert!(rig.is_running);
    let reply = rig.say(&busy, b"Subject: s\r\n\r\n.\r\n");
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    assert!(!rig.is_running);
    assert_eq!(rig.queue().len(), 1);
}

#[test]
fn draining_does_not_wait_for_ever() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    rig.worker.io.pass(Duration::from_secs(31));
    rig.settle();
    assert!(client.is_closed());
    assert!(!rig.is_running);
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
