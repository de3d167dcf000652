//! Owns simulated clients: what each says, and what it must be told.

mod act;
mod expected;
mod saying;
mod script;

use std::collections::VecDeque;
use std::time::Duration;

use mailrace_core::smtp::client::{ReplyReader, Session};
use mailrace_io::Instant;
use mailrace_io::sim::{Fault, Peer, Random, World};

use super::ledger::Ledger;
use super::plan::Manner;
use act::{Act, Word, Words};
use expected::Expected;

/// How long a client waits for a reply before it goes away.
const PATIENCE: Duration = Duration::from_secs(1000);

/// A simulated client.
#[derive(Debug)]
pub(super) struct Client {
    random: Random,
    worker: usize,
    peer: Option<Peer>,
    acts: VecDeque<Act>,
    /// The dialogue, as long as the client keeps to it.
    session: Session,
    reader: ReplyReader,
    /// What the replies have to say that the dialogue waits for, each with the transaction that it belongs to.
    expected: VecDeque<(Expected, u32)>,
    /// When it does something of its own accord.
    wakes: Instant,
    /// When it gives up.
    gives_up: Instant,
    is_awaiting: bool,
    /// What it says need not make sense to the server.
    is_loose: bool,
    /// It waits for the server to end it.
    is_silent: bool,
    is_deaf: bool,
    transaction: u32,
    /// The last transaction that came to nothing.
    failed: Option<u32>,
    /// Disconnects after this many bytes.
    octets_left: Option<usize>,
    is_over: bool,
    /// It does not wait for what others do.
    is_prompt: bool,
    /// How long the server may be before it ends one that is silent.
    silence_max: Duration,
    /// Messages that it was told are queued.
    pub(super) accepted: usize,
    /// Messages of its script.
    numbers: Vec<usize>,
    /// What it says of itself, at this place of its script, and whether with EHLO.
    helo: String,
    is_extended: bool,
    /// Errors that it may still make without being suspected.
    errors_left: u32,
}

impl Client {
    /// A client with a script of its own.
    pub(super) fn new(
        world: &World,
        ledger: &mut Ledger,
        mut random: Random,
        workers: usize,
        manner: &Manner,
    ) -> Self {
        let start = world.now().after(Duration::from_micros(random.magnitude(1, 4_000_000)));
        let worker = random.index(workers);
        let mut client = Self::silent(random.clone(), worker, start, manner);
        let stalls = world.strikes(Fault::Stall, &mut random);
        let vanishes = world.strikes(Fault::Vanish, &mut random);
        let lies = world.strikes(Fault::Lie, &mut random);
        let floods = world.strikes(Fault::Flood, &mut random);
        let is_deaf = world.strikes(Fault::Deaf, &mut random);
        client.script(ledger, manner, lies, floods);
        if stalls {
            let place = client.random.index(client.acts.len() + 1);
            let pause = Duration::from_millis(client.random.magnitude(500, 120_000));
            client.acts.insert(place, Act::Pause(pause));
        }
        if is_deaf {
            let place = client.random.index(client.acts.len() + 1);
            client.acts.insert(place, Act::StopReading);
            client.is_loose = true;
        }
        client.octets_left = vanishes.then(|| {
            usize::try_from(client.random.magnitude(1, manner.sizes.max(40_000))).unwrap_or(usize::MAX)
        });
        client
    }

    /// One that sends a message, and expects that all goes well.
    pub(super) fn honest(
        world: &World,
        ledger: &mut Ledger,
        random: Random,
        worker: usize,
        manner: &Manner,
    ) -> Self {
        let mut client = Self::silent(random, worker, world.now(), manner);
        client.hello(true);
        client.plain_data(ledger, 500);
        client.quit();
        client
    }

    fn silent(random: Random, worker: usize, start: Instant, manner: &Manner) -> Self {
        Self {
            random,
            worker,
            peer: None,
            acts: VecDeque::new(),
            session: Session::default(),
            reader: ReplyReader::default(),
            expected: VecDeque::from([(Expected::Positive("220 "), 0)]),
            wakes: start,
            gives_up: start.after(PATIENCE),
            is_awaiting: true,
            is_loose: false,
            is_silent: false,
            is_deaf: false,
            transaction: 0,
            failed: None,
            octets_left: None,
            is_over: false,
            is_prompt: manner.is_prompt,
            silence_max: manner.silence_max,
            accepted: 0,
            numbers: Vec::new(),
            helo: String::new(),
            is_extended: false,
            errors_left: 4,
        }
    }

    /// Whether it has nothing more to do.
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// When it does something.
    pub(super) fn next_event(&self) -> Option<Instant> {
        if self.is_over {
            return None;
        }
        let own = if self.is_awaiting && self.peer.is_some() { self.gives_up } else { self.wakes };
        let arrival = self.peer.as_ref().and_then(Peer::next_event);
        Some(arrival.map_or(own, |arrival| arrival.min(own)))
    }

    /// Reads what has come, and goes on.
    pub(super) fn step(&mut self, world: &World, ledger: &mut Ledger) -> Result<(), String> {
        let now = world.now();
        let Some(peer) = self.peer.clone() else {
            let peer = world.connect(self.worker);
            for number in &self.numbers {
                let address = peer.address();
                ledger.message_mut(*number).origin.address = Some((address.ip(), address.port()));
            }
            self.peer = Some(peer);
            self.gives_up = now.after(PATIENCE);
            return Ok(());
        };
        let replies = peer.take();
        if self.is_awaiting && !self.is_silent {
            // Timeouts are for a command (RFC 5321 §4.5.3.2): a server that still reads or answers a large group is at work.
            let active_at = if replies.is_empty() { peer.received_at() } else { now };
            self.gives_up = self.gives_up.max(active_at.after(PATIENCE));
        }
        self.read_replies(&replies, world, ledger)?;
        if self.is_over {
            return Ok(());
        }
        if self.is_silent {
            // One that owes is read at the pace of its allowance: its silence begins for the server when all is read.
            self.gives_up = self.gives_up.max(peer.received_at().after(self.silence_max));
        }
        let gives_up = self.is_awaiting && self.gives_up <= now;
        // One that owes is read at the pace of its allowance; what is unread then is not silence yet.
        if gives_up && self.is_silent && peer.unread() == 0 && !peer.is_closed() && !world.is_over() {
            return Err("a silent client is not disconnected".to_owned());
        }
        // While slow clients have all slots, one that is no less greedy waits to be accepted.
        let is_served = self.is_prompt && !peer.is_in_backlog();
        if gives_up && is_served && !self.is_loose && !self.is_deaf && !world.is_over() {
            return Err(format!("a client does not get the expected reply {:?}", self.expected));
        }
        if peer.is_closed() || gives_up {
            peer.reset();
            self.is_over = true;
            return Ok(());
        }
        if self.is_awaiting && self.expected.is_empty() {
            self.is_awaiting = false;
            let think = if self.random.one_in(3) { self.random.magnitude(1, 50_000) } else { 1 };
            self.wakes = now.after(Duration::from_micros(think));
        }
        if !self.is_awaiting && self.wakes <= now {
            self.act(&peer, now, ledger);
        }
        Ok(())
    }

    fn act(&mut self, peer: &Peer, now: Instant, ledger: &mut Ledger) {
        self.wakes = now.after(Duration::from_micros(1));
        match self.acts.pop_front() {
            None => {
                // It may go without a word.
                self.leave(peer);
                self.expect_the_end();
            }
            Some(Act::Await) => self.wait_for_replies(now),
            Some(Act::Next) => {
                if self.failed == Some(self.transaction) {
                    self.say(peer, ledger, Words::from([Word::Reset]));
                    self.wait_for_replies(now);
                }
                self.transaction += 1;
            }
            Some(Act::Pause(time)) => self.wakes = now.after(time),
            Some(Act::Greet(name, is_extended)) => {
                self.failed = None;
                let mut octets = Vec::new();
                let name = name.as_bytes();
                let hello = if is_extended { Session::hello } else { Session::helo };
                hello(&mut self.session, name, &mut octets).expect(ONE_LINE);
                self.expect(Expected::Positive("250 "));
                self.send(peer, &octets);
                self.wait_for_replies(now);
            }
            Some(Act::Silence) => {
                self.expect_the_end();
                // Without its replies it is unknown for which client the server waits.
                self.is_silent = !self.is_deaf;
                self.gives_up = now.after(self.silence_max);
            }
            Some(Act::Leave) => {
                self.leave(peer);
                self.expect_the_end();
            }
            Some(Act::StopReading) => {
                self.is_deaf = true;
                peer.stop_reading();
            }
            Some(Act::Say(words)) => {
                if self.failed != Some(self.transaction) {
                    self.say(peer, ledger, words);
                }
            }
            Some(Act::Content(content, silence)) => {
                if self.session.is_in_content() {
                    self.begin_content(peer, ledger, content, silence);
                } else {
                    self.failed = Some(self.transaction);
                }
            }
            Some(Act::Rest(wire)) => self.send_ending(peer, ledger, &wire),
        }
    }

    fn wait_for_replies(&mut self, now: Instant) {
        // They may have come already.
        self.is_awaiting = !self.expected.is_empty();
        self.gives_up = now.after(PATIENCE);
    }

    fn leave(&mut self, peer: &Peer) {
        if self.random.one_in(2) { peer.shut() } else { peer.reset() }
    }

    /// It has gone away: whatever comes now is of no use to it.
    fn expect_the_end(&mut self) {
        self.is_awaiting = true;
        self.expect(Expected::Anything);
        self.is_loose = true;
    }

    fn expect(&mut self, expected: Expected) {
        self.expected.push_back((expected, self.transaction));
    }

    /// Its machine is gone.
    pub(super) fn vanish(&self) {
        if let Some(peer) = &self.peer {
            peer.reset();
        }
    }

    /// The engine is gone, or done with this client: reads the last that its kernel had taken.
    pub(super) fn finish(&mut self, world: &World, ledger: &mut Ledger) -> Result<(), String> {
        if let Some(peer) = &self.peer {
            self.read_replies(&peer.take_all(), world, ledger)?;
        }
        self.is_over = true;
        Ok(())
    }

    fn read_replies(&mut self, mut input: &[u8], world: &World, ledger: &mut Ledger) -> Result<(), String> {
        let mut reader = std::mem::take(&mut self.reader);
        while let Some(received) = reader.read(&mut input) {
            let event = self.session.reply_received(&received);
            match received {
                Ok(reply) => self.reply(&reply, event, world, ledger)?,
                Err(invalid) => {
                    let got = String::from_utf8_lossy(invalid.got);
                    return Err(format!("a client got {got:?}: {}", invalid.violation));
                }
            }
        }
        self.reader = reader;
        Ok(())
    }
}

/// Why no command of a script is taken for two.
const ONE_LINE: &str = "names and addresses of clients have no line end";
