//! The Received field (RFC 5321 §4.4) in the form that Postfix's operators know.

use bumpalo::collections::Vec as ArenaVec;
use core::fmt::Write;
use core::net::{IpAddr, Ipv4Addr};

use super::date::{Zone, write_date};
use crate::address::quote_onto;
use crate::envelope::{Envelope, Origin, Protocol};
use crate::queue_id::QueueId;

/// What a `with` clause tells besides the protocol (RFC 3848).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// The session was encrypted.
    pub is_tls: bool,
    /// The client authenticated.
    pub is_authenticated: bool,
}

/// The keyword of the `with` clause (RFC 3848, RFC 6531 §4.3).
#[must_use]
pub const fn with_keyword(protocol: Protocol, is_smtputf8: bool, security: Security) -> &'static str {
    match (protocol, is_smtputf8, security.is_tls, security.is_authenticated) {
        (Protocol::Smtp, false, _, _) => "SMTP",
        (Protocol::Local, ..) => "LOCAL",
        (Protocol::Esmtp, false, false, false) => "ESMTP",
        (Protocol::Esmtp, false, true, false) => "ESMTPS",
        (Protocol::Esmtp, false, false, true) => "ESMTPA",
        (Protocol::Esmtp, false, true, true) => "ESMTPSA",
        (_, true, false, false) => "UTF8SMTP",
        (_, true, true, false) => "UTF8SMTPS",
        (_, true, false, true) => "UTF8SMTPA",
        (_, true, true, true) => "UTF8SMTPSA",
    }
}

/// What Received says of this host.
#[derive(Clone, Copy, Debug)]
pub struct Host<'a> {
    /// `myhostname`.
    pub name: &'a [u8],
    /// `mail_name`.
    pub software: &'a [u8],
    /// For the date.
    pub zone: &'a Zone,
}

/// Writes the Received field of a message, its last line end included.
pub fn write_received(
    out: &mut ArenaVec<'_, u8>,
    host: Host<'_>,
    origin: &Origin,
    envelope: &Envelope,
    id: QueueId,
) {
    out.extend_from_slice_copy(b"Received: ");
    if origin.protocol == Protocol::Local {
        out.extend_from_slice_copy(b"by ");
        out.extend_from_slice_copy(host.name);
        out.extend_from_slice_copy(b" (");
        out.extend_from_slice_copy(host.software);
        if let Some(submitter) = &envelope.submitter {
            let written = write!(Text(out), ", from userid {}", submitter.user_id);
            debug_assert!(written.is_ok(), "writing to memory does not fail");
        }
        out.extend_from_slice_copy(b")\r\n\tid ");
        out.extend_from_slice_copy(&id.text());
        out.extend_from_slice_copy(b"; ");
    } else {
        write_from(out, origin);
        out.extend_from_slice_copy(b"\r\n\tby ");
        out.extend_from_slice_copy(host.name);
        out.extend_from_slice_copy(b" (");
        out.extend_from_slice_copy(host.software);
        out.extend_from_slice_copy(b") with ");
        let keyword = with_keyword(origin.protocol, envelope.smtputf8, Security::default());
        out.extend_from_slice_copy(keyword.as_bytes());
        out.extend_from_slice_copy(b" id ");
        out.extend_from_slice_copy(&id.text());
        write_for(out, envelope);
    }
    write_date(out, envelope.arrival, host.zone);
    out.extend_from_slice_copy(b"\r\n");
}

/// `from HELO (NAME [ADDRESS])`.
fn write_from(out: &mut ArenaVec<'_, u8>, origin: &Origin) {
    let name = origin.client_name.as_deref().unwrap_or(b"unknown");
    out.extend_from_slice_copy(b"from ");
    let helo = if origin.helo.is_empty() { name } else { &origin.helo };
    out.extend(helo.iter().map(|octet| if is_safe_in_comment(*octet) { *octet } else { b'?' }));
    out.extend_from_slice_copy(b" (");
    out.extend_from_slice_copy(name);
    out.extend_from_slice_copy(b" [");
    match origin.client_address {
        IpAddr::V4(address) => write_ipv4(out, address),
        IpAddr::V6(address) => {
            let written = write!(Text(out), "IPv6:{address}");
            debug_assert!(written.is_ok(), "writing to memory does not fail");
        }
    }
    out.extend_from_slice_copy(b"])");
}

/// By hand: the formatting of the library takes longer than the rest of the field.
fn write_ipv4(out: &mut ArenaVec<'_, u8>, address: Ipv4Addr) {
    for (index, octet) in address.octets().into_iter().enumerate() {
        if index > 0 {
            out.push(b'.');
        }
        if octet >= 100 {
            out.push(b'0' + octet / 100);
        }
        if octet >= 10 {
            out.push(b'0' + octet / 10 % 10);
        }
        out.push(b'0' + octet % 10);
    }
}

/// With exactly one recipient the address as the client gave it, else the end of the line.
fn write_for(out: &mut ArenaVec<'_, u8>, envelope: &Envelope) {
    let [recipient] = envelope.recipients.as_slice() else {
        out.extend_from_slice_copy(b";\r\n\t");
        return;
    };
    out.extend_from_slice_copy(b"\r\n\tfor <");
    quote_onto(recipient.original(), out);
    out.extend_from_slice_copy(b">; ");
}

/// Bytes of a HELO name that cannot break the field's syntax.
const fn is_safe_in_comment(octet: u8) -> bool {
    match octet {
        b'<' | b'>' | b'(' | b')' | b'\\' | b'"' | b';' | b'@' => false,
        33..=126 => true,
        // UTF-8 of an internationalised name stays.
        128..=255 => true,
        _ => false,
    }
}

struct Text<'a, 'b>(&'a mut ArenaVec<'b, u8>);

impl Write for Text<'_, '_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0.extend_from_slice_copy(text.as_bytes());
        Ok(())
    }
}
