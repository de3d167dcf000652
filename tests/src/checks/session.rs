//! Properties of sessions for arbitrary input: results do not depend on how the input is split, replies are lines, and
//! content ends and decodes as a reference implementation says.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use mailrace::tables;
use mailrace_core::address::{Destinations, Domains};
use mailrace_core::lookup::Maps;
use mailrace_core::smtp::{
    BareNewline, Context, Event, Observer, REPLIES_SIZE_MAX, Reject, Session, Settings, Verdict,
};
use mailrace_core::{BodyType, Envelope, Origin, QueueId, Timestamp};

use super::front;
use crate::slow::Slow;

/// A decoded input: flags, split points, and the bytes that the client sends.
struct Given<'a> {
    flags: u8,
    cuts: [u8; 3],
    octets: &'a [u8],
}

/// Maximum size of content in bytes, small enough that inputs exceed it.
const MESSAGE_SIZE_LIMIT: u64 = 600;
const RECIPIENT_LIMIT: u32 = 3;
/// Maximum memory of a session, in bytes: part of a line of 100 bytes, and an envelope of four addresses and an id.
const MEMORY_MAX: usize = 2000;
/// RFC 5321 §4.5.3.1.5.
const REPLY_LINE_SIZE_MAX: usize = 512;

/// Checks a dialogue. The first byte has flags, the next three are split points, the client sends the rest.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    let ([flags, one, two, three], octets) = front(octets);
    let cuts = [one, two, three];
    let given = Given { flags, cuts, octets };
    let settings = given.settings(&DOMAINS, false);
    let size = octets.len();
    let whole = given.play(&settings, &[]);
    let cuts = given.cuts.map(|cut| usize::from(cut) * size / 256);
    assert_eq!(given.play(&settings, &cuts), whole, "cuts change nothing");
    if size <= 2000 {
        let all: Vec<usize> = (0..size).collect();
        assert_eq!(given.play(&settings, &all), whole, "octets one by one change nothing");
    }
    let waiting = Maps::new(vec![Arc::new(Slow::new(&DOMAINS))]);
    let slow = given.play(&given.settings(&waiting, false), &cuts);
    assert_eq!(slow, whole, "waiting for a table changes nothing");
    // Unauthorised pipelining depends on how the input is split, so this run checks only the other properties.
    given.play(&given.settings(&DOMAINS, true), &cuts);
}

static DOMAINS: LazyLock<Maps> = LazyLock::new(|| {
    tables::open("inline:{ example.com=x, {example.net=x} }", Path::new("/")).expect("the table is right")
});

/// Results of a dialogue.
#[derive(Default, PartialEq, Eq)]
struct Outcome {
    replies: Vec<u8>,
    messages: Vec<(Envelope, Vec<u8>)>,
    codes: Vec<u16>,
    rejects: Vec<String>,
    abandoned: usize,
    delays: usize,
    is_closed: bool,
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "{}", self.replies.escape_ascii())?;
        for (envelope, content) in &self.messages {
            writeln!(formatter, "{envelope:?} {}", content.escape_ascii())?;
        }
        let Self { codes, rejects, abandoned, delays, is_closed, .. } = self;
        write!(formatter, "{codes:?} {rejects:?} {abandoned} {delays} {is_closed}")
    }
}

#[derive(Default)]
struct Notes {
    codes: Vec<u16>,
    rejects: Vec<String>,
}

impl Observer for Notes {
    fn replied(&mut self, code: u16) {
        self.codes.push(code);
    }

    fn rejected(&mut self, _origin: &Origin, reject: &Reject<'_>) {
        self.rejects.push(format!("{reject:?}"));
    }
}

/// Content in progress.
struct Incoming {
    content: Vec<u8>,
    /// After DATA (not BDAT): the bytes on the wire.
    wire: Option<Vec<u8>>,
}

impl Given<'_> {
    const fn bare_newline(&self) -> BareNewline {
        match self.flags & 3 {
            0 => BareNewline::Normalize,
            1 => BareNewline::Reject,
            _ => BareNewline::Accept,
        }
    }

    const fn is_trusted(&self) -> bool {
        self.flags & 4 != 0
    }

    fn settings(&self, domains: &Maps, forbids_pipelining: bool) -> Settings {
        let mut relay_domains = Domains::default();
        relay_domains.add_tables(domains.clone(), false);
        let destinations = Destinations { relay_domains, ..Destinations::default() };
        Settings {
            myhostname: b"mx.example.com".to_vec(),
            message_size_limit: if self.flags & 8 == 0 { MESSAGE_SIZE_LIMIT } else { 0 },
            smtpd_recipient_limit: RECIPIENT_LIMIT,
            smtpd_recipient_overshoot_limit: 2,
            smtpd_soft_error_limit: 3,
            smtpd_hard_error_limit: 8,
            smtpd_junk_command_limit: 5,
            smtpd_forbid_bare_newline: self.bare_newline(),
            smtpd_forbid_unauth_pipelining: forbids_pipelining,
            smtpd_helo_required: self.flags & 16 != 0,
            strict_rfc821_envelopes: self.flags & 32 != 0,
            disable_vrfy_command: self.flags & 64 != 0,
            line_length_limit: 100,
            destinations: Arc::new(destinations),
            ..Settings::default()
        }
    }

    fn verdict(&self, message: usize) -> Verdict {
        match (self.flags & 128 != 0, message % 4) {
            (false, _) | (true, 0) => Verdict::Queued(QueueId::from_number(message as u64)),
            (true, 1) => Verdict::Refused { reason: "check", reply: b"550 5.7.1 no"[..].into() },
            (true, 2) => Verdict::StorageFull,
            (true, _) => Verdict::QueueWriteFailed,
        }
    }

    /// Plays the dialogue, split at `cuts`, and checks the properties of each step.
    fn play(&self, settings: &Settings, cuts: &[usize]) -> Outcome {
        let mut cuts: Vec<usize> = cuts.iter().copied().chain([0, self.octets.len()]).collect();
        cuts.sort_unstable();
        let mut notes = Notes::default();
        let context = Context {
            settings,
            wall: Timestamp::from_unix_microseconds(1),
            is_storage_low: false,
            observer: &mut notes,
        };
        let mut player = Player {
            dialogue: self,
            session: Session::new(Origin::default(), self.is_trusted()),
            context,
            replies: Vec::new(),
            incoming: None,
            outcome: Outcome::default(),
        };
        player.session.greet(&mut player.context, &mut player.replies);
        for window in cuts.windows(2) {
            player.feed(&self.octets[window[0]..window[1]]);
        }
        let outcome = player.finish();
        Outcome { codes: notes.codes, rejects: notes.rejects, ..outcome }
    }

    /// Returns the treatment of bare newlines from this client.
    const fn mode(&self, settings: &Settings) -> BareNewline {
        if self.is_trusted() { BareNewline::Accept } else { settings.smtpd_forbid_bare_newline }
    }
}

/// A dialogue that is being played.
struct Player<'p> {
    dialogue: &'p Given<'p>,
    session: Session,
    context: Context<'p>,
    replies: Vec<u8>,
    incoming: Option<Incoming>,
    outcome: Outcome,
}

impl Player<'_> {
    fn feed(&mut self, mut rest: &[u8]) {
        loop {
            let step = self.session.feed(&mut self.context, rest, &mut self.replies);
            let used = &rest[..step.consumed];
            rest = &rest[step.consumed..];
            assert!(self.replies.len() <= REPLIES_SIZE_MAX, "replies are bounded");
            assert!(self.session.memory() <= MEMORY_MAX, "{} octets are held", self.session.memory());
            let is_before = matches!(step.event, Event::ContentBegin);
            if let Some(wire) = self.incoming.as_mut().and_then(|incoming| incoming.wire.as_mut())
                && !is_before
            {
                wire.extend_from_slice(used);
            }
            match step.event {
                Event::NeedInput => {
                    assert!(rest.is_empty(), "input left: {}", rest.escape_ascii());
                    break;
                }
                Event::SendReplies => self.outcome.replies.append(&mut self.replies),
                Event::ContentBegin => self.begin_content(),
                Event::Content(piece) => self.append(piece),
                Event::ContentEnd => self.end_content(),
                Event::ContentAbandon => {
                    assert!(self.incoming.take().is_some(), "only content that has begun is abandoned");
                    self.outcome.abandoned += 1;
                }
                Event::Delay { .. } => self.outcome.delays += 1,
                Event::Ask(_) => assert!(self.context.settings.destinations.relay_domains.may_wait()),
                Event::Close => {
                    self.outcome.is_closed = true;
                    break;
                }
            }
        }
    }

    fn begin_content(&mut self) {
        assert!(self.incoming.is_none(), "one message at a time");
        let is_data = self.replies.ends_with(b"354 End data with <CR><LF>.<CR><LF>\r\n");
        self.incoming = Some(Incoming { content: Vec::new(), wire: is_data.then(Vec::new) });
        let envelope = self.session.envelope().expect("content has an envelope");
        assert!(!envelope.recipients.is_empty());
        assert!(envelope.recipients.len() <= RECIPIENT_LIMIT as usize);
    }

    fn append(&mut self, piece: &[u8]) {
        let incoming = self.incoming.as_mut().expect("content begins before it goes on");
        assert!(!piece.is_empty(), "a piece is something");
        incoming.content.extend_from_slice(piece);
        let limit = self.context.settings.message_size_limit;
        assert!(limit == 0 || incoming.content.len() as u64 <= limit + 64, "content is bounded");
    }

    fn end_content(&mut self) {
        let Incoming { content, wire } = self.incoming.take().expect("content that ends has begun");
        let envelope = self.session.envelope().expect("content has an envelope").clone();
        if envelope.body != BodyType::BinaryMime {
            assert_lines(&content);
        }
        if let Some(wire) = wire {
            assert_eq!(
                reference(&wire, self.dialogue.mode(self.context.settings))
                    .map(|content| content.escape_ascii().to_string()),
                Some(content.escape_ascii().to_string()),
                "content of {}",
                wire.escape_ascii()
            );
        }
        let verdict = self.dialogue.verdict(self.outcome.messages.len());
        self.outcome.messages.push((envelope, content));
        match self.session.verdict(&mut self.context, verdict, &mut self.replies) {
            Event::Delay { .. } => self.outcome.delays += 1,
            Event::Close => self.outcome.is_closed = true,
            event => assert_eq!(event, Event::NeedInput),
        }
    }

    fn finish(mut self) -> Outcome {
        self.outcome.replies.append(&mut self.replies);
        if self.outcome.is_closed {
            let step = self.session.feed(&mut self.context, b"NOOP\r\n", &mut self.replies);
            assert_eq!((step.consumed, step.event), (6, Event::Close), "what is over stays over");
            assert!(self.replies.is_empty(), "who was told goodbye is told nothing more");
        }
        assert_replies(&self.outcome.replies);
        self.outcome
    }
}

/// Asserts that each line ends in CRLF, and that CR and LF occur nowhere else.
fn assert_lines(content: &[u8]) {
    assert!(content.is_empty() || content.ends_with(b"\r\n"), "the last line is whole");
    let odd = content.windows(2).find(|pair| (pair[0] == b'\r') != (pair[1] == b'\n'));
    assert_eq!(odd, None, "nothing but CRLF ends a line: {}", content.escape_ascii());
    assert_ne!(content.first(), Some(&b'\n'));
}

/// Asserts that replies are lines of printable text with a code, an enhanced status code of the same class, and the same
/// code in all lines of a reply.
fn assert_replies(replies: &[u8]) {
    let text = replies.escape_ascii();
    assert!(replies.is_empty() || replies.ends_with(b"\r\n"), "replies are whole: {text}");
    let mut code_before: Option<&[u8]> = None;
    for line in replies.split_inclusive(|octet| *octet == b'\n') {
        assert!(line.len() <= REPLY_LINE_SIZE_MAX, "a reply line of {} octets: {text}", line.len());
        let line = line.strip_suffix(b"\r\n").expect("a reply ends in CRLF");
        assert!(!line.iter().any(u8::is_ascii_control), "controls in a reply: {text}");
        let (code, rest) = line.split_at_checked(3).expect("a reply has a code");
        assert!(matches!(code, [b'2'..=b'5', b'0'..=b'5', b'0'..=b'9']), "the code of {text}");
        assert!(code_before.is_none_or(|before| before == code), "one code for one reply: {text}");
        let (sign, rest) = rest.split_first().expect("something follows the code");
        assert!(matches!(sign, b' ' | b'-'), "a blank or a hyphen behind the code: {text}");
        code_before = (*sign == b'-').then_some(code);
        // RFC 2034 §4: none in the greeting and in replies to HELO and EHLO; none in 3xx (RFC 3463 §2).
        let is_exempt = matches!(code, b"220" | b"354")
            || code == b"250" && !rest.starts_with(b"2.")
            || code == b"501" && rest.starts_with(b"Syntax: ") && rest.ends_with(b"LO hostname");
        if !is_exempt {
            let [class, b'.', subject @ b'0'..=b'9', b'.', detail @ b'0'..=b'9', ..] = rest else {
                panic!("no enhanced status code in {}", line.escape_ascii());
            };
            assert_eq!(*class, code[0], "the class of {} (.{subject}.{detail})", line.escape_ascii());
        }
    }
    assert_eq!(code_before, None, "the last reply is whole: {text}");
}

/// Decodes the bytes after DATA line by line up to the end of content (RFC 5321 §4.1.1.4, §4.5.2). Returns `None` if the
/// content ends before the last byte, or not at all.
fn reference(wire: &[u8], mode: BareNewline) -> Option<Vec<u8>> {
    let mut content = Vec::new();
    let mut is_after_bare = false;
    let mut rest = wire;
    while let Some(end) = rest.iter().position(|octet| *octet == b'\n') {
        let line = &rest[..end];
        rest = &rest[end + 1..];
        let is_bare = !line.ends_with(b"\r");
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let was_after_bare = std::mem::replace(&mut is_after_bare, is_bare);
        if line == b"." {
            if mode == BareNewline::Accept || !(is_bare || was_after_bare) {
                return rest.is_empty().then_some(content);
            }
            // A leading dot that does not end the content is removed.
            continue;
        }
        let line = line.strip_prefix(b".").unwrap_or(line);
        // One CR belongs to the line end; where bare newlines are accepted, all CRs before an LF do.
        let is_cut = !is_bare && mode == BareNewline::Accept;
        let text = if is_cut {
            &line[..line.iter().rposition(|octet| *octet != b'\r').map_or(0, |last| last + 1)]
        } else {
            line
        };
        content.extend(text.iter().map(|octet| if *octet == b'\r' { b' ' } else { *octet }));
        content.extend_from_slice(b"\r\n");
    }
    None
}
