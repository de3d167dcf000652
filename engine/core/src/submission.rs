//! Owns what the command `sendmail` reads: addresses of its arguments, recipients in a header section (`-t`).

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use crate::address::{AddressList, write_internal};
use crate::envelope::{Notify, Recipient};
use crate::message::header::field_name;

/// The addresses of a list in internal form, in their order. A line end in a quoted string becomes a space.
#[must_use]
pub fn addresses(text: &[u8]) -> Vec<Vec<u8>> {
    let arena = Bump::new();
    let list = AddressList::parse(&arena, arena.alloc_slice_copy(text), usize::MAX);
    let internal = |tokens: &ArenaVec<'_, _>| {
        let mut address = ArenaVec::new_in(&arena);
        write_internal(tokens, &mut address);
        address.iter().map(|octet| if matches!(octet, b'\r' | b'\n') { b' ' } else { *octet }).collect()
    };
    list.addresses().map(internal).collect()
}

/// A recipient of mail that was submitted on this machine; an empty address is that of `empty_address_recipient`'s default.
#[must_use]
pub fn recipient(address: Vec<u8>, notify: Notify) -> Recipient {
    let (address, original) =
        if address.is_empty() { (b"MAILER-DAEMON".to_vec(), Some(Box::default())) } else { (address, None) };
    Recipient { address, original, notify, ..Recipient::default() }
}

/// Longest name of a user in bytes.
pub const FULL_NAME_SIZE_MAX: usize = 512;

/// A user's name as a From field may show it: one line, with `?` for each character that has no shape of its own. Such
/// characters make a terminal or a mail reader show something else than is there, and a name comes from any user of the
/// machine.
///
/// A name in another encoding than UTF-8 is kept, but for the controls that it may hold.
#[must_use]
pub fn full_name(name: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        for letter in chunk.valid().chars() {
            match letter {
                '\t'..='\r' => out.push(b' '),
                letter if letter.is_control() || is_format(letter) => out.push(b'?'),
                letter => out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        // Bytes of the second set of controls (C1), if this is ISO 8859.
        out.extend(chunk.invalid().iter().map(|octet| if *octet < 0xa0 { b'?' } else { *octet }));
    }
    while out.len() > FULL_NAME_SIZE_MAX
        || core::str::from_utf8(&out).is_err_and(|it| it.error_len().is_none())
    {
        out.pop();
    }
    out
}

/// Whether an address shows what it holds: it has no control, and no character that reorders or breaks a line.
#[must_use]
pub fn is_plain_address(address: &[u8]) -> bool {
    address.utf8_chunks().all(|chunk| {
        let is_plain = |letter: char| {
            // Both joiners have a use in domains (RFC 5892, appendix A).
            !letter.is_control() && (!is_format(letter) || matches!(letter, '\u{200c}' | '\u{200d}'))
        };
        chunk.valid().chars().all(is_plain)
    })
}

/// Unicode's format characters (category Cf) and its line and paragraph separators (Unicode 16).
const fn is_format(letter: char) -> bool {
    matches!(letter,
        '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{890}' | '\u{891}' | '\u{8e2}'
        | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{110bd}' | '\u{110cd}' | '\u{13430}'..='\u{1343f}'
        | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0001}' | '\u{e0020}'..='\u{e007f}'
    )
}

/// A header field that is longer than it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldTooLong;

impl fmt::Display for FieldTooLong {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("message header length exceeds safety limit")
    }
}

impl core::error::Error for FieldTooLong {}

/// Takes the recipients from a header section, record by record, as Postfix's `sendmail -t` does: To, Cc and Bcc, or
/// only Resent-To, Resent-Cc and Resent-Bcc once there is one of those (RFC 5322 §3.6.6).
///
/// One field is the most that is in memory.
#[derive(Debug)]
pub struct HeaderRecipients {
    /// The field that may go on, with a line feed between its lines.
    field: Vec<u8>,
    size_max: usize,
    plain: Vec<Vec<u8>>,
    resent: Option<Vec<Vec<u8>>>,
    /// The next record begins a line.
    is_line_start: bool,
    is_over: bool,
}

impl HeaderRecipients {
    /// `size_max`: bytes of a field (`header_size_limit`).
    #[must_use]
    pub const fn new(size_max: usize) -> Self {
        Self {
            field: Vec::new(),
            size_max,
            plain: Vec::new(),
            resent: None,
            is_line_start: true,
            is_over: false,
        }
    }

    /// The next record: a line without its end, or a piece of one that is longer than `line_length_limit`. The first line
    /// that is no field ends the header section; the rest is ignored.
    ///
    /// # Errors
    /// [`FieldTooLong`].
    pub fn record(&mut self, record: &[u8], is_line_end: bool) -> Result<(), FieldTooLong> {
        let is_line_start = core::mem::replace(&mut self.is_line_start, is_line_end);
        if self.is_over {
            return Ok(());
        }
        // Text ends at a NUL, as where the field is cleaned.
        let record = record.split(|octet| *octet == 0).next().unwrap_or_default();
        let is_continued = record.first().is_some_and(|octet| matches!(octet, b' ' | b'\t'));
        if is_line_start && is_continued && !self.field.is_empty() {
            self.field.push(b'\n');
        } else if is_line_start {
            self.end_field();
            self.is_over = field_name(record).is_none();
        }
        if self.is_over {
            return Ok(());
        }
        if self.field.len() + record.len() > self.size_max {
            return Err(FieldTooLong);
        }
        self.field.extend_from_slice(record);
        Ok(())
    }

    /// All recipients, in the order of their fields.
    #[must_use]
    pub fn finish(mut self) -> Vec<Vec<u8>> {
        self.end_field();
        self.resent.unwrap_or(self.plain)
    }

    fn end_field(&mut self) {
        let Some((name_size, colon)) = field_name(&self.field) else { return };
        let (name, _) = self.field.split_at(name_size);
        let is_any_of = |names: [&[u8]; 3]| names.iter().any(|known| name.eq_ignore_ascii_case(known));
        let recipients = if is_any_of([b"resent-to", b"resent-cc", b"resent-bcc"]) {
            Some(self.resent.get_or_insert_default())
        } else if is_any_of([b"to", b"cc", b"bcc"]) && self.resent.is_none() {
            Some(&mut self.plain)
        } else {
            None
        };
        if let Some(recipients) = recipients {
            recipients.extend(addresses(self.field.get(colon + 1..).unwrap_or_default()));
        }
        self.field.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::String;
    use std::vec;

    fn texts(addresses: Vec<Vec<u8>>) -> Vec<String> {
        addresses.into_iter().map(|address| String::from_utf8(address).unwrap()).collect()
    }

    fn recipients(section: &str) -> Vec<String> {
        let mut reader = HeaderRecipients::new(1000);
        section.split('\n').try_for_each(|line| reader.record(line.as_bytes(), true)).unwrap();
        texts(reader.finish())
    }

    #[test]
    fn display_names_have_no_hidden_characters() {
        for (name, wanted) in [
            ("Joe Doe", "Joe Doe"),
            ("J\u{f6}rg \u{674e}", "J\u{f6}rg \u{674e}"),
            ("J\x1b[31moe\x7f\0", "J?[31moe??"),
            ("a\u{202e}b\u{2066}c\u{200f}\u{61c}", "a?b?c??"),
            ("a\r\nBcc: x\ty\x0b", "a  Bcc: x y "),
            ("a\u{85}b\u{9b}c\u{2028}d\u{2029}", "a?b?c?d?"),
            ("\u{feff}a\u{200b}b\u{ad}c\u{2060}\u{180e}\u{e0041}\u{fff9}", "?a?b?c????"),
        ] {
            assert_eq!(core::str::from_utf8(&full_name(name.as_bytes())), Ok(wanted), "{name:?}");
        }
        // ISO 8859-1, and its CSI.
        assert_eq!(full_name(b"J\xf6rg\x9b31m"), b"J\xf6rg?31m");
        assert_eq!(full_name("\u{f6}".repeat(400).as_bytes()).len(), 512);
        assert_eq!(full_name(["x", &"\u{f6}".repeat(400)].concat().as_bytes()).len(), 511);
    }

    #[test]
    fn addresses_have_no_hidden_characters() {
        for address in ["a b@c", "", "j\u{f6}rg@d", "\u{645}\u{6cc}\u{200c}\u{62e}@x", "a\"b@c"] {
            assert!(is_plain_address(address.as_bytes()), "{address:?}");
        }
        assert!(is_plain_address(b"j\xf6rg@d"));
        for address in ["a\x1b@c", "a\n@c", "\0", "a\t@b", "a\x7f", "\u{202e}a@b", "a\u{85}@b", "a\u{2028}@b"]
        {
            assert!(!is_plain_address(address.as_bytes()), "{address:?}");
        }
    }

    /// What Postfix 3.7 makes of each.
    #[test]
    fn finds_the_same_addresses_as_postfix() {
        let cases: &[(&str, &[&str])] = &[
            ("a, \"b c\"@d", &["a", "b c@d"]),
            ("Joe <joe@k>", &["joe@k"]),
            ("\"a\nb\"@c", &["a b@c"]),
            ("d\ne@f", &["d", "e@f"]),
            ("<>", &[]),
            ("a, <>", &["a"]),
            ("<>, a", &["a"]),
            ("", &[]),
            ("a,,b", &["a", "b"]),
            (",", &[]),
            (";", &[]),
            ("g:;", &[]),
            ("g:<>;", &[]),
            ("\"\"", &[""]),
            ("\"\" <a>", &["a"]),
            ("@", &["@"]),
            ("<@>", &["@"]),
            ("a@", &["a@"]),
            ("(c) a", &["a"]),
            ("(c), a", &["a"]),
            ("a (c)", &["a"]),
            ("\"", &[""]),
            ("\\", &[""]),
            ("a <b> c", &["b", "c"]),
            ("<a> <b>", &["a", "b"]),
            ("a b", &["a", "b"]),
            ("a <b", &["a<b"]),
            ("<a, b>", &["a,b"]),
            ("a>b", &["a", "b"]),
            ("[x]", &["[x]"]),
            ("a@[1.2.3.4]", &["a@[1.2.3.4]"]),
            (": a", &[":a"]),
            ("g: a", &["g:a"]),
            ("g: a; b", &["a", "b"]),
            ("a@b c@d", &["a@b", "c@d"]),
            ("<a@b>c", &["a@b", "c"]),
            ("a.\"b c\".d@e", &["a.b c.d@e"]),
            ("\"a\".b", &["a.b"]),
            (".", &["."]),
            ("..", &[".."]),
            ("a..b@c", &["a..b@c"]),
            ("(unclosed", &[]),
            ("a (x(y)z) b", &["a", "b"]),
            ("<@a,@b:c@d>", &["@a,@b:c@d"]),
            ("@a:b", &["@a:b"]),
            (">", &[]),
            ("a;b", &["a", "b"]),
            ("a@b:c", &["a@b:c"]),
            ("x: y: z;;", &["z"]),
            ("MAILER-DAEMON", &["MAILER-DAEMON"]),
            ("<MAILER-DAEMON>", &["MAILER-DAEMON"]),
            ("\"a\\\"b\"@c", &["a\"b@c"]),
            ("a\\ b@c", &["a b@c"]),
            ("undisclosed-recipients:;, x", &["x"]),
        ];
        for (text, wanted) in cases {
            assert_eq!(texts(addresses(text.as_bytes())), *wanted, "{text:?}");
        }
    }

    /// Each was seen in Postfix 3.7.
    #[test]
    fn extracts_the_same_recipients_as_postfix() {
        for (section, wanted) in [
            ("To: c, d\nCc: e\nBcc: f\nSubject: x\n\nTo: g", vec!["c", "d", "e", "f"]),
            ("TO: a\nto : b\nCc:c\n d,\n\te\nX y: z\nBcc: q", vec!["a", "b", "c", "d", "e"]),
            ("To: c\nResent-From: r\nCc: z", vec!["c", "z"]),
            ("To: c\nResent-To: r\nCc: z\nResent-Cc: q\nTo: y", vec!["r", "q"]),
            ("Resent-To:\nTo: y", vec![]),
            ("To: y\nResent-Bcc: undisclosed:;", vec![]),
            ("Apparently-To: y\nReply-To: z", vec![]),
            ("\nTo: y", vec![]),
            (" x\nTo: y", vec![]),
            ("To: a\0b, c\n d\0e", vec!["a", "d"]),
            ("To: a\nContent-Type: message/rfc822\n\nTo: b", vec!["a"]),
        ] {
            assert_eq!(recipients(section), wanted, "{section:?}");
        }
    }

    #[test]
    fn accepts_lines_split_into_records() {
        let mut reader = HeaderRecipients::new(1000);
        for (record, is_line_end) in [
            ("To: a,", false),
            (" b", false),
            ("", true),
            ("\tc", true),
            ("TTTT", false),
            (": d", true),
            ("Cc: e", true),
        ] {
            assert_eq!(reader.record(record.as_bytes(), is_line_end), Ok(()));
        }
        // A name that is longer than a record is none, and ends the section.
        assert_eq!(texts(reader.finish()), ["a", "b", "c"]);
    }

    #[test]
    fn an_endless_field_is_refused() {
        let mut reader = HeaderRecipients::new(1000);
        assert_eq!(reader.record(&[&b"X: "[..], &[b'x'; 996]].concat(), true), Ok(()));
        assert_eq!(reader.record(b" ", false), Err(FieldTooLong));
        let mut reader = HeaderRecipients::new(1000);
        assert_eq!(reader.record(&[b'x'; 2000], true), Ok(()), "a body may be what it likes");
    }
}
