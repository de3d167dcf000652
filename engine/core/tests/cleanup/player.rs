//! Gives the content of a case to the passes in every way in which it can arrive.

use std::sync::Arc;

use bumpalo::Bump;
use mailrace_core::cleanup::{
    self, Cleanup, Halt, Notice, Observer, Settings, Surroundings, strip_characters,
};
use mailrace_core::{BodyType, Envelope, QueueId, QueuedEnvelope};

use crate::case::{ARRIVAL, Case, Failure};
use crate::table::{Arrivals, Deferring, Prompt};

/// Content up to this size is cut at every place.
const CUT_SIZE_MAX: usize = 600;

/// What the passes made of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Outcome {
    /// Content, not stated for a refused message.
    output: Vec<u8>,
    envelope: Vec<String>,
    notices: Vec<String>,
    refusal: Option<String>,
    message_id: String,
}

/// Plays a case in every way and compares what is stated.
pub(crate) fn play(case: &Case) -> Result<(), Failure> {
    let prompt = case.settings_with(|entries| Arc::new(Prompt(entries)));
    let whole = outcome(case, &prompt, None, &[case.input.len()]);
    compare(case, &whole).map_err(|message| (case.line, message))?;
    let size = case.input.len();
    let mut ways: Vec<Vec<usize>> =
        [1, 2, 3, 7, 100].map(|piece| (piece..size).step_by(piece).chain([size]).collect()).into();
    if size <= CUT_SIZE_MAX {
        ways.extend((0..size).map(|cut| vec![cut, size]));
    }
    for ends in ways {
        let found = outcome(case, &prompt, None, &ends);
        if found != whole {
            return Err((case.line, format!("in pieces up to {ends:?}: {}", shown(&found))));
        }
    }
    for ends in [vec![size], (0..=size).collect(), vec![size / 2, size]] {
        let arrivals = Arc::<Arrivals>::default();
        let deferring =
            case.settings_with(|entries| Arc::new(Deferring { entries, arrivals: Arc::clone(&arrivals) }));
        let found = outcome(case, &deferring, Some(&arrivals), &ends);
        if found != whole {
            return Err((case.line, format!("with answers that are deferred: {}", shown(&found))));
        }
    }
    Ok(())
}

fn compare(case: &Case, found: &Outcome) -> Result<(), String> {
    let expected = &case.expected;
    same("refusal", &found.refusal, &expected.refusal)?;
    same("notices", &found.notices, &expected.notices)?;
    if let Some(output) = &expected.output {
        let rest = if expected.is_with_trace { &found.output } else { without_trace(&found.output) };
        if rest != output {
            let (rest, output) = (rest.escape_ascii(), output.escape_ascii());
            return Err(format!("the content is\n  {rest}\nand not\n  {output}"));
        }
    }
    if !expected.envelope.is_empty() {
        same("envelope", &found.envelope, &expected.envelope)?;
    }
    match &expected.message_id {
        Some(message_id) => same("message-id", &found.message_id, message_id),
        None => Ok(()),
    }
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, found: &T, expected: &T) -> Result<(), String> {
    if found == expected { Ok(()) } else { Err(format!("{what}: {found:?}, and not {expected:?}")) }
}

fn shown(found: &Outcome) -> String {
    format!("{}\n  {found:?}", found.output.escape_ascii())
}

/// The content after our trace field, which ends with the time zone.
fn without_trace(output: &[u8]) -> &[u8] {
    let end: &[u8] = b"(UTC)\r\n";
    match output.windows(end.len()).position(|window| window == end) {
        Some(place) if output.starts_with(b"Received: from client.example.net ") => {
            &output[place + end.len()..]
        }
        _ => output,
    }
}

/// Cleans the content, which arrives in pieces that end at `ends`.
fn outcome(case: &Case, settings: &Settings, arrivals: Option<&Arrivals>, ends: &[usize]) -> Outcome {
    let envelope = case.complete_envelope();
    let mut notes = Notes::default();
    let mut cleanup = Cleanup::new(QueueId::new(ARRIVAL, 0), case.is_local);
    let mut found = Outcome::default();
    let (mut kept, mut start, mut is_done) = (Vec::new(), 0, false);
    let mut refusal = None;
    for end in ends {
        let arena = Bump::new();
        kept.extend_from_slice(strip_characters(&arena, settings, &case.input[start..*end]));
        start = *end;
        let is_whole = start == case.input.len();
        if is_done {
            found.output.append(&mut kept);
            continue;
        }
        let part = cleaned(case, settings, &envelope, &mut notes, &mut cleanup, (&kept, is_whole), arrivals);
        let (output, consumed, is_over) = match part {
            Ok(part) => part,
            Err(rejection) => {
                refusal = Some(rejection);
                break;
            }
        };
        found.output.extend(output);
        is_done = is_over;
        kept.drain(..consumed);
    }
    found.output.append(&mut kept);
    if refusal.is_none() {
        match queued(case, settings, &envelope, &mut notes, &cleanup, arrivals) {
            Ok(described) => found.envelope = described,
            Err(rejection) => refusal = Some(rejection),
        }
    }
    found.message_id = cleanup.message_id().escape_ascii().to_string();
    if let Some(rejection) = refusal {
        found.refusal = Some(rejection.reply().escape_ascii().to_string());
        found.output.clear();
        found.message_id.clear();
    }
    found.notices = notes.0;
    found
}

type Part = (Vec<u8>, usize, bool);

/// Cleans one piece; waits for tables.
fn cleaned(
    case: &Case,
    settings: &Settings,
    envelope: &Envelope,
    notes: &mut Notes,
    cleanup: &mut Cleanup,
    (input, is_whole): (&[u8], bool),
    arrivals: Option<&Arrivals>,
) -> Result<Part, cleanup::Rejection> {
    loop {
        let arena = Bump::new();
        let mut surroundings =
            Surroundings { arena: &arena, settings, origin: &case.origin, envelope, observer: notes };
        match cleanup.content(&mut surroundings, input, is_whole) {
            Ok(part) => return Ok((part.output.concat(), part.consumed, part.is_done)),
            Err(Halt::Rejected(rejection)) => return Err(rejection),
            Err(Halt::Pending(ticket)) => arrivals.expect("only these tables wait").let_in(ticket),
        }
    }
}

/// Describes the envelope for the queue; waits for tables.
fn queued(
    case: &Case,
    settings: &Settings,
    envelope: &Envelope,
    notes: &mut Notes,
    cleanup: &Cleanup,
    arrivals: Option<&Arrivals>,
) -> Result<Vec<String>, cleanup::Rejection> {
    loop {
        let arena = Bump::new();
        let mut surroundings =
            Surroundings { arena: &arena, settings, origin: &case.origin, envelope, observer: notes };
        match cleanup.envelope(&mut surroundings) {
            Ok(queued) => {
                let mut lines = described(&queued);
                let decisions = cleanup.decisions();
                lines.extend(decisions.is_held.then(|| "held".to_owned()));
                lines.extend(decisions.is_discarded.then(|| "discarded".to_owned()));
                return Ok(lines);
            }
            Err(Halt::Rejected(rejection)) => return Err(rejection),
            Err(Halt::Pending(ticket)) => arrivals.expect("only these tables wait").let_in(ticket),
        }
    }
}

fn described(queued: &QueuedEnvelope<'_>) -> Vec<String> {
    let mut lines = vec![format!("from {}", queued.sender.escape_ascii()).trim_end().to_owned()];
    let recipients = queued.recipients.iter().map(|recipient| ("to", recipient));
    let expanded = queued.expanded.iter().map(|recipient| ("expanded", recipient));
    for (role, recipient) in recipients.chain(expanded) {
        let mut line = format!("{role} {}", recipient.address.escape_ascii());
        if recipient.original != recipient.address {
            line.push_str(&format!(" given {}", recipient.original.escape_ascii()));
        }
        if !recipient.notify.is_empty() {
            line.push_str(&format!(" notify={}", recipient.notify.bits()));
        }
        if let Some(original) = recipient.dsn_original {
            line.push_str(&format!(" orcpt={}", original.escape_ascii()));
        }
        lines.push(line);
    }
    match queued.body {
        BodyType::Unstated => {}
        BodyType::SevenBit => lines.push("body 7BIT".to_owned()),
        BodyType::EightBitMime => lines.push("body 8BITMIME".to_owned()),
        BodyType::BinaryMime => lines.push("body BINARYMIME".to_owned()),
    }
    lines.extend(queued.smtputf8.then(|| "smtputf8".to_owned()));
    lines.extend((queued.smtputf8 && queued.has_ascii_header).then(|| "ascii-header".to_owned()));
    lines.extend(queued.content_filter.map(|filter| format!("filter {}", filter.escape_ascii())));
    lines.extend(queued.redirect.map(|redirect| format!("redirect {}", redirect.escape_ascii())));
    lines
}

/// Notices that were reported.
#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn noticed(&mut self, notice: &Notice<'_>) {
        self.0.push(
            format!("{} {}: {}", notice.action, notice.subject, notice.argument.escape_ascii())
                .trim_end()
                .to_owned(),
        );
    }
}
