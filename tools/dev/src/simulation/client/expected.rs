//! The replies that a client expects, and whether one that comes is right.

use mailrace_core::smtp::client::{Event, Reply};
use mailrace_io::sim::World;

use super::Client;
use crate::simulation::ledger::Ledger;
use crate::simulation::message::Answer;

/// The reply to RSET and NOOP.
pub(super) const OK: &str = "250 2.0.0 Ok";

/// A reply that is to come. Another one is an error, unless the server is in trouble or has refused what came before. A text
/// that ends with a space is how the reply begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Expected {
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

impl Client {
    pub(super) fn reply(
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
