//! A case as it is written in a file.

use std::sync::Arc;

use mailrace_core::cleanup::Settings;
use mailrace_core::{BodyType, Envelope, Notify, Origin, Protocol, Recipient, Submitter, Timestamp};

use crate::escape::unescape;
use crate::settings::{configure, defaults};
use crate::table::{Entry, TABLES};

/// A line and what is invalid in it.
pub(crate) type Failure = (usize, String);

/// Arrival of all messages: Tue, 24 Nov 2026 02:09:59 +0000.
pub(crate) const ARRIVAL: Timestamp = Timestamp::from_unix_microseconds(1_795_486_199_000_000);

/// A message, what the passes know about it, and what they must make of it.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) title: String,
    /// Line of the title.
    pub(crate) line: usize,
    pub(crate) settings: Settings,
    /// Entries by the place of their table in [`TABLES`].
    pub(crate) entries: Vec<(usize, Entry)>,
    pub(crate) origin: Origin,
    pub(crate) envelope: Envelope,
    pub(crate) is_local: bool,
    pub(crate) input: Vec<u8>,
    pub(crate) expected: Expected,
}

/// What a case states. `None`: nothing is stated.
#[derive(Clone, Debug, Default)]
pub(crate) struct Expected {
    /// Content after the trace field, or with it.
    pub(crate) output: Option<Vec<u8>>,
    pub(crate) is_with_trace: bool,
    pub(crate) envelope: Vec<String>,
    pub(crate) notices: Vec<String>,
    pub(crate) refusal: Option<String>,
    pub(crate) message_id: Option<String>,
}

impl Case {
    /// Reads the cases of a file. What precedes the first title applies to all of them.
    pub(crate) fn parse_all(text: &str) -> Result<Vec<Self>, Failure> {
        let common = Self::common();
        let mut cases = vec![common];
        for (line, text) in (1..).zip(text.lines()) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            if let Some(title) = text.strip_prefix("== ") {
                let common = cases[0].clone();
                cases.push(Self { title: title.to_owned(), line, ..common });
                continue;
            }
            let case = cases.last_mut().expect("there are at least the common statements");
            case.statement(text).map_err(|message| (line, message))?;
        }
        cases.remove(0);
        let silent = cases.iter().find(|case| !case.expected.states_something());
        match silent {
            Some(case) => Err((case.line, format!("{}: nothing is expected", case.title))),
            None => Ok(cases),
        }
    }

    fn common() -> Self {
        let mut origin = Origin::new([192, 0, 2, 1].into(), 4711);
        origin.helo = (*b"client.example.net").into();
        origin.protocol = Protocol::Esmtp;
        let envelope = Envelope {
            arrival: ARRIVAL,
            sender: b"sender@client.example.net".to_vec(),
            ..Envelope::default()
        };
        Self {
            title: String::new(),
            line: 1,
            settings: defaults(),
            entries: Vec::new(),
            origin,
            envelope,
            is_local: false,
            input: Vec::new(),
            expected: Expected::default(),
        }
    }

    fn statement(&mut self, text: &str) -> Result<(), String> {
        let (word, argument) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "set" => {
                let (name, value) = argument.split_once(' ').unwrap_or((argument, ""));
                configure(&mut self.settings, name, &unescape(value)?)?;
            }
            "table" => self.entry(argument)?,
            "client" => self.client(argument)?,
            "name" => {
                let full_name = unescape(argument)?;
                self.envelope.submitter = Some(Box::new(Submitter { user_id: 1000, full_name }));
            }
            "from" => self.envelope.sender = unescape(argument)?,
            "to" => self.envelope.recipients.push(recipient(argument)?),
            "body" => self.envelope.body = body(argument)?,
            "smtputf8" => self.envelope.smtputf8 = true,
            "raw" => self.envelope.content.has_raw_start = true,
            "<" | "<-" => add_line(&mut self.input, argument, word == "<")?,
            ">" | ">-" => {
                add_line(self.expected.output.get_or_insert_default(), argument, word == ">")?;
            }
            "same" => self.expected.output = Some(self.input.clone()),
            "trace" => self.expected.is_with_trace = true,
            "E" => self.expected.envelope.push(shown(argument)?),
            "N" => self.expected.notices.push(shown(argument)?),
            "R" => self.expected.refusal = Some(shown(argument)?),
            "I" => self.expected.message_id = Some(shown(argument)?),
            _ => return Err(format!("unknown statement {text:?}")),
        }
        Ok(())
    }

    fn entry(&mut self, argument: &str) -> Result<(), String> {
        let (name, entry) = argument.split_once(' ').ok_or("expected a table and an entry")?;
        let (key, value) = entry.split_once(" => ").ok_or("expected KEY => VALUE")?;
        let table = TABLES.iter().position(|table| *table == name);
        let table = table.ok_or_else(|| format!("unknown table {name}"))?;
        self.entries.push((table, Entry { key: unescape(key)?, value: unescape(value)? }));
        Ok(())
    }

    fn client(&mut self, argument: &str) -> Result<(), String> {
        match argument {
            "local" => self.is_local = true,
            "smtp" => self.origin.protocol = Protocol::Smtp,
            "submission" => self.origin.protocol = Protocol::Local,
            _ => match argument.split_once(' ').unwrap_or((argument, "")) {
                ("helo", helo) => self.origin.helo = unescape(helo)?.into(),
                ("name", name) => self.origin.client_name = Some(unescape(name)?.into()),
                ("address", address) => {
                    self.origin.client_address = address.parse().map_err(|error| format!("{error}"))?;
                }
                _ => return Err(format!("unknown client {argument:?}")),
            },
        }
        Ok(())
    }

    /// Returns the envelope with the usual recipient if the case names none.
    pub(crate) fn complete_envelope(&self) -> Envelope {
        let mut envelope = self.envelope.clone();
        if envelope.recipients.is_empty() {
            envelope
                .recipients
                .push(Recipient { address: b"user@example.com".to_vec(), ..Recipient::default() });
        }
        envelope
    }

    /// Returns the settings with tables made by `make` of the entries for each.
    pub(crate) fn settings_with(
        &self,
        make: impl Fn(Vec<Entry>) -> Arc<dyn mailrace_core::lookup::LookupTable>,
    ) -> Settings {
        let mut settings = self.settings.clone();
        for (table, name) in TABLES.iter().enumerate() {
            let of_table = self.entries.iter().filter(|(place, _)| *place == table);
            let entries: Vec<Entry> = of_table.map(|(_, entry)| entry.clone()).collect();
            if !entries.is_empty() {
                *crate::settings::maps(&mut settings, name) =
                    mailrace_core::lookup::Maps::new(vec![make(entries)]);
            }
        }
        settings
    }
}

impl Expected {
    const fn states_something(&self) -> bool {
        self.output.is_some()
            || !self.envelope.is_empty()
            || !self.notices.is_empty()
            || self.refusal.is_some()
            || self.message_id.is_some()
    }
}

/// Text as outcomes show it.
fn shown(argument: &str) -> Result<String, String> {
    Ok(unescape(argument)?.escape_ascii().to_string())
}

fn add_line(text: &mut Vec<u8>, argument: &str, has_end: bool) -> Result<(), String> {
    text.extend(unescape(argument)?);
    text.extend_from_slice(if has_end { b"\r\n" } else { b"" });
    Ok(())
}

/// `ADDRESS [notify=BITS] [orcpt=TYPE;ADDRESS]`
fn recipient(argument: &str) -> Result<Recipient, String> {
    let mut words = argument.split(' ');
    let address = unescape(words.next().unwrap_or_default())?;
    let mut recipient = Recipient { address, ..Recipient::default() };
    for word in words {
        match word.split_once('=') {
            Some(("notify", bits)) => {
                recipient.notify = Notify::from_bits(bits.parse().map_err(|error| format!("{error}"))?);
            }
            Some(("orcpt", original)) => recipient.dsn_original = Some(unescape(original)?.into()),
            _ => return Err(format!("unknown parameter {word:?}")),
        }
    }
    Ok(recipient)
}

fn body(argument: &str) -> Result<BodyType, String> {
    match argument {
        "7BIT" => Ok(BodyType::SevenBit),
        "8BITMIME" => Ok(BodyType::EightBitMime),
        "BINARYMIME" => Ok(BodyType::BinaryMime),
        _ => Err(format!("unknown body {argument:?}")),
    }
}
