//! Owns simulated clients: what each says, and what it must be told.

mod script;

use std::collections::VecDeque;
use std::time::Duration;

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
    /// Sends, and expects these replies.
    Say(Vec<u8>, Vec<Expected>),
    /// Sends content if its DATA was permitted; falls silent in the middle.
    Content(Content, Option<(usize, Duration)>),
    /// Sends the rest of it.
    Rest(Content),
    /// Goes on only when all replies have come.
    Await,
    /// The next transaction begins; one that failed is reset first.
    Next,
    /// Does nothing.
    Pause(Duration),
    /// Sends EHLO or HELO, whatever became of what was before.
    Greet(Vec<u8>),
    /// Does nothing ever again: the server has to end it.
    Silence,
    /// Goes away.
    Leave,
    /// Reads no more.
    StopReading,
}

/// Content of DATA as it goes over the wire.
#[derive(Debug)]
struct Content {
    number: usize,
    wire: Vec<u8>,
    /// The octet behind the message's end, if it has one.
    end: Option<usize>,
}

/// A reply that is to come. What begins otherwise is an error, unless the server is in trouble or has refused what came
/// before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// One that begins so, and refuses nothing.
    Positive(&'static str),
    /// The same, without which nothing that follows will do.
    Needed(&'static str),
    /// A refusal that begins so; what follows is as good as before.
    Refusal(&'static str),
    /// Of MAIL.
    Mail(usize),
    /// Of a RCPT of this message.
    Recipient(usize, usize),
    /// Of DATA.
    Permission,
    /// Of a chunk of this message that is not the last one; of so many bytes.
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
    /// Each with the transaction that it belongs to.
    expected: VecDeque<(Expected, u32)>,
    input: Vec<u8>,
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
    is_permitted: bool,
    /// Goes away after so many octets.
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
            expected: VecDeque::from([(Expected::Positive("220 "), 0)]),
            input: Vec::new(),
            wakes: start,
            gives_up: start.after(PATIENCE),
            is_awaiting: true,
            is_loose: false,
            is_silent: false,
            is_deaf: false,
            transaction: 0,
            failed: None,
            is_permitted: false,
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
        let octets = peer.take();
        self.input.extend(octets);
        self.read_replies(world, ledger)?;
        if self.is_over {
            return Ok(());
        }
        let gives_up = self.is_awaiting && self.gives_up <= now;
        // One that owes is read at the pace of its allowance; what is unread then is not silence yet.
        if gives_up && self.is_silent && !peer.is_unread() && !peer.is_closed() && !world.is_over() {
            return Err("a client that says nothing more is not ended".to_owned());
        }
        if gives_up && self.is_prompt && !self.is_loose && !self.is_deaf && !world.is_over() {
            return Err(format!("a client waits in vain for {:?}", self.expected));
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
                    self.say(peer, ledger, b"RSET\r\n", &[Expected::Positive(OK)]);
                    self.wait_for_replies(now);
                }
                self.transaction += 1;
            }
            Some(Act::Pause(time)) => self.wakes = now.after(time),
            Some(Act::Greet(line)) => {
                self.failed = None;
                self.say(peer, ledger, &line, &[Expected::Positive("250 ")]);
                self.wait_for_replies(now);
            }
            Some(Act::Silence) => {
                self.expect_the_end();
                // Without its replies nobody knows whom the server waits for.
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
            Some(Act::Say(octets, expected)) => {
                if self.failed != Some(self.transaction) {
                    self.say(peer, ledger, &octets, &expected);
                }
            }
            Some(Act::Content(content, silence)) => {
                if std::mem::take(&mut self.is_permitted) {
                    self.begin_content(peer, ledger, content, silence);
                } else {
                    self.failed = Some(self.transaction);
                }
            }
            Some(Act::Rest(content)) => self.send_content(peer, ledger, &content),
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
        self.expected.push_back((Expected::Anything, self.transaction));
        self.is_loose = true;
    }

    fn begin_content(
        &mut self,
        peer: &Peer,
        ledger: &mut Ledger,
        mut content: Content,
        silence: Option<(usize, Duration)>,
    ) {
        if let Some((place, time)) = silence
            && content.end.is_none_or(|end| end > place)
        {
            let wire = content.wire.split_off(place);
            let end = content.end.take().map(|end| end - place);
            self.acts.push_front(Act::Rest(Content { number: content.number, wire, end }));
            self.acts.push_front(Act::Pause(time));
        }
        self.send_content(peer, ledger, &content);
    }

    fn send_content(&mut self, peer: &Peer, ledger: &mut Ledger, content: &Content) {
        if let Some(end) = content.end {
            self.expected.push_back((Expected::Verdict(content.number, None), self.transaction));
            self.is_loose |= end < content.wire.len();
        }
        let sent = self.send(peer, &content.wire);
        if content.end.is_some_and(|end| sent >= end) {
            ledger.sent(content.number);
        }
    }

    /// Sends commands and chunks; messages end with the last octets of what is said about them.
    fn say(&mut self, peer: &Peer, ledger: &mut Ledger, octets: &[u8], expected: &[Expected]) {
        self.expected.extend(expected.iter().map(|expected| (*expected, self.transaction)));
        let sent = self.send(peer, octets);
        for expected in expected {
            if let Expected::Verdict(number, _) = *expected {
                // Where the count is less than what follows, the end is before the end of this.
                let end = end_of_chunk(octets);
                if sent >= end {
                    ledger.sent(number);
                }
                self.is_loose |= end < octets.len();
            }
        }
        if expected.is_empty() {
            self.is_loose = true;
        }
    }

    /// Sends, unless it goes away at one of these octets; returns how many were sent.
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
            self.input.extend(peer.take_all());
            self.read_replies(world, ledger)?;
        }
        self.is_over = true;
        Ok(())
    }

    fn read_replies(&mut self, world: &World, ledger: &mut Ledger) -> Result<(), String> {
        while let Some(end) = self.input.iter().position(|octet| *octet == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).into_owned();
            if line.as_bytes().get(3) != Some(&b'-') {
                self.reply(&line, world, ledger)?;
            }
        }
        Ok(())
    }

    fn reply(&mut self, line: &str, world: &World, ledger: &mut Ledger) -> Result<(), String> {
        if line.starts_with("421 4.3.2 ")
            && line.contains("shutting down")
            && !self.is_loose
            && let Some((Expected::Verdict(number, None), _)) = self.expected.front()
            // Nothing is lost with one that is refused anyway.
            && ledger.message(*number).refusal.is_none()
        {
            return Err(format!("a drain ended a session in the middle of message {number}"));
        }
        if line.starts_with("421 ") {
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
            return Err(format!("a client was told what it had not asked: {line}"));
        };
        let is_positive = line.starts_with(['2', '3']);
        match expected {
            Expected::Verdict(number, _) => {
                let code = line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
                world.note("message {} is told {}", [number as u64, code, 0]);
                ledger.told(number, line, world.disk_failures())?;
                self.accepted += usize::from(is_positive);
            }
            Expected::Permission => self.is_permitted = line.starts_with("354 "),
            Expected::Recipient(number, index) => {
                ledger.message_mut(number).recipients[index].is_accepted = Some(is_positive);
            }
            _ => {}
        }
        // What was sent together with a command that was refused makes no sense then.
        let is_checked = !self.is_loose && self.failed != Some(transaction);
        if is_checked && !is_right(expected, line, ledger) {
            return Err(format!(
                "a client that does all right was told {line:?} where {expected:?} was to come"
            ));
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
        Expected::Positive(text) | Expected::Needed(text) => line.starts_with(text) || is_temporary,
        // A refusal for good stays one, whatever trouble the server is in.
        Expected::Refusal(text) => line.starts_with(text),
        Expected::Mail(number) => {
            let is_refused = refusal(number).is_some() && ledger.message(number).declared_size.is_some();
            line == "250 2.1.0 Ok\r\n" || is_refused || is_temporary
        }
        Expected::Recipient(number, index) => match ledger.message(number).recipients[index].answer {
            Answer::Taken => line == Answer::Taken.reply() || is_temporary,
            // It may have no room for another one, too.
            answer => line.starts_with(answer.reply()) || is_temporary,
        },
        Expected::Permission => line.starts_with("354 ") || is_temporary,
        Expected::Chunk(number, size) => {
            line == format!("250 2.0.0 Ok: {size} bytes\r\n") || refusal(number).is_some() || is_temporary
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

/// The reply to RSET.
const OK: &str = "250 2.0.0 Ok\r\n";

/// Where the last chunk of BDAT ends in `octets`, by what is said of it; their end where none is said.
fn end_of_chunk(octets: &[u8]) -> usize {
    let mut place = 0;
    while let Some(rest) = octets.get(place..).filter(|rest| !rest.is_empty()) {
        let Some(line) = rest.iter().position(|octet| *octet == b'\n') else { break };
        let text = String::from_utf8_lossy(&rest[..line]);
        place += line + 1;
        if let Some(argument) = text.strip_prefix("BDAT ") {
            let digits = argument.split(' ').next().unwrap_or_default().trim_end();
            place += digits.parse::<usize>().unwrap_or(0);
            if argument.contains("LAST") {
                return place;
            }
        }
    }
    octets.len()
}
