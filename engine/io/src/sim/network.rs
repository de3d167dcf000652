//! The simulated network: connections of workers, with clients and servers that the caller plays, and with each other.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use crate::{ConnectionId, Instant, Token};

/// How long bytes take at most when the network is slow.
pub(super) const SLOW: Duration = Duration::from_secs(3);

/// Who takes connections at an address.
#[derive(Debug)]
pub(super) enum Listening {
    /// This worker.
    Worker(usize),
    /// The caller; the links that it has not taken yet.
    Caller(VecDeque<usize>),
}

/// A worker's connection, as both of its ends see it. Its peer is played by the caller, or is another link: that of the
/// worker at the other end.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) worker: usize,
    /// The address that it was made from.
    pub(super) peer: SocketAddr,
    /// The other worker's link.
    pub(super) twin: Option<usize>,
    pub(super) place: Place,
    /// When it reaches the worker's socket; later after it was refused once.
    pub(super) arrives: Instant,
    /// On their way to the worker.
    pub(super) to_worker: VecDeque<(Instant, Vec<u8>)>,
    /// Arrived there and not received.
    pub(super) inbox: VecDeque<u8>,
    /// When the worker last received some of it.
    pub(super) received_at: Instant,
    /// When the peer's end of stream arrives.
    pub(super) fin: Option<Instant>,
    /// When its reset arrives.
    pub(super) reset: Option<Instant>,
    /// Nothing arrives before what was sent earlier.
    pub(super) last_arrival: Instant,
    /// All that the worker's kernel took from it.
    pub(super) said: Vec<u8>,
    /// When how much of it reaches the peer.
    pub(super) to_peer: VecDeque<(Instant, usize)>,
    pub(super) arrived: usize,
    pub(super) taken: usize,
    pub(super) is_deaf: bool,
    /// When the peer sees that the worker closed.
    pub(super) closes: Option<Instant>,
    pub(super) receive: Option<Token>,
    /// It ends after one piece.
    pub(super) receives_some: bool,
    pub(super) send: Option<Send>,
}

/// Where a connection is with its worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The worker is making it.
    Connecting,
    /// Not accepted yet.
    Backlog,
    /// The worker has it.
    Open(ConnectionId),
    /// The worker has closed it, or is gone, or it never came about.
    Over,
}

/// A send under way.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) token: Token,
    pub(super) memory: Vec<u8>,
    sent: usize,
}

impl Send {
    pub(super) const fn new(token: Token, memory: Vec<u8>) -> Self {
        Self { token, memory, sent: 0 }
    }
}

impl Link {
    /// A connection of `worker` that was made from `peer`, and gets to where it goes at `arrives`.
    pub(super) fn new(worker: usize, peer: SocketAddr, place: Place, arrives: Instant) -> Self {
        Self {
            worker,
            peer,
            twin: None,
            place,
            arrives,
            to_worker: VecDeque::new(),
            inbox: VecDeque::new(),
            received_at: Instant::default(),
            fin: None,
            reset: None,
            last_arrival: arrives,
            said: Vec::new(),
            to_peer: VecDeque::new(),
            arrived: 0,
            taken: 0,
            is_deaf: false,
            closes: None,
            receive: None,
            receives_some: false,
            send: None,
        }
    }

    /// Sends bytes to the worker, which arrive at this time or, in their order, later.
    pub(super) fn deliver(&mut self, time: Instant, octets: Vec<u8>) {
        self.last_arrival = self.last_arrival.max(time);
        self.to_worker.push_back((self.last_arrival, octets));
    }

    /// Ends what is sent to the worker, at this time or after all of it.
    pub(super) fn end(&mut self, time: Instant) {
        self.fin = Some(self.last_arrival.max(time));
    }

    /// Takes all that the worker's kernel took from it, and when it arrives.
    pub(super) fn take_said(&mut self) -> Option<(Instant, Vec<u8>)> {
        let (time, _) = self.to_peer.pop_back()?;
        self.to_peer.clear();
        Some((time, std::mem::take(&mut self.said)))
    }

    /// Number of bytes that the worker has not received; none that it never will.
    pub(super) fn unreceived(&self) -> usize {
        if self.place == Place::Over {
            return 0;
        }
        self.unread()
    }

    /// Number of bytes that are on their way to the worker or have arrived there.
    pub(super) fn unread(&self) -> usize {
        self.inbox.len() + self.to_worker.iter().map(|(_, octets)| octets.len()).sum::<usize>()
    }

    /// Takes what has arrived from the peer; `keeps_pieces`: only the next piece, when all before it is received.
    pub(super) fn arrive(&mut self, now: Instant, keeps_pieces: bool) {
        while (!keeps_pieces || self.inbox.is_empty())
            && self.to_worker.front().is_some_and(|(time, _)| *time <= now)
        {
            self.inbox.extend(self.to_worker.pop_front().into_iter().flat_map(|(_, octets)| octets));
        }
    }

    /// Whether the peer's end of stream has arrived, with all before it.
    pub(super) fn is_shut(&self, now: Instant) -> bool {
        self.fin.is_some_and(|time| time <= now) && self.to_worker.is_empty() && self.inbox.is_empty()
    }

    /// Whether the peer's reset has arrived.
    pub(super) fn is_reset(&self, now: Instant) -> bool {
        self.reset.is_some_and(|time| time <= now)
    }

    /// Lets the send under way go on as far as there is room. True: all of it is out.
    pub(super) fn go_on_sending(&mut self, room: usize, arrival: Instant) -> bool {
        let Some(send) = self.send.as_mut() else { return false };
        let rest = &send.memory[send.sent..];
        let count = rest.len().min(room);
        if count > 0 {
            self.said.extend_from_slice(&rest[..count]);
            send.sent += count;
            let last = self.to_peer.back().map_or(arrival, |(time, _)| *time);
            self.to_peer.push_back((arrival.max(last), self.said.len()));
        }
        send.sent == send.memory.len()
    }

    fn can_send(&self, room: usize) -> bool {
        let Some(send) = self.send.as_ref() else { return false };
        send.sent == send.memory.len() || room > 0
    }

    /// When something comes of it for the worker. `room`: bytes that it could send.
    pub(super) fn next_event(&self, now: Instant, room: usize) -> Option<Instant> {
        match self.place {
            Place::Connecting | Place::Over => None,
            Place::Backlog => Some(self.arrives),
            Place::Open(_) => {
                let mut next = None;
                let mut consider = |time: Option<Instant>| {
                    if let Some(time) = time {
                        next = Some(next.map_or(time, |next: Instant| next.min(time)));
                    }
                };
                if self.receive.is_some() {
                    consider((!self.inbox.is_empty()).then_some(now));
                    consider(self.to_worker.front().map(|(time, _)| *time));
                    consider(self.fin);
                    consider(self.reset);
                }
                if self.send.is_some() {
                    consider(self.can_send(room).then_some(now));
                    consider(self.reset);
                }
                next
            }
        }
    }

    /// The worker closes it: what was said still arrives.
    pub(super) fn close(&mut self, arrival: Instant) {
        let last = self.to_peer.back().map_or(arrival, |(time, _)| *time);
        self.closes = Some(arrival.max(last));
        self.place = Place::Over;
        self.receive = None;
    }

    /// The network or the peer's machine ends it.
    pub(super) fn break_off(&mut self, now: Instant) {
        self.reset = Some(self.reset.map_or(now, |time| time.min(now)));
        self.closes = Some(now);
    }

    /// The worker's process has ended: its kernel closes what it had.
    pub(super) fn worker_is_gone(&mut self) {
        if self.place != Place::Over {
            self.place = Place::Over;
            self.closes.get_or_insert_default();
            self.receive = None;
            self.send = None;
        }
    }
}
