mod actions;
mod addresses;
mod hostile;

use alloc::format;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;

use super::*;
use crate::Timestamp;
use crate::address::{RewriteContext, Rewriting};
use crate::envelope::{Protocol, Recipient};
use crate::record::envelope::{decode, encode};
use proptest::prelude::*;

struct Nobody;

impl Observer for Nobody {
    fn noticed(&mut self, _notice: &Notice<'_>) {}
}

fn rejected(halt: Halt) -> Rejection {
    match halt {
        Halt::Rejected(rejection) => rejection,
        Halt::Pending(_) => panic!("no table of these tests defers its answer"),
    }
}

fn rewriting() -> Rewriting {
    let local = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.com".to_vec() };
    Rewriting { local, ..Rewriting::default() }
}

struct Case {
    settings: Settings,
    origin: Origin,
    envelope: Envelope,
    is_local: bool,
}

fn case() -> Case {
    let settings = Settings {
        myhostname: b"mx.example.com".to_vec(),
        rewriting: Arc::new(rewriting()),
        ..Settings::default()
    };
    let mut origin = Origin::new([192, 0, 2, 1].into(), 4711);
    origin.helo = (*b"client.example.net").into();
    origin.protocol = Protocol::Esmtp;
    let envelope = Envelope {
        arrival: Timestamp::from_unix_microseconds(1_795_486_199_000_000),
        sender: b"sender@client.example.net".to_vec(),
        recipients: [Recipient { address: b"user@example.com".to_vec(), ..Recipient::default() }].into(),
        ..Envelope::default()
    };
    Case { settings, origin, envelope, is_local: false }
}

fn id() -> QueueId {
    QueueId::new(Timestamp::from_unix_microseconds(1_795_486_199_000_000), 0)
}

impl Case {
    /// Cleans `input`, split at `cuts`, and returns header section and body in one text.
    fn clean(&mut self, input: &[u8], cuts: &[usize]) -> Result<Vec<u8>, Rejection> {
        let mut cleanup = Cleanup::new(id(), self.is_local);
        let (mut out, mut kept, mut is_done) = (Vec::new(), Vec::new(), false);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        for window in cuts.windows(2) {
            kept.extend_from_slice(&input[window[0]..window[1]]);
            if is_done {
                out.append(&mut kept);
                continue;
            }
            let arena = Bump::new();
            let is_whole = window[1] == input.len();
            let mut surroundings = Surroundings {
                arena: &arena,
                settings: &self.settings,
                origin: &self.origin,
                envelope: &self.envelope,
                observer: &mut Nobody,
            };
            let part = cleanup.content(&mut surroundings, &kept, is_whole).map_err(rejected)?;
            part.output.iter().for_each(|slice| out.extend_from_slice(slice));
            is_done = part.is_done;
            let consumed = part.consumed;
            drop(part);
            kept.drain(..consumed);
        }
        out.append(&mut kept);
        Ok(out)
    }

    /// Returns the envelope as decoded from the queue.
    fn queued(&self, input: &str) -> Envelope {
        let arena = Bump::new();
        let mut surroundings = Surroundings {
            arena: &arena,
            settings: &self.settings,
            origin: &self.origin,
            envelope: &self.envelope,
            observer: &mut Nobody,
        };
        let mut cleanup = Cleanup::new(id(), self.is_local);
        cleanup.content(&mut surroundings, input.as_bytes(), true).unwrap();
        let queued = cleanup.envelope(&mut surroundings).unwrap();
        let mut encoded = bumpalo::collections::Vec::new_in(&arena);
        encode(&self.origin, &queued, &mut encoded).unwrap();
        decode(&encoded).unwrap().1
    }

    fn text(&mut self, input: &str) -> String {
        String::from_utf8(self.clean(input.as_bytes(), &[]).unwrap()).unwrap()
    }

    /// Does the same and strips the Received field.
    fn rest(&mut self, input: &str) -> String {
        let text = self.text(input);
        text.split_once("(UTC)\r\n").unwrap().1.into()
    }
}

#[test]
fn received_names_the_only_recipient() {
    let text = case().text("Subject: x\r\n\r\nbody\r\n");
    let expected = alloc::format!(
        "Received: from client.example.net (unknown [192.0.2.1])\r\n\tby mx.example.com (Mailrace) with ESMTP id {}\r\n\t\
         for <user@example.com>; Tue, 24 Nov 2026 02:09:59 +0000 (UTC)\r\nSubject: x\r\n\r\nbody\r\n",
        id()
    );
    assert_eq!(text, expected);
}

#[test]
fn received_of_many_recipients_ipv6_and_utf8() {
    let mut case = case();
    case.origin.client_address = "2001:db8::1".parse().unwrap();
    case.origin.helo = (*b"a<b>(c)\x01;\"@\\").into();
    case.envelope.smtputf8 = true;
    case.envelope.recipients.push(Recipient { address: b"two@example.com".to_vec(), ..Recipient::default() });
    let text = case.text("\r\n");
    let expected = alloc::format!(
        "Received: from a?b??c?????? (unknown [IPv6:2001:db8::1])\r\n\tby mx.example.com (Mailrace) with UTF8SMTP id {};\r\n\
         \tTue, 24 Nov 2026 02:09:59 +0000 (UTC)\r\n\r\n",
        id()
    );
    assert_eq!(text, expected);
}

#[test]
fn removes_fields_to_drop() {
    let input = "Return-Path: <a@b>\r\nA: 1\r\nBCC: x,\r\n y\r\nContent-Length: 9\r\nResent-Bcc: z\r\nB: 2\r\n\r\nBcc: stays\r\n";
    assert_eq!(case().rest(input), "A: 1\r\nB: 2\r\n\r\nBcc: stays\r\n");
}

#[test]
fn missing_fields_are_added_for_local_clients_only() {
    assert_eq!(case().rest("A: b\r\n\r\n"), "A: b\r\n\r\n");
    let mut case = case();
    case.is_local = true;
    case.settings.undisclosed_recipients_header = b"To: undisclosed-recipients:;".to_vec();
    let expected = alloc::format!(
        "A: b\r\nMessage-Id: <20261124020959.{}@mx.example.com>\r\nDate: Tue, 24 Nov 2026 02:09:59 +0000 (UTC)\r\n\
         From: sender@client.example.net\r\nTo: undisclosed-recipients:;\r\n\r\nbody\r\n",
        id()
    );
    assert_eq!(case.rest("A: b\r\n\r\nbody\r\n"), expected);
}

#[test]
fn a_resent_message_gets_missing_resent_fields() {
    let mut case = case();
    case.is_local = true;
    case.envelope.sender.clear();
    let text = case.rest("From: a@b\r\nResent-To: c@d\r\nResent-Date: x\r\n\r\n");
    assert!(
        text.contains("\r\nResent-Message-Id: <") && text.contains("\r\nResent-From: MAILER-DAEMON\r\n\r\n"),
        "{text}"
    );
    assert!(!text.contains("\r\nMessage-Id") && text.matches("Resent-Date").count() == 1, "{text}");
}

#[test]
fn handles_unusual_first_lines() {
    assert_eq!(case().rest(" folded\r\nA: b\r\n\r\nx\r\n"), "\r\n folded\r\nA: b\r\n\r\nx\r\n");
    assert_eq!(case().rest("no header\r\nA: b\r\n"), "\r\nno header\r\nA: b\r\n");
    assert_eq!(case().rest("A: b\r\nno header\r\n"), "A: b\r\n\r\nno header\r\n");
    assert_eq!(
        case().rest("From a@b Mon\r\n>>From c\r\nSubject: x\r\n\r\n"),
        "X-Mailbox-Line: From a@b Mon\r\nX-Mailbox-Line: >>From c\r\nSubject: x\r\n\r\n"
    );
    assert_eq!(case().rest("From a@b"), "X-Mailbox-Line: From a@b\r\n");
    assert_eq!(case().rest("Subject : x\t\r\n\r\n"), "Subject: x\t\r\n\r\n");
    assert_eq!(case().rest("A: one\0two\r\n\r\n\0body\r\n"), "A: one\r\n\r\n\0body\r\n");
    assert_eq!(case().rest(""), "");
    assert_eq!(case().rest("A: b"), "A: b\r\n");
}

/// Postfix puts an empty line before content that begins with white space, but not if the content came by BDAT, or if the
/// white space was a CR or followed a stuffed dot.
#[test]
fn a_raw_start_continues_the_trace_field() {
    let mut case = case();
    case.envelope.content.has_raw_start = true;
    assert_eq!(
        case.rest(" folded\r\n\tagain\r\nA: b\r\n\r\nx\r\n"),
        " folded\r\n\tagain\r\nA: b\r\n\r\nx\r\n"
    );
    assert_eq!(case.rest(" \r\n"), " \r\n");
    assert_eq!(case.rest(" x\0y"), " x\r\n");
    assert_eq!(case.rest("A: b\r\n\r\n x\r\n"), "A: b\r\n\r\n x\r\n");
    assert_eq!(case.rest("From a@b Mon\r\nSubject: x\r\n"), "\r\nFrom a@b Mon\r\nSubject: x\r\n");
    case.settings.header_size_limit = 400;
    let end = "A: b\r\n\r\n x\r\n";
    for long in [alloc::format!(" {}\r\n", "x".repeat(9000)), " x\r\n".repeat(2000)] {
        let rest = case.rest(&alloc::format!("{long}{end}"));
        assert!(rest.starts_with(" x") && rest.ends_with(end) && rest.len() < 400, "{rest}");
    }
}

/// As in Postfix's duplicate filter, the address of RCPT replaces a missing ORCPT, and case is ignored.
#[test]
fn removes_a_duplicate_recipient() {
    let queued = |given: &[(&str, &str)], is_whole: bool| {
        let mut case = case();
        case.settings.enable_original_recipient = is_whole;
        case.envelope.recipients = given
            .iter()
            .map(|(address, original)| Recipient {
                address: address.as_bytes().to_vec(),
                dsn_original: (!original.is_empty()).then(|| original.as_bytes().into()),
                ..Recipient::default()
            })
            .collect();
        case.queued("").recipients.len()
    };
    let plain = ("u@example.com", "");
    for (other, is_one) in [
        (("u@example.com", ""), true),
        (("U@EXAMPLE.com", ""), true),
        (("u@example.com", "rfc822;u@example.com"), true),
        (("u@example.com", "RFC822;U@Example.COM"), true),
        (("u@example.com", "rfc822;v@example.com"), false),
        (("u@example.com", "utf-8;u@example.com"), false),
        (("u@example.com", "rfc822;"), false),
        (("v@example.com", "rfc822;u@example.com"), false),
    ] {
        for count in [1, 12] {
            let pair = [&[plain, other].repeat(count)[..], &[other, plain].repeat(count)].concat();
            assert_eq!(queued(&pair, true), if is_one { 1 } else { 2 }, "{other:?}");
        }
        let has_one_address = other.0.eq_ignore_ascii_case(plain.0);
        assert_eq!(queued(&[plain, other], false), if has_one_address { 1 } else { 2 }, "{other:?}");
    }
    let quoted = [("a b@example.com", ""), ("a b@example.com", "rfc822;\"a b\"@example.com")];
    assert_eq!(queued(&quoted, true), 1);
    let sigmas = [
        "\u{3c3}\u{3b1}\u{3c2}@example.com",
        "\u{3a3}\u{391}\u{3a3}@example.com",
        "\u{3c3}\u{3b1}\u{3c3}@example.com",
    ];
    let sigmas = sigmas.map(|address| (address, ""));
    assert_eq!(queued(&sigmas, true), 1);
    assert_eq!(queued(&sigmas.repeat(5), true), 1);
}

/// For any number of recipients, and wherever their table grows.
#[test]
fn many_recipients_are_each_kept_once() {
    let address = |number: usize| format!("user{number}@example.com").into_bytes();
    let queued = |numbers: &[usize], limit: usize| -> Vec<Vec<u8>> {
        let mut case = case();
        case.settings.duplicate_filter_limit = limit;
        case.envelope.recipients = numbers
            .iter()
            .map(|number| Recipient { address: address(*number), ..Recipient::default() })
            .collect();
        case.queued("").recipients.into_iter().map(|recipient| recipient.address).collect()
    };
    for count in 1..100 {
        let twice: Vec<usize> = (0..count).chain(0..count).collect();
        assert_eq!(queued(&twice, 0), (0..count).map(address).collect::<Vec<_>>());
        // Beyond the limit no recipient is remembered, so duplicates pass.
        for limit in [1, 3, 8, 9, 20] {
            let expected = (0..count).chain(limit.min(count)..count).map(address);
            assert_eq!(queued(&twice, limit), expected.collect::<Vec<_>>(), "{count}, {limit}");
        }
    }
}

#[test]
fn accepts_48_hops_and_refuses_49() {
    let field = "Received: from a by b; date\r\n";
    let mut input = field.repeat(48);
    input.push_str("\r\n");
    input.push_str(&field.repeat(60));
    assert!(case().clean(input.as_bytes(), &[]).is_ok());
    input.insert_str(0, field);
    assert_eq!(case().clean(input.as_bytes(), &[]), Err(Rejection::TooManyHops));
}

#[test]
fn an_endless_field_is_truncated() {
    let mut case = case();
    case.settings.header_size_limit = 100;
    let long = "x".repeat(5000);
    let line = "y".repeat(40);
    let near = "y".repeat(46);
    for (field, kept) in [
        (alloc::format!("A: {long}\r\n more\r\n"), alloc::format!("A: {}\r\n", "x".repeat(97))),
        // Sizes are in bytes, with each line end counted as one.
        (
            alloc::format!("A: {line}\r\n {line}\r\n {line}\r\n {line}\r\n"),
            alloc::format!("A: {line}\r\n {line}\r\n {}\r\n", "y".repeat(13)),
        ),
        (
            alloc::format!("A: {line}\r\n {near}\r\n zzzzzzz\r\n q\r\n"),
            alloc::format!("A: {line}\r\n {near}\r\n zzzzzzz\r\n"),
        ),
        // A line end shortly before the limit is preferred to a partial line.
        (alloc::format!("A: {line}\r\n {near}\r\n zzzzzzzz\r\n"), alloc::format!("A: {line}\r\n {near}\r\n")),
    ] {
        let input = alloc::format!("{field}B: c\r\n\r\nbody\r\n");
        let expected = alloc::format!("{kept}B: c\r\n\r\nbody\r\n");
        assert_eq!(case.rest(&input), expected);
        for cut in 0..input.len() {
            let split = case.clean(input.as_bytes(), &[cut, field.len() - 1, field.len()]).unwrap();
            assert!(split.ends_with(expected.as_bytes()), "cut at {cut}");
        }
    }
}

#[test]
fn addresses_without_domain_are_completed() {
    let mut case = case();
    case.envelope.recipients[0].address = b"postmaster".to_vec();
    let text = case.text("\r\n");
    assert!(text.contains("for <postmaster>;"), "{text}");
    let envelope = case.queued("\r\n");
    assert_eq!(envelope.recipients[0].address, b"postmaster@example.com");
    assert_eq!(envelope.recipients[0].original(), b"postmaster");
}

proptest! {
    #[test]
    fn splitting_the_content_changes_nothing(lines in prop::collection::vec("(From |>|A: x|Bcc: y| |\t|B|:|Received: z|\0|\r\n|\r\n|Message-Id: <i>){1,4}", 0..12), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let mut input = lines.concat();
        input.push_str("\r\n");
        let mut case = case();
        case.is_local = true;
        let whole = case.clean(input.as_bytes(), &[]);
        prop_assert_eq!(case.clean(input.as_bytes(), &cuts), whole);
    }

    #[test]
    fn any_input_terminates(input in prop::collection::vec(any::<u8>(), 0..300), cuts in prop::collection::vec(any::<usize>(), 0..3)) {
        let _ = case().clean(&input, &cuts);
    }
}

#[test]
fn finds_parts_wherever_the_content_is_split() {
    let input = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nA: 1\0x\r\n\r\n1\r\n--b\r\nB: 2\0x\r\n\r\n2\0\r\n--b--\r\n";
    let whole = case().clean(input, &[]).unwrap();
    assert!(
        whole.ends_with(b"A: 1\r\n\r\n1\r\n--b\r\nB: 2\r\n\r\n2\0\r\n--b--\r\n"),
        "{}",
        whole.escape_ascii()
    );
    for first in 0..input.len() {
        for second in [first, first + 1] {
            assert_eq!(
                case().clean(input, &[first, second]).as_ref(),
                Ok(&whole),
                "cut at {first}, {second}"
            );
        }
    }
}
