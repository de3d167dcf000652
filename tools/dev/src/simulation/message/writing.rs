//! How clients write messages: what a message says, for whom it is, and how long it is.

use mailrace_io::sim::Random;
use mailrace_postmark::Identity;

use super::{Answer, Body, DOMAIN, Message, Recipient, TABLE_DOMAIN, cut};
use crate::simulation::plan::Manner;

impl Message {
    /// Message `number`, of about `size` bytes, by a client that may say all that `is_extended` (EHLO) lets it say, and
    /// send it in chunks of BDAT if `is_chunked`.
    pub(in crate::simulation) fn new(
        number: usize,
        size: usize,
        manner: &Manner,
        (is_extended, is_chunked): (bool, bool),
        random: &mut Random,
    ) -> Self {
        let mut message = Self::plain(number, 0, random);
        message.recipients = recipients(number, manner, is_extended, random);
        let is_binary = is_chunked && random.one_in(8);
        if is_extended {
            if random.one_in(6) {
                message.ret = Some(*random.pick(&["FULL", "HDRS"]));
            }
            if random.one_in(6) {
                message.envelope_id = Some(format!("id {number}=+{}", random.below(1000)));
            }
            message.body = match random.below(6) {
                _ if is_binary => Some(Body::Binary),
                0 => Some(Body::SevenBit),
                1 => Some(Body::EightBit),
                _ => None,
            };
            if random.one_in(8) {
                message.smtputf8 = true;
                message.sender = format!("ß{number}@client.example");
                message.recipients[0].address = format!("ü{}", message.recipients[0].address);
            }
        }
        let size = match random.below(40) {
            0 if manner.message_size_limit < 100_000 => manner.message_size_limit,
            1 if manner.message_size_limit < 100_000 => manner.message_size_limit + 1,
            _ => size as u64,
        };
        message.fill(number, usize::try_from(size).unwrap_or(usize::MAX), manner, is_binary, random);
        // Chunks count as they are sent.
        let octets = if is_chunked { message.chunked().len() } else { message.content.len() } as u64;
        if octets > manner.message_size_limit {
            message.refusal = Some("552 5.3.4 ");
        } else if is_extended && random.one_in(5) {
            message.declared_size = Some(octets);
        }
        message
    }

    /// One that is submitted on this machine.
    pub(in crate::simulation) fn local(
        number: usize,
        size: usize,
        manner: &Manner,
        random: &mut Random,
    ) -> Self {
        let mut message = Self::plain(number, 0, random);
        let count =
            if random.one_in(8) { random.magnitude(1, manner.recipients_max) } else { random.between(1, 3) };
        let kinds: &[&str] = if manner.has_tables { &["u", "a", "b", "c"] } else { &["u"] };
        let recipients = (0..count).map(|index| Recipient {
            address: format!("{}{number}-{index}@{DOMAIN}", random.pick(kinds)),
            notify: if random.one_in(6) { 1 << random.below(4) } else { 0 },
            is_accepted: Some(true),
            ..Recipient::default()
        });
        message.recipients = recipients.collect();
        message.ret = random.one_in(6).then_some("HDRS");
        message.envelope_id = random.one_in(6).then(|| format!("local id {number}"));
        message.body = random.one_in(6).then_some(Body::EightBit);
        let limit = usize::try_from(manner.message_size_limit).unwrap_or(usize::MAX);
        let size = match random.below(20) {
            0 if limit < 100_000 => limit,
            1 if limit < 100_000 => limit + 1,
            _ => size,
        };
        message.fill(number, size, manner, false, random);
        while message.content.len() > limit && message.refusal.is_some() {
            // Which of two reasons is found first depends on its parts.
            (message.refusal, message.kept) = (None, None);
            message.fill(number, 500, manner, false, random);
        }
        message.has_bare_newlines = false;
        if message.content.len() as u64 > manner.message_size_limit {
            message.refusal = Some("552 5.3.4 ");
        }
        message
    }

    /// One without anything out of the ordinary.
    pub(in crate::simulation) fn plain(number: usize, size: usize, random: &mut Random) -> Self {
        let recipients = (0..random.between(1, 3)).map(|index| Recipient {
            address: format!("u{number}-{index}@{DOMAIN}"),
            ..Recipient::default()
        });
        let mut message = Self {
            recipients: recipients.collect(),
            sender: if random.one_in(10) { String::new() } else { format!("s{number}@client.example") },
            ..Self::default()
        };
        message.begin(number);
        message.end_header_section();
        message.lines(number, size, 120, random);
        message
    }

    fn begin(&mut self, number: usize) {
        let identity = Identity { run: RUN, number: u32::try_from(number).unwrap_or(u32::MAX) };
        self.content = format!("{}Subject: message {number}\r\n", identity.field()).into_bytes();
    }

    fn end_header_section(&mut self) {
        self.content.extend_from_slice(b"\r\n");
        self.header_size = self.content.len();
    }

    fn lines(&mut self, number: usize, size: usize, length_max: usize, random: &mut Random) {
        let mut line = 0;
        while self.content.len() < size {
            // Dots at the front of lines are what clients have to stuff.
            let dots = ["", "", "", ".", "..", "...x"][random.index(6)];
            self.content.extend_from_slice(format!("{dots}{number} {line} ").as_bytes());
            let mut length = random.index(length_max);
            while length > 0 {
                let part = length.min(TEXT.len());
                self.content.extend_from_slice(&TEXT[..part]);
                length -= part;
            }
            self.content.extend_from_slice(b"\r\n");
            line += 1;
        }
    }

    /// Writes its content: of exactly `size` bytes, or as few more as its header section asks for.
    fn fill(&mut self, number: usize, size: usize, manner: &Manner, is_binary: bool, random: &mut Random) {
        self.begin(number);
        let hops = if random.one_in(10) { random.between(0, u64::from(manner.hopcount_limit)) } else { 0 };
        for hop in 0..hops {
            self.content.extend_from_slice(format!("Received: from hop{hop}\r\n").as_bytes());
        }
        // Ours is one of them.
        if hops + 1 >= u64::from(manner.hopcount_limit) {
            self.refusal = Some("554 5.4.0 ");
        }
        let mut kept = self.content.clone();
        let fields = match random.below(12) {
            0 => 1 + random.index(5),
            1..=3 => 1,
            _ => 0,
        };
        for _ in 0..fields {
            let field = field(manner, random);
            kept.extend_from_slice(&cut(&field, manner.header_size_limit));
            self.content.extend_from_slice(&field);
        }
        self.end_header_section();
        let length_max = if random.one_in(8) || size > 100_000 { 6000 } else { 120 };
        // The last line makes it exact.
        self.lines(number, size.saturating_sub(length_max + 60), length_max, random);
        if let Some(left) = size.checked_sub(self.content.len() + 2) {
            self.content.resize(self.content.len() + left, b'e');
            self.content.extend_from_slice(b"\r\n");
        }
        if is_binary {
            // Line ends are data, and so is everything else.
            for _ in 0..random.index(20) {
                let place = self.header_size + random.index(self.content.len() - self.header_size + 1);
                let odd = *random.pick::<&[u8]>(&[b"\n", b"\r", b"\0", b"\xff\xfe", b"\n.\n", b"\r\n.\r\n"]);
                self.content.splice(place..place, odd.iter().copied());
            }
        } else {
            self.has_bare_newlines = random.one_in(10);
        }
        kept.extend_from_slice(b"\r\n");
        if kept.len() != self.header_size || kept != self.content[..self.header_size] {
            kept.extend_from_slice(&self.content[self.header_size..]);
            self.kept = Some(kept);
        }
    }
}

/// As many as the world has, some of them twice, some not ours.
fn recipients(number: usize, manner: &Manner, is_extended: bool, random: &mut Random) -> Vec<Recipient> {
    let count = match random.below(24) {
        0 => random.magnitude(1, manner.recipients_max),
        3..=6 if manner.has_crowds => random.between(30, manner.recipients_max.max(30)),
        1 | 2 => random.between(5, 30).min(manner.recipients_max),
        _ => random.between(1, 3),
    };
    let has_wishes = is_extended && random.one_in(3);
    let mut recipients: Vec<Recipient> = Vec::new();
    let mut denied = 0;
    for index in 0..count {
        let kind = if manner.has_tables { *random.pick(&["u", "u", "a", "b", "c"]) } else { "u" };
        let domain = if manner.has_tables && random.one_in(4) { TABLE_DOMAIN } else { DOMAIN };
        let mut recipient =
            Recipient { address: format!("{kind}{number}-{index}@{domain}"), ..Recipient::default() };
        if random.one_in(20) && denied < 2 {
            denied += 1;
            recipient.address = format!("u{number}-{index}@elsewhere.example");
            recipient.answer = Answer::Denied;
        } else if random.one_in(20)
            && let Some(other) = recipients.iter().find(|other| other.answer == Answer::Taken)
        {
            recipient = other.clone();
            if random.one_in(2) {
                recipient.address = recipient.address.replace("example", "EXAMPLE");
            }
            if is_extended && random.one_in(4) {
                recipient.notify = 4;
            }
        } else if has_wishes {
            recipient.notify =
                if random.one_in(8) { 1 } else { u8::try_from(2 * random.below(8)).unwrap_or(0) };
            if random.one_in(2) {
                recipient.original = Some(format!("first{number}-{index}+x=y@origin.example"));
            }
        }
        recipients.push(recipient);
    }
    if recipients.iter().all(|recipient| recipient.answer == Answer::Denied) {
        recipients.push(Recipient { address: format!("u{number}-last@{DOMAIN}"), ..Recipient::default() });
    }
    // Denied ones count for nothing, unless there are too many already.
    let mut taken = 0;
    for recipient in &mut recipients {
        if taken >= manner.recipient_limit {
            recipient.answer = Answer::Surplus;
        } else if recipient.answer == Answer::Taken {
            taken += 1;
        }
    }
    recipients
}

/// A field that is long, in one line or folded.
fn field(manner: &Manner, random: &mut Random) -> Vec<u8> {
    let most = manner.header_size_limit as u64 * 5 / 4;
    let size = random.magnitude(20, manner.field_size.min(most).max(40));
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    let length_max = if random.one_in(3) { size + 1 } else { 1 + random.index(200) };
    let mut field = b"X-Long: of several".to_vec();
    while field.len() < size {
        field.extend_from_slice(random.pick::<&[u8]>(&[b"\r\n\t", b"\r\n ", b"\r\n  ", b"\r\n\t\t"]));
        let mut length = 1 + random.index(length_max);
        while length > 0 {
            let part = length.min(TEXT.len());
            // A line of blanks alone is another matter.
            field.push(b'x');
            field.extend_from_slice(&TEXT[..part]);
            length -= part;
        }
    }
    field.extend_from_slice(b"\r\n");
    field
}

/// All messages of a world are of one run.
pub(super) const RUN: u32 = 1;
const TEXT: &[u8; 120] =
    b"The quick brown fox jumps over the lazy dog, and the dog does not mind; it has seen foxes before, as many as \
there are..";
