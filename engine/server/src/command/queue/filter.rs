//! Which messages an operator means: by id, from the command line or standard input, and by what their envelopes say.

use std::collections::BTreeSet;
use std::io::BufRead;
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use mailrace_core::{QueueId, Timestamp};
use mailrace_io::Disk;
use mailrace_spool::State;
use mailrace_spool::reader::{Entry, Queue, ReadError};

use super::Failure;
use crate::command::{EXIT_DATA, refused};
use crate::config;

/// Queue ids and filters, as they were given.
#[derive(Debug, clap::Args)]
pub(super) struct Choice {
    /// Queue ids; ALL for all messages; - to read ids from standard input, the first word of each line
    #[arg(
        value_name = "ID",
        required_unless_present_any = ["sender", "recipient", "older_than", "newer_than", "state"]
    )]
    pub(super) ids: Vec<String>,
    #[command(flatten)]
    filter: Filter,
}

#[derive(Debug, clap::Args)]
struct Filter {
    /// Only messages from this sender: an address, @DOMAIN, or <> for the null sender; case is ignored
    #[arg(long, value_name = "ADDRESS")]
    sender: Option<String>,
    /// Only messages with this recipient: an address or @DOMAIN; case is ignored
    #[arg(long, value_name = "ADDRESS")]
    recipient: Option<String>,
    /// Only messages that arrived at least this long ago: 90s, 10m, 2h, 3d, 1w; seconds without a unit
    #[arg(long, value_name = "TIME", value_parser = config::time)]
    older_than: Option<Duration>,
    /// Only messages that arrived less than this long ago: 90s, 10m, 2h, 3d, 1w; seconds without a unit
    #[arg(long, value_name = "TIME", value_parser = config::time)]
    newer_than: Option<Duration>,
    /// Only messages in this state
    #[arg(long, value_name = "STATE", value_parser = PossibleValuesParser::new(["incoming", "hold"]))]
    state: Option<String>,
}

/// The ids that were given.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Given {
    /// ALL is among them.
    pub(super) is_all: bool,
    /// Each once, in the order in which they were given.
    pub(super) ids: Vec<QueueId>,
    /// Ids of submissions that were set aside.
    pub(super) aside: Vec<String>,
    /// Words that are no ids.
    pub(super) invalid: Vec<String>,
}

impl Choice {
    /// Reads the ids; with `-` among them `input`, too.
    pub(super) fn given(&self, input: impl FnOnce() -> Box<dyn BufRead>) -> Result<Given, Failure> {
        let mut given = Given::default();
        let mut seen = BTreeSet::new();
        let mut input = Some(input);
        for word in &self.ids {
            if word != "-" {
                given.add(word, &mut seen);
            } else if let Some(input) = input.take() {
                for line in input().lines() {
                    let line =
                        line.map_err(|error| Failure::new(EXIT_DATA, format!("standard input: {error}")))?;
                    if let Some(word) = line.split_ascii_whitespace().next() {
                        given.add(word, &mut seen);
                    }
                }
            }
        }
        // Filters alone are about all messages.
        given.is_all |= self.ids.is_empty();
        Ok(given)
    }

    /// Whether ids alone say which messages are meant.
    pub(super) const fn has_filter(&self) -> bool {
        let Filter { sender, recipient, older_than, newer_than, state } = &self.filter;
        sender.is_some()
            || recipient.is_some()
            || older_than.is_some()
            || newer_than.is_some()
            || state.is_some()
    }

    /// The messages of the queue that are meant, oldest first. Those that go while this looks are none of them.
    pub(super) fn select<D: Disk>(
        &self,
        queue: &Queue<'_, D>,
        given: &Given,
        now: Timestamp,
    ) -> Result<Vec<QueueId>, Failure> {
        let wanted: Option<BTreeSet<QueueId>> = (!given.is_all).then(|| given.ids.iter().copied().collect());
        let mut selected = Vec::new();
        for (id, state, _) in queue.ids() {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&id))
                || !self.filter.takes(id, state, now)
            {
                continue;
            }
            if self.filter.needs_envelope() {
                match queue.entry(id) {
                    Ok(Some(entry)) if self.filter.takes_envelope(&entry) => {}
                    Ok(_) | Err(ReadError::Gone) => continue,
                    Err(error) => return Err(Failure::queue(format!("{id}: {error}"))),
                }
            }
            selected.push(id);
        }
        Ok(selected)
    }
}

impl Given {
    fn add(&mut self, word: &str, seen: &mut BTreeSet<QueueId>) {
        match QueueId::parse(word.as_bytes()) {
            _ if word == "ALL" => self.is_all = true,
            Some(id) => {
                if seen.insert(id) {
                    self.ids.push(id);
                }
            }
            None if refused::is_id(word) => self.aside.push(word.to_owned()),
            None => self.invalid.push(word.to_owned()),
        }
    }
}

impl Filter {
    const fn needs_envelope(&self) -> bool {
        self.sender.is_some() || self.recipient.is_some()
    }

    /// By id and state alone. The id holds the time at which the message arrived.
    fn takes(&self, id: QueueId, state: State, now: Timestamp) -> bool {
        let age =
            Duration::from_micros(now.unix_microseconds().saturating_sub(id.time().unix_microseconds()));
        self.older_than.is_none_or(|least| age >= least)
            && self.newer_than.is_none_or(|most| age < most)
            && self.state.as_ref().is_none_or(|name| state.name() == name)
    }

    fn takes_envelope(&self, entry: &Entry) -> bool {
        let envelope = &entry.envelope;
        self.sender.as_ref().is_none_or(|pattern| is_like(pattern, &envelope.sender))
            && self.recipient.as_ref().is_none_or(|pattern| {
                envelope.recipients.iter().any(|recipient| is_like(pattern, &recipient.address))
            })
    }
}

/// Whether an address is the one that `pattern` names, or of the domain that it names with `@`.
fn is_like(pattern: &str, address: &[u8]) -> bool {
    let pattern = pattern.strip_prefix('<').and_then(|inner| inner.strip_suffix('>')).unwrap_or(pattern);
    let part = if pattern.starts_with('@') {
        let at = address.iter().rposition(|byte| *byte == b'@');
        at.and_then(|at| address.get(at..)).unwrap_or_default()
    } else {
        address
    };
    part.eq_ignore_ascii_case(pattern.as_bytes())
}

#[cfg(test)]
mod tests;
