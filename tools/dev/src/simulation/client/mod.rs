//! Owns simulated clients: what each says, and what it must be told.

mod script;

use std::collections::VecDeque;
use std::time::Duration;

use mailrace_core::smtp::client::{Event, Reply, ReplyReader, Session};
use mailrace_io::Instant;
use mailrace_io::sim::{Fault, Peer, Random, World};

use super::ledger::Ledger;
use super::message::Answer;
use super::plan::Manner;

/// How long a client waits for a reply before it goes away.
const PATIENCE: Duration = Duration::from_secs(1000);

/// What a client does next.
#[derive(Debug)]
enum Act {
    /// Sends these together, as far as each may follow the one before without its reply.
    Say(Words),
    /// Sends content if its DATA was permitted; falls silent in the middle.
    Content(Content, Option<(usize, Duration)>),
    /// Sends the rest of it.
    Rest(Wire),
    /// Goes on only when all replies have come.
    Await,
    /// The next transaction begins; one that failed is reset first.
    Next,
    /// Does nothing.
    Pause(Duration),
    /// Sends EHLO or HELO with this name, whatever became of what was before.
    Greet(String, bool),
    /// Does nothing ever again: the server has to end it.
    Silence,
    /// Goes away.
    Leave,
    /// Stops reading.
    StopReading,
}

/// Something to say.
#[derive(Debug)]
enum Word {
    /// MAIL of this message.
    Mail(usize),
    /// RCPT of this message.
    Recipient(usize, usize),
    Data,
    /// BDAT of this message.
    Chunk(Chunk),
    /// RSET.
    Reset,
    /// QUIT.
    Quit,
    /// A command that changes nothing, and its reply.
    Other(&'static str, Expected),
    /// Nothing that makes sense; the message that ends in it all the same.
    Nonsense(Vec<u8>, Option<End>),
}

/// What a client says at once.
type Words = VecDeque<Word>;

/// A chunk of a message.
#[derive(Debug)]
struct Chunk {
    number: usize,
    octets: Vec<u8>,
    /// It is the last one; all together have this many bytes.
    total: Option<usize>,
}

/// Where a server has to take a message for ended.
#[derive(Clone, Copy, Debug)]
struct End {
    number: usize,
    /// The offset after it in the input of the server.
    place: usize,
    /// Its bytes if it came in chunks.
    total: Option<usize>,
}

/// Content of DATA.
#[derive(Debug)]
struct Content {
    number: usize,
    /// With its dots as they are sent.
    wire: Vec<u8>,
    ending: Ending,
}

/// How content of DATA ends.
#[derive(Clone, Copy, Debug)]
enum Ending {
    /// Not at all.
    None,
    /// With a line of its own.
    Dot,
    /// In the middle, after this many bytes, because a dot was not stuffed.
    Within(usize),
}

/// Bytes to send, and the message that ends in them.
#[derive(Debug)]
struct Wire {
    octets: Vec<u8>,
    end: Option<End>,
}

/// A reply that is to come. Another one is an error, unless the server is in trouble or has refused what came before. A text
/// that ends with a space is how the reply begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// This one, which refuses nothing.
    Positive(&'static str),
    /// The same, without which nothing that follows will do.
    Needed(&'static str),
    /// This refusal; what follows is as good as before.
    Refusal(&'static str),
    /// Of MAIL.
    Mail(usize),
    /// Of a RCPT of this message.
    Recipient(usize, usize),
    /// Of DATA.
    Permission,
    /// Of a chunk of this message that is not the last one, with this many bytes.
    Chunk(usize, usize),
    /// Of the end of this message; with the bytes of all of its chunks if it came in chunks.
    Verdict(usize, Option<usize>),
    /// Whatever comes.
    Anything,
}

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
        if gives_up && self.is_silent && !peer.is_unread() && !peer.is_closed() && !world.is_over() {
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

    fn begin_content(
        &mut self,
        peer: &Peer,
        ledger: &mut Ledger,
        content: Content,
        silence: Option<(usize, Duration)>,
    ) {
        let mut octets = Vec::new();
        self.session.content(&content.wire, &mut octets);
        let place = match content.ending {
            Ending::None => None,
            Ending::Dot => {
                self.session.end_of_data(&mut octets);
                Some(octets.len())
            }
            Ending::Within(place) => Some(place),
        };
        let mut wire =
            Wire { octets, end: place.map(|place| End { number: content.number, place, total: None }) };
        if let Some((place, time)) = silence
            && wire.end.is_none_or(|end| end.place > place)
        {
            let octets = wire.octets.split_off(place);
            let end = wire.end.take().map(|end| End { place: end.place - place, ..end });
            self.acts.push_front(Act::Rest(Wire { octets, end }));
            self.acts.push_front(Act::Pause(time));
        }
        self.send_ending(peer, ledger, &wire);
    }

    /// Sends bytes in which a message may end.
    fn send_ending(&mut self, peer: &Peer, ledger: &mut Ledger, Wire { octets, end }: &Wire) {
        if let Some(End { number, total, .. }) = *end {
            self.expect(Expected::Verdict(number, total));
        }
        let sent = self.send(peer, octets);
        if let Some(End { number, place, .. }) = *end {
            if sent >= place {
                ledger.sent(number);
            }
            self.is_loose |= place < octets.len();
        }
    }

    /// Says these; one that may not follow those before it waits for their replies, with all after it.
    fn say(&mut self, peer: &Peer, ledger: &mut Ledger, mut words: Words) {
        let mut octets = Vec::new();
        let mut ends = Vec::new();
        while let Some(word) = words.pop_front() {
            let is_nonsense = matches!(word, Word::Nonsense(..));
            if !is_nonsense && !self.session.may_send() {
                if self.is_loose {
                    // After a lie the dialogue is out of step.
                    self.acts.clear();
                    break;
                }
                words.push_front(word);
                self.acts.push_front(Act::Say(words));
                self.acts.push_front(Act::Await);
                break;
            }
            ends.extend(self.append(word, ledger, &mut octets));
        }
        let sent = self.send(peer, &octets);
        for End { number, place, .. } in ends {
            if sent >= place {
                ledger.sent(number);
            }
        }
    }

    /// Appends a word to what is sent, and expects its reply; where a message ends in it.
    fn append(&mut self, word: Word, ledger: &Ledger, octets: &mut Vec<u8>) -> Option<End> {
        match word {
            Word::Mail(number) => {
                let message = ledger.message(number);
                let (path, parameters) = (message.sender.as_bytes(), message.parameters());
                self.session.mail(path, parameters.as_bytes(), octets).expect(ONE_LINE);
                self.expect(Expected::Mail(number));
            }
            Word::Recipient(number, index) => {
                let recipient = &ledger.message(number).recipients[index];
                let (path, parameters) = (recipient.address.as_bytes(), recipient.parameters());
                self.session.rcpt(path, parameters.as_bytes(), octets).expect(ONE_LINE);
                self.expect(Expected::Recipient(number, index));
            }
            Word::Data => {
                self.session.data(octets);
                self.expect(Expected::Permission);
            }
            Word::Chunk(chunk) => return self.append_chunk(&chunk, octets),
            Word::Reset => {
                self.session.reset(octets);
                self.expect(Expected::Positive(OK));
            }
            Word::Quit => {
                self.session.quit(octets);
                self.expect(Expected::Positive("221 2.0.0 Bye"));
            }
            Word::Other(line, expected) => {
                self.session.other(line.as_bytes(), octets).expect(ONE_LINE);
                self.expect(expected);
            }
            Word::Nonsense(nonsense, end) => {
                self.is_loose |= end.is_none_or(|end| end.place < nonsense.len());
                let start = octets.len();
                octets.extend_from_slice(&nonsense);
                let end = end.map(|end| End { place: start + end.place, ..end })?;
                self.expect(Expected::Verdict(end.number, end.total));
                return Some(end);
            }
        }
        None
    }

    fn append_chunk(
        &mut self,
        Chunk { number, octets: chunk, total }: &Chunk,
        octets: &mut Vec<u8>,
    ) -> Option<End> {
        self.session.bdat(chunk.len() as u64, total.is_some(), octets);
        self.session.content(chunk, octets);
        let (number, total) = (*number, *total);
        self.expect(match total {
            Some(_) => Expected::Verdict(number, total),
            None => Expected::Chunk(number, chunk.len()),
        });
        total.map(|_| End { number, place: octets.len(), total })
    }

    /// Sends, unless it goes away at one of these bytes; returns how many were sent.
    fn send(&mut self, peer: &Peer, octets: &[u8]) -> usize {
        let size = self.octets_left.map_or(octets.len(), |left| left.min(octets.len()));
        peer.send(&octets[..size]);
        if let Some(left) = self.octets_left.as_mut() {
            *left -= size;
            if *left == 0 {
                self.leave(peer);
                self.acts.clear();
                self.expect_the_end();
            }
        }
        size
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

    fn reply(
        &mut self,
        reply: &Reply<'_>,
        event: Event,
        world: &World,
        ledger: &mut Ledger,
    ) -> Result<(), String> {
        let line = &*String::from_utf8_lossy(reply.line());
        if line.starts_with("421 4.3.2 ")
            && line.contains("shutting down")
            && !self.is_loose
            && let Some((Expected::Verdict(number, None), _)) = self.expected.front()
            // Nothing is lost with one that is refused anyway.
            && ledger.message(*number).refusal.is_none()
        {
            return Err(format!("a drain ended a session in the middle of message {number}"));
        }
        if matches!(event, Event::Closing(_)) {
            // Whatever was expected: it is the end.
            self.acts.clear();
            self.is_loose = true;
            self.expected.retain(|(expected, _)| matches!(expected, Expected::Verdict(..)));
            return Ok(());
        }
        let Some((expected, transaction)) = self.expected.pop_front() else {
            if self.is_loose {
                return Ok(());
            }
            return Err(format!("a client got a reply without a command: {line}"));
        };
        let is_positive = matches!(reply.code() / 100, 2 | 3);
        match expected {
            Expected::Verdict(number, _) => {
                world.note("message {} is answered with {}", [number as u64, u64::from(reply.code()), 0]);
                ledger.told(number, line, world.disk_failures())?;
                self.accepted += usize::from(is_positive);
            }
            Expected::Recipient(number, index) => {
                ledger.message_mut(number).recipients[index].is_accepted = Some(is_positive);
            }
            _ => {}
        }
        // What was sent together with a command that was refused makes no sense then.
        let is_checked = !self.is_loose && self.failed != Some(transaction);
        if !self.is_loose && !matches!(event, Event::Answer(_)) {
            return Err(format!("a client got {line:?} out of step: {event:?}"));
        }
        if is_checked && !is_right(expected, line, ledger) {
            return Err(format!("a correct client got {line:?} instead of {expected:?}"));
        }
        let is_failure = match expected {
            Expected::Verdict(..) | Expected::Refusal(_) => false,
            Expected::Recipient(number, index) => {
                !is_positive && ledger.message(number).recipients[index].answer == Answer::Taken
            }
            _ => !is_positive,
        };
        if is_failure {
            self.failed = Some(transaction);
        }
        Ok(())
    }
}

/// Whether a reply is one that may come there. Temporary refusals are what a server in trouble says, at any place.
fn is_right(expected: Expected, line: &str, ledger: &Ledger) -> bool {
    let is_temporary = line.starts_with('4');
    let refusal = |number: usize| ledger.message(number).refusal.filter(|refusal| line.starts_with(refusal));
    match expected {
        Expected::Positive(text) | Expected::Needed(text) => is_said(line, text) || is_temporary,
        // A refusal for good stays one, whatever trouble the server is in.
        Expected::Refusal(text) => is_said(line, text),
        Expected::Mail(number) => {
            let is_refused = refusal(number).is_some() && ledger.message(number).declared_size.is_some();
            line == "250 2.1.0 Ok" || is_refused || is_temporary
        }
        Expected::Recipient(number, index) => match ledger.message(number).recipients[index].answer {
            Answer::Taken => line == Answer::Taken.reply() || is_temporary,
            // It may have no room for another one, too.
            answer => line.starts_with(answer.reply()) || is_temporary,
        },
        Expected::Permission => line.starts_with("354 ") || is_temporary,
        Expected::Chunk(number, size) => {
            line == format!("250 2.0.0 Ok: {size} bytes") || refusal(number).is_some() || is_temporary
        }
        Expected::Verdict(number, size) => {
            let queued = match size {
                Some(size) => format!("250 2.0.0 Ok: {size} bytes queued as "),
                None => "250 2.0.0 Ok: queued as ".to_owned(),
            };
            let is_refused = refusal(number).is_some();
            let may_enter = ledger.message(number).refusal.is_none();
            (may_enter && line.starts_with(&queued)) || is_refused || is_temporary
        }
        Expected::Anything => true,
    }
}

/// Whether a reply is this text, or begins with it if it ends with a space.
fn is_said(line: &str, text: &str) -> bool {
    if text.ends_with(' ') { line.starts_with(text) } else { line == text }
}

/// The reply to RSET and NOOP.
const OK: &str = "250 2.0.0 Ok";
/// Why no command of a script is taken for two.
const ONE_LINE: &str = "names and addresses of clients have no line end";
