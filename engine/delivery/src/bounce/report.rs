//! A report: multipart/report of a text, the delivery status, and the original (RFC 6522).

use std::time::Duration;

use bumpalo::Bump;
use mailrace_core::address::quoted;
use mailrace_core::message::date::{Zone, date};
use mailrace_core::{BodyType, Envelope, QueueId, Recipient, Return, Timestamp};

use super::header_section::HeaderSection;
use super::status;
use super::template::{Template, Templates};
use super::text::{append_folded, append_printable};
use super::{Action, Audience, Cause, Kind};

/// Most bytes of a boundary (RFC 2046, section 5.1.1).
const BOUNDARY_SIZE_MAX: usize = 70;

/// What reports say of this host, and their limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSettings {
    /// `myhostname`.
    pub host_name: Box<[u8]>,
    /// `mail_name`, for the names of fields.
    pub mail_name: Box<[u8]>,
    /// Most bytes of an original that is returned whole (`bounce_size_limit`).
    pub bounce_size_limit: u64,
    /// Age at which attempts end (`maximal_queue_lifetime`), for Will-Retry-Until.
    pub maximal_queue_lifetime: Duration,
    /// `smtputf8_enable`: all reports are 8bit.
    pub smtputf8_enable: bool,
    /// Sentences and subjects.
    pub templates: Templates,
}

/// A report to write.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// What it is about.
    pub kind: Kind,
    /// Who reads it.
    pub audience: Audience,
    /// Its recipient, in internal form.
    pub to: &'a [u8],
    /// Queue id of the original.
    pub original_id: QueueId,
    /// Envelope of the original.
    pub original: &'a Envelope,
    /// Bytes of the original's content; `None` if it is not known, and then only the header section is returned.
    pub original_size: Option<u64>,
    /// The recipients that it is about, as [`Kind::lists`] says.
    pub recipients: &'a [ReportedRecipient<'a>],
    /// The time of the report.
    pub now: Timestamp,
    /// The zone that dates are written in.
    pub zone: &'a Zone,
}

/// What a report says of a recipient.
#[derive(Clone, Copy, Debug)]
pub struct ReportedRecipient<'a> {
    /// As in the original's envelope.
    pub recipient: &'a Recipient,
    /// What became of it.
    pub action: Action,
    /// Why.
    pub cause: &'a Cause,
}

/// A report that is being written: [`Report::begin`], [`Report::original`] for each piece of the original's content (lines
/// that end with CRLF, cut anywhere), and [`Report::end`]. All of them append to `out`, which may be emptied between them.
#[derive(Debug)]
pub struct Report {
    boundary: Vec<u8>,
    /// What selects the header section; `None`: the whole original is returned.
    header_section: Option<HeaderSection>,
    /// The last byte of the returned original so far, its Return-Path included.
    last: u8,
}

/// Content-Transfer-Encoding of a report, which is that of its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Not given: nothing is known of the original.
    Unstated,
    SevenBit,
    EightBit,
}

impl Report {
    /// Appends all that precedes the original's content.
    pub fn begin(settings: &ReportSettings, notice: &Notice<'_>, out: &mut Vec<u8>) -> Self {
        let part = Part {
            settings,
            notice,
            template: settings.templates.of(notice.kind),
            encoding: settings.encoding(notice.kind, notice.original),
            boundary: boundary(settings, notice),
            arena: Bump::new(),
        };
        part.header(out);
        part.notification(out);
        part.delivery_status(out);
        let is_whole = settings.returns_whole(notice);
        part.original_header(is_whole, out);
        Self {
            boundary: part.boundary,
            header_section: (!is_whole).then(HeaderSection::default),
            last: b'\n',
        }
    }

    /// Whether the report returns what follows in the original. Once `false`, it stays so, and the original need not be read
    /// further.
    #[must_use]
    pub fn wants_more(&self) -> bool {
        !self.header_section.as_ref().is_some_and(HeaderSection::is_over)
    }

    /// Appends the part of the next piece of the original that is returned.
    pub fn original(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        let size = out.len();
        match &mut self.header_section {
            Some(section) => section.copy(piece, out),
            None => out.extend_from_slice(piece),
        }
        if let Some(last) = out.get(size..).and_then(<[u8]>::last) {
            self.last = *last;
        }
    }

    /// Appends what follows the original.
    pub fn end(self, out: &mut Vec<u8>) {
        if self.last != b'\n' {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"--\r\n");
    }
}

impl ReportSettings {
    /// The encoding of a report on `original`: 8bit wherever SMTPUTF8 is enabled, as in Postfix, and that of the original
    /// elsewhere.
    pub(super) fn encoding(&self, kind: Kind, original: &Envelope) -> Encoding {
        match original.body {
            _ if self.smtputf8_enable || original.smtputf8 => Encoding::EightBit,
            BodyType::EightBitMime => Encoding::EightBit,
            _ if !self.templates.of(kind).text.is_ascii() => Encoding::EightBit,
            BodyType::SevenBit => Encoding::SevenBit,
            // Of a binary original, the header section is returned.
            BodyType::Unstated | BodyType::BinaryMime => Encoding::Unstated,
        }
    }

    /// Whether the whole original is returned, not only its header section.
    fn returns_whole(&self, notice: &Notice<'_>) -> bool {
        let is_asked = match notice.audience {
            Audience::Sender => notice.original.ret != Some(Return::Headers),
            Audience::Postmaster => false,
            // RET is a wish of a sender that reads the report.
            Audience::DoubleBounce => true,
        };
        let is_small = notice.original_size.is_some_and(|size| size <= self.bounce_size_limit);
        // Bare CR and LF of binary content would be line ends in the report.
        let has_lines = notice.original.body != BodyType::BinaryMime;
        notice.kind == Kind::Failure && is_asked && is_small && has_lines
    }

    /// Appends `X-NAME` with `mail_name` as NAME, and `-` for what a field name cannot hold.
    pub(super) fn append_name(&self, out: &mut Vec<u8>) {
        let is_of_name = |byte: &u8| byte.is_ascii_graphic() && *byte != b':';
        out.extend_from_slice(b"X-");
        out.extend(self.mail_name.iter().map(|byte| if is_of_name(byte) { *byte } else { b'-' }));
    }
}

impl Encoding {
    /// Whether bytes beyond ASCII may be in the report.
    pub(super) const fn is_eight_bit(self) -> bool {
        matches!(self, Self::EightBit)
    }
}

/// What the parts of a report are made of.
struct Part<'a> {
    settings: &'a ReportSettings,
    notice: &'a Notice<'a>,
    template: &'a Template,
    encoding: Encoding,
    boundary: Vec<u8>,
    arena: Bump,
}

impl Part<'_> {
    /// Appends the header section and the line for readers without MIME.
    fn header(&self, out: &mut Vec<u8>) {
        let Notice { audience, to, now, zone, .. } = *self.notice;
        let is_copy = audience != Audience::Sender;
        out.extend_from_slice(b"Date: ");
        out.extend_from_slice(date(&self.arena, now, zone));
        out.extend_from_slice(b"\r\nFrom: ");
        out.extend_from_slice(&self.template.from);
        out.extend_from_slice(b"\r\nSubject: ");
        let has_own_subject = is_copy && !self.template.postmaster_subject.is_empty();
        let subject =
            if has_own_subject { &self.template.postmaster_subject } else { &self.template.subject };
        out.extend_from_slice(subject);
        out.extend_from_slice(b"\r\nTo: ");
        self.append_address(to, out);
        out.extend_from_slice(b"\r\nAuto-Submitted: ");
        out.extend_from_slice(if is_copy { b"auto-generated" } else { b"auto-replied" });
        out.extend_from_slice(b"\r\nMIME-Version: 1.0\r\n");
        out.extend_from_slice(
            b"Content-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"",
        );
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"\"\r\n");
        if self.encoding == Encoding::SevenBit {
            out.extend_from_slice(b"Content-Transfer-Encoding: 7bit\r\n");
        }
        self.append_encoding(out);
        out.extend_from_slice(b"\r\nThis report has several parts in MIME format.\r\n");
    }

    /// Appends the part that people read.
    fn notification(&self, out: &mut Vec<u8>) {
        let is_eight_bit = self.encoding.is_eight_bit();
        let is_us_ascii = self.template.is_us_ascii();
        self.begin_part(b"Notification", b"text/plain; charset=", out);
        let charset: &[u8] = if is_us_ascii && is_eight_bit { b"utf-8" } else { &self.template.charset };
        out.extend_from_slice(charset);
        out.extend_from_slice(b"\r\n");
        self.append_encoding(out);
        out.extend_from_slice(b"\r\n");
        if self.notice.audience == Audience::Sender {
            out.extend_from_slice(&self.template.text);
        }
        let is_utf8 = is_eight_bit && charset.eq_ignore_ascii_case(b"utf-8");
        for reported in self.notice.recipients {
            out.extend_from_slice(b"\r\n");
            append_folded(&self.sentence(reported, is_utf8), out);
        }
    }

    /// The line on a recipient: `<ADDRESS> (expanded from <ORIGINAL>): TEXT`.
    fn sentence(&self, reported: &ReportedRecipient<'_>, is_utf8: bool) -> Vec<u8> {
        let ReportedRecipient { recipient, cause, .. } = *reported;
        let mut line = b"<".to_vec();
        append_printable(quoted(&self.arena, &recipient.address), is_utf8, &mut line);
        line.push(b'>');
        if !recipient.original().eq_ignore_ascii_case(&recipient.address) {
            line.extend_from_slice(b" (expanded from <");
            append_printable(quoted(&self.arena, recipient.original()), is_utf8, &mut line);
            line.extend_from_slice(b">)");
        }
        line.extend_from_slice(b": ");
        if !self.notice.kind.is_trouble() && !cause.remote.is_empty() {
            line.extend_from_slice(b"delivery via ");
            append_printable(&cause.remote, is_utf8, &mut line);
            line.extend_from_slice(b": ");
        }
        append_printable(&cause.text, is_utf8, &mut line);
        line
    }

    /// Appends the part that programs read (RFC 3464; RFC 6533 for an original with SMTPUTF8).
    fn delivery_status(&self, out: &mut Vec<u8>) {
        if self.notice.original.smtputf8 {
            self.begin_part(b"Delivery report", b"message/global-delivery-status\r\n", out);
            self.append_encoding(out);
        } else {
            self.begin_part(b"Delivery report", b"message/delivery-status\r\n", out);
        }
        out.extend_from_slice(b"\r\n");
        status::append(self.settings, self.notice, self.encoding, &self.arena, out);
    }

    /// Appends the header of the part with the original, and its Return-Path.
    fn original_header(&self, is_whole: bool, out: &mut Vec<u8>) {
        let description: &[u8] = match (self.notice.kind.is_trouble(), is_whole) {
            (true, true) => b"Undelivered Message",
            (true, false) => b"Undelivered Message Headers",
            (false, true) => b"Message",
            (false, false) => b"Message Headers",
        };
        let media_type: &[u8] = match (self.notice.original.smtputf8, is_whole) {
            (false, true) => b"message/rfc822\r\n",
            (false, false) => b"text/rfc822-headers\r\n",
            (true, true) => b"message/global\r\n",
            (true, false) => b"message/global-headers\r\n",
        };
        self.begin_part(description, media_type, out);
        self.append_encoding(out);
        out.extend_from_slice(b"\r\nReturn-Path: <");
        let sender = status::sender(self.settings, self.notice.original);
        self.append_address(&sender, out);
        out.extend_from_slice(b">\r\n");
    }

    fn begin_part(&self, description: &[u8], media_type: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"\r\nContent-Description: ");
        out.extend_from_slice(description);
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(media_type);
    }

    /// Appends the Content-Transfer-Encoding of a part: none where 7bit is the default.
    fn append_encoding(&self, out: &mut Vec<u8>) {
        if self.encoding.is_eight_bit() {
            out.extend_from_slice(b"Content-Transfer-Encoding: 8bit\r\n");
        }
    }

    fn append_address(&self, address: &[u8], out: &mut Vec<u8>) {
        append_printable(quoted(&self.arena, address), self.encoding.is_eight_bit(), out);
    }
}

/// Returns `ID.SECONDS/HOST`. An original cannot hold it in a line of its own: its sender does not know when it will be
/// reported.
fn boundary(settings: &ReportSettings, notice: &Notice<'_>) -> Vec<u8> {
    let mut boundary = format!("{}.{}/", notice.original_id, notice.now.unix_seconds()).into_bytes();
    append_printable(&settings.host_name, false, &mut boundary);
    boundary.truncate(BOUNDARY_SIZE_MAX);
    boundary
}
