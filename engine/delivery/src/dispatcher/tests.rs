//! The dispatcher over a real queue in a simulated world, with next hops that the tests play.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bumpalo::Bump;
use crossbeam::channel::{self, Sender};
use mailrace_core::envelope::Recipient;
use mailrace_core::record::envelope;
use mailrace_core::{Envelope, Origin, QueuedEnvelope};
use mailrace_io::sim::{Listener, Peer, SimDisk, SimIo, World};
use mailrace_io::{Disk, Waker};
use mailrace_spool::{
    Mark, MarkError, Opener, SegmentKeeper, SegmentReader, SegmentSpool, Source, Spool, State, Store, Writes,
};

use super::*;
use crate::Cause;
use crate::agent::smtp::{SmtpSettings, Timeouts};
use crate::bounce::{Kind, NoticeSettings, ReportSettings, Templates};
use crate::hosts::Servers;
use crate::manager::{
    self, Expired, Note, Noted, RetrySettings, TransportSettings, WindowSettings, action_of,
};
use crate::route::{HostName, Route, Routed, Server};

mod expansion;

const SPOOL: mailrace_spool::Settings = mailrace_spool::Settings {
    segment_size: 256 << 10,
    spare_segments: 2,
    kept_segments: 2,
    block_size: 64 << 10,
    blocks: 4,
    writes_in_flight: 2,
    queue_minfree: 0,
    message_size_limit: 1 << 20,
};

fn settings() -> Settings {
    let minute = Duration::from_secs(60);
    Settings {
        manager: manager::Settings {
            message_active_limit: 20,
            message_recipient_limit: 100,
            transports: vec![TransportSettings {
                recipient_limit: 50,
                process_limit: 100,
                window: WindowSettings { initial: 5, limit: 20, failed_cohort_limit: 1 },
                rate_delay: Duration::ZERO,
                is_deferred: false,
            }],
            retry: RetrySettings {
                minimal_backoff_time: 5 * minute,
                maximal_backoff_time: 60 * minute,
                maximal_queue_lifetime: 7200 * minute,
                bounce_queue_lifetime: 7200 * minute,
            },
            soft_bounce: false,
            delay_warning_time: Duration::ZERO,
            notices: NoticeSettings {
                double_bounce_sender: b"double-bounce@mx.example.com".as_slice().into(),
                ..NoticeSettings::default()
            },
        },
        transports: vec![Arc::new(SmtpSettings {
            protocol: mailrace_core::smtp::client::Protocol::Smtp,
            own_name: b"mx.example.com".as_slice().into(),
            helo_name: b"mx.example.com".as_slice().into(),
            line_length_limit: 998,
            connection_cache_time: Duration::from_secs(2),
            address_limit: 5,
            session_limit: 2,
            timeouts: Timeouts {
                connect: minute / 2,
                helo: 5 * minute,
                mail: 5 * minute,
                rcpt: 5 * minute,
                data_init: 2 * minute,
                data_xfer: 3 * minute,
                data_done: 10 * minute,
                quit: minute,
            },
        })],
        reports: Arc::new(ReportSettings {
            host_name: b"mx.example.com".as_slice().into(),
            mail_name: b"Mailrace".as_slice().into(),
            bounce_size_limit: 50_000,
            maximal_queue_lifetime: 7200 * minute,
            smtputf8_enable: false,
            templates: Templates::built_in(&|_| Some(b"5".to_vec())).unwrap(),
        }),
        own_name: "mx.example.com".into(),
        relayhost: "".into(),
        fallback_relay: "".into(),
    }
}

/// What the dispatcher asks the worker for.
enum Request {
    Find(QueueId),
    Note(QueueId, Note),
    Exists { about: QueueId, id: QueueId },
    Report(Box<Report>),
}

#[derive(Clone, Default)]
struct Requests(Rc<RefCell<Vec<Request>>>);

impl Queue for Requests {
    fn find(&mut self, _: u16, id: QueueId) {
        self.0.borrow_mut().push(Request::Find(id));
    }

    fn note(&mut self, _: u16, id: QueueId, note: Note) {
        self.0.borrow_mut().push(Request::Note(id, note));
    }

    fn exists(&mut self, about: QueueId, id: QueueId) -> usize {
        self.0.borrow_mut().push(Request::Exists { about, id });
        1
    }

    fn report(&mut self, _: u16, report: Box<Report>) {
        self.0.borrow_mut().push(Request::Report(report));
    }
}

/// What the operator was told.
#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<String>>>);

impl Observer for Told {
    fn active(&mut self, _: Timestamp, _: QueueId, envelope: &Envelope, size: u64) {
        self.0.borrow_mut().push(format!("active nrcpt={} size={size}", envelope.recipients.len()));
    }

    fn tried(&mut self, attempt: &Attempt<'_>) {
        let relay = attempt.relay.map_or_else(|| "none".to_owned(), ToString::to_string);
        let (word, cause) = (attempt.outcome.word(), attempt.outcome.cause());
        let [to, text] = [&attempt.recipient.address[..], &cause.text].map(String::from_utf8_lossy);
        self.0.borrow_mut().push(format!("{to} {relay} {} {word} ({text})", cause.status));
    }

    fn skipped(&mut self, _: Timestamp, _: QueueId, cause: &Cause) {
        self.0.borrow_mut().push(format!("skipped: {}", String::from_utf8_lossy(&cause.text)));
    }

    fn expired(&mut self, _: Timestamp, _: &Expired) {
        self.0.borrow_mut().push("expired".to_owned());
    }

    fn reported(&mut self, _: Timestamp, _: QueueId, kind: Kind, _: QueueId) {
        self.0.borrow_mut().push(format!("reported {kind:?}"));
    }

    fn removed(&mut self, _: Timestamp, _: QueueId) {
        self.0.borrow_mut().push("removed".to_owned());
    }

    fn quiet(&mut self) {}
}

type Tested = Dispatcher<SimIo, SegmentReader<SimDisk>, Requests, Told>;

/// What is awaited of a report.
#[derive(Clone, Copy, Debug)]
enum ReportStage {
    Noted,
    Durable,
}

/// A worker's queue, and a dispatcher beside it.
struct Life {
    world: World,
    io: SimIo,
    spool: SegmentSpool<SimDisk>,
    keeper: SegmentKeeper<SimDisk>,
    opener: Opener<SimDisk>,
    dispatcher: Tested,
    requests: Requests,
    told: Told,
    answers: Sender<Answer<Source>>,
    /// The messages whose note is under way, by tag.
    noting: HashMap<u64, QueueId>,
    tags: u64,
    /// Reports that are being taken in, by the tag that is awaited, with the ids that they have.
    reporting: HashMap<u64, (Box<Report>, QueueId, ReportStage)>,
    /// Notes are not written.
    is_mute: bool,
    /// Reports are not noted once they are in the queue.
    is_forgetful: bool,
    _lock: <SimDisk as Disk>::File,
}

const HOP: &str = "192.0.2.9:25";

/// Mail for `user@N.example` goes to 192.0.2.N and, if that is no use, to 192.0.2.N0; other mail to [`HOP`].
fn route(_: &Envelope, recipient: &Recipient) -> Routed {
    let address = String::from_utf8_lossy(&recipient.address);
    let number = address.strip_suffix(".example").and_then(|address| address.split('@').nth(1));
    let next_hop = match number {
        Some(number) => format!("{number}.example"),
        None => "[192.0.2.9]".to_owned(),
    };
    Routed::To(Route { transport: 0, next_hop: next_hop.into(), mailbox: None })
}

/// The servers of a name.
fn servers(name: &HostName) -> Vec<Server> {
    let number = name.name.strip_suffix(".example").unwrap();
    [number.to_owned(), format!("{number}0")]
        .map(|number| Server::at(format!("192.0.2.{number}:25").parse().unwrap()))
        .into()
}

impl Life {
    fn begin(disk: &SimDisk) -> Self {
        let world = disk.world();
        let opened = mailrace_spool::open(disk, &SPOOL, 1).unwrap();
        let [io, dispatcher_io] = world.boot(2).try_into().unwrap();
        let (answers, receiver) = channel::unbounded();
        let (requests, told) = (Requests::default(), Told::default());
        let reader = opened.opener.reader(Waker::new(|| {}));
        let resolved = answers.clone();
        let resolver = move |serial, name: HostName| {
            resolved
                .send(Answer::Resolved(serial, Servers { result: Ok(servers(&name)), has_self: false }))
                .unwrap();
        };
        let dispatcher = Dispatcher::new(
            dispatcher_io,
            reader,
            requests.clone(),
            told.clone(),
            Paths { router: Box::new(route), resolver: Box::new(resolver) },
            settings(),
            receiver,
        );
        let mut life = Self {
            world,
            io,
            spool: opened.spools.into_iter().next().unwrap(),
            keeper: opened.keeper,
            opener: opened.opener,
            dispatcher,
            requests,
            told,
            answers,
            noting: HashMap::new(),
            reporting: HashMap::new(),
            tags: 100,
            is_mute: false,
            is_forgetful: false,
            _lock: opened.lock,
        };
        life.keeper.step();
        let ids: Vec<QueueId> = life.spool.ids().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| life.answers.send(Answer::New { worker: 0, id }).unwrap());
        life
    }

    fn put(&mut self, recipients: &[&str], content: &[&[u8]]) -> QueueId {
        let recipient =
            |address: &&str| Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() };
        let recipients = recipients.iter().map(recipient).collect();
        self.put_envelope(
            Envelope { sender: b"a@6.example".to_vec(), recipients, ..Envelope::default() },
            content,
        )
    }

    fn put_envelope(&mut self, envelope: Envelope, content: &[&[u8]]) -> QueueId {
        let wall = Timestamp::from_unix_microseconds(self.world.wall_clock());
        let id = self.spool.next_id(wall);
        self.commit(id, envelope, content, 1);
        for _ in 0..20 {
            self.work();
        }
        self.answers.send(Answer::New { worker: 0, id }).unwrap();
        id
    }

    fn commit(&mut self, id: QueueId, envelope: Envelope, content: &[&[u8]], tag: u64) {
        let arrival = Timestamp::from_unix_microseconds(self.world.wall_clock());
        let given = Envelope { arrival, ..envelope };
        let arena = Bump::new();
        let mut bytes = bumpalo::collections::Vec::new_in(&arena);
        let queued = QueuedEnvelope::unchanged(&arena, &given);
        envelope::encode(&Origin::default(), &queued, &mut bytes).unwrap();
        let mut draft = self.spool.begin(id);
        let (last, chunks) = content.split_last().unwrap();
        for chunk in chunks {
            while self.spool.append(&mut draft, &[chunk]).is_err() {
                self.work();
            }
        }
        while let Err((again, _)) = self.spool.commit(draft, State::Incoming, &bytes, &[last], tag) {
            draft = again;
            self.work();
        }
    }

    /// Takes a report into the queue, step by step.
    fn report(&mut self, report: Box<Report>, id: QueueId, stage: ReportStage) {
        self.tags += 1;
        let tag = self.tags;
        match stage {
            ReportStage::Noted => {
                let mut before = report.before.clone();
                before.report = Some((action_of(report.kind), id));
                self.spool.note(report.about, &before, tag).unwrap();
            }
            ReportStage::Durable => {
                let (envelope, content) = report.messages[0].clone();
                self.commit(id, envelope, &[&content], tag);
            }
        }
        self.reporting.insert(tag, (report, id, stage));
    }

    fn report_settled(&mut self, report: Box<Report>, id: QueueId, stage: ReportStage) {
        match stage {
            ReportStage::Noted => self.report(report, id, ReportStage::Durable),
            ReportStage::Durable => {
                let (about, kind, ids) = (report.about, report.kind, vec![id]);
                // What the dispatcher would have noted now is not.
                self.is_mute |= self.is_forgetful;
                let answer = Answer::Reported { about, kind, noted: Noted::Durable, ids };
                self.answers.send(answer).unwrap();
            }
        }
    }

    /// A turn of the worker.
    fn work(&mut self) {
        self.keeper.step();
        self.opener.step();
        let requests = std::mem::take(&mut *self.requests.0.borrow_mut());
        for request in requests {
            match request {
                Request::Find(id) => {
                    let found = self.spool.source(id).map(|source| {
                        let size = source.octets();
                        (source, size)
                    });
                    self.answers.send(Answer::Found(id, found)).unwrap();
                }
                Request::Note(..) if self.is_mute => {}
                Request::Note(id, note) => self.note(id, &note),
                Request::Exists { about, id } => {
                    let is_there = self.spool.place(id).is_some();
                    self.answers.send(Answer::Exists { about, is_there }).unwrap();
                }
                Request::Report(report) => {
                    let wall = Timestamp::from_unix_microseconds(self.world.wall_clock());
                    let id = self.spool.next_id(wall);
                    self.report(report, id, ReportStage::Noted);
                }
            }
        }
        self.spool.advance(&mut self.io);
        let mut completions = Vec::new();
        self.io.wait(Some(Instant::default()), &mut completions).unwrap();
        for completion in completions {
            let Completion::Written { token, block, result } = completion else { panic!("it only writes") };
            self.spool.completed(token, block, result);
        }
        while let Some((tag, result)) = self.spool.next_settled() {
            if let Some(id) = self.noting.remove(&tag) {
                let noted = if result.is_ok() { Noted::Durable } else { Noted::Failed };
                self.answers.send(Answer::Noted(id, noted)).unwrap();
            }
            if let Some((report, id, stage)) = self.reporting.remove(&tag) {
                result.unwrap();
                self.report_settled(report, id, stage);
            }
        }
    }

    fn note(&mut self, id: QueueId, note: &Note) {
        self.tags += 1;
        let given = match note {
            Note::Done => self.spool.mark(id, Mark::Done, self.tags),
            Note::Progress(progress) => self.spool.note(id, progress, self.tags),
        };
        match given {
            Ok(()) => drop(self.noting.insert(self.tags, id)),
            Err(MarkError::NotFound) => self.answers.send(Answer::Noted(id, Noted::Gone)).unwrap(),
            Err(MarkError::Refused(refusal)) => panic!("{refusal:?}"),
        }
    }

    /// Lets all go on until nothing changes.
    fn go_on(&mut self) {
        for _ in 0..60 {
            self.work();
            assert!(self.dispatcher.poll());
        }
    }

    fn pass(&mut self, seconds: u64) {
        self.world.advance(self.world.now().after(Duration::from_secs(seconds)));
        self.go_on();
    }

    fn told(&self) -> Vec<String> {
        std::mem::take(&mut self.told.0.borrow_mut())
    }

    fn messages(&self) -> usize {
        self.spool.ids().count()
    }
}

impl Tested {
    /// A turn that does not wait.
    fn poll(&mut self) -> bool {
        self.turn_by(Some(Instant::default())).unwrap()
    }
}

fn listen(world: &World) -> Listener {
    listen_at(world, HOP)
}

fn listen_at(world: &World, address: &str) -> Listener {
    world.listen(address.parse::<SocketAddr>().unwrap())
}

/// Says this, and returns what came before it.
fn say(life: &mut Life, peer: &Peer, text: &str) -> String {
    peer.send(text.as_bytes());
    life.go_on();
    String::from_utf8(peer.take()).unwrap()
}

const GREETING: &str = "220 hi\r\n";
const EHLO: &str = "250-hi\r\n250-8BITMIME\r\n250 PIPELINING\r\n";

#[test]
fn a_message_is_handed_over_and_leaves_the_queue() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.put(&["b@example.net", "c@example.net"], &[b"Subject: x\r\n\r\n.dot\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    assert_eq!(say(&mut life, &peer, GREETING), "EHLO mx.example.com\r\n");
    assert_eq!(
        say(&mut life, &peer, EHLO),
        "MAIL FROM:<a@6.example>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
    );
    let content = say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n");
    assert_eq!(content, "Subject: x\r\n\r\n..dot\r\n.\r\n");
    assert_eq!(life.messages(), 1);
    assert_eq!(say(&mut life, &peer, "250 2.0.0 Ok: queued as 1\r\n"), "QUIT\r\n");
    assert!(peer.is_closed() && life.messages() == 0 && life.dispatcher.is_idle());
    let sent = "192.0.2.9[192.0.2.9]:25 2.0.0 sent (250 2.0.0 Ok: queued as 1)";
    let expected = [
        "active nrcpt=2 size=20".to_owned(),
        format!("b@example.net {sent}"),
        format!("c@example.net {sent}"),
        "removed".to_owned(),
    ];
    assert_eq!(life.told(), expected);
    assert!(life.dispatcher.messages.is_empty());
}

#[test]
fn large_content_comes_in_pieces() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    let line = [b"x".repeat(70), b"\r\n".to_vec()].concat();
    let piece = line.repeat(500);
    life.put(&["b@example.net"], &[piece.as_slice(); 8]);
    life.go_on();
    let peer = listener.accept().unwrap();
    say(&mut life, &peer, GREETING);
    say(&mut life, &peer, EHLO);
    let mut content = say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n354 Go\r\n");
    while !content.ends_with("\r\n.\r\n") {
        life.go_on();
        let more = String::from_utf8(peer.take()).unwrap();
        assert!(!more.is_empty(), "it stops after {} bytes", content.len());
        content += &more;
    }
    assert_eq!(content.len(), 8 * piece.len() + 3);
    say(&mut life, &peer, "250 Ok\r\n");
    assert_eq!(life.messages(), 0);
}

#[test]
fn what_is_deferred_is_tried_again_when_it_is_due() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.put(&["b@example.net", "c@example.net"], &[b"x\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    say(&mut life, &peer, GREETING);
    say(&mut life, &peer, EHLO);
    say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n450 4.2.0 later\r\n354 Go\r\n");
    say(&mut life, &peer, "250 Ok\r\n");
    assert_eq!(life.messages(), 1);
    life.pass(299);
    assert!(listener.accept().is_none(), "too early");
    life.pass(1);
    let peer = listener.accept().unwrap();
    say(&mut life, &peer, GREETING);
    assert!(say(&mut life, &peer, EHLO).contains("\r\nRCPT TO:<c@example.net>\r\nDATA"));
    say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n354 Go\r\n");
    say(&mut life, &peer, "250 Ok\r\n");
    assert_eq!(life.messages(), 0);
}

/// What the note says is not done again after a kill; what no note says is.
#[test]
fn a_kill_repeats_only_what_was_not_noted() {
    let disk = World::calm().disk();
    for is_noted in [true, false] {
        let mut life = Life::begin(&disk);
        let listener = listen(&life.world);
        life.put(&["b@example.net", "c@example.net"], &[b"x\r\n"]);
        life.go_on();
        let peer = listener.accept().unwrap();
        say(&mut life, &peer, GREETING);
        say(&mut life, &peer, EHLO);
        life.is_mute = !is_noted;
        say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n450 later\r\n354 Go\r\n");
        say(&mut life, &peer, "250 Ok\r\n");
        drop((life, listener));
        let mut life = Life::begin(&disk);
        let listener = listen(&life.world);
        life.go_on();
        assert_eq!(listener.accept().is_none(), is_noted, "what was noted is not due yet");
        life.pass(300);
        if is_noted {
            let peer = listener.accept().unwrap();
            say(&mut life, &peer, GREETING);
            assert!(!say(&mut life, &peer, EHLO).contains("b@example.net"));
            say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n354 Go\r\n");
            say(&mut life, &peer, "250 Ok\r\n");
            assert_eq!(life.messages(), 0);
        }
    }
}

#[test]
fn a_server_that_is_not_there_is_tried_again_later() {
    let mut life = Life::begin(&World::calm().disk());
    life.put(&["b@example.net"], &[b"x\r\n"]);
    life.go_on();
    let told = life.told();
    let refused = "b@example.net none 4.4.1 deferred (connect to 192.0.2.9[192.0.2.9]:25: ";
    assert!(told.len() == 2 && told[1].starts_with(refused), "{told:?}");
    assert!(life.dispatcher.is_idle() && life.messages() == 1);
    let listener = listen(&life.world);
    life.pass(300);
    assert!(listener.accept().is_some());
}

#[test]
fn a_server_that_says_nothing_is_left_after_its_time() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.put(&["b@example.net"], &[b"x\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    life.pass(299);
    assert!(!peer.is_closed());
    life.pass(1);
    assert!(peer.is_closed());
    let text = "conversation with 192.0.2.9[192.0.2.9] timed out while receiving the initial server greeting";
    assert_eq!(life.told()[1], format!("b@example.net 192.0.2.9[192.0.2.9]:25 4.4.2 deferred ({text})"));
}

#[test]
fn a_connection_that_breaks_defers_its_message() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.put(&["b@example.net"], &[b"x\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    say(&mut life, &peer, GREETING);
    peer.reset();
    life.go_on();
    assert!(life.told()[1].contains("lost connection with 192.0.2.9[192.0.2.9] while performing the EHLO"));
    assert!(life.messages() == 1 && life.dispatcher.is_idle());
}

#[test]
fn a_message_that_has_left_the_queue_is_not_tried() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.answers.send(Answer::New { worker: 0, id: QueueId::from_number(77) }).unwrap();
    life.go_on();
    assert!(listener.accept().is_none() && life.dispatcher.is_idle());
    assert!(life.dispatcher.messages.is_empty());
}

#[test]
fn a_stop_lets_what_is_under_way_end_and_begins_nothing() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.put(&["b@example.net"], &[b"x\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    life.answers.send(Answer::Stop(Duration::from_secs(30))).unwrap();
    life.put(&["c@example.net"], &[b"x\r\n"]);
    life.go_on();
    for text in [GREETING, EHLO, "250 Ok\r\n250 Ok\r\n354 Go\r\n"] {
        say(&mut life, &peer, text);
    }
    peer.send(b"250 Ok\r\n");
    let mut is_going_on = true;
    for _ in 0..60 {
        life.work();
        is_going_on = is_going_on && life.dispatcher.poll();
    }
    assert!(!is_going_on && life.messages() == 1 && listener.accept().is_none());
}

/// Says all that a server says to a client that hands a message to one recipient over.
fn take_message(life: &mut Life, peer: &Peer, dot: &str) -> String {
    let mut heard = String::new();
    for text in [GREETING, EHLO, "250 Ok\r\n250 Ok\r\n354 Go\r\n", dot] {
        heard += &say(life, peer, text);
    }
    heard
}

#[test]
fn the_next_server_is_tried_where_one_is_of_no_use() {
    let mut life = Life::begin(&World::calm().disk());
    let second = listen_at(&life.world, "192.0.2.10:25");
    life.put(&["b@1.example", "c@1.example"], &[b"x\r\n"]);
    life.go_on();
    let peer = second.accept().expect("the first one is not there");
    let told = life.told();
    assert!(told[1].starts_with("skipped: connect to 192.0.2.1[192.0.2.1]:25: "), "{told:?}");
    say(&mut life, &peer, GREETING);
    say(&mut life, &peer, EHLO);
    say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n450 later\r\n354 Go\r\n");
    say(&mut life, &peer, "250 Ok\r\n");
    let relay = "192.0.2.10[192.0.2.10]:25";
    let said = "host 192.0.2.10[192.0.2.10] said: 450 later (in reply to RCPT TO command)";
    let expected = [
        format!("b@1.example {relay} 2.0.0 sent (250 Ok)"),
        format!("c@1.example {relay} 4.0.0 deferred ({said})"),
    ];
    assert_eq!(life.told(), expected, "each recipient once");
    assert_eq!(life.messages(), 1);
}

#[test]
fn recipients_that_a_server_defers_go_to_the_next_one() {
    let mut life = Life::begin(&World::calm().disk());
    let [first, second] = ["192.0.2.1:25", "192.0.2.10:25"].map(|address| listen_at(&life.world, address));
    life.put(&["b@1.example", "c@1.example"], &[b"x\r\n"]);
    life.go_on();
    let peer = first.accept().unwrap();
    say(&mut life, &peer, GREETING);
    say(&mut life, &peer, EHLO);
    say(&mut life, &peer, "250 Ok\r\n250 Ok\r\n450 later\r\n354 Go\r\n");
    assert_eq!(say(&mut life, &peer, "250 Ok\r\n"), "QUIT\r\n");
    let peer = second.accept().unwrap();
    let heard = take_message(&mut life, &peer, "250 Ok\r\n");
    assert!(heard.contains("RCPT TO:<c@1.example>") && !heard.contains("<b@1.example>"), "{heard}");
    assert_eq!(life.messages(), 0);
}

#[test]
fn a_connection_takes_the_next_message_that_waits() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    for _ in 0..6 {
        life.put(&["b@example.net"], &[b"x\r\n"]);
    }
    life.go_on();
    let peers: Vec<Peer> = std::iter::from_fn(|| listener.accept()).collect();
    assert_eq!(peers.len(), 5, "the initial window");
    let heard = take_message(&mut life, &peers[0], "250 Ok\r\n");
    assert!(
        heard.ends_with(".\r\nMAIL FROM:<a@6.example>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n"),
        "{heard}"
    );
    // It breaks before the server says anything about the second message: that is tried on a new connection.
    peers[0].reset();
    life.go_on();
    let peer = listener.accept().expect("a new connection");
    take_message(&mut life, &peer, "250 Ok\r\n");
    assert_eq!(life.messages(), 4);
    assert!(!life.told().iter().any(|told| told.contains("deferred")));
}

#[test]
fn a_failure_comes_back_as_a_report() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.put(&["b@example.net"], &[b"Subject: x\r\n\r\ntext\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    let sender = listen_at(&life.world, "192.0.2.6:25");
    take_message(&mut life, &peer, "550 5.7.1 spam\r\n");
    let peer = sender.accept().expect("the report goes to the sender");
    let heard = take_message(&mut life, &peer, "250 Ok\r\n");
    assert!(heard.contains("MAIL FROM:<>") && heard.contains("RCPT TO:<a@6.example>"), "{heard}");
    assert!(heard.contains("550 5.7.1 spam") && heard.contains("\r\nSubject: x\r\n"), "{heard}");
    let told = life.told();
    assert!(told.contains(&"reported Failure".to_owned()), "{told:?}");
    assert!(life.messages() == 0 && life.dispatcher.is_idle() && life.dispatcher.messages.is_empty());
}

/// A kill between the report and the note of it does not make another one.
#[test]
fn a_report_is_made_once_whatever_a_kill_leaves() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let listener = listen(&life.world);
    life.put(&["b@example.net"], &[b"x\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    life.is_forgetful = true;
    take_message(&mut life, &peer, "550 no\r\n");
    assert_eq!(life.messages(), 2, "the message and the report");
    drop((life, listener));
    let mut life = Life::begin(&disk);
    let sender = listen_at(&life.world, "192.0.2.6:25");
    life.go_on();
    life.pass(2);
    let peer = sender.accept().expect("the report");
    take_message(&mut life, &peer, "250 Ok\r\n");
    life.pass(600);
    assert!(sender.accept().is_none() && life.messages() == 0, "one report");
}
