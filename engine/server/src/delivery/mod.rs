//! The thread that delivers: the composition of dispatcher, ring, reader, workers and log.

mod log;
mod routing;

use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam::channel::{self, Receiver, Sender};
use mailrace_core::QueueId;
use mailrace_delivery::dispatcher::{Answer, Dispatcher, Paths, Queue, Report, Resolver, Settings};
use mailrace_delivery::hosts::Servers;
use mailrace_delivery::manager::Note;
use mailrace_delivery::{Cause, HostName};
use mailrace_io::{Io, IoError, OsDisk, Waker};
use mailrace_spool::{SegmentReader, Source};

use crate::door::DispatcherDoor;
use crate::edge::dns::{Dns, DnsSettings, NextHopName, NotTaken};
use crate::log::LogWriter;
use crate::worker::{Hatch, Request, Workers};

pub(crate) use routing::Routing;

/// The workers, as the dispatcher asks them.
struct Doors {
    requests: Vec<Sender<Request>>,
    workers: Workers,
}

impl Doors {
    fn ask(&self, worker: u16, request: Request) {
        if let Some(sender) = self.requests.get(usize::from(worker)) {
            // A worker ends only with the process, or after the dispatcher.
            let _ = sender.send(request);
            self.workers.wake(usize::from(worker));
        }
    }
}

impl Queue for Doors {
    fn find(&mut self, worker: u16, id: QueueId) {
        self.ask(worker, Request::Find(id));
    }

    fn note(&mut self, worker: u16, id: QueueId, note: Note) {
        self.ask(worker, Request::Note(id, note));
    }

    fn exists(&mut self, about: QueueId, id: QueueId) -> usize {
        for worker in (0..).take(self.requests.len()) {
            self.ask(worker, Request::Exists { about, id });
        }
        self.requests.len()
    }

    fn report(&mut self, worker: u16, report: Box<Report>) {
        self.ask(worker, Request::Report(report));
    }
}

/// What the thread needs once the workers run.
struct Start {
    reader: SegmentReader<OsDisk>,
    doors: Doors,
}

/// The thread that delivers, waiting for the workers to start.
pub(crate) struct DeliveryThread {
    thread: JoinHandle<()>,
    start: Sender<Start>,
    /// Wakes it.
    pub(crate) waker: Waker,
    answers: Sender<Answer<Source>>,
    requests: Vec<Sender<Request>>,
    /// What each worker needs of it.
    hatches: Vec<Hatch<Source>>,
    routing: Routing,
}

/// What the thread delivers by.
pub(crate) struct Delivery {
    pub(crate) settings: Settings,
    /// How names of next hops are looked up.
    pub(crate) dns: DnsSettings,
    pub(crate) routing: Routing,
    pub(crate) log: LogWriter,
}

impl DeliveryThread {
    /// Starts the thread on the `Io` that `make_io` makes there.
    ///
    /// # Errors
    /// [`IoError`] if the kernel refuses the `Io`; `None` if the thread cannot be started.
    pub(crate) fn start<I: Io<Disk = OsDisk>>(
        delivery: Delivery,
        workers: u16,
        make_io: impl FnOnce() -> Result<I, IoError> + Send + 'static,
    ) -> Result<Self, Option<IoError>> {
        let routing = delivery.routing.clone();
        let (answers, heard) = channel::unbounded();
        let (start, starts) = channel::bounded(1);
        let (ready, readies) = channel::bounded(1);
        let thread = std::thread::Builder::new().name("delivery".to_owned());
        let told = answers.clone();
        let life = move || match make_io() {
            Ok(io) => {
                let waker = io.waker();
                let _ = ready.send(Ok(waker.clone()));
                deliver(io, delivery, &starts, heard, (told, waker));
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let thread = thread.spawn(life).map_err(|_| None)?;
        let waker = readies.recv().map_err(|_| None)?.map_err(Some)?;
        let (requests, hatches) = (0..workers)
            .map(|worker| {
                let (sender, requests) = channel::unbounded();
                let (answers, waker) = (answers.clone(), waker.clone());
                (sender, Hatch { worker, requests, answers, waker, size: Source::octets })
            })
            .unzip();
        Ok(Self { thread, start, waker, answers, requests, hatches, routing })
    }

    /// What each worker needs of it, once.
    pub(crate) fn take_hatches(&mut self) -> Vec<Hatch<Source>> {
        std::mem::take(&mut self.hatches)
    }

    /// A way to ask it for something.
    pub(crate) fn door(&self) -> DispatcherDoor {
        DispatcherDoor::new(self.answers.clone(), self.waker.clone())
    }

    /// The next hops, which a reload may change.
    pub(crate) fn routing(&self) -> Routing {
        self.routing.clone()
    }

    /// The workers run: their messages are delivered from now on.
    pub(crate) fn begin(&self, reader: SegmentReader<OsDisk>, workers: &Workers) {
        let doors = Doors { requests: self.requests.clone(), workers: workers.clone() };
        for worker in (0..).take(self.requests.len()) {
            doors.ask(worker, Request::List);
        }
        // The thread waits for it.
        let _ = self.start.send(Start { reader, doors });
    }

    /// Begins no further delivery, and waits until those under way have ended, for `patience` at most.
    pub(crate) fn stop(self, patience: Duration) {
        let _ = self.answers.send(Answer::Stop(patience));
        self.waker.wake();
        // What the thread panicked with is in the log.
        let _ = self.thread.join();
    }
}

/// Delivers until it is stopped.
fn deliver<I: Io<Disk = OsDisk>>(
    io: I,
    delivery: Delivery,
    starts: &Receiver<Start>,
    heard: Receiver<Answer<Source>>,
    door: (Sender<Answer<Source>>, Waker),
) {
    let Ok(Start { reader, doors }) = starts.recv() else { return };
    let Delivery { settings, dns, routing, log } = delivery;
    let (answers, waker) = door;
    let resolver = match Dns::start(dns, answer_through(answers.clone(), waker.clone())) {
        Ok(dns) => resolver(dns, answer_through(answers, waker)),
        Err(error) => panic!("the thread of the resolver could not be started: {error}"),
    };
    let observer = log::DeliveryLog::new(log);
    let router = Box::new(move |envelope: &_, recipient: &_| routing.route(envelope, recipient));
    let paths = Paths { router, resolver };
    let dispatcher = Dispatcher::new(io, reader, doors, observer, paths, settings, heard);
    if let Err(error) = dispatcher.run() {
        // A worker whose ring fails ends the process as well: the next start continues from the queue.
        panic!("the ring of deliveries failed: {error}");
    }
}

/// Passes what was found to the dispatcher.
fn answer_through(answers: Sender<Answer<Source>>, waker: Waker) -> impl Fn(u64, Servers) + Send + 'static {
    move |serial, servers| {
        // A dispatcher that has ended needs no servers.
        let _ = answers.send(Answer::Resolved(serial, servers));
        waker.wake();
    }
}

/// Asks the resolver; a question that it has no room for is answered at once, and its mail is tried again later.
fn resolver(dns: Dns, answer: impl Fn(u64, Servers) + Send + 'static) -> Resolver {
    Box::new(move |serial, HostName { name, port, wants_mx }: HostName| {
        let question = NextHopName { host: (*name).into(), port, wants_mx };
        if let Err(NotTaken(question)) = dns.ask(serial, question) {
            let text =
                format!("Host or domain name not looked up: too many names wait. Name: {}", question.host);
            let result = Err(Cause::new(4, 4, 3, text));
            answer(serial, Servers { result, has_self: false });
        }
    })
}
