//! Pass over the reverse-path.

use super::Passes;
use super::canonical::{AddressClass, complete, envelope_address};
use crate::lookup::LookupError;

/// Returns the rewritten reverse-path (internal form). This system's own reports have the null reverse-path.
pub(super) fn envelope_sender<'a>(surroundings: &Passes<'_, 'a>) -> Result<&'a [u8], LookupError> {
    let mut given = surroundings.envelope.sender.as_slice();
    let completed = complete(surroundings, given);
    let front = completed.get(..MAILER_DAEMON_AT.len());
    let is_daemon = front.is_some_and(|front| front.eq_ignore_ascii_case(MAILER_DAEMON_AT))
        && completed.eq_ignore_ascii_case(complete(surroundings, MAILER_DAEMON));
    if is_daemon {
        given = b"";
    }
    // Tables are searched for the null reverse-path too.
    envelope_address(surroundings, AddressClass::EnvelopeSender, given)
}

const MAILER_DAEMON: &[u8] = b"MAILER-DAEMON";
const MAILER_DAEMON_AT: &[u8] = b"MAILER-DAEMON@";
