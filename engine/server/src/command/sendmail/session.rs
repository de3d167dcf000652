//! `sendmail -bs`: an SMTP session on standard input and output, as mail libraries hold one with a local `sendmail`. Each
//! message goes into the maildrop, and is answered with 250 when it is durable there.
//!
//! The session is the engine's. It trusts the caller, who could submit the same message without it.

use std::io::{self, Read, Write};
use std::time::Duration;

use mailrace_core::record::submission::Submission;
use mailrace_core::smtp::{self, Context, Event, Observer, Reject, Session, Verdict};
use mailrace_core::submission::is_plain_address;
use mailrace_core::{BodyType, Envelope, Origin, QueueId};

use super::check::check;
use super::interruption::Interruption;
use super::user::Caller;
use super::{Fatal, configuration, say};
use crate::config::{Configuration, Tables};
use crate::log::now;
use crate::maildrop::{DropFile, Maildrop};

/// Bytes that are read at once.
const INPUT_SIZE: usize = 64 * 1024;

/// Holds the session until the caller ends it.
///
/// # Errors
/// The session cannot begin, or standard input or output fails.
pub(super) fn run(config: Option<std::path::PathBuf>) -> Result<(), Fatal> {
    let (configuration, queue) = configuration(config)?;
    let caller = Caller::of_process();
    let failed = |text: String| Fatal::temporary(&text);
    queue.make().map_err(|error| failed(format!("cannot use {}: {error}", queue.path().display())))?;
    let interruption =
        Interruption::handle().map_err(|error| failed(format!("cannot handle signals: {error}")))?;
    let settings = smtp::Settings {
        // The client may send without waiting for replies.
        smtpd_forbid_unauth_pipelining: false,
        ..configuration.worker_settings(1, &Tables::default()).smtp
    };
    let message =
        Message { configuration: &configuration, queue, caller, interruption, file: None, has_cr: false };
    let dialogue = Dialogue { settings, session: Session::new(Origin::default(), true), message };
    dialogue.run(&mut io::stdin().lock(), &mut io::stdout().lock()).map_err(|error| failed(error.to_string()))
}

struct Dialogue<'c> {
    settings: smtp::Settings,
    session: Session,
    message: Message<'c>,
}

impl Dialogue<'_> {
    fn run(mut self, input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
        let mut replies = Vec::new();
        self.session.greet(&mut context(&self.settings, &mut Silence), &mut replies);
        let mut rest = Vec::new();
        let mut octets = vec![0; INPUT_SIZE];
        loop {
            flush(output, &mut replies)?;
            let count = match input.read(&mut octets) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if count == 0 {
                // What is not whole is dropped.
                return Ok(());
            }
            rest.extend_from_slice(octets.get(..count).unwrap_or_default());
            let Some(consumed) = self.take(&rest, &mut replies, output)? else {
                return flush(output, &mut replies);
            };
            rest.drain(..consumed);
        }
    }

    /// Takes input; how much of it, or `None` at the end of the session.
    fn take(
        &mut self,
        input: &[u8],
        replies: &mut Vec<u8>,
        output: &mut impl Write,
    ) -> io::Result<Option<usize>> {
        let Self { settings, session, message } = self;
        let mut consumed = 0;
        loop {
            let mut silence = Silence;
            let mut context = context(settings, &mut silence);
            let step = session.feed(&mut context, input.get(consumed..).unwrap_or_default(), replies);
            consumed += step.consumed;
            match step.event {
                Event::NeedInput => return Ok(Some(consumed)),
                Event::SendReplies => flush(output, replies)?,
                Event::ContentBegin => message.begin(),
                Event::Content(piece) => message.write(piece),
                Event::ContentAbandon => message.drop_file(),
                Event::ContentEnd => {
                    let verdict = match session.envelope() {
                        Some(envelope) => message.finish(envelope),
                        None => Verdict::QueueWriteFailed,
                    };
                    if let Event::Close = session.verdict(&mut context, verdict, replies) {
                        return Ok(None);
                    }
                }
                Event::Delay { milliseconds } => {
                    std::thread::sleep(Duration::from_millis(u64::from(milliseconds)));
                }
                // There are no tables that could be waited for.
                Event::Ask(_) | Event::Close => return Ok(None),
            }
        }
    }
}

fn context<'a>(settings: &'a smtp::Settings, observer: &'a mut Silence) -> Context<'a> {
    Context { settings, wall: now(), is_storage_low: false, observer }
}

fn flush(output: &mut impl Write, replies: &mut Vec<u8>) -> io::Result<()> {
    output.write_all(replies)?;
    replies.clear();
    output.flush()
}

/// The message under way.
struct Message<'c> {
    configuration: &'c Configuration,
    queue: Maildrop,
    caller: Caller,
    interruption: Interruption,
    /// `None` also when it could not be written.
    file: Option<DropFile>,
    /// The last byte of the content was a CR that may belong to a line end.
    has_cr: bool,
}

impl Message<'_> {
    fn begin(&mut self) {
        self.has_cr = false;
        self.file = told(self.interruption.begin(|| self.queue.create()));
    }

    /// Writes content, with LF for CRLF.
    fn write(&mut self, piece: &[u8]) {
        let Some(file) = &mut self.file else { return };
        let mut lines = Vec::with_capacity(piece.len() + 1);
        for octet in piece {
            if std::mem::replace(&mut self.has_cr, *octet == b'\r') && *octet != b'\n' {
                lines.push(b'\r');
            }
            if *octet != b'\r' {
                lines.push(*octet);
            }
        }
        if told(file.write(&lines)).is_none() {
            self.drop_file();
        }
    }

    fn drop_file(&mut self) {
        self.file = None;
        self.interruption.forget();
    }

    fn finish(&mut self, envelope: &Envelope) -> Verdict {
        if std::mem::take(&mut self.has_cr) {
            // It ended no line, and is a space like any other such.
            self.write(b" ");
        }
        let Some(file) = self.file.take() else { return Verdict::QueueWriteFailed };
        let verdict = self.queue_file(file, envelope);
        self.interruption.forget();
        verdict
    }

    fn queue_file(&self, file: DropFile, envelope: &Envelope) -> Verdict {
        let refused =
            |reply: String| Verdict::Refused { reason: "submission", reply: reply.into_bytes().into() };
        if envelope.body == BodyType::BinaryMime {
            return refused("554 5.6.1 Error: BINARYMIME cannot be submitted with sendmail".to_owned());
        }
        let mut addresses = envelope.recipients.iter().map(|it| &it.address).chain([&envelope.sender]);
        if !addresses.all(|address| is_plain_address(address)) {
            return refused("553 5.1.3 Error: an address has control characters".to_owned());
        }
        let submission = Submission {
            sender: envelope.sender.clone(),
            full_name: Vec::new(),
            is_gateway: false,
            body: envelope.body,
            ret: envelope.ret,
            envelope_id: envelope.envelope_id.clone(),
            recipients: envelope.recipients.clone(),
        };
        let Some((content, header)) = told(file.written()) else { return Verdict::QueueWriteFailed };
        if let Err(reason) = check(self.configuration, content, header, &submission, self.caller.user_id) {
            // Some have a reply of the engine's.
            let has_code =
                reason.as_bytes().first_chunk::<3>().is_some_and(|it| it.iter().all(u8::is_ascii_digit));
            return refused(if has_code { reason } else { format!("554 5.6.0 Error: {reason}") });
        }
        match told(file.finish(&submission, || self.interruption.end())) {
            Some(()) => Verdict::Queued(QueueId::new(now(), 0)),
            None => Verdict::QueueWriteFailed,
        }
    }
}

/// What was done; an error is said.
fn told<T>(result: io::Result<T>) -> Option<T> {
    result.inspect_err(|error| say(&format!("warning: error writing queue file: {error}"))).ok()
}

/// The caller sees all replies.
struct Silence;

impl Observer for Silence {
    fn replied(&mut self, _: u16) {}

    fn rejected(&mut self, _: &Origin, _: &Reject<'_>) {}
}
