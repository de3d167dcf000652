//! Owns how replies are written: one line for most, bounded, without anything a client could break a line with.

use alloc::vec::Vec;

/// Octets of what a client said that a reply repeats; the rest is left out.
const ECHO_SIZE_MAX: usize = 400;

/// Appends `pieces` and a line end.
pub(in crate::smtp) fn write(replies: &mut Vec<u8>, pieces: &[&[u8]]) {
    pieces.iter().for_each(|piece| replies.extend_from_slice(piece));
    replies.extend_from_slice(b"\r\n");
}

/// What a client said, as it may stand in a reply or in a log line: controls become `?`.
pub(in crate::smtp) fn echo(octets: &[u8]) -> Vec<u8> {
    let shown = octets.iter().take(ECHO_SIZE_MAX);
    shown.map(|octet| if octet.is_ascii_control() { b'?' } else { *octet }).collect()
}
