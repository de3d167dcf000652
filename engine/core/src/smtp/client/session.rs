//! The dialogue of one connection: which command may be sent, and which one a reply answers.

use alloc::vec::Vec;
use core::fmt;

use super::pipeline::{Awaited, Pipeline};
use super::{Extensions, InvalidReply, Reply};

/// The protocol that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// SMTP: one reply to the end of content.
    #[default]
    Smtp,
    /// LMTP: one reply to the end of content for each accepted recipient (RFC 2033 §4.2).
    Lmtp,
}

/// The dialogue of one connection, from the greeting on.
///
/// The methods that append a command panic unless [`Session::may_send`] allows it.
#[derive(Debug)]
pub struct Session {
    protocol: Protocol,
    pipeline: Pipeline,
    extensions: Extensions,
    content: Content,
    is_mail_accepted: bool,
    recipients_accepted: u32,
    /// LMTP: replies to the end of content that are still to come; 0 before the first one.
    content_replies: u32,
    is_over: bool,
}

/// The content that is being sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Content {
    /// None, or its end has been appended.
    None,
    /// DATA was accepted.
    Data,
    /// Bytes of the BDAT chunk that have not been appended.
    Chunk(u64),
}

/// What a reply means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The reply answers this.
    Answer(Awaited),
    /// 421: the server closes the connection (RFC 5321 §3.8). The reply came while this was awaited.
    Closing(Option<Awaited>),
    /// The reply came before the end of the content that it answers. The rest of the content can no longer be sent.
    Early,
    /// Nothing was awaited.
    Unsolicited,
    /// It is no reply. It came while this was awaited.
    Invalid(Option<Awaited>),
}

/// The error for an argument that contains a line end: the rest of it would be another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineBreak;

impl Session {
    /// A new connection, whose greeting is awaited.
    #[must_use]
    pub fn new(protocol: Protocol) -> Self {
        Self {
            protocol,
            pipeline: Pipeline::new(),
            extensions: Extensions::default(),
            content: Content::None,
            is_mail_accepted: false,
            recipients_accepted: 0,
            content_replies: 0,
            is_over: false,
        }
    }

    /// Starts again with a new connection; memory is kept.
    pub fn restart(&mut self) {
        self.pipeline.restart();
        self.extensions = Extensions::default();
        self.content = Content::None;
        self.is_mail_accepted = false;
        self.recipients_accepted = 0;
        self.content_replies = 0;
        self.is_over = false;
    }

    /// Appends EHLO, or LHLO, with the client's name.
    ///
    /// # Errors
    /// [`LineBreak`]; nothing was appended then.
    pub fn hello(&mut self, name: &[u8], out: &mut Vec<u8>) -> Result<(), LineBreak> {
        match self.protocol {
            Protocol::Smtp => self.command(Awaited::Ehlo, &[b"EHLO ", name], out),
            Protocol::Lmtp => self.command(Awaited::Lhlo, &[b"LHLO ", name], out),
        }
    }

    /// Appends HELO with the client's name, for servers that refuse EHLO (RFC 5321 §3.2).
    ///
    /// # Errors
    /// [`LineBreak`]; nothing was appended then.
    pub fn helo(&mut self, name: &[u8], out: &mut Vec<u8>) -> Result<(), LineBreak> {
        self.command(Awaited::Helo, &[b"HELO ", name], out)
    }

    /// Appends MAIL. `path` is in its external form and without brackets. `parameters` is empty or begins with a space.
    ///
    /// # Errors
    /// [`LineBreak`]; nothing was appended then.
    pub fn mail(&mut self, path: &[u8], parameters: &[u8], out: &mut Vec<u8>) -> Result<(), LineBreak> {
        self.command(Awaited::Mail, &[b"MAIL FROM:<", path, b">", parameters], out)
    }

    /// Appends RCPT. `path` is in its external form and without brackets. `parameters` is empty or begins with a space.
    ///
    /// # Errors
    /// [`LineBreak`]; nothing was appended then.
    pub fn rcpt(&mut self, path: &[u8], parameters: &[u8], out: &mut Vec<u8>) -> Result<(), LineBreak> {
        self.command(Awaited::Recipient, &[b"RCPT TO:<", path, b">", parameters], out)
    }

    /// Appends DATA. Content may be sent once it is accepted; if no recipient was, only its end (RFC 2920 §3.1).
    pub fn data(&mut self, out: &mut Vec<u8>) {
        self.fixed_command(Awaited::Data, b"DATA\r\n", out);
    }

    /// Appends BDAT. `size` bytes of content follow (RFC 3030 §2).
    pub fn bdat(&mut self, size: u64, is_last: bool, out: &mut Vec<u8>) {
        let awaited = if is_last { Awaited::Content } else { Awaited::Chunk };
        self.fixed_command(awaited, b"BDAT ", out);
        append_decimal(size, out);
        out.extend_from_slice(if is_last { b" LAST\r\n" } else { b"\r\n" });
        self.content = if size > 0 { Content::Chunk(size) } else { Content::None };
    }

    /// Appends bytes of content. After DATA their dots are stuffed already (see [`DotStuffing`](super::DotStuffing)).
    ///
    /// # Panics
    /// When no content is being sent, or the bytes do not fit in the chunk.
    pub fn content(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(bytes);
        match self.content {
            Content::None => assert!(bytes.is_empty(), "content outside DATA and BDAT"),
            Content::Data => {}
            Content::Chunk(left) => {
                let left = left.checked_sub(bytes.len() as u64).expect("a chunk is as long as BDAT says");
                self.content = if left > 0 { Content::Chunk(left) } else { Content::None };
            }
        }
    }

    /// Appends the end of content after DATA. The content before it ends with CRLF or is empty.
    ///
    /// # Panics
    /// When no content of DATA is being sent.
    pub fn end_of_data(&mut self, out: &mut Vec<u8>) {
        assert!(self.content == Content::Data, "the end of content that was not begun");
        self.content = Content::None;
        self.pipeline.push(Awaited::Content);
        out.extend_from_slice(b".\r\n");
    }

    /// Appends RSET.
    pub fn reset(&mut self, out: &mut Vec<u8>) {
        self.fixed_command(Awaited::Reset, b"RSET\r\n", out);
    }

    /// Appends QUIT.
    pub fn quit(&mut self, out: &mut Vec<u8>) {
        self.fixed_command(Awaited::Quit, b"QUIT\r\n", out);
    }

    /// Appends a command that changes nothing, such as NOOP: its line without the line end.
    ///
    /// # Errors
    /// [`LineBreak`]; nothing was appended then.
    pub fn other(&mut self, line: &[u8], out: &mut Vec<u8>) -> Result<(), LineBreak> {
        self.command(Awaited::Other, &[line], out)
    }

    fn command(&mut self, awaited: Awaited, pieces: &[&[u8]], out: &mut Vec<u8>) -> Result<(), LineBreak> {
        if pieces.iter().any(|piece| memchr::memchr2(b'\r', b'\n', piece).is_some()) {
            return Err(LineBreak);
        }
        self.fixed_command(awaited, &[], out);
        pieces.iter().for_each(|piece| out.extend_from_slice(piece));
        out.extend_from_slice(b"\r\n");
        Ok(())
    }

    fn fixed_command(&mut self, awaited: Awaited, line: &[u8], out: &mut Vec<u8>) {
        assert!(self.may_send(), "a command that may not be sent now: {awaited:?}");
        self.pipeline.push(awaited);
        out.extend_from_slice(line);
    }

    /// Says what a reply answers. After [`Event::Closing`], [`Event::Early`], [`Event::Unsolicited`] and
    /// [`Event::Invalid`] no command may be sent.
    pub fn reply_received(&mut self, received: &Result<Reply<'_>, InvalidReply<'_>>) -> Event {
        let next = self.pipeline.next();
        let Ok(reply) = received else {
            self.is_over = true;
            return Event::Invalid(self.awaited());
        };
        if reply.code() == SERVICE_CLOSING {
            self.is_over = true;
            return Event::Closing(self.awaited());
        }
        // No command follows content that is being sent: the reply to it is the last one that is awaited.
        let is_early = self.is_in_content() && self.pipeline.is_at_last();
        let Some(awaited) = next.filter(|_| !is_early) else {
            self.is_over = true;
            return if is_early { Event::Early } else { Event::Unsolicited };
        };
        if self.is_answered(awaited, reply) {
            self.pipeline.pop();
        }
        Event::Answer(awaited)
    }

    /// Notes what the reply changes; false when the same is to be answered again.
    fn is_answered(&mut self, awaited: Awaited, reply: &Reply<'_>) -> bool {
        let is_success = awaited.is_answered_by(reply.code());
        match awaited {
            Awaited::Ehlo | Awaited::Lhlo if is_success => self.extensions = Extensions::offered_by(reply),
            Awaited::Mail => {
                self.is_mail_accepted = is_success;
                self.recipients_accepted = 0;
            }
            Awaited::Recipient => self.recipients_accepted += u32::from(is_success),
            Awaited::Data if is_success => self.content = Content::Data,
            Awaited::Content if self.protocol == Protocol::Lmtp => {
                if self.content_replies == 0 {
                    self.content_replies = self.recipients_accepted.max(1);
                }
                self.content_replies -= 1;
                return self.content_replies == 0;
            }
            Awaited::Quit => self.is_over = true,
            _ => {}
        }
        true
    }

    /// Whether a command may be sent now: no content is being sent, and no reply is awaited, or commands may be
    /// pipelined.
    #[must_use]
    pub fn may_send(&self) -> bool {
        !self.is_over && !self.is_in_content() && self.pipeline.is_open(self.extensions.pipelining)
    }

    /// Whether content is being sent, and its end has not been appended.
    #[must_use]
    pub fn is_in_content(&self) -> bool {
        self.content != Content::None
    }

    /// Whether all content was appended that the server has not answered: it may have the message.
    #[must_use]
    pub fn is_content_unanswered(&self) -> bool {
        !self.is_in_content() && self.pipeline.contains(Awaited::Content)
    }

    /// What the next reply answers. While content is sent after DATA, the content.
    #[must_use]
    pub fn awaited(&self) -> Option<Awaited> {
        let is_data = self.content == Content::Data;
        self.pipeline.next().or_else(|| is_data.then_some(Awaited::Content))
    }

    /// What the server offers; nothing before EHLO is answered, and after HELO.
    #[must_use]
    pub const fn extensions(&self) -> &Extensions {
        &self.extensions
    }

    /// Whether the MAIL was accepted that was answered last.
    #[must_use]
    pub const fn is_mail_accepted(&self) -> bool {
        self.is_mail_accepted
    }

    /// Number of recipients accepted since the reply to MAIL that was read last.
    #[must_use]
    pub const fn recipients_accepted(&self) -> u32 {
        self.recipients_accepted
    }
}

impl Default for Session {
    fn default() -> Self {
        Self::new(Protocol::default())
    }
}

impl fmt::Display for LineBreak {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("a line end in an argument of a command")
    }
}

fn append_decimal(mut number: u64, out: &mut Vec<u8>) {
    let start = out.len();
    loop {
        out.push(b'0' + (number % 10) as u8);
        number /= 10;
        if number == 0 {
            break;
        }
    }
    if let Some(digits) = out.get_mut(start..) {
        digits.reverse();
    }
}

/// "Service not available, closing transmission channel".
const SERVICE_CLOSING: u16 = 421;
