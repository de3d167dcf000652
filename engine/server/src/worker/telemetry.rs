//! Log lines and metrics of a worker.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use mailrace_core::cleanup::{self, Notice};
use mailrace_core::smtp::{Observer, Reject};
use mailrace_core::{Envelope, Origin, Protocol, QueueId, Recipient, Sharer, Timestamp};
use mailrace_spool::Stats;

use super::incoming::Incoming;
use crate::log::{EventName, Level, Line, LogWriter, decimal, name};
use crate::metrics::{RejectCells, WorkerNumbers};

/// One worker's log and metrics.
#[derive(Debug)]
pub struct Telemetry {
    log: LogWriter,
    numbers: Arc<WorkerNumbers>,
    rejects: RejectCells,
    pub(super) log_connections: bool,
    wall: Timestamp,
}

impl Telemetry {
    /// Returns the telemetry of a simulated engine, which is not read.
    #[must_use]
    pub fn unread() -> Self {
        Self::new(LogWriter::unread(), Arc::default())
    }

    pub(crate) fn new(log: LogWriter, numbers: Arc<WorkerNumbers>) -> Self {
        Self {
            log,
            numbers,
            rejects: RejectCells::default(),
            log_connections: false,
            wall: Timestamp::default(),
        }
    }

    /// The time of the turn that begins.
    pub(super) const fn begin_turn(&mut self, wall: Timestamp) {
        self.wall = wall;
    }

    pub(super) fn connected(&mut self, origin: &Origin) {
        self.numbers.sessions.add(1);
        if self.log_connections {
            client(&mut self.log.line(self.wall, None, name::CONNECT), origin);
        }
    }

    pub(super) fn disconnected(&mut self, origin: &Origin) {
        if self.log_connections {
            client(&mut self.log.line(self.wall, None, name::DISCONNECT), origin);
        }
    }

    pub(super) fn timed_out(&mut self, origin: &Origin) {
        self.numbers.timeouts.add(1);
        client(&mut self.log.line(self.wall, None, name::TIMEOUT), origin);
    }

    /// Logs that a client has too many connections.
    pub(super) fn too_many_connections(&mut self, origin: &Origin) {
        self.rejects.count(&self.numbers, "too_many_connections");
        let log = &mut self.log;
        let mut line =
            log.trouble(Level::Warning, self.wall, name::TOO_MANY_CONNECTIONS, "too many connections");
        client(&mut line, origin);
    }

    /// Logs that a client owes, and waits.
    pub(super) fn made_to_wait(&self) {
        self.numbers.waits_of_clients.add(1);
    }

    /// Logs a connection that was ended to make room: its client owes, or held memory when none was left.
    pub(super) fn gave_place_up(&self) {
        self.numbers.places_given_up.add(1);
    }

    pub(super) fn receive_buffers_ran_out(&self) {
        self.numbers.receive_buffer_shortages.add(1);
    }

    pub(super) fn accept_failed(&mut self, error: &std::io::Error) {
        self.numbers.accept_failures.add(1);
        let mut line = self.log.trouble(Level::Warning, self.wall, name::ACCEPT_FAILED, "accept failed");
        line.text("error", error.to_string().as_bytes());
    }

    pub(super) fn batch_written(&mut self, octets: usize, result: &std::io::Result<()>) {
        match result {
            Ok(()) => self.numbers.batch_written(octets),
            Err(error) => {
                self.numbers.write_failures.add(1);
                let message = "a write to the queue failed";
                let mut line = self.log.trouble(Level::Error, self.wall, name::WRITE_FAILED, message);
                line.text("error", error.to_string().as_bytes()).number("octets", octets as u64);
            }
        }
    }

    pub(super) fn queued<D>(
        &mut self,
        origin: &Origin,
        envelope: &Envelope,
        message: &Incoming<D>,
        latency: Duration,
    ) {
        if message.is_discarded() {
            // The check that did it has its own line.
            return;
        }
        self.numbers.messages.add(1);
        self.numbers.octets.add(message.size);
        self.numbers.committed(latency);
        let sharer = origin.sharer();
        let mut line = self.log.line(self.wall, Some(message.id), name::QUEUED);
        line.address("from", &envelope.sender);
        let listed = line.addresses("to", addresses(&envelope.recipients));
        line.number("nrcpt", envelope.recipients.len() as u64).number("size", message.size);
        source(&mut line, origin, envelope);
        line.about_mail(sharer);
        line.text("message-id", message.message_id())
            .number("commit_us", u64::try_from(latency.as_micros()).unwrap_or(u64::MAX));
        drop(line);
        self.further_recipients(message.id, sharer, envelope.recipients.get(listed..).unwrap_or_default());
    }

    /// Logs the recipients that did not fit in the line about their message.
    fn further_recipients(&mut self, id: QueueId, sharer: Sharer, mut recipients: &[Recipient]) {
        while !recipients.is_empty() {
            let mut line = self.log.line(self.wall, Some(id), name::RECIPIENTS);
            line.about_mail(sharer);
            let listed = line.addresses("to", addresses(recipients));
            recipients = recipients.get(listed..).unwrap_or_default();
        }
    }

    /// Counts a refusal.
    pub(super) fn count_reject(&mut self, reason: &'static str) {
        self.rejects.count(&self.numbers, reason);
    }

    /// Ends a turn and publishes the metrics. `is_quiet`: the next turn may be far off.
    pub(super) fn end_turn(
        &mut self,
        is_quiet: bool,
        open: usize,
        memory: usize,
        blocks_in_use: usize,
        queue: Stats,
    ) {
        let numbers = &self.numbers;
        numbers.sessions_open.set(open as u64);
        numbers.content_memory.set(memory as u64);
        numbers.blocks_in_use.set(blocks_in_use as u64);
        numbers.queue_messages.set(queue.messages);
        numbers.queue_octets.set(queue.octets);
        numbers.queue_held.set(queue.held);
        if is_quiet || self.log.is_pressed() {
            self.flush();
        }
    }

    /// Hands over the gathered lines.
    pub(super) fn flush(&mut self) {
        self.log.flush();
    }
}

fn addresses(recipients: &[Recipient]) -> impl Iterator<Item = &[u8]> {
    recipients.iter().map(|recipient| &*recipient.address)
}

/// Adds the client, or the user of this machine.
fn source(line: &mut Line<'_>, origin: &Origin, envelope: &Envelope) {
    match &envelope.submitter {
        Some(submitter) => _ = line.number("uid", u64::from(submitter.user_id)),
        None => client(line, origin),
    }
}

/// Adds address, name, greeting and protocol of the client.
fn client(line: &mut Line<'_>, origin: &Origin) {
    let mut text = [0; CLIENT_SIZE];
    line.about_client(origin.sharer()).text("client", client_of(origin, &mut text));
    if !origin.helo.is_empty() {
        let protocol: &[u8] = match origin.protocol {
            Protocol::Smtp => b"SMTP",
            Protocol::Esmtp => b"ESMTP",
            Protocol::Local => b"local",
        };
        line.text("proto", protocol).address("helo", &origin.helo);
    }
}

/// Longest `NAME[ADDRESS]:PORT` in bytes.
const CLIENT_SIZE: usize = 320;

fn client_of<'t>(origin: &Origin, text: &'t mut [u8; CLIENT_SIZE]) -> &'t [u8] {
    use std::io::Write;
    let mut rest = &mut text[..];
    let name = origin.client_name.as_deref().unwrap_or(b"unknown");
    // It fits, because a name has at most 255 bytes.
    let _ = rest.write_all(name.get(..255).unwrap_or(name));
    let _ = match origin.client_address.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, d] = address.octets();
            let _ = rest.write_all(b"[");
            for (octet, behind) in [(a, b"."), (b, b"."), (c, b"."), (d, b"]")] {
                let _ = rest.write_all(decimal(u64::from(octet), &mut [0; 20]));
                let _ = rest.write_all(behind);
            }
            rest.write_all(b":")
        }
        IpAddr::V6(address) => write!(rest, "[{address}]:"),
    };
    let _ = rest.write_all(decimal(u64::from(origin.client_port), &mut [0; 20]));
    let size = CLIENT_SIZE - rest.len();
    &text[..size]
}

impl Observer for Telemetry {
    fn replied(&mut self, code: u16) {
        self.numbers.replied(code);
    }

    fn rejected(&mut self, origin: &Origin, reject: &Reject<'_>) {
        self.rejects.count(&self.numbers, reject.reason);
        let mut line = self.log.line(self.wall, None, name::REJECT);
        line.text("stage", reject.stage.as_bytes())
            .text("reason", reject.reason.as_bytes())
            .text("reply", reject.reply);
        if let Some(sender) = reject.sender {
            line.address("from", sender);
        }
        if let Some(recipient) = reject.recipient {
            line.addresses("to", [recipient]);
        }
        client(&mut line, origin);
    }
}

/// Logs the actions of checks for one message.
pub(super) struct CheckLog<'a> {
    pub(super) telemetry: &'a mut Telemetry,
    pub(super) id: QueueId,
    /// Sender of a message.
    pub(super) sharer: Sharer,
}

impl cleanup::Observer for CheckLog<'_> {
    fn noticed(&mut self, notice: &Notice<'_>) {
        let Telemetry { log, wall, .. } = self.telemetry;
        let mut line = log.line(*wall, Some(self.id), EventName::of_action(notice.action));
        line.about_client(self.sharer).text_up_to(notice.subject, notice.text, NOTICE_SIZE_MAX);
        if !notice.argument.is_empty() {
            line.text("text", notice.argument);
        }
    }
}

/// Bytes of a field or line in a log line of text, as in Postfix.
const NOTICE_SIZE_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shown_with_address_and_port() {
        for (address, port, wanted) in [
            ("192.0.2.70", 25, "unknown[192.0.2.70]:25"),
            ("::ffff:192.0.2.70", 65535, "unknown[192.0.2.70]:65535"),
            ("2001:db8::1", 0, "unknown[2001:db8::1]:0"),
        ] {
            let origin = Origin::new(address.parse().unwrap(), port);
            assert_eq!(client_of(&origin, &mut [0; CLIENT_SIZE]), wanted.as_bytes());
        }
    }
}
