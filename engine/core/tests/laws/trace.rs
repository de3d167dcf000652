//! The Received field: whatever a client says, it is one field in the form of RFC 5321 section 4.4.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;
use mailrace_core::message::date::Zone;
use mailrace_core::message::header::{Item, next_item};
use mailrace_core::message::received::{Host, write_received};
use mailrace_core::{Envelope, Origin, Protocol, QueueId, Recipient, Timestamp};
use proptest::prelude::*;

fn received(origin: &Origin, envelope: &Envelope) -> Vec<u8> {
    let (arena, zone) = (Bump::new(), Zone::default());
    let mut out = ArenaVec::new_in(&arena);
    let host = Host { name: b"mx.example.com", software: b"Mailrace", zone: &zone };
    write_received(&mut out, host, origin, envelope, QueueId::from_number(77));
    out.to_vec()
}

proptest! {
    #[test]
    fn no_name_of_a_client_breaks_the_field(
        helo in prop::collection::vec(any::<u8>(), 0..40), address in any::<std::net::IpAddr>(),
        recipients in prop::collection::vec("[ -~é]{1,20}", 0..3), smtputf8 in any::<bool>(), is_esmtp in any::<bool>(),
    ) {
        let mut origin = Origin::new(address, 25);
        origin.helo = helo.into();
        origin.protocol = if is_esmtp { Protocol::Esmtp } else { Protocol::Smtp };
        let recipients: Vec<Recipient> = recipients.into_iter()
            .map(|address| Recipient { address: address.into_bytes(), ..Recipient::default() }).collect();
        let count = recipients.len();
        let arrival = Timestamp::from_unix_microseconds(1_795_486_199_000_000);
        let envelope = Envelope { recipients, smtputf8, arrival, ..Envelope::default() };
        let field = received(&origin, &envelope);
        let Item::Field(item) = next_item(&field, true) else { panic!("{}", field.escape_ascii()) };
        prop_assert_eq!(item.raw, field.as_slice(), "it is one field");
        prop_assert_eq!(item.name(), b"Received");
        let text = field.strip_suffix(b"\r\n").unwrap();
        let lines: Vec<&[u8]> = text.split(|byte| *byte == b'\n').map(|line| line.trim_ascii_end()).collect();
        prop_assert_eq!(lines.len(), 3);
        prop_assert!(lines[1].starts_with(b"\tby mx.example.com (Mailrace) with "));
        let controls = text.iter().filter(|byte| byte.is_ascii_control());
        prop_assert_eq!(controls.count(), 2 * 3, "a line end and a tab for each fold: {}", field.escape_ascii());
        // The comment with the address is the only one before the fold, so that no HELO name can imitate it.
        prop_assert_eq!(lines[0].iter().filter(|byte| **byte == b'(').count(), 1);
        let literal = match address {
            std::net::IpAddr::V4(address) => format!("[{address}])"),
            std::net::IpAddr::V6(address) => format!("[IPv6:{address}])"),
        };
        prop_assert!(lines[0].ends_with(literal.as_bytes()));
        prop_assert_eq!(lines[2].starts_with(b"\tfor <"), count == 1);
        prop_assert!(lines[2].ends_with(b"Tue, 24 Nov 2026 02:09:59 +0000 (UTC)"), "{}", field.escape_ascii());
    }
}
