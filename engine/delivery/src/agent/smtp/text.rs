//! What log lines, listings and reports say of a server, in Postfix's words.

use mailrace_core::record::delivery::{Cause, Status};
use mailrace_core::smtp::client::{Awaited, Reply};

use crate::route::Server;

/// What the client was doing when a connection was lost.
pub(super) const fn doing(awaited: Awaited) -> &'static str {
    match awaited {
        Awaited::Greeting => "receiving the initial server greeting",
        Awaited::Ehlo => "performing the EHLO handshake",
        Awaited::Lhlo => "performing the LHLO handshake",
        Awaited::Helo => "performing the HELO handshake",
        Awaited::Mail => "sending MAIL FROM",
        Awaited::Recipient => "sending RCPT TO",
        Awaited::Data => "sending DATA command",
        Awaited::Chunk | Awaited::Content => "sending end of data -- message may be sent more than once",
        Awaited::Reset => "sending final RSET",
        Awaited::Quit | Awaited::Other => "sending QUIT command",
    }
}

/// The command that a reply answers.
const fn command(awaited: Awaited) -> &'static str {
    match awaited {
        Awaited::Greeting => "initial connection",
        Awaited::Ehlo => "EHLO command",
        Awaited::Lhlo => "LHLO command",
        Awaited::Helo => "HELO command",
        Awaited::Mail => "MAIL FROM command",
        Awaited::Recipient => "RCPT TO command",
        Awaited::Data => "DATA command",
        Awaited::Chunk | Awaited::Content => "end of DATA command",
        Awaited::Reset => "RSET command",
        Awaited::Quit | Awaited::Other => "QUIT command",
    }
}

/// A reply as one line of text: its lines with their codes, joined by spaces.
pub(super) fn line_of(reply: &Reply<'_>) -> Vec<u8> {
    let mut text = Vec::new();
    for line in reply.lines() {
        if !text.is_empty() {
            text.push(b' ');
        }
        text.extend(line.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }));
    }
    text
}

/// The status of a reply: its own, or the class of its code.
pub(super) fn status_of(reply: &Reply<'_>) -> Status {
    let class = u8::try_from(reply.code() / 100).unwrap_or(5);
    reply.status().map_or(Status { class, subject: 0, detail: 0 }, |status| Status {
        class: status.class,
        subject: status.subject,
        detail: status.detail,
    })
}

/// The lines of a reply, for Diagnostic-Code.
fn diagnostic_of(reply: &Reply<'_>) -> Vec<u8> {
    let lines: Vec<&[u8]> = reply.lines().collect();
    lines.join(&b'\n')
}

/// `host H said: REPLY (in reply to COMMAND)`. A reply that means neither success nor failure breaks the protocol, for good.
pub(super) fn said(server: &Server, reply: &Reply<'_>, awaited: Awaited) -> Cause {
    let is_failure = matches!(reply.code() / 100, 4 | 5);
    let (prefix, status) = if is_failure {
        ("", status_of(reply))
    } else {
        ("Protocol error: ", Status { class: 5, subject: 5, detail: 0 })
    };
    let mut text = format!("{prefix}host {} said: ", server.host()).into_bytes();
    text.append(&mut line_of(reply));
    text.extend_from_slice(format!(" (in reply to {})", command(awaited)).as_bytes());
    cause_of(server, reply, status, text)
}

/// `host H refused to talk to me: REPLY`.
pub(super) fn refused_to_talk(server: &Server, reply: &Reply<'_>) -> Cause {
    let mut text = format!("host {} refused to talk to me: ", server.host()).into_bytes();
    text.append(&mut line_of(reply));
    cause_of(server, reply, status_of(reply), text)
}

/// What a server said.
pub(super) fn cause_of(server: &Server, reply: &Reply<'_>, status: Status, text: Vec<u8>) -> Cause {
    let (remote, diagnostic) = (server.name.as_bytes().into(), diagnostic_of(reply).into());
    Cause { status, text: text.into(), remote, diagnostic }
}
