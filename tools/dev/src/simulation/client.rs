//! Owns simulated clients: what each says, and when it falls silent, goes away, lies or floods.

use std::collections::VecDeque;
use std::time::Duration;

use mailrace_io::Instant;
use mailrace_io::sim::{Fault, Peer, Random, World};

use super::ledger::Ledger;
use super::message::Message;

/// How long a client waits for a reply before it goes away.
const PATIENCE: Duration = Duration::from_secs(1000);

/// More than a client ever sends after a lie.
const OCTETS_NEVER_SENT: usize = 200_000;

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

/// A reply that is to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// Any that is no refusal.
    Positive,
    /// Of MAIL or RCPT, without which nothing that follows will do.
    Needed,
    /// Of DATA.
    Permission,
    /// Of the end of this message.
    Verdict(usize),
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
    transaction: u32,
    /// The last transaction that came to nothing.
    failed: Option<u32>,
    is_permitted: bool,
    /// Goes away after so many octets.
    octets_left: Option<usize>,
    is_over: bool,
    /// Messages that it was told are queued.
    pub(super) accepted: usize,
}

impl Client {
    /// A client with a script of its own.
    pub(super) fn new(
        world: &World,
        ledger: &mut Ledger,
        mut random: Random,
        workers: usize,
        sizes: u64,
    ) -> Self {
        let start = world.now().after(Duration::from_micros(random.magnitude(1, 4_000_000)));
        let worker = random.index(workers);
        let mut client = Self::silent(random.clone(), worker, start);
        let stalls = world.strikes(Fault::Stall, &mut random);
        let vanishes = world.strikes(Fault::Vanish, &mut random);
        let lies = world.strikes(Fault::Lie, &mut random);
        let floods = world.strikes(Fault::Flood, &mut random);
        let is_deaf = world.strikes(Fault::Deaf, &mut random);
        client.script(ledger, lies, floods, sizes);
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
        client.octets_left =
            vanishes.then(|| usize::try_from(client.random.magnitude(1, 40_000)).unwrap_or(usize::MAX));
        client
    }

    /// One that sends a message, and expects that all goes well.
    pub(super) fn honest(world: &World, ledger: &mut Ledger, random: Random, worker: usize) -> Self {
        let mut client = Self::silent(random, worker, world.now());
        client.hello(true);
        client.data(ledger, true, 500);
        client.quit();
        client
    }

    fn silent(random: Random, worker: usize, start: Instant) -> Self {
        Self {
            random,
            worker,
            peer: None,
            acts: VecDeque::new(),
            expected: VecDeque::from([(Expected::Positive, 0)]),
            input: Vec::new(),
            wakes: start,
            gives_up: start.after(PATIENCE),
            is_awaiting: true,
            is_loose: false,
            transaction: 0,
            failed: None,
            is_permitted: false,
            octets_left: None,
            is_over: false,
            accepted: 0,
        }
    }

    fn script(&mut self, ledger: &mut Ledger, lies: bool, floods: bool, sizes: u64) {
        let is_extended = !self.random.one_in(8);
        self.hello(is_extended);
        let count =
            if self.random.one_in(6) { self.random.between(5, 20) } else { self.random.between(1, 4) };
        for _ in 0..count {
            let size = usize::try_from(self.random.magnitude(20, sizes)).unwrap_or(usize::MAX);
            match self.random.below(8) {
                0 => self.reset(),
                1..=3 if is_extended => self.chunks(ledger, size),
                _ => self.data(ledger, is_extended, size),
            }
        }
        if lies {
            self.lie(ledger, is_extended);
        }
        if floods {
            self.flood(ledger);
        }
        if !self.random.one_in(5) {
            self.quit();
        }
    }

    fn hello(&mut self, is_extended: bool) {
        let line = if is_extended { "EHLO client.example\r\n" } else { "HELO client.example\r\n" };
        self.acts.push_back(Act::Say(line.into(), vec![Expected::Positive]));
        self.acts.push_back(Act::Await);
    }

    fn quit(&mut self) {
        self.acts.push_back(Act::Await);
        self.acts.push_back(Act::Say(b"QUIT\r\n".to_vec(), vec![Expected::Positive]));
        self.acts.push_back(Act::Await);
    }

    /// A transaction that is given up.
    fn reset(&mut self) {
        let lines: [&[u8]; 3] =
            [b"MAIL FROM:<never@client.example>\r\n", b"RCPT TO:<never@example.com>\r\n", b"RSET\r\n"];
        self.acts.push_back(Act::Next);
        for line in lines {
            self.acts.push_back(Act::Say(line.to_vec(), vec![Expected::Needed]));
            self.acts.push_back(Act::Await);
        }
    }

    fn begin(&mut self, ledger: &mut Ledger, size: usize) -> usize {
        ledger.begin(|number| Message::new(number, size, &mut self.random))
    }

    /// MAIL and RCPT, together with `rest` if commands may be sent together.
    fn envelope(&mut self, message: &Message, is_pipelining: bool, rest: Option<(Vec<u8>, Vec<Expected>)>) {
        self.acts.push_back(Act::Next);
        let mail = format!("MAIL FROM:<{}>\r\n", message.sender);
        let recipients = message.recipients.iter().map(|recipient| format!("RCPT TO:<{recipient}>\r\n"));
        let commands = std::iter::once(mail).chain(recipients).map(String::into_bytes);
        if is_pipelining {
            let mut expected = vec![Expected::Needed; 1 + message.recipients.len()];
            let mut together: Vec<u8> = commands.flatten().collect();
            if let Some((octets, replies)) = rest {
                together.extend(octets);
                expected.extend(replies);
            }
            self.acts.push_back(Act::Say(together, expected));
        } else {
            for command in commands {
                self.acts.push_back(Act::Say(command, vec![Expected::Needed]));
                self.acts.push_back(Act::Await);
            }
            if let Some((octets, replies)) = rest {
                self.acts.push_back(Act::Say(octets, replies));
            }
        }
    }

    fn data(&mut self, ledger: &mut Ledger, is_extended: bool, size: usize) {
        let number = self.begin(ledger, size);
        let message = ledger.message(number);
        let wire = message.stuffed();
        let is_pipelining = is_extended && self.random.one_in(2);
        self.envelope(message, is_pipelining, Some((b"DATA\r\n".to_vec(), vec![Expected::Permission])));
        self.acts.push_back(Act::Await);
        let end = Some(wire.len());
        self.content(Content { number, wire, end });
        if !is_pipelining || self.random.one_in(2) {
            self.acts.push_back(Act::Await);
        }
    }

    fn content(&mut self, content: Content) {
        let silence = self.random.one_in(10).then(|| {
            let pause = Duration::from_millis(self.random.magnitude(1, 4000));
            (self.random.index(content.wire.len()), pause)
        });
        self.acts.push_back(Act::Content(content, silence));
    }

    fn chunks(&mut self, ledger: &mut Ledger, size: usize) {
        let number = self.begin(ledger, size);
        let message = ledger.message(number);
        let is_pipelining = self.random.one_in(2);
        let count = if self.random.one_in(3) { 1 + self.random.index(6) } else { 1 };
        let mut rest = message.content.as_slice();
        let mut chunks = Vec::new();
        for index in 1..=count {
            let size = if index == count { rest.len() } else { self.random.index(rest.len() + 1) };
            let (chunk, behind) = rest.split_at(size);
            let is_last = index == count;
            if chunk.is_empty() && !is_last {
                continue;
            }
            let mut octets = format!("BDAT {size}{}\r\n", if is_last { " LAST" } else { "" }).into_bytes();
            octets.extend_from_slice(chunk);
            chunks.push((octets, vec![if is_last { Expected::Verdict(number) } else { Expected::Needed }]));
            rest = behind;
        }
        let message = message.clone();
        if is_pipelining && self.random.one_in(2) {
            let all = chunks.into_iter().fold((Vec::new(), Vec::new()), |mut all, (octets, replies)| {
                all.0.extend(octets);
                all.1.extend(replies);
                all
            });
            self.envelope(&message, true, Some(all));
        } else {
            self.envelope(&message, is_pipelining, None);
            for (octets, replies) in chunks {
                if !is_pipelining || self.random.one_in(2) {
                    self.acts.push_back(Act::Await);
                }
                self.acts.push_back(Act::Say(octets, replies));
            }
        }
        if self.random.one_in(2) {
            self.acts.push_back(Act::Await);
        }
    }

    /// A message of which the client says something that is not so. Nothing sensible follows.
    fn lie(&mut self, ledger: &mut Ledger, is_extended: bool) {
        self.acts.push_back(Act::Await);
        let number = self.begin(ledger, 2000);
        if is_extended && self.random.one_in(2) {
            let message = ledger.message_mut(number);
            let octets = message.content.clone();
            let is_short = self.random.one_in(2);
            let said = if is_short {
                message.header_size + self.random.index(octets.len() - message.header_size)
            } else {
                octets.len() + OCTETS_NEVER_SENT
            };
            let mut wire = format!("BDAT {said} LAST\r\n").into_bytes();
            let reply = if is_short {
                message.cut(said);
                vec![Expected::Verdict(number)]
            } else {
                // It never ends.
                vec![]
            };
            let message = message.clone();
            wire.extend(octets);
            self.envelope(&message, true, None);
            self.acts.push_back(Act::Await);
            self.acts.push_back(Act::Say(wire, reply));
        } else {
            let message = ledger.message_mut(number);
            if self.random.one_in(3) {
                let place = message.header_size;
                message.content.splice(place..place, *b"before\r\n.\r\nRSET\r\n");
            }
            let (wire, end) = message.leave_unstuffed();
            let message = message.clone();
            self.envelope(&message, false, None);
            self.acts.push_back(Act::Say(b"DATA\r\n".to_vec(), vec![Expected::Permission]));
            self.acts.push_back(Act::Await);
            self.content(Content { number, wire, end: Some(end) });
        }
        self.acts.push_back(Act::Pause(Duration::from_millis(self.random.magnitude(1, 60_000))));
        self.garbage(3);
    }

    fn garbage(&mut self, lines: usize) {
        let mut octets = Vec::new();
        for _ in 0..lines {
            let length = self.random.index(80);
            octets.extend((0..length).map(|_| u8::try_from(self.random.below(256)).unwrap_or(0)));
            octets.extend_from_slice(b"\r\n");
        }
        self.acts.push_back(Act::Say(octets, vec![]));
    }

    /// More of something than anybody needs.
    fn flood(&mut self, ledger: &mut Ledger) {
        self.acts.push_back(Act::Await);
        let size = usize::try_from(self.random.magnitude(1000, 60_000)).unwrap_or(usize::MAX);
        match self.random.below(4) {
            0 => self.acts.push_back(Act::Say(b"NOOP\r\n".repeat(size / 6), vec![])),
            1 => self.acts.push_back(Act::Say(vec![b'x'; size], vec![])),
            2 => self.garbage(size / 40),
            _ => {
                let number = self.begin(ledger, 100);
                let message = ledger.message(number).clone();
                self.envelope(&message, false, None);
                self.acts.push_back(Act::Say(b"DATA\r\n".to_vec(), vec![Expected::Permission]));
                self.acts.push_back(Act::Await);
                let wire = [b"X-Endless: ", vec![b'x'; size].as_slice()].concat();
                self.content(Content { number, wire, end: None });
            }
        }
        self.acts.push_back(Act::Pause(Duration::from_millis(self.random.magnitude(1, 60_000))));
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
            self.peer = Some(world.connect(self.worker));
            self.gives_up = now.after(PATIENCE);
            return Ok(());
        };
        let octets = peer.take();
        self.input.extend(octets);
        self.read_replies(world, ledger)?;
        if self.is_over {
            return Ok(());
        }
        if peer.is_closed() || (self.is_awaiting && self.gives_up <= now) {
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
                if self.random.one_in(2) {
                    peer.shut()
                } else {
                    peer.reset()
                }
                self.expect_the_end();
            }
            Some(Act::Await) => self.wait_for_replies(now),
            Some(Act::Next) => {
                if self.failed == Some(self.transaction) {
                    self.say(peer, ledger, b"RSET\r\n", &[Expected::Positive]);
                    self.wait_for_replies(now);
                }
                self.transaction += 1;
            }
            Some(Act::Pause(time)) => self.wakes = now.after(time),
            Some(Act::StopReading) => peer.stop_reading(),
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

    /// It has gone away: whatever comes now is of no use to it.
    fn expect_the_end(&mut self) {
        self.is_awaiting = true;
        self.expected.push_back((Expected::Positive, self.transaction));
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
            self.expected.push_back((Expected::Verdict(content.number), self.transaction));
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
            if let Expected::Verdict(number) = *expected {
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
                if self.random.one_in(2) {
                    peer.shut()
                } else {
                    peer.reset()
                }
                self.acts.clear();
                self.expect_the_end();
            }
        }
        size
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
        let is_positive = line.starts_with(['2', '3']);
        if line.starts_with("421 ") {
            // Whatever was expected: it is the end.
            self.acts.clear();
            self.is_loose = true;
            self.expected.retain(|(expected, _)| matches!(expected, Expected::Verdict(_)));
            return Ok(());
        }
        let Some((expected, transaction)) = self.expected.pop_front() else {
            if self.is_loose {
                return Ok(());
            }
            return Err(format!("a client was told what it had not asked: {line}"));
        };
        if let Expected::Verdict(number) = expected {
            let code = line.get(..3).and_then(|code| code.parse().ok()).unwrap_or(0);
            world.note("message {} is told {}", [number as u64, code, 0]);
            ledger.told(number, line, world.disk_failures())?;
            self.accepted += usize::from(is_positive);
        }
        let is_permission = expected == Expected::Permission;
        if is_permission {
            self.is_permitted = line.starts_with("354 ");
        }
        // Temporary refusals are what a server in trouble says. What was sent together with a command that was refused
        // makes no sense then.
        let is_sensible = is_positive || line.starts_with('4') || self.failed == Some(transaction);
        if !is_sensible && !self.is_loose {
            return Err(format!("a client that does all right was told: {line}"));
        }
        if !is_positive && !matches!(expected, Expected::Verdict(_)) {
            self.failed = Some(transaction);
        }
        Ok(())
    }
}

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
