//! Owns the messages that simulated clients send: each tells its identity in its first field, and its number in every line.

use std::net::IpAddr;

use mailrace_core::smtp::client::DotStuffing;
use mailrace_io::sim::Random;
use mailrace_postmark::Identity;

use super::plan::Manner;

/// A message as its client means it.
#[derive(Clone, Debug, Default)]
pub(super) struct Message {
    pub(super) sender: String,
    pub(super) recipients: Vec<Recipient>,
    /// BODY= of MAIL.
    pub(super) body: Option<Body>,
    pub(super) smtputf8: bool,
    /// RET= of MAIL: `FULL` or `HDRS`.
    pub(super) ret: Option<&'static str>,
    pub(super) envelope_id: Option<String>,
    /// SIZE= of MAIL.
    pub(super) declared_size: Option<u64>,
    /// Who sends it.
    pub(super) origin: Origin,
    /// The content with CRLF line ends, as a server has to count it.
    pub(super) content: Vec<u8>,
    /// Expected content after the trace field, if that is less than what was sent, because a field was too long.
    pub(super) kept: Option<Vec<u8>>,
    /// Bytes of its header section, with the empty line.
    pub(super) header_size: usize,
    /// Some of its lines are sent with a bare LF.
    has_bare_newlines: bool,
    /// How a reply to its end begins, if it must not enter.
    pub(super) refusal: Option<&'static str>,
    /// Generation of tables when it began.
    pub(super) generation: u64,
}

/// BODY= of MAIL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Body {
    SevenBit,
    EightBit,
    Binary,
}

impl Body {
    const fn word(self) -> &'static str {
        match self {
            Self::SevenBit => "7BIT",
            Self::EightBit => "8BITMIME",
            Self::Binary => "BINARYMIME",
        }
    }

    /// As the queue has it.
    pub(super) const fn letter(self) -> u8 {
        match self {
            Self::SevenBit => b'7',
            Self::EightBit => b'8',
            Self::Binary => b'B',
        }
    }
}

/// Who sends a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    /// Without one it was submitted on this machine.
    pub(super) address: Option<(IpAddr, u16)>,
    pub(super) helo: String,
    pub(super) is_extended: bool,
}

/// One RCPT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Recipient {
    pub(super) address: String,
    /// The sum of NOTIFY=; 0: not given.
    pub(super) notify: u8,
    /// ORCPT=, decoded, without its type.
    pub(super) original: Option<String>,
    /// What a server has to say of it.
    pub(super) answer: Answer,
    /// Whether its 250 came; none: no reply was read.
    pub(super) is_accepted: Option<bool>,
}

/// What a server has to say of a recipient.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Answer {
    #[default]
    Taken,
    /// There were as many as there may be.
    Surplus,
    /// Its domain is none of ours.
    Denied,
}

impl Answer {
    /// Its reply, or how it begins.
    pub(super) const fn reply(self) -> &'static str {
        match self {
            Self::Taken => "250 2.1.5 Ok",
            Self::Surplus => "452 4.5.3 Error: too many recipients",
            Self::Denied => "554 5.7.1 <",
        }
    }
}

impl Recipient {
    /// The parameters of RCPT.
    pub(super) fn parameters(&self) -> String {
        let mut parameters = String::new();
        if self.notify == 1 {
            parameters.push_str(" NOTIFY=NEVER");
        } else if self.notify > 1 {
            let words = [(2, "SUCCESS"), (4, "FAILURE"), (8, "DELAY")];
            let words: Vec<&str> =
                words.iter().filter(|(bit, _)| self.notify & bit != 0).map(|(_, word)| *word).collect();
            parameters = format!(" NOTIFY={}", words.join(","));
        }
        if let Some(original) = &self.original {
            parameters = format!("{parameters} ORCPT=rfc822;{}", xtext(original));
        }
        parameters
    }

    /// The addresses that take its place, by its domain and by the generation of tables; without one it stays.
    pub(super) fn aliases(&self, generation: u64) -> Option<Vec<String>> {
        alias(&self.address, generation).map(|value| value.split(',').map(str::to_owned).collect())
    }
}

/// What tables of aliases say of an address: those of a local-part with `a` become another, with `b` two, with `c` one that
/// tells the generation of tables.
pub(super) fn alias(address: &str, generation: u64) -> Option<String> {
    let (kind, rest) = address.split_at_checked(1)?;
    let local = rest.split_once('@')?.0;
    if !local.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    match kind {
        "a" => Some(format!("t{local}@{DOMAIN}")),
        "b" => Some(format!("t{local}@{DOMAIN},w{local}@{DOMAIN}")),
        "c" => Some(format!("t{local}-g{generation}@{DOMAIN}")),
        _ => None,
    }
}

/// The domain that mail is taken for.
pub(super) const DOMAIN: &str = "example.com";
/// A domain that only a table has.
pub(super) const TABLE_DOMAIN: &str = "table.example";

/// RFC 3461 §4.
fn xtext(text: &str) -> String {
    let is_plain = |octet: u8| (33..=126).contains(&octet) && octet != b'+' && octet != b'=';
    text.bytes()
        .map(|octet| if is_plain(octet) { char::from(octet).to_string() } else { format!("+{octet:02X}") })
        .collect()
}

impl Message {
    /// Message `number`, of about `size` bytes, by a client that may say all that `is_extended` (EHLO) lets it say, and
    /// send it in chunks of BDAT if `is_chunked`.
    pub(super) fn new(
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
    pub(super) fn local(number: usize, size: usize, manner: &Manner, random: &mut Random) -> Self {
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
    pub(super) fn plain(number: usize, size: usize, random: &mut Random) -> Self {
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

    /// Expected content after the trace field.
    pub(super) fn stored(&self) -> &[u8] {
        self.kept.as_deref().unwrap_or(&self.content)
    }

    /// The parameters of MAIL.
    pub(super) fn parameters(&self) -> String {
        let mut parameters = String::new();
        if let Some(size) = self.declared_size {
            parameters = format!("{parameters} SIZE={size}");
        }
        if let Some(body) = self.body {
            parameters = format!("{parameters} BODY={}", body.word());
        }
        if self.smtputf8 {
            parameters.push_str(" SMTPUTF8");
        }
        if let Some(ret) = self.ret {
            parameters = format!("{parameters} RET={ret}");
        }
        if let Some(id) = &self.envelope_id {
            parameters = format!("{parameters} ENVID={}", xtext(id));
        }
        parameters
    }

    /// The content as it goes over the wire with DATA, without its end.
    pub(super) fn stuffed(&self) -> Vec<u8> {
        let mut plain = self.chunked();
        // After a bare LF the dot would be none.
        if plain.ends_with(b"\n") && !plain.ends_with(b"\r\n") {
            plain.pop();
            plain.extend_from_slice(b"\r\n");
        }
        let mut wire = Vec::with_capacity(plain.len() + 64);
        DotStuffing::new().append(&plain, &mut wire);
        wire
    }

    /// The content as it goes over the wire in chunks.
    pub(super) fn chunked(&self) -> Vec<u8> {
        if !self.has_bare_newlines {
            return self.content.clone();
        }
        let mut wire = Vec::with_capacity(self.content.len());
        for (index, line) in self.content.split_inclusive(|octet| *octet == b'\n').enumerate() {
            match line.strip_suffix(b"\r\n") {
                Some(line) if self.is_bare(index) => {
                    wire.extend_from_slice(line);
                    wire.push(b'\n');
                }
                _ => wire.extend_from_slice(line),
            }
        }
        wire
    }

    const fn is_bare(&self, line: usize) -> bool {
        self.has_bare_newlines && line % 5 == 3
    }

    /// Makes it what a server has to take it for when its dots are not stuffed; returns what goes over the wire, and
    /// where in that the content ends.
    pub(super) fn leave_unstuffed(&mut self) -> (Vec<u8>, usize) {
        let mut wire = std::mem::take(&mut self.content);
        wire.extend_from_slice(b".\r\n");
        let mut end = 0;
        for line in wire.split_inclusive(|octet| *octet == b'\n') {
            end += line.len();
            if line == b".\r\n" {
                break;
            }
            self.content.extend_from_slice(line.strip_prefix(b".").unwrap_or(line));
        }
        (wire, end)
    }

    /// Makes it what a server has to take it for when a client says that it has only `size` bytes.
    pub(super) fn cut(&mut self, size: usize) {
        self.content.truncate(size);
        if !self.content.ends_with(b"\r\n") {
            // A CR that the line end does not follow becomes a space.
            if let Some(last) = self.content.last_mut().filter(|last| **last == b'\r') {
                *last = b' ';
            }
            self.content.extend_from_slice(b"\r\n");
        }
    }

    /// The number of the message whose content this is, after the trace field.
    pub(super) fn number_of(content: &[u8]) -> Option<usize> {
        let identity = Identity::of_content(content).filter(|identity| identity.run == RUN)?;
        usize::try_from(identity.number).ok()
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

/// Returns the kept part of a field: up to `limit` bytes with each line end counted as one, or up to a line end in the last
/// tenth of them.
fn cut(field: &[u8], limit: usize) -> Vec<u8> {
    let text = String::from_utf8_lossy(field);
    let lines: Vec<&str> = text.split_terminator("\r\n").collect();
    let mut kept: Vec<&str> = Vec::new();
    let mut counted = 0;
    for line in lines {
        let before = counted + usize::from(!kept.is_empty());
        if before + line.len() > limit {
            let is_near = !kept.is_empty() && counted * 10 >= limit * 9;
            if !is_near {
                kept.push(&line[..limit.saturating_sub(before)]);
            }
            break;
        }
        kept.push(line);
        counted = before + line.len();
    }
    (kept.join("\r\n") + "\r\n").into_bytes()
}

/// All messages of a world are of one run.
const RUN: u32 = 1;
const TEXT: &[u8; 120] =
    b"The quick brown fox jumps over the lazy dog, and the dog does not mind; it has seen foxes before, as many as \
there are..";

#[cfg(test)]
mod tests;
