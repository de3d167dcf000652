//! What the engine would refuse whatever its tables say: found out before the program promises anything, by the cleanup
//! that the engine runs, without tables.

use std::fs::File;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::cleanup::{Cleanup, Halt, Notice, Observer, Rejection, Surroundings, strip_characters};
use mailrace_core::record::envelope::encode;
use mailrace_core::record::spool::{BATCH_HEADER_SIZE, record_size};
use mailrace_core::record::submission::{Header, Submission};
use mailrace_core::{Envelope, Origin, Protocol, QueueId, Submitter};

use crate::config::{Configuration, Tables};
use crate::log::now;
use crate::maildrop::{Content, ReadError};

/// Checks a message whose content is in `file`.
///
/// # Errors
/// Why it cannot enter the queue.
pub(super) fn check(
    configuration: &Configuration,
    file: File,
    header: Header,
    submission: &Submission,
    user_id: u32,
) -> Result<(), String> {
    let settings = configuration.worker_settings(1, &Tables::default()).cleanup;
    let origin = Origin { protocol: Protocol::Local, ..Origin::default() };
    let submitter = Submitter { user_id, full_name: submission.full_name.clone() };
    let envelope =
        Envelope { submitter: Some(Box::new(submitter)), ..submission.clone().into_envelope(now()) };
    let mut cleanup = Cleanup::new(QueueId::new(envelope.arrival, 0), !submission.is_gateway);
    let mut content = Content::new(file, header);
    // Content that no pass has seen the whole of, such as a field that goes on.
    let mut rest = Vec::new();
    let mut is_done = false;
    while !is_done {
        let (part, is_last) = content.next().map_err(|error| match error {
            ReadError::System(error) => format!("error reading queue file: {error}"),
            _ => "error reading queue file".to_owned(),
        })?;
        rest.extend_from_slice(strip_characters(&Bump::new(), &settings, &part));
        let arena = Bump::new();
        let mut passes = Surroundings {
            arena: &arena,
            settings: &settings,
            origin: &origin,
            envelope: &envelope,
            observer: &mut Silence,
        };
        let consumed = match cleanup.content(&mut passes, &rest, is_last) {
            Ok(part) => {
                is_done = part.is_done || is_last;
                part.consumed
            }
            Err(halt) => return refusal(&halt, configuration),
        };
        rest.drain(..consumed);
    }
    let arena = Bump::new();
    let mut passes = Surroundings {
        arena: &arena,
        settings: &settings,
        origin: &origin,
        envelope: &envelope,
        observer: &mut Silence,
    };
    let queued = match cleanup.envelope(&mut passes) {
        Ok(queued) => queued,
        Err(halt) => return refusal(&halt, configuration),
    };
    let mut encoded = ArenaVec::new_in(&arena);
    encode(&origin, &queued, &mut encoded).map_err(|error| error.to_string())?;
    let batch = configuration.queue.block_size.in_memory();
    if record_size(encoded.len()) > batch.saturating_sub(BATCH_HEADER_SIZE) {
        return Err(format!(
            "{} recipients are more than a batch holds (block_size)",
            queued.recipients.len()
        ));
    }
    Ok(())
}

/// What the engine would say, if it is certain.
fn refusal(halt: &Halt, configuration: &Configuration) -> Result<(), String> {
    match halt {
        // A check may drop the fields that were counted.
        Halt::Rejected(Rejection::TooManyHops) if !configuration.checks.header_checks.0.is_empty() => Ok(()),
        Halt::Rejected(rejection) => Err(String::from_utf8_lossy(&rejection.reply()).into_owned()),
        Halt::Pending(_) => Ok(()),
    }
}

/// Without tables there are no checks.
struct Silence;

impl Observer for Silence {
    fn noticed(&mut self, _: &Notice<'_>) {}
}
