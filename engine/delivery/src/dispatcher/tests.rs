//! The dispatcher over a real queue in a simulated world, with next hops that the tests play.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;

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
use crate::agent::smtp::{SmtpSettings, Timeouts};
use crate::manager::{self, Note, Noted, RetrySettings, WindowSettings};
use crate::outcome::Reason;
use crate::route::NextHop;

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
            destination_recipient_limit: 50,
            process_limit: 100,
            window: WindowSettings { initial: 5, limit: 20, failed_cohort_limit: 1 },
            retry: RetrySettings { minimal_backoff_time: 5 * minute, maximal_backoff_time: 60 * minute },
        },
        smtp: Arc::new(SmtpSettings {
            helo_name: b"mx.example.com".as_slice().into(),
            line_length_limit: 998,
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
        }),
    }
}

/// What the dispatcher asks the worker for.
enum Request {
    Find(QueueId),
    Note(QueueId, Note),
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
}

/// What the operator was told.
#[derive(Clone, Default)]
struct Told(Rc<RefCell<Vec<String>>>);

impl Observer for Told {
    fn active(&mut self, _: Timestamp, _: QueueId, envelope: &Envelope, size: u64) {
        self.0.borrow_mut().push(format!("active nrcpt={} size={size}", envelope.recipients.len()));
    }

    fn tried(&mut self, attempt: &Attempt<'_>) {
        let relay = attempt.relay.map_or_else(|| "none".to_owned(), |relay| relay.to_string());
        let (word, reason) = (attempt.outcome.word(), attempt.outcome.reason());
        let [to, text] = [&attempt.recipient.address[..], &reason.text].map(String::from_utf8_lossy);
        self.0.borrow_mut().push(format!("{to} {relay} {} {word} ({text})", reason.status));
    }

    fn removed(&mut self, _: Timestamp, _: QueueId) {
        self.0.borrow_mut().push("removed".to_owned());
    }

    fn quiet(&mut self) {}
}

type Tested = Dispatcher<SimIo, SegmentReader<SimDisk>, Requests, Told>;

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
    /// Notes are not written.
    is_mute: bool,
    _lock: <SimDisk as Disk>::File,
}

const HOP: &str = "192.0.2.9:25";

fn route(_: &Envelope, _: &Recipient) -> Result<NextHop, Reason> {
    Ok(NextHop { address: HOP.parse().unwrap() })
}

impl Life {
    fn begin(disk: &SimDisk) -> Self {
        let world = disk.world();
        let opened = mailrace_spool::open(disk, &SPOOL, 1).unwrap();
        let [io, dispatcher_io] = world.boot(2).try_into().unwrap();
        let (answers, receiver) = channel::unbounded();
        let (requests, told) = (Requests::default(), Told::default());
        let reader = opened.opener.reader(Waker::new(|| {}));
        let dispatcher = Dispatcher::new(
            dispatcher_io,
            reader,
            requests.clone(),
            told.clone(),
            Box::new(route),
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
            tags: 100,
            is_mute: false,
            _lock: opened.lock,
        };
        life.keeper.step();
        let ids: Vec<QueueId> = life.spool.ids().map(|(id, _)| id).collect();
        ids.into_iter().for_each(|id| life.answers.send(Answer::New { worker: 0, id }).unwrap());
        life
    }

    fn put(&mut self, recipients: &[&str], content: &[&[u8]]) -> QueueId {
        let wall = Timestamp::from_unix_microseconds(self.world.wall_clock());
        let id = self.spool.next_id(wall);
        let recipient =
            |address: &&str| Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() };
        let given = Envelope {
            arrival: wall,
            sender: b"a@example.com".to_vec(),
            recipients: recipients.iter().map(recipient).collect(),
            ..Envelope::default()
        };
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
        while let Err((again, _)) = self.spool.commit(draft, State::Incoming, &bytes, &[last], 1) {
            draft = again;
            self.work();
        }
        for _ in 0..20 {
            self.work();
        }
        self.answers.send(Answer::New { worker: 0, id }).unwrap();
        id
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
    world.listen(HOP.parse::<SocketAddr>().unwrap())
}

/// Says this, and returns what came before it.
fn say(life: &mut Life, peer: &Peer, text: &str) -> String {
    peer.send(text.as_bytes());
    life.go_on();
    String::from_utf8(peer.take()).unwrap()
}

const GREETING: &str = "220 hi\r\n";
const EHLO: &str = "250-hi\r\n250 PIPELINING\r\n";

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
        "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<c@example.net>\r\nDATA\r\n"
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
