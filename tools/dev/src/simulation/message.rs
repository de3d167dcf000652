//! Owns the messages that simulated clients send: each tells its identity in its first field, and its number in every line.

mod writing;

use std::net::IpAddr;

use mailrace_core::smtp::client::DotStuffing;
use mailrace_postmark::Identity;

use writing::RUN;

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

#[cfg(test)]
mod tests;
