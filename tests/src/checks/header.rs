//! Properties of header sections: fields consist of whole lines, and parsing a prefix gives the same items as parsing the
//! whole.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::message::date::Zone;
use mailrace_core::message::header::{Item, find_crlf, next_item};
use mailrace_core::message::received::{Host, write_received};
use mailrace_core::{Envelope, Origin, Protocol, QueueId, Recipient, Timestamp};

use super::front;

/// Checks text, with LFs as CRLF or unchanged. The first byte has flags.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    let ([flags], text) = front(octets);
    check_received(text, flags);
    if flags & 1 == 0 {
        check_section(&text.split(|octet| *octet == b'\n').collect::<Vec<_>>().join(&b"\r\n"[..]));
    } else {
        check_section(text);
    }
}

/// Checks that items match a line-by-line reference, and that their bytes are those of the section.
fn check_section(section: &[u8]) {
    let crlf = section.windows(2).position(|pair| pair == b"\r\n");
    assert_eq!(find_crlf(section), crlf);
    let mut rest = section;
    loop {
        let item = next_item(rest, true);
        assert_eq!(item, reference(rest), "{}", rest.escape_ascii());
        check_fronts(rest, item);
        match item {
            Item::Field(field) => {
                assert!(rest.starts_with(field.raw) && !field.raw.is_empty());
                let name = field.name();
                assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic) && field.is(name));
                assert_eq!(field.raw.get(field.colon), Some(&b':'));
                let body = field.body();
                assert!(field.raw[field.colon + 1..].starts_with(body));
                rest = &rest[field.raw.len()..];
            }
            Item::End(_) | Item::Body => return,
            Item::Incomplete => panic!("nothing follows, so that all is there"),
        }
    }
}

/// Checks that a prefix gives the same item, or an incomplete one.
fn check_fronts(octets: &[u8], item: Item<'_>) {
    const FRONTS_MAX: usize = 64;
    let size = octets.len().min(4096);
    for end in (0..size).step_by(size / FRONTS_MAX + 1) {
        let front = next_item(&octets[..end], false);
        let is_right = front == Item::Incomplete || front == item;
        assert!(is_right, "{front:?} in front of {item:?}: {}", octets[..end].escape_ascii());
        if let Item::Field(field) = item {
            assert!(end > field.raw.len() || front == Item::Incomplete, "what follows a field ends it");
        }
    }
}

/// Returns the first item, parsed from whole lines (RFC 5322 §2.2).
fn reference(octets: &[u8]) -> Item<'_> {
    let mut lines = Vec::new();
    let mut start = 0;
    for end in 1..=octets.len() {
        if octets[start..end].ends_with(b"\r\n") || end == octets.len() {
            lines.push(&octets[start..end]);
            start = end;
        }
    }
    let Some(first) = lines.first() else { return Item::End(0) };
    if *first == b"\r\n" {
        return Item::End(2);
    }
    let colon = first.iter().position(|octet| *octet == b':');
    let name = colon.map(|colon| &first[..colon]).unwrap_or_default();
    let name_size = name.iter().rposition(|octet| !b" \t".contains(octet)).map_or(0, |last| last + 1);
    let Some(colon) = colon.filter(|_| name_size > 0 && name[..name_size].iter().all(u8::is_ascii_graphic))
    else {
        return Item::Body;
    };
    let folded = lines[1..].iter().take_while(|line| line.starts_with(b" ") || line.starts_with(b"\t"));
    let size = first.len() + folded.map(|line| line.len()).sum::<usize>();
    let raw = &octets[..size];
    let (is_folded, has_nul) = (size > first.len(), raw.contains(&0));
    Item::Field(mailrace_core::message::header::Field { raw, name_size, colon, is_folded, has_nul })
}

/// Checks that our trace field is a single field, whatever HELO name and recipient the client specified.
fn check_received(text: &[u8], flags: u8) {
    // Characters that a command line can contain.
    let said: Vec<u8> = text.iter().copied().filter(|octet| !octet.is_ascii_control()).collect();
    let (helo, address) = said.split_at(said.len() / 2);
    let arena = Bump::new();
    let mut origin = Origin::new([192, 0, 2, 1].into(), 25);
    origin.helo = helo.into();
    origin.protocol = if flags & 2 == 0 { Protocol::Esmtp } else { Protocol::Smtp };
    let recipients =
        vec![Recipient { address: address.to_vec(), ..Recipient::default() }; usize::from(flags & 3)];
    let envelope = Envelope { recipients, ..Envelope::default() };
    let zone = Zone { offset_seconds: i32::from(flags) * 60, abbreviation: b"UTC".to_vec() };
    let host = Host { name: b"mx.example.com", software: b"Mailrace", zone: &zone };
    let mut out = ArenaVec::new_in(&arena);
    let time = text.iter().fold(0_u64, |time, octet| time.rotate_left(8) ^ u64::from(*octet));
    let id = QueueId::new(Timestamp::from_unix_microseconds(time), 0);
    write_received(&mut out, host, &origin, &envelope, id);
    out.extend_from_slice_copy(b"\r\n");
    let Item::Field(field) = next_item(&out, true) else { panic!("{} is no field", out.escape_ascii()) };
    assert!(field.is(b"received") && field.raw.len() + 2 == out.len(), "{}", out.escape_ascii());
}
