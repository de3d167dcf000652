//! A worker and the threads that talk to it under all kinds of schedules.
//!
//! The worker, what tells it something, its spool and the keeper of segments are the real ones. The kernel is a
//! simulated one, and of its wakeups a model: a counter that a waiting thread finds at once or is woken by, as the ring's
//! eventfd. A wakeup that were lost would leave a thread waiting for ever, which the model reports as a deadlock.

use std::collections::HashMap;
use std::net::Ipv4Addr;

use bumpalo::Bump;
use crossbeam::channel;
use mailrace_core::Sharer;
use mailrace_core::address::{Destinations, Domains};
use mailrace_core::lookup::{LookupError, LookupTable, Maps, Ticket};
use mailrace_io::sim::{Peer, SimDisk, SimIo, World};
use mailrace_io::{FileId, Operation, Piece, Token, Waker};
use mailrace_spool::{Mark, Opened, SegmentKeeper, Settings};
use shuttle::sync::{Arc as ModelArc, Condvar, Mutex};
use shuttle::thread;

use super::tests::settings;
use super::*;
use crate::log;

const SCHEDULES: usize = 100;
const STACK_SIZE: usize = 1 << 20;
const STEPS_MAX: usize = 3_000;

/// Runs `life` at random, and with few changes of the thread at bad moments.
fn check(life: fn()) {
    let mut config = shuttle::Config::new();
    config.stack_size = STACK_SIZE;
    // Where a thread waits for ever another may go round and round.
    config.max_steps = shuttle::MaxSteps::FailAfter(STEPS_MAX);
    let random = shuttle::scheduler::RandomScheduler::new(SCHEDULES);
    shuttle::Runner::new(random, config.clone()).run(life);
    let few_changes = shuttle::scheduler::PctScheduler::new(3, SCHEDULES);
    shuttle::Runner::new(few_changes, config).run(life);
}

/// What wakes a thread: level-triggered, as an eventfd.
#[derive(Clone, Default)]
struct Bell(ModelArc<(Mutex<bool>, Condvar)>);

impl Bell {
    fn waker(&self) -> Waker {
        let bell = self.clone();
        Waker::new(move || {
            let (is_rung, changed) = &*bell.0;
            *is_rung.lock().unwrap() = true;
            changed.notify_all();
        })
    }

    fn wait(&self) {
        let (is_rung, changed) = &*self.0;
        let mut is_rung = is_rung.lock().unwrap();
        while !*is_rung {
            is_rung = changed.wait(is_rung).unwrap();
        }
        *is_rung = false;
    }
}

/// The simulated kernel, whose wait ends when something completed or the bell was rung.
struct WaitingIo {
    io: SimIo,
    bell: Bell,
}

impl Io for WaitingIo {
    type Disk = SimDisk;

    fn attach(&mut self, file: <SimDisk as mailrace_io::Disk>::File) -> FileId {
        self.io.attach(file)
    }

    fn detach(&mut self, file: FileId) -> <SimDisk as mailrace_io::Disk>::File {
        self.io.detach(file)
    }

    fn submit(&mut self, token: Token, operation: Operation) {
        self.io.submit(token, operation);
    }

    fn wait(&mut self, _deadline: Option<Instant>, completions: &mut Vec<Completion>) -> Result<(), IoError> {
        // Time stands still: no deadline ever comes.
        self.io.wait(Some(Instant::default()), completions)?;
        if completions.is_empty() {
            self.bell.wait();
        }
        Ok(())
    }

    fn received(&self, piece: &Piece) -> &[u8] {
        self.io.received(piece)
    }

    fn recycle(&mut self, piece: Piece) {
        self.io.recycle(piece);
    }

    fn now(&mut self) -> Instant {
        self.io.now()
    }

    fn wall_clock(&mut self) -> u64 {
        self.io.wall_clock()
    }

    fn random(&mut self) -> u64 {
        self.io.random()
    }

    fn waker(&self) -> Waker {
        self.bell.waker()
    }
}

const SPOOL: Settings = Settings {
    segment_size: 64 << 10,
    spare_segments: 1,
    kept_segments: 1,
    block_size: 8 << 10,
    blocks: 2,
    writes_in_flight: 1,
    queue_minfree: 0,
    message_size_limit: 0,
};

/// What other threads need of a worker.
struct Started {
    workers: Workers,
    keeper: SegmentKeeper<SimDisk>,
    thread: thread::JoinHandle<()>,
}

/// Starts a worker in a thread of its own over `disk`, with clients who say `input` each, a piece a receive. It ends
/// when it is drained, or when all clients were told something that ends so.
fn start(
    settings: WorkerSettings,
    disk: &SimDisk,
    clients: usize,
    input: &'static [&'static [u8]],
    last_reply: Option<&'static str>,
) -> Started {
    let Opened { mut spools, keeper, shared, .. } = mailrace_spool::open(disk, &SPOOL, 1).unwrap();
    let spool = spools.remove(0);
    let bell = Bell::default();
    shared.add_waker(bell.waker());
    let (sender, controls) = channel::unbounded();
    let workers = Workers::new(vec![(sender, bell.waker())]);
    let disk = disk.clone();
    let thread = thread::spawn(move || {
        let io = disk.world().boot(1).remove(0);
        let clients: Vec<Peer> = (0..clients).map(|_| io.connect_from(Ipv4Addr::LOCALHOST.into())).collect();
        clients.iter().for_each(|client| input.iter().for_each(|piece| client.send(piece)));
        let telemetry = Telemetry::new(log::LogWriter::unread(), Arc::default());
        let io = WaitingIo { io, bell };
        let mut worker = Worker::new(io, spool, shared, Arc::new(settings), telemetry, controls, 200);
        let mut replies = vec![String::new(); clients.len()];
        let is_over = |replies: &[String]| {
            last_reply.is_some_and(|last| replies.iter().all(|replies| replies.ends_with(last)))
        };
        while !is_over(&replies) && worker.turn().unwrap() {
            for (replies, client) in replies.iter_mut().zip(&clients) {
                replies.push_str(std::str::from_utf8(&client.take()).unwrap());
            }
        }
    });
    Started { workers, keeper, thread }
}

/// Asks a worker to mark all messages, and returns how many it has marked.
fn mark_all(workers: &Workers, mark: Mark) -> u64 {
    let (answered, answers) = shuttle::sync::mpsc::channel();
    let answered = std::sync::Mutex::new(Some(answered));
    workers.tell(|| {
        let answered = answered.lock().unwrap().take().unwrap();
        let answer = Answer::new(move |marked| answered.send(marked).unwrap());
        Control::Mark { mark, selection: Selection::All, answer }
    });
    let marked = answers.recv().unwrap();
    assert_eq!(marked.failures, 0);
    marked.messages
}

const MESSAGE: &[&[u8]] =
    &[b"EHLO a.example\r\n", b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT 4 LAST\r\na\r\n\n"];

/// A request reaches a worker whatever it is doing: marks are answered, and it ends when drained.
#[test]
fn nothing_told_is_missed() {
    check(|| {
        let Started { workers, thread: worker, .. } =
            start(settings(), &World::calm().disk(), 1, MESSAGE, None);
        let tellers: Vec<_> = (0..2)
            .map(|_| {
                let workers = workers.clone();
                thread::spawn(move || mark_all(&workers, Mark::Hold))
            })
            .collect();
        let held: u64 = tellers.into_iter().map(|teller| teller.join().unwrap()).sum();
        assert!(held <= 2, "one message was told of twice");
        workers.tell(|| Control::Drain);
        worker.join().unwrap();
    });
}

/// A table that another thread answers for: it may have the answer before the worker has noted who waits for it.
#[derive(Clone, Default)]
struct AskedTable(ModelArc<(Mutex<Asked>, Condvar)>);

#[derive(Default)]
struct Asked {
    answers: HashMap<Vec<u8>, Option<Vec<u8>>>,
    questions: Vec<(Vec<u8>, Ticket)>,
    is_over: bool,
}

impl std::fmt::Debug for AskedTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("AskedTable")
    }
}

impl LookupTable for AskedTable {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let (asked, changed) = &*self.0;
        let mut asked = asked.lock().unwrap();
        if let Some(answer) = asked.answers.get(key) {
            return Ok(answer.as_ref().map(|value| &*arena.alloc_slice_copy(value)));
        }
        let ticket = match asked.questions.iter().find(|(question, _)| question == key) {
            Some((_, ticket)) => *ticket,
            None => {
                let ticket = Ticket(asked.answers.len() as u64 + asked.questions.len() as u64);
                asked.questions.push((key.to_vec(), ticket));
                changed.notify_all();
                ticket
            }
        };
        Err(LookupError::Pending(ticket))
    }

    fn may_wait(&self) -> bool {
        true
    }
}

impl AskedTable {
    /// Answers until it is over: `example.com` is in it.
    fn answer(&self, workers: &Workers) {
        let (asked, changed) = &*self.0;
        loop {
            let mut state = asked.lock().unwrap();
            while state.questions.is_empty() && !state.is_over {
                state = changed.wait(state).unwrap();
            }
            let Some((key, ticket)) = state.questions.pop() else { return };
            let answer = (key == b"example.com").then(|| b"x".to_vec());
            state.answers.insert(key, answer);
            drop(state);
            workers.tell(|| Control::Answered(ticket));
        }
    }

    fn end(&self) {
        self.0.0.lock().unwrap().is_over = true;
        self.0.1.notify_all();
    }
}

/// An answer of a table goes to all who wait for it, also if it comes at once.
#[test]
fn no_answer_is_missed() {
    const INPUT: &[&[u8]] = &[
        b"EHLO a.example\r\n",
        b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@else.example>\r\nRCPT TO:<u@example.com>\r\nQUIT\r\n",
    ];
    check(|| {
        let table = AskedTable::default();
        let mut relay_domains = Domains::default();
        relay_domains.add_tables(Maps::new(vec![Arc::new(table.clone())]), false);
        let mut settings = settings();
        settings.smtp.destinations = Arc::new(Destinations { relay_domains, ..Destinations::default() });
        let last_reply = "Relay access denied\r\n250 2.1.5 Ok\r\n221 2.0.0 Bye\r\n";
        let Started { workers, thread: worker, .. } =
            start(settings, &World::calm().disk(), 2, INPUT, Some(last_reply));
        let answering = {
            let table = table.clone();
            thread::spawn(move || table.answer(&workers))
        };
        worker.join().unwrap();
        table.end();
        answering.join().unwrap();
    });
}

/// More than the one segment that is ready holds.
const LARGE_MESSAGE: &[&[u8]] = &[
    b"EHLO a.example\r\n",
    b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT 80000 LAST\r\n",
    &[b'x'; 40_000],
    &[b'x'; 40_000],
    b"QUIT\r\n",
];

/// Who waits for a segment goes on when the keeper has it ready.
#[test]
fn no_segment_is_missed() {
    check(|| {
        let disk = World::calm().disk();
        let Started { mut keeper, thread: worker, .. } =
            start(settings(), &disk, 1, LARGE_MESSAGE, Some("221 2.0.0 Bye\r\n"));
        keep_until_joined(&mut keeper, worker);
    });
}

/// Who waits for a segment is refused when the disk turns out to be full.
#[test]
fn no_full_disk_is_missed() {
    check(|| {
        let disk = World::calm().disk();
        let last_reply = "452 4.3.1 Insufficient system storage\r\n221 2.0.0 Bye\r\n";
        let Started { mut keeper, thread: worker, .. } =
            start(settings(), &disk, 1, LARGE_MESSAGE, Some(last_reply));
        disk.world().set_capacity(SPOOL.segment_size);
        keep_until_joined(&mut keeper, worker);
    });
}

/// Does the keeper's work for as long as the worker works.
fn keep_until_joined(keeper: &mut SegmentKeeper<SimDisk>, worker: thread::JoinHandle<()>) {
    let is_over = ModelArc::new(shuttle::sync::atomic::AtomicBool::new(false));
    let joined = {
        let is_over = ModelArc::clone(&is_over);
        thread::spawn(move || {
            worker.join().unwrap();
            is_over.store(true, shuttle::sync::atomic::Ordering::Relaxed);
        })
    };
    while !is_over.load(shuttle::sync::atomic::Ordering::Relaxed) {
        keeper.step();
        thread::yield_now();
    }
    joined.join().unwrap();
}
