//! The client's and the caller's side of a dialogue.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use bumpalo::Bump;
use mailrace_core::address::{Destinations, Domains, RewriteContext, Rewriting};
use mailrace_core::cleanup::{self, Cleanup, Halt, OctetSet};
use mailrace_core::lookup::Maps;
use mailrace_core::smtp::reply::{self, Piece, Reply};
use mailrace_core::smtp::{BareNewline, Context, Event, Observer, Reject, Session, Settings, Verdict};
use mailrace_core::{Origin, QueueId, Timestamp};

use crate::case::{Case, Failure, Said, Step};
use crate::tables::{Aliases, Broken, list_addresses};

const HOST: &str = "mx.example.com";

/// Plays a case with what the client sends cut into pieces of `piece` bytes, and adds the names of the replies to
/// `given`.
pub(crate) fn play(case: &Case, piece: usize, given: &mut BTreeSet<&'static str>) -> Result<(), Failure> {
    let mut player = Player::new(case, piece)?;
    for (line, step) in &case.steps {
        player.step(step, given).map_err(|message| (*line, in_pieces(message, piece)))?;
    }
    let line = case.steps.last().map_or(1, |(line, _)| *line);
    player.take_replies(given).map_err(|message| (line, message))?;
    match player.unread.pop_front() {
        Some(reply) => Err((line, in_pieces(format!("after the last step: {reply:?}"), piece))),
        None => Ok(()),
    }
}

fn in_pieces(message: String, piece: usize) -> String {
    if piece == usize::MAX { message } else { format!("{message} (in pieces of {piece})") }
}

struct Player {
    settings: Settings,
    cleanup: cleanup::Settings,
    session: Session,
    piece: usize,
    is_storage_low: bool,
    said: Said,
    replies: Vec<u8>,
    /// Replies that no step has read.
    unread: VecDeque<String>,
    /// Content that is coming in.
    content: Vec<u8>,
    /// Content of the message queued last.
    last: Vec<u8>,
    queued: usize,
    delays: usize,
    is_closed: bool,
    notes: Notes,
}

impl Player {
    fn new(case: &Case, piece: usize) -> Result<Self, Failure> {
        let mut relay_domains: Domains = ["example.com"].into_iter().collect();
        relay_domains.add_tables(Maps::new(vec![Arc::new(Broken)]), false);
        let destinations = Arc::new(Destinations { relay_domains, ..Destinations::default() });
        let local = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.com".to_vec() };
        let rewriting = Arc::new(Rewriting { local, ..Rewriting::default() });
        let mut settings = Settings {
            myhostname: HOST.into(),
            message_size_limit: 1000,
            smtpd_recipient_limit: 3,
            smtpd_error_sleep_time_ms: 0,
            destinations,
            ..Settings::default()
        };
        let mut cleanup =
            cleanup::Settings { myhostname: HOST.into(), rewriting, ..cleanup::Settings::default() };
        for (line, name, value) in &case.config {
            if !list_addresses(&mut settings, name, value) {
                configure(&mut settings, &mut cleanup, name, value).map_err(|message| (*line, message))?;
            }
        }
        cleanup.destinations = Arc::clone(&settings.destinations);
        if !case.aliases.is_empty() {
            let maps = Maps::new(vec![Arc::new(Aliases(case.aliases.clone()))]);
            Arc::make_mut(&mut settings.listed_addresses).virtual_alias_maps = maps.clone();
            cleanup.virtual_alias.maps = maps;
        }
        let mut player = Self {
            settings,
            cleanup,
            session: Session::new(Origin::default(), case.is_trusted),
            piece,
            is_storage_low: false,
            said: Said::Queued,
            replies: Vec::new(),
            unread: VecDeque::new(),
            content: Vec::new(),
            last: Vec::new(),
            queued: 0,
            delays: 0,
            is_closed: false,
            notes: Notes::default(),
        };
        player.call(|session, context, replies| session.greet(context, replies));
        Ok(player)
    }

    /// Calls the session.
    fn call<T>(&mut self, call: impl FnOnce(&mut Session, &mut Context<'_>, &mut Vec<u8>) -> T) -> T {
        let mut context = Context {
            settings: &self.settings,
            wall: Timestamp::from_unix_microseconds(1),
            is_storage_low: self.is_storage_low,
            observer: &mut self.notes,
        };
        call(&mut self.session, &mut context, &mut self.replies)
    }

    fn step(&mut self, step: &Step, given: &mut BTreeSet<&'static str>) -> Result<(), String> {
        match step {
            Step::Send(octets) => {
                for piece in octets.chunks(self.piece) {
                    self.feed(piece, given)?;
                }
            }
            Step::Reply(expected) => {
                self.take_replies(given)?;
                let reply = self.unread.pop_front().ok_or("no reply")?;
                let is_expected = match expected.strip_suffix("...") {
                    Some(front) => reply.starts_with(front),
                    None => reply == *expected,
                };
                if !is_expected {
                    return Err(format!("the reply is {reply:?}"));
                }
            }
            Step::Storage { is_low } => self.is_storage_low = *is_low,
            Step::Verdict(said) => self.said = *said,
            Step::TimeOut => {
                self.call(|session, context, replies| session.time_out(context, replies));
                self.is_closed = true;
            }
            Step::ShutDown => {
                self.call(|session, context, replies| session.shut_down(context, replies));
                self.is_closed = true;
            }
            Step::Closed(expected) => is_same("closed", &self.is_closed, expected)?,
            Step::Queued(expected) => is_same("queued", &self.queued, expected)?,
            Step::Delays(expected) => is_same("delays", &self.delays, expected)?,
            Step::Rejects(expected) => is_same("rejects", &self.notes.rejects.join(" "), expected)?,
            Step::Content(expected) => {
                is_same(
                    "content",
                    &self.last.escape_ascii().to_string(),
                    &expected.escape_ascii().to_string(),
                )?;
            }
        }
        Ok(())
    }

    /// Feeds the session, and does what it asks for.
    fn feed(&mut self, input: &[u8], given: &mut BTreeSet<&'static str>) -> Result<(), String> {
        let mut rest = input;
        while !self.is_closed {
            let step = self.call(|session, context, replies| session.feed(context, rest, replies));
            rest = &rest[step.consumed..];
            match step.event {
                Event::NeedInput if rest.is_empty() => break,
                Event::NeedInput => return Err("the session leaves input".to_owned()),
                Event::SendReplies => self.take_replies(given)?,
                Event::ContentBegin | Event::ContentAbandon => self.content.clear(),
                Event::Content(piece) => self.content.extend_from_slice(piece),
                Event::ContentEnd => {
                    let verdict = self.verdict();
                    match self.call(|session, context, replies| session.verdict(context, verdict, replies)) {
                        Event::Close => self.is_closed = true,
                        Event::Delay { .. } => self.delays += 1,
                        _ => {}
                    }
                }
                Event::Delay { .. } => self.delays += 1,
                Event::Ask(_) => return Err("no table here has to be waited for".to_owned()),
                Event::Close => self.is_closed = true,
            }
        }
        Ok(())
    }

    /// Cleans the message; what it passes is what the case says.
    fn verdict(&mut self) -> Verdict {
        let id = QueueId::from_number(1);
        let content = std::mem::take(&mut self.content);
        if let Err(Halt::Rejected(rejection)) = self.clean(id, &content) {
            return Verdict::Refused { reason: rejection.reason(), reply: rejection.reply() };
        }
        match self.said {
            Said::WriteFailed => Verdict::QueueWriteFailed,
            Said::StorageFull => Verdict::StorageFull,
            Said::Queued => {
                self.queued += 1;
                self.last = content;
                Verdict::Queued(id)
            }
        }
    }

    fn clean(&mut self, id: QueueId, content: &[u8]) -> Result<(), Halt> {
        let arena = Bump::new();
        let mut passes = cleanup::Surroundings {
            arena: &arena,
            settings: &self.cleanup,
            origin: self.session.origin(),
            envelope: self.session.envelope().expect("content has an envelope"),
            observer: &mut self.notes,
        };
        let mut cleanup = Cleanup::new(id, false);
        cleanup.content(&mut passes, content, true)?;
        cleanup.envelope(&mut passes).map(|_| ())
    }

    /// Takes whole replies out of what the session wrote.
    fn take_replies(&mut self, given: &mut BTreeSet<&'static str>) -> Result<(), String> {
        let written =
            String::from_utf8(std::mem::take(&mut self.replies)).map_err(|error| error.to_string())?;
        let mut lines: Vec<&str> = Vec::new();
        for line in written.split_inclusive("\r\n") {
            let line = line.strip_suffix("\r\n").ok_or_else(|| format!("{line:?} does not end"))?;
            lines.push(line);
            if line.as_bytes().get(3) == Some(&b' ') {
                given.insert(name_of(&lines[0].replacen('-', " ", usize::from(lines.len() > 1)))?);
                self.unread.push_back(lines.join("\n"));
                lines.clear();
            }
        }
        if lines.is_empty() { Ok(()) } else { Err(format!("a reply does not end: {lines:?}")) }
    }
}

fn is_same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and not {expected:?}")) }
}

/// The name of a reply in the catalogue.
fn name_of(line: &str) -> Result<&'static str, String> {
    let mut all = reply::SESSION.iter().chain(reply::CONTENT);
    let found = all.find(|(name, reply)| is_one_of(line, name, reply));
    found.map(|(name, _)| *name).ok_or_else(|| format!("{line:?} is not in the catalogue"))
}

fn is_one_of(line: &str, name: &str, reply: &Reply) -> bool {
    // Of these, the code and with it the class of the status are configured.
    let skipped = if name.starts_with("UNLISTED_") { "550 5".len() } else { 0 };
    let line = line.get(skipped..).unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(&reply.front[skipped..]) else { return false };
    let mut pieces = reply.rest.iter().peekable();
    while let Some(piece) = pieces.next() {
        let after = match (piece, pieces.peek()) {
            (Piece::Text(text), _) => rest.strip_prefix(text),
            (Piece::Host, _) => rest.strip_prefix(HOST),
            (Piece::Argument, Some(Piece::Text(text))) => rest.find(text).map(|place| &rest[place..]),
            (Piece::Argument, _) => Some(""),
        };
        let Some(after) = after else { return false };
        rest = after;
    }
    rest.is_empty()
}

fn configure(
    settings: &mut Settings,
    cleanup: &mut cleanup::Settings,
    name: &str,
    value: &str,
) -> Result<(), String> {
    let number = || value.parse::<u32>().map_err(|_| format!("expected a number, not {value:?}"));
    match (name, value) {
        ("message_size_limit", _) => settings.message_size_limit = number()?.into(),
        ("smtpd_error_sleep_time_ms", _) => settings.smtpd_error_sleep_time_ms = number()?,
        ("smtpd_recipient_overshoot_limit", _) => settings.smtpd_recipient_overshoot_limit = number()?,
        ("smtpd_helo_required", "yes") => settings.smtpd_helo_required = true,
        ("smtpd_forbid_unauth_pipelining", "no") => settings.smtpd_forbid_unauth_pipelining = false,
        ("smtpd_forbid_bare_newline", "reject") => settings.smtpd_forbid_bare_newline = BareNewline::Reject,
        ("smtpd_hard_error_limit", _) => settings.smtpd_hard_error_limit = number()?,
        ("disable_vrfy_command", "yes") => settings.disable_vrfy_command = true,
        ("strict_rfc821_envelopes", "yes") => settings.strict_rfc821_envelopes = true,
        ("hopcount_limit", _) => cleanup.hopcount_limit = number()?,
        ("mime_nesting_limit", _) => cleanup.mime.nesting_limit = number()? as usize,
        ("strict_7bit_headers", "yes") => cleanup.mime.strict_7bit_headers = true,
        ("strict_8bitmime_body", "yes") => cleanup.mime.strict_8bit_body = true,
        ("strict_mime_encoding_domain", "yes") => cleanup.mime.strict_encoding_domain = true,
        ("message_reject_characters", "\\0") => {
            cleanup.message_reject_characters = Some(Box::new(OctetSet::of(b"\0")));
        }
        _ => return Err(format!("unknown setting {name} {value}")),
    }
    Ok(())
}

/// What was reported.
#[derive(Default)]
struct Notes {
    rejects: Vec<&'static str>,
}

impl Observer for Notes {
    fn replied(&mut self, _code: u16) {}

    fn rejected(&mut self, _origin: &Origin, reject: &Reject<'_>) {
        self.rejects.push(reject.reason);
    }
}

impl cleanup::Observer for Notes {
    fn noticed(&mut self, _notice: &cleanup::Notice<'_>) {}
}
