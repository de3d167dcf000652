//! Plays the dialogues of a client in `client/cases/*.case`, with replies whole and in pieces.
//!
//! A line `== TITLE` begins a dialogue. Its steps:
//!
//! | step | meaning |
//! |---|---|
//! | `lmtp` | the protocol |
//! | `do COMMAND ...` | the client's next command: `hello`, `helo`, `mail`, `rcpt`, `data`, `bdat SIZE [LAST]`, `content`, `end`, `reset`, `other`, `quit` |
//! | `C: text` | all that was sent since the last such step |
//! | `S: text` | bytes from the server |
//! | `= CODE EVENT`, `= EVENT` | the next event, with the reply's code |
//! | `may`, `may-not` | whether a command may be sent |
//! | `accepted N` | number of accepted recipients |
//! | `unanswered`, `answered` | whether the server may have a message that it has not answered |
//!
//! Every event has a step.

#[path = "../dialogues/escape.rs"]
mod escape;

use std::collections::VecDeque;
use std::path::Path;

use escape::unescape;
use mailrace_core::smtp::client::{Event, Protocol, ReplyReader, Session};

#[test]
fn clients_follow_their_dialogues() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/client/cases");
    let mut failures = Vec::new();
    for entry in std::fs::read_dir(&directory).unwrap() {
        let file = entry.unwrap().path();
        let text = std::fs::read_to_string(&file).unwrap();
        for piece in [usize::MAX, 1, 2, 5] {
            if let Err((line, message)) = play(&text, piece) {
                failures.push(format!("{}:{line}: {message} (in pieces of {piece})", file.display()));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

fn play(text: &str, piece: usize) -> Result<(), (usize, String)> {
    let mut client = Client::default();
    for (line, text) in (1..).zip(text.lines()) {
        if text.starts_with("== ") {
            client.is_settled().map_err(|message| (line, message))?;
            client = Client::default();
        } else if !text.is_empty() && !text.starts_with('#') {
            client.step(text, piece).map_err(|message| (line, message))?;
        }
    }
    client.is_settled().map_err(|message| (text.lines().count(), message))
}

/// The client's side, and what it did that no step has read.
#[derive(Default)]
struct Client {
    session: Session,
    reader: ReplyReader,
    sent: Vec<u8>,
    events: VecDeque<String>,
}

impl Client {
    fn is_settled(&self) -> Result<(), String> {
        match self.events.front() {
            Some(event) => Err(format!("the event {event} has no step")),
            None => same("sent", self.sent.escape_ascii().to_string(), String::new()),
        }
    }

    fn step(&mut self, text: &str, piece: usize) -> Result<(), String> {
        let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "lmtp" => self.session = Session::new(Protocol::Lmtp),
            "do" => self.command(argument)?,
            "C:" => {
                let sent = std::mem::take(&mut self.sent);
                same(
                    "sent",
                    sent.escape_ascii().to_string(),
                    unescape(argument)?.escape_ascii().to_string(),
                )?;
            }
            "S:" => unescape(argument)?.chunks(piece).for_each(|piece| self.receive(piece)),
            "=" => same("event", self.events.pop_front().unwrap_or_default(), argument.to_owned())?,
            "may" => same("may send", self.session.may_send(), true)?,
            "may-not" => same("may send", self.session.may_send(), false)?,
            "accepted" => {
                same("accepted", self.session.recipients_accepted().to_string(), argument.to_owned())?
            }
            "unanswered" => same("unanswered", self.session.is_content_unanswered(), true)?,
            "answered" => same("unanswered", self.session.is_content_unanswered(), false)?,
            _ => return Err(format!("unknown step {text:?}")),
        }
        Ok(())
    }

    fn receive(&mut self, mut piece: &[u8]) {
        while let Some(received) = self.reader.read(&mut piece) {
            let event = self.session.reply_received(&received);
            let code = received.map_or(String::new(), |reply| format!("{} ", reply.code()));
            self.events.push_back(match event {
                Event::Answer(awaited) => format!("{code}{awaited:?}"),
                event => format!("{code}{event:?}"),
            });
        }
    }

    fn command(&mut self, text: &str) -> Result<(), String> {
        let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
        let text = unescape(argument)?;
        let (session, out) = (&mut self.session, &mut self.sent);
        if word != "content" && word != "end" && !session.may_send() {
            return Err("no command may be sent".to_owned());
        }
        let result = match word {
            "hello" => session.hello(&text, out),
            "helo" => session.helo(&text, out),
            "mail" => session.mail(&text, b"", out),
            "rcpt" => session.rcpt(&text, b"", out),
            "other" => session.other(&text, out),
            "data" => {
                session.data(out);
                Ok(())
            }
            "bdat" => {
                let (size, last) = argument.split_once(' ').unwrap_or((argument, ""));
                let size = size.parse().map_err(|error| format!("{error}"))?;
                session.bdat(size, last == "LAST", out);
                Ok(())
            }
            "content" => {
                session.content(&text, out);
                Ok(())
            }
            "end" => {
                session.end_of_data(out);
                Ok(())
            }
            "reset" => {
                session.reset(out);
                Ok(())
            }
            "quit" => {
                session.quit(out);
                Ok(())
            }
            _ => return Err(format!("unknown command {word}")),
        };
        result.map_err(|error| error.to_string())
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: T, expected: T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and not {expected:?}")) }
}
