//! Reads command lines, from pieces of any size.

use super::data::bare_newline;
use super::event::Event;
use super::exchange::Exchange;
use super::session::{Outcome, Session};
use super::settings::BareNewline;
use crate::smtp::reply;

impl Session {
    /// Takes one command line from the front of `input`; `None`: its end has not arrived yet.
    pub(super) fn take_line(
        &mut self,
        exchange: &mut Exchange<'_>,
        input: &[u8],
    ) -> (usize, Option<Outcome>) {
        let limit = exchange.settings.line_length_limit;
        let Some(end) = memchr::memchr(b'\n', input) else {
            if !self.is_overlong && self.carry.len() + input.len() <= limit + 1 {
                self.carry.extend_from_slice(input);
                return (input.len(), None);
            }
            self.is_overlong = true;
            let carried = core::mem::take(&mut self.carry).len();
            let event = self.overlong(exchange, carried + input.len());
            return (input.len(), event.map(Outcome::Event));
        };
        let rest = input.get(end + 1..).unwrap_or_default();
        let part = input.get(..end).unwrap_or_default();
        // The usual line is complete in one receive and is parsed in place.
        let (carried_size, errors, junk) = (self.carry.len(), self.errors, self.junk);
        let mut carried = core::mem::take(&mut self.carry);
        let line = if carried_size == 0 {
            part
        } else {
            carried.extend_from_slice(part.get(..part.len().min(limit + 2)).unwrap_or_default());
            &carried
        };
        let (line, is_bare) = match line.strip_suffix(b"\r") {
            Some(line) => (line, false),
            None => (line, true),
        };
        let outcome = if core::mem::take(&mut self.is_overlong) || line.len() > limit {
            let event = self.overlong(exchange, carried_size + part.len());
            self.overlong_size = 0;
            if matches!(event, Some(Event::Close)) {
                return (end + 1, event.map(Outcome::Event));
            }
            self.error(exchange, &reply::LINE_TOO_LONG)
        } else if is_bare && self.bare_newline(exchange.settings) == BareNewline::Reject {
            self.refuse(exchange, bare_newline("CONNECT"));
            self.close()
        } else {
            self.command(exchange, line, !rest.is_empty())
        };
        if let Outcome::Event(Event::Ask(_)) = outcome {
            // The same line comes again, and counts then.
            (self.errors, self.junk) = (errors, junk);
            carried.truncate(carried_size);
            self.carry = carried;
            return (0, Some(outcome));
        }
        (end + 1, Some(outcome))
    }

    /// Counts `size` further bytes of a line that is too long. Each full line length is an error, as in Postfix, so a
    /// line without end ends the session.
    pub(super) fn overlong(&mut self, exchange: &mut Exchange<'_>, size: usize) -> Option<Event<'static>> {
        let limit = exchange.settings.line_length_limit.max(1);
        let size = self.overlong_size as usize + size;
        self.overlong_size = u32::try_from(size % limit).unwrap_or(0);
        let lines = u32::try_from(size / limit).unwrap_or(u32::MAX);
        self.errors = self.errors.saturating_add(lines);
        // Only the session's end comes within a line: a delay would depend on how the input was split.
        (self.errors >= exchange.settings.smtpd_hard_error_limit).then(|| self.after_reply(exchange))?
    }
}
