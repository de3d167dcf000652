//! Declares every reply of the server (RFC 5321 §4.2) with code, enhanced status code (RFC 3463) and text, and writes them.
//!
//! A reply is one line and fits into the space that [`Session`](super::Session) reserves. An argument may be text from the
//! client, so it is truncated at [`ARGUMENT_SIZE_MAX`] bytes, and `?` replaces its control characters, which could
//! otherwise end the line.

use alloc::borrow::Cow;
use alloc::format;
use alloc::string::ToString;
use alloc::vec::Vec;

use Piece::{Argument, Host, Text};

/// One reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The code (RFC 5321 §4.2.1).
    pub code: u16,
    /// The enhanced status code. Greetings, replies to HELO and EHLO, and 3xx have none (RFC 2034 §4).
    pub status: Option<&'static str>,
    /// The line up to its first variable piece.
    pub front: &'static str,
    /// The remainder of the line; empty if nothing varies.
    pub rest: &'static [Piece],
}

/// One piece of a reply's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Fixed text.
    Text(&'static str),
    /// The name of this host.
    Host,
    /// The next argument.
    Argument,
}

/// A reply with its arguments.
#[derive(Clone, Copy, Debug)]
pub struct Filled<'a> {
    pub(super) reply: &'static Reply,
    /// The code, which may be another than the reply's.
    pub(super) code: u16,
    /// Subject and detail of another enhanced status code than the reply's.
    status: Option<[u16; 2]>,
    /// A reply has at most two arguments.
    arguments: [&'a [u8]; 2],
}

impl Reply {
    /// Returns the reply with its argument.
    #[must_use]
    pub const fn with<'a>(&'static self, argument: &'a [u8]) -> Filled<'a> {
        self.with_both(argument, b"")
    }

    /// Returns the reply with its two arguments.
    #[must_use]
    pub const fn with_both<'a>(&'static self, first: &'a [u8], second: &'a [u8]) -> Filled<'a> {
        Filled { reply: self, code: self.code, status: None, arguments: [first, second] }
    }

    /// Returns the line of a reply without variable pieces, without its line end.
    ///
    /// # Panics
    /// The reply has variable pieces.
    #[must_use]
    pub fn line(&self) -> Cow<'static, [u8]> {
        assert!(self.rest.is_empty(), "a reply with variable pieces has to be written");
        Cow::Borrowed(self.front.as_bytes())
    }

    /// Appends a reply without arguments, with its line end; `host` is the name of this host.
    pub fn write(&'static self, out: &mut Vec<u8>, host: &[u8]) {
        Filled::from(self).write(out, host);
    }
}

impl Filled<'_> {
    /// Returns the reply with another code of three digits. The class of its enhanced status code follows (RFC 2034 §4).
    #[must_use]
    pub(super) const fn with_code(self, code: u16) -> Self {
        Self { code, ..self }
    }

    /// Returns the reply with another enhanced status code. Its class is that of the reply code (RFC 2034 §4).
    #[must_use]
    pub(super) const fn with_status(self, subject: u16, detail: u16) -> Self {
        Self { status: Some([subject, detail]), ..self }
    }

    /// Appends the line with its line end.
    pub(super) fn write(&self, out: &mut Vec<u8>, host: &[u8]) {
        let start = out.len();
        out.extend_from_slice(self.reply.front.as_bytes());
        if self.code != self.reply.code {
            let digits = self.code.to_string();
            if let Some(code) = out.get_mut(start..start + digits.len()) {
                code.copy_from_slice(digits.as_bytes());
            }
            if let (Some(_), Some(class)) = (self.reply.status, out.get_mut(start + digits.len() + 1)) {
                *class = digits.as_bytes().first().copied().unwrap_or(b'5');
            }
        }
        if let (Some([subject, detail]), Some(status)) = (self.status, self.reply.status) {
            // The code and a space precede the status, of which the class stays.
            let replaced = start + 5..start + 4 + status.len();
            out.splice(replaced, format!(".{subject}.{detail}").into_bytes());
        }
        let mut arguments = self.arguments.into_iter();
        for piece in self.reply.rest {
            match piece {
                Text(text) => out.extend_from_slice(text.as_bytes()),
                Host => out.extend_from_slice(host),
                Argument => {
                    let argument = arguments.next().expect("a reply has two arguments at most");
                    out.extend(argument.iter().take(ARGUMENT_SIZE_MAX).map(printable));
                }
            }
        }
        out.extend_from_slice(b"\r\n");
    }
}

impl From<&'static Reply> for Filled<'_> {
    fn from(reply: &'static Reply) -> Self {
        reply.with(b"")
    }
}

/// Appends one more line to the reply that `out` ends with, whose last line begins at `last` (RFC 5321 §4.2.1); returns
/// where the new line begins.
pub(super) fn continue_with(out: &mut Vec<u8>, last: usize, pieces: &[&[u8]]) -> usize {
    let start = out.len();
    let code = out.get(last..last + 3).and_then(|code| code.first_chunk::<3>()).copied().unwrap_or_default();
    if let Some(separator) = out.get_mut(last + 3) {
        *separator = b'-';
    }
    out.extend_from_slice(&code);
    out.push(b' ');
    pieces.iter().for_each(|piece| out.extend_from_slice(piece));
    out.extend_from_slice(b"\r\n");
    start
}

const fn printable(octet: &u8) -> u8 {
    if octet.is_ascii_control() { b'?' } else { *octet }
}

/// Maximum size of an argument in a reply, in bytes.
const ARGUMENT_SIZE_MAX: usize = 400;

/// Declares replies as constants, and the list of them.
macro_rules! catalogue {
    ($(#[$list_doc:meta])* $list:ident:
     $($(#[$doc:meta])* $name:ident = $code:literal $status:tt $text:literal $($piece:expr),*;)*) => {
        $($(#[$doc])*
        pub const $name: Reply = Reply {
            code: $code,
            status: catalogue!(@status $status),
            front: catalogue!(@front $code $status $text),
            rest: &[$($piece),*],
        };)*

        $(#[$list_doc])*
        pub const $list: &[(&str, &Reply)] = &[$((stringify!($name), &$name)),*];
    };
    (@status none) => { None };
    (@status $status:literal) => { Some($status) };
    (@front $code:literal none $text:literal) => { concat!($code, " ", $text) };
    (@front $code:literal $status:literal $text:literal) => { concat!($code, " ", $status, " ", $text) };
}

catalogue! {
    /// Replies of the session.
    SESSION:
    /// To a client that connects; the argument is the software's name.
    GREETING = 220 none "" Host, Text(" ESMTP "), Argument;
    /// To HELO; the first line of the reply to EHLO.
    HELLO = 250 none "" Host;
    /// To RSET and NOOP.
    OK = 250 "2.0.0" "Ok";
    /// To MAIL.
    SENDER_OK = 250 "2.1.0" "Ok";
    /// To RCPT.
    RECIPIENT_OK = 250 "2.1.5" "Ok";
    /// To VRFY; the argument is the address.
    NOT_VERIFIED = 252 "2.0.0" "" Argument;
    /// To HELP.
    HELP = 214 "2.0.0" "HELO EHLO MAIL RCPT DATA BDAT RSET NOOP VRFY HELP QUIT";
    /// To QUIT.
    BYE = 221 "2.0.0" "Bye";
    /// To DATA.
    START_CONTENT = 354 none "End data with <CR><LF>.<CR><LF>";
    /// To BDAT; the argument is the size of the chunk.
    CHUNK_OK = 250 "2.0.0" "Ok: " Argument, Text(" bytes");
    /// To the end of content; the argument is the queue id.
    QUEUED = 250 "2.0.0" "Ok: queued as " Argument;
    /// To the last chunk; the arguments are the size of all and the queue id.
    CHUNKS_QUEUED = 250 "2.0.0" "Ok: " Argument, Text(" bytes queued as "), Argument;

    /// A command of another protocol, or a header field; the session ends.
    FORBIDDEN_COMMAND = 221 "2.7.0" "Error: I can break rules, too. Goodbye.";
    /// A command sent before the client was allowed to send it; the session ends.
    UNAUTHORIZED_PIPELINING = 554 "5.5.0" "Error: SMTP protocol synchronization";
    /// `smtpd_hard_error_limit`; the session ends.
    TOO_MANY_ERRORS = 421 "4.7.0" "" Host, Text(" Error: too many errors");
    /// `smtpd_timeout`; the session ends.
    TIMEOUT = 421 "4.4.2" "" Host, Text(" Error: timeout exceeded");
    /// The server stops; the session ends.
    SHUTTING_DOWN = 421 "4.3.2" "" Host, Text(" Service shutting down");
    /// `smtpd_forbid_bare_newline`.
    BARE_NEWLINE = 550 "5.5.2" "" Host, Text(" Error: bare <LF> received");

    /// `line_length_limit`.
    LINE_TOO_LONG = 500 "5.5.2" "Error: line too long";
    /// An unknown verb.
    NOT_RECOGNIZED = 500 "5.5.2" "Error: command not recognized";
    /// No verb, or controls in the line.
    BAD_SYNTAX = 500 "5.5.2" "Error: bad syntax";
    /// The line is neither ASCII nor UTF-8.
    BAD_UTF8 = 500 "5.5.2" "Error: bad UTF-8 syntax";
    /// A verb that belongs to an extension that is not offered.
    NOT_IMPLEMENTED = 502 "5.5.1" "Error: command not implemented";
    /// AUTH.
    AUTH_NOT_ENABLED = 503 "5.5.1" "Error: authentication not enabled";
    /// EXPN.
    EXPN_DISABLED = 502 "5.5.1" "EXPN command is disabled";
    /// `disable_vrfy_command`.
    VRFY_DISABLED = 502 "5.5.1" "VRFY command is disabled";
    /// VRFY without an address, or with something after it.
    VRFY_SYNTAX = 501 "5.5.4" "Syntax: VRFY address [SMTPUTF8]";
    /// RSET with an argument.
    RSET_SYNTAX = 501 "5.5.4" "Syntax: RSET";
    /// HELO or EHLO, which is the argument, without a name.
    HELLO_SYNTAX = 501 none "Syntax: " Argument, Text(" hostname");

    /// `smtpd_helo_required`.
    NEED_HELLO = 503 "5.5.1" "Error: send HELO/EHLO first";
    /// MAIL in a transaction.
    NESTED_MAIL = 503 "5.5.1" "Error: nested MAIL command";
    /// MAIL among chunks.
    MAIL_AFTER_BDAT = 503 "5.5.1" "Error: MAIL after BDAT";
    /// MAIL without a path.
    MAIL_SYNTAX = 501 "5.5.4" "Syntax: MAIL FROM:<address>";
    /// Invalid reverse-path.
    BAD_SENDER = 501 "5.1.7" "Bad sender address syntax";
    /// RCPT outside a transaction.
    NEED_MAIL = 503 "5.5.1" "Error: need MAIL command";
    /// RCPT among chunks.
    RCPT_AFTER_BDAT = 503 "5.5.1" "Error: RCPT after BDAT";
    /// RCPT without a path.
    RCPT_SYNTAX = 501 "5.5.4" "Syntax: RCPT TO:<address>";
    /// Invalid forward-path.
    BAD_RECIPIENT = 501 "5.1.3" "Bad recipient address syntax";
    /// `smtpd_recipient_limit`.
    TOO_MANY_RECIPIENTS = 452 "4.5.3" "Error: too many recipients";
    /// The client may not send to the argument.
    RELAY_DENIED = 554 "5.7.1" "<" Argument, Text(">: Relay access denied");
    /// A table cannot answer whether the client may send to the argument, or whether the argument exists.
    LOOKUP_FAILED = 451 "4.3.0" "<" Argument, Text(">: Temporary lookup failure");

    /// `reject_unlisted_recipient`; the arguments are the address and the table that does not list it. The code is
    /// configured (`unknown_relay_recipient_reject_code` and others).
    UNLISTED_RECIPIENT = 550 "5.1.1" "<" Argument, Text(">: Recipient address rejected: User unknown in "), Argument;
    /// `reject_unlisted_sender`.
    UNLISTED_SENDER = 550 "5.1.0" "<" Argument, Text(">: Sender address rejected: User unknown in "), Argument;
    /// `reject_unlisted_sender`, of an address of a virtual alias domain.
    UNLISTED_ALIAS_SENDER = 550 "5.1.7" "<" Argument, Text(">: Sender address rejected: User unknown in "), Argument;
    /// The route is `error` or `retry`; the arguments are the address and the reason. The route gives code and status.
    UNDELIVERABLE_RECIPIENT = 550 "5.1.1" "<" Argument, Text(">: Recipient address rejected: "), Argument;
    /// The same for a sender.
    UNDELIVERABLE_SENDER = 550 "5.1.0" "<" Argument, Text(">: Sender address rejected: "), Argument;

    /// DATA among chunks.
    DATA_AFTER_BDAT = 503 "5.5.1" "Error: DATA after BDAT";
    /// DATA or BDAT outside a transaction.
    NEED_RECIPIENT = 503 "5.5.1" "Error: need RCPT command";
    /// DATA or BDAT when no recipient was accepted.
    NO_VALID_RECIPIENTS = 554 "5.5.1" "Error: no valid recipients";
    /// DATA with an argument.
    DATA_SYNTAX = 501 "5.5.4" "Syntax: DATA";
    /// DATA after BODY=BINARYMIME (RFC 3030 §3).
    BINARYMIME_NEEDS_BDAT = 503 "5.5.1" "Error: BODY=BINARYMIME needs BDAT";
    /// BDAT without a size: chunk data could not be distinguished from commands, so the session ends.
    BDAT_SYNTAX = 521 "5.5.4" "Syntax: BDAT count [LAST]";
    /// A chunk after one that was refused; the argument is its size.
    CHUNK_DISCARDED = 551 "5.0.0" "Discarded " Argument, Text(" bytes after earlier error");
    /// An empty chunk that is not the last.
    NULL_CHUNK = 551 "5.7.1" "Null BDAT request";
    /// `message_size_limit`, in chunks.
    CHUNK_TOO_BIG = 552 "5.3.4" "Chunk exceeds message size limit";
    /// `message_size_limit`.
    MESSAGE_TOO_BIG = 552 "5.3.4" "Error: message file too big";
    /// No space for another message, or for its recipients.
    INSUFFICIENT_STORAGE = 452 "4.3.1" "Insufficient system storage";
    /// The queue could not take the message, or a table of cleanup did not answer.
    QUEUE_WRITE_ERROR = 451 "4.3.0" "Error: queue file write error";

    /// A parameter of MAIL or RCPT (the argument) that is unknown or has an unsupported value.
    UNSUPPORTED_OPTION = 555 "5.5.4" "Unsupported option: " Argument;
    /// SIZE of more than a file can have.
    SIZE_OVERFLOW = 552 "5.3.4" "Message size exceeds file system imposed limit";
    /// SIZE of more than `message_size_limit`.
    SIZE_TOO_BIG = 552 "5.3.4" "Message size exceeds fixed limit";
    /// SIZE that is not a number.
    SIZE_SYNTAX = 501 "5.5.4" "Bad message size syntax";
    /// A second AUTH= after one that names an identity.
    SECOND_AUTH = 503 "5.5.4" "Error: multiple AUTH= options";
    /// RET.
    RET_SYNTAX = 501 "5.5.4" "Bad RET parameter syntax";
    /// ENVID.
    ENVID_SYNTAX = 501 "5.5.4" "Bad ENVID parameter syntax";
    /// NOTIFY.
    NOTIFY_SYNTAX = 501 "5.5.4" "Error: Bad NOTIFY parameter syntax";
    /// ORCPT.
    ORCPT_SYNTAX = 501 "5.5.4" "Error: Bad ORCPT parameter syntax";
}

catalogue! {
    /// Rejections by cleanup, except those with texts that checks configure.
    CONTENT:
    /// `hopcount_limit`.
    TOO_MANY_HOPS = 554 "5.4.0" "Error: too many hops";
    /// An alias loops, or expands to too many addresses.
    ALIAS_EXPANSION = 451 "4.6.0" "Alias expansion error";
    /// `strict_7bit_headers`.
    EIGHT_BIT_HEADER = 550 "5.6.0" "improper use of 8-bit data in message header";
    /// `strict_8bitmime_body`.
    EIGHT_BIT_BODY = 550 "5.6.0" "improper use of 8-bit data in message body";
    /// `mime_nesting_limit`.
    MIME_NESTING = 550 "5.6.0" "MIME nesting exceeds safety limit";
    /// `strict_mime_encoding_domain`.
    MIME_ENCODING = 550 "5.6.0" "invalid message/* or multipart/* encoding domain";
    /// `message_reject_characters`.
    DISALLOWED_CHARACTER = 550 "5.7.1" "disallowed character";
}

catalogue! {
    /// Replies outside a dialogue: to connections that are closed to make room, and for submitted mail.
    OUTSIDE:
    /// There is no slot for the connection, or the server stops.
    ALL_PORTS_BUSY = 421 "4.3.2" "" Host, Text(" All server ports are busy");
    /// `smtpd_client_connection_count_limit`.
    TOO_MANY_CONNECTIONS = 421 "4.7.0" "" Host, Text(" Error: too many connections");
    /// The connection makes room for one of another client (congestion, RFC 3463).
    PLACE_GIVEN_UP = 421 "4.4.5" "" Host, Text(" Error: all server ports are busy");
    /// The connection is closed to free its memory.
    SHORT_OF_MEMORY = 421 "4.3.1" "" Host, Text(" Error: server is short of memory");
    /// The envelope is larger than a batch of the queue.
    ENVELOPE_TOO_LARGE = 552 "5.3.4" "Error: more recipients than a batch holds (block_size)";
    /// Submitted mail without recipients.
    NO_RECIPIENTS = 550 "5.1.0" "no recipients specified";
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = (&'static str, &'static Reply)> {
        [SESSION, CONTENT, OUTSIDE].into_iter().flatten().copied()
    }

    #[test]
    fn status_and_text_follow_the_code() {
        for (name, reply) in all() {
            let code = format!("{}", reply.code);
            assert!(reply.front.starts_with(&code), "{name}");
            assert!(reply.status.is_none_or(|status| status[..1] == code[..1]), "{name}");
        }
    }

    #[test]
    fn the_status_follows_another_code() {
        for (code, start) in [(550, "550 5.1.1 <a>"), (450, "450 4.1.1 <a>"), (421, "421 4.1.1 <a>")] {
            let mut out = Vec::new();
            UNLISTED_RECIPIENT.with_both(b"a", b"a table").with_code(code).write(&mut out, b"");
            assert!(out.starts_with(start.as_bytes()), "{}", out.escape_ascii());
        }
    }

    #[test]
    fn the_class_of_another_status_is_that_of_the_code() {
        for (code, status, start) in [
            (550, [7, 1], "550 5.7.1 <a>: "),
            (450, [1, 10], "450 4.1.10 <a>: "),
            (450, [999, 999], "450 4.999.999 <a>: "),
        ] {
            let mut out = b"250 2.0.0 Ok\r\n".to_vec();
            let reply = UNDELIVERABLE_RECIPIENT.with_both(b"a", b"text").with_code(code);
            reply.with_status(status[0], status[1]).write(&mut out, b"");
            let line = out.strip_prefix(b"250 2.0.0 Ok\r\n").unwrap();
            assert!(line.starts_with(start.as_bytes()), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn replies_are_bounded_lines_for_any_client_input() {
        let (host, argument) = ([b'h'; 255], [b'\r'; 5000]);
        for (name, reply) in all() {
            let mut out = Vec::new();
            reply.with_both(&argument, &argument).write(&mut out, &host);
            assert!(out.len() <= 1024, "{name}: {}", out.len());
            assert_eq!(out.iter().position(|octet| octet.is_ascii_control()), Some(out.len() - 2), "{name}");
        }
    }
}
