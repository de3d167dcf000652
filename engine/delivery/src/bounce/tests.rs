//! Whole reports against what Postfix 3.7 sends for the same mail; only the sentences differ.

use std::time::Duration;

use mailrace_core::message::date::Zone;
use mailrace_core::record::delivery::Status;
use mailrace_core::{BodyType, Envelope, Notify, QueueId, Recipient, Return, Timestamp};
use proptest::prelude::*;

use super::*;

pub(super) fn settings() -> ReportSettings {
    let lookup = |name: &str| {
        let value = match name {
            "myhostname" => "mx.example.com",
            "delay_warning_time" => "4h",
            "maximal_queue_lifetime" => "5d",
            _ => return None,
        };
        Some(value.as_bytes().to_vec())
    };
    ReportSettings {
        host_name: b"mx.example.com".as_slice().into(),
        mail_name: b"Mailrace".as_slice().into(),
        bounce_size_limit: 50_000,
        maximal_queue_lifetime: Duration::from_secs(5 * 86_400),
        smtputf8_enable: true,
        templates: Templates::built_in(&lookup).unwrap(),
    }
}

const fn at(seconds: u64) -> Timestamp {
    Timestamp::from_unix_microseconds(seconds * 1_000_000)
}

fn boxed(text: &str) -> Box<[u8]> {
    text.as_bytes().into()
}

fn envelope(recipients: Vec<Recipient>) -> Envelope {
    Envelope {
        arrival: at(1_795_888_860),
        sender: b"sender@client.test".to_vec(),
        recipients,
        ..Envelope::default()
    }
}

fn recipient(address: &str) -> Recipient {
    Recipient { address: address.into(), ..Recipient::default() }
}

fn cause(status: (u8, u16, u16), text: &str, remote: &str, diagnostic: &str) -> Cause {
    let (class, subject, detail) = status;
    Cause {
        status: Status { class, subject, detail },
        text: boxed(text),
        remote: boxed(remote),
        diagnostic: boxed(diagnostic),
    }
}

/// What a server refused a recipient with.
fn refused(reply: &str) -> Cause {
    let line = reply.replace('\n', " ");
    let text = format!("host 127.0.0.1[127.0.0.1] said: {line} (in reply to RCPT TO command)");
    cause((5, 1, 1), &text, "127.0.0.1", reply)
}

/// A report to write, with the same cause for all recipients.
struct Case {
    kind: Kind,
    audience: Audience,
    action: Action,
    cause: Cause,
    envelope: Envelope,
    size: Option<u64>,
    settings: ReportSettings,
}

impl Case {
    fn new(kind: Kind, action: Action, cause: Cause, envelope: Envelope) -> Self {
        let audience = Audience::Sender;
        Self { kind, audience, action, cause, envelope, size: Some(100), settings: settings() }
    }

    fn failure(recipients: Vec<Recipient>) -> Self {
        Self::new(Kind::Failure, Action::Failed, refused("550 5.1.1 no such user"), envelope(recipients))
    }

    /// The report, with the original in these pieces. Lines end with LF.
    fn report(&self, pieces: &[&[u8]]) -> String {
        let reported = |recipient| ReportedRecipient { recipient, action: self.action, cause: &self.cause };
        let is_listed = |recipient: &&Recipient| self.kind.lists(recipient, self.audience);
        let recipients: Vec<_> = self.envelope.recipients.iter().filter(is_listed).map(reported).collect();
        let notice = Notice {
            kind: self.kind,
            audience: self.audience,
            to: b"sender@client.test",
            original_id: QueueId::new(at(1_795_888_860), 0),
            original: &self.envelope,
            original_size: self.size,
            recipients: &recipients,
            now: at(1_795_888_865),
            zone: &Zone::default(),
        };
        let mut out = Vec::new();
        let mut report = Report::begin(&self.settings, &notice, &mut out);
        for piece in pieces {
            if report.wants_more() {
                report.original(piece, &mut out);
            }
        }
        report.end(&mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "a bare line feed");
        text.replace("\r\n", "\n")
    }
}

const ORIGINAL: &[u8] = b"From: me@client.test\r\nSubject: one\r\n\r\nhello body\r\n";

/// Whether these lines are in the report, one after the other.
fn has(report: &str, lines: &str) -> bool {
    format!("\n{report}").contains(&format!("\n{lines}\n"))
}

#[test]
fn a_failure_report_is_as_in_the_golden_file() {
    let original =
        Recipient { dsn_original: Some(boxed("rfc822;Odd One@else.test")), ..recipient("a@r.test") };
    let expanded = Recipient { original: Some(boxed("Team@example.com")), ..recipient("b c@r.test") };
    let mut case = Case::failure(vec![original, expanded]);
    case.envelope.envelope_id = Some(boxed("a b="));
    case.cause =
        refused("550-5.1.1 first line of a long story about this mailbox\n550 5.1.1 second and last");
    assert_eq!(case.report(&[ORIGINAL]), include_str!("../../tests/golden/bounce/failure.eml"));
}

#[test]
fn a_delay_report_is_as_in_the_golden_file() {
    let cause = cause((4, 4, 1), "connect to 127.0.0.1[127.0.0.1]:25: Connection refused", "", "");
    let wishes = Recipient { notify: Notify::FAILURE, ..recipient("quiet@r.test") };
    let case = Case::new(Kind::Delay, Action::Delayed, cause, envelope(vec![recipient("a@r.test"), wishes]));
    assert_eq!(case.report(&[ORIGINAL]), include_str!("../../tests/golden/bounce/delay.eml"));
}

#[test]
fn a_success_report_is_as_in_the_golden_file() {
    let cause = cause((2, 0, 0), "250 2.0.0 taken as 1", "mail.r.test", "250 2.0.0 taken as 1");
    let wishes = Recipient { notify: Notify::SUCCESS, ..recipient("ok@r.test") };
    let case =
        Case::new(Kind::Success, Action::Relayed, cause, envelope(vec![wishes, recipient("silent@r.test")]));
    assert_eq!(case.report(&[ORIGINAL]), include_str!("../../tests/golden/bounce/success.eml"));
}

#[test]
fn a_double_bounce_is_as_in_the_golden_file() {
    let mut case = Case::failure(vec![recipient("jörg@r.test")]);
    case.audience = Audience::DoubleBounce;
    case.envelope.sender.clear();
    case.envelope.smtputf8 = true;
    case.envelope.ret = Some(Return::Headers);
    assert_eq!(case.report(&[ORIGINAL]), include_str!("../../tests/golden/bounce/double-bounce.eml"));
}

#[test]
fn all_actions_have_their_keyword() {
    let to = Recipient { notify: Notify::SUCCESS, ..recipient("a@r.test") };
    for (kind, action, subject) in [
        (Kind::Success, Action::Delivered, "Successful Mail Delivery Report"),
        (Kind::Success, Action::Relayed, "Successful Mail Delivery Report"),
        (Kind::Success, Action::Expanded, "Successful Mail Delivery Report"),
        (Kind::Verify, Action::Deliverable, "Mail Delivery Status Report"),
        (Kind::Verify, Action::Undeliverable, "Mail Delivery Status Report"),
    ] {
        let cause = cause((2, 0, 0), "alias expanded", "", "");
        let report = Case::new(kind, action, cause, envelope(vec![to.clone()])).report(&[ORIGINAL]);
        assert!(has(&report, &format!("Subject: {subject}")), "{report}");
        let keyword = action.keyword();
        let fields = "Status: 2.0.0\nDiagnostic-Code: X-Mailrace; alias expanded";
        assert!(has(&report, &format!("Action: {keyword}\n{fields}\n")), "{report}");
        assert!(has(&report, "Content-Description: Message Headers"), "{report}");
    }
}

#[test]
fn what_is_returned_depends_on_ret_size_and_reader() {
    let returns_whole = |change: &dyn Fn(&mut Case)| {
        let mut case = Case::failure(vec![recipient("a@r.test")]);
        change(&mut case);
        let report = case.report(&[ORIGINAL]);
        let is_whole = has(&report, "Content-Type: message/rfc822");
        assert_eq!(is_whole, has(&report, "Content-Description: Undelivered Message"), "{report}");
        assert_eq!(is_whole, !has(&report, "Content-Type: text/rfc822-headers"), "{report}");
        assert_eq!(is_whole, has(&report, "hello body"), "{report}");
        assert!(has(&report, "Return-Path: <sender@client.test>\nFrom: me@client.test\nSubject: one\n"));
        is_whole
    };
    assert!(returns_whole(&|_| {}));
    assert!(returns_whole(&|case| case.envelope.ret = Some(Return::Full)));
    assert!(!returns_whole(&|case| case.envelope.ret = Some(Return::Headers)));
    assert!(returns_whole(&|case| case.size = Some(50_000)));
    assert!(!returns_whole(&|case| case.size = Some(50_001)));
    assert!(!returns_whole(&|case| case.size = None));
    assert!(!returns_whole(&|case| case.audience = Audience::Postmaster));
    assert!(returns_whole(&|case| case.audience = Audience::DoubleBounce));
    assert!(!returns_whole(&|case| case.envelope.body = BodyType::BinaryMime), "bare line ends");
    assert!(!returns_whole(&|case| case.kind = Kind::Delay));
}

#[test]
fn an_original_is_read_no_further_than_it_is_returned() {
    let wants_more_after = |ret: Option<Return>, piece: &[u8]| {
        let original = Envelope { ret, ..envelope(Vec::new()) };
        let notice = Notice {
            kind: Kind::Failure,
            audience: Audience::Sender,
            to: b"sender@client.test",
            original_id: QueueId::new(at(1), 0),
            original: &original,
            original_size: Some(100),
            recipients: &[],
            now: at(2),
            zone: &Zone::default(),
        };
        let mut out = Vec::new();
        let mut report = Report::begin(&settings(), &notice, &mut out);
        assert!(report.wants_more());
        report.original(piece, &mut out);
        report.wants_more()
    };
    assert!(wants_more_after(Some(Return::Headers), b"A: b\r\n\r"));
    assert!(!wants_more_after(Some(Return::Headers), b"A: b\r\n\r\n"));
    assert!(wants_more_after(None, b"A: b\r\n\r\nbody"));
}

#[test]
fn postmasters_read_fields_only() {
    let never = Recipient { notify: Notify::NEVER, ..recipient("a@r.test") };
    let mut case = Case::failure(vec![never]);
    case.audience = Audience::Postmaster;
    let report = case.report(&[ORIGINAL]);
    assert!(has(&report, "Subject: Postmaster Copy: Undelivered Mail"), "{report}");
    assert!(has(&report, "Auto-Submitted: auto-generated"), "{report}");
    let text =
        "Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\n\n<a@r.test>: host ";
    assert!(report.contains(text), "{report}");
    assert!(has(&report, "Final-Recipient: rfc822; a@r.test"), "{report}");
    case.kind = Kind::Delay;
    assert!(has(&case.report(&[ORIGINAL]), "Subject: Postmaster Warning: Delayed Mail"));
    case.kind = Kind::Verify;
    assert!(has(&case.report(&[ORIGINAL]), "Subject: Mail Delivery Status Report"), "no subject for copies");
}

#[test]
fn an_original_with_smtputf8_has_a_global_report() {
    let given = Recipient { dsn_original: Some(boxed("utf-8;ö@r.test")), ..recipient("é@r.test") };
    let mut case = Case::failure(vec![given, recipient("ascii@r.test"), recipient("ü@r.test")]);
    case.envelope.smtputf8 = true;
    case.envelope.sender = "sénder@client.test".into();
    let report = case.report(&[ORIGINAL]);
    let eight_bit = "Content-Transfer-Encoding: 8bit\n";
    assert!(has(&report, &format!("Content-Type: message/global-delivery-status\n{eight_bit}")), "{report}");
    assert!(has(&report, &format!("Content-Type: message/global\n{eight_bit}")), "{report}");
    assert!(has(&report, "X-Mailrace-Sender: utf-8; sénder@client.test"), "{report}");
    assert!(has(&report, "Final-Recipient: utf-8; é@r.test\nOriginal-Recipient: utf-8;ö@r.test"), "{report}");
    let ascii = "Final-Recipient: rfc822; ascii@r.test\nOriginal-Recipient: rfc822;ascii@r.test";
    assert!(has(&report, ascii), "{report}");
    assert!(has(&report, "Original-Recipient: utf-8;ü@r.test"), "{report}");
    assert!(report.contains("\nReturn-Path: <sénder@client.test>\n"), "{report}");
    case.envelope.ret = Some(Return::Headers);
    let report = case.report(&[ORIGINAL]);
    assert!(has(&report, &format!("Content-Type: message/global-headers\n{eight_bit}")), "{report}");
}

/// With `smtputf8_enable = no`, as Postfix 3.7 does.
#[test]
fn without_smtputf8_the_encoding_is_that_of_the_original() {
    let encodings = |body: BodyType| {
        let mut case = Case::failure(vec![recipient("a@r.test")]);
        case.settings.smtputf8_enable = false;
        case.envelope.body = body;
        case.cause = refused("550 boîte");
        let report = case.report(&[ORIGINAL]);
        let fields: Vec<String> = report
            .lines()
            .filter_map(|line| line.split_once("-Encoding: ").or_else(|| line.split_once("charset=")))
            .map(|(_, value)| value.to_owned())
            .collect();
        let is_utf8 = has(&report, "Diagnostic-Code: smtp; 550 boîte");
        assert!(is_utf8 || has(&report, "Diagnostic-Code: smtp; 550 bo?te"), "{report}");
        assert!(is_utf8 || report.is_ascii());
        (fields.join(" "), is_utf8)
    };
    assert_eq!(encodings(BodyType::EightBitMime), ("8bit utf-8 8bit 8bit".to_owned(), true));
    assert_eq!(encodings(BodyType::SevenBit), ("7bit us-ascii".to_owned(), false));
    assert_eq!(encodings(BodyType::Unstated), ("us-ascii".to_owned(), false));
}

#[test]
fn without_smtputf8_a_report_is_8bit_where_its_text_or_original_needs_it() {
    let mut case = Case::failure(vec![recipient("é@r.test")]);
    case.settings.smtputf8_enable = false;
    let is_eight_bit = |report: &str| has(report, "Content-Transfer-Encoding: 8bit\n");
    let report = case.report(&[ORIGINAL]);
    assert!(!is_eight_bit(&report) && has(&report, "Final-Recipient: rfc822; ?@r.test"), "{report}");
    case.envelope.smtputf8 = true;
    let report = case.report(&[ORIGINAL]);
    assert!(is_eight_bit(&report) && has(&report, "Final-Recipient: utf-8; é@r.test"), "{report}");
    case.envelope.smtputf8 = false;
    let file = "failure_template = <<EOF\nCharset: utf-8\n\né\nEOF\n";
    case.settings.templates.read("bounce.cf", file.as_bytes(), &|_| None).unwrap();
    let report = case.report(&[ORIGINAL]);
    assert!(is_eight_bit(&report) && has(&report, "Final-Recipient: rfc822; é@r.test"), "{report}");
}

#[test]
fn an_address_that_differs_in_case_was_not_expanded() {
    let original = Some(boxed("A@R.test"));
    let report = Case::failure(vec![Recipient { original, ..recipient("a@r.test") }]).report(&[ORIGINAL]);
    assert!(report.contains("\n<a@r.test>: host ") && !report.contains("expanded"), "{report}");
    assert!(has(&report, "Original-Recipient: rfc822;A@R.test"), "{report}");
}

#[test]
fn a_template_sets_fields_and_text() {
    let mut case = Case::failure(vec![recipient("a@r.test")]);
    let file = "failure_template = <<EOF\nCharset: iso-8859-1\nFrom: MAILER-DAEMON (The Robot)\nSubject: Alas\n\nr\u{fffd}\nEOF\n";
    let file = file.replace('\u{fffd}', "é");
    case.settings.templates.read("bounce.cf", file.as_bytes(), &|_| None).unwrap();
    case.cause = refused("550 boîte");
    let report = case.report(&[ORIGINAL]);
    assert!(
        has(&report, "From: MAILER-DAEMON (The Robot)\nSubject: Alas\nTo: sender@client.test"),
        "{report}"
    );
    assert!(has(&report, "Content-Type: text/plain; charset=iso-8859-1"), "{report}");
    assert!(report.contains("\nré\n\n<a@r.test>: "), "{report}");
    assert!(report.contains("said: 550 bo?te"), "UTF-8 is not in this character set: {report}");
    assert!(has(&report, "Diagnostic-Code: smtp; 550 boîte"), "{report}");
}

#[test]
fn hostile_values_add_no_lines() {
    let hostile = "x\r\n\r\n--b\nSubject: y\0";
    let original = Some(boxed(&format!("rfc822;{hostile}")));
    let to = Recipient { dsn_original: original, original: Some(boxed(hostile)), ..recipient(hostile) };
    let mut case = Case::failure(vec![to]);
    let plain = Case::failure(vec![recipient("a@r.test")]).report(&[]);
    case.envelope.envelope_id = Some(boxed(hostile));
    case.envelope.sender = hostile.into();
    case.settings.mail_name = boxed("A: b\r\né");
    case.cause = cause((5, 0, 0), hostile, hostile, hostile);
    let report = case.report(&[]);
    assert!(has(&report, "Original-Envelope-Id: x????--b?Subject: y?"), "{report}");
    assert!(report.contains("\nX-A--b-----Queue-ID: "), "{report}");
    assert!(has(&report, "Original-Recipient: rfc822;x????--b?Subject: y?"), "{report}");
    assert!(has(&report, "Remote-MTA: dns; x????--b?Subject: y?"), "{report}");
    let folds = report.matches("\n    ").count();
    // The envelope id is the only field more.
    assert_eq!(report.lines().count() - folds, plain.lines().count() - plain.matches("\n    ").count() + 1);
}

#[test]
fn the_boundary_has_at_most_70_bytes() {
    let mut case = Case::failure(vec![recipient("a@r.test")]);
    case.settings.host_name = boxed(&"long.".repeat(50));
    let report = case.report(&[ORIGINAL]);
    let boundary = report.split("boundary=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    assert!(boundary.len() == 70 && boundary.contains(".1795888865/long."), "{boundary}");
    assert_eq!(report.matches(&format!("\n--{boundary}")).count(), 4);
    assert!(report.ends_with(&format!("hello body\n\n--{boundary}--\n")), "{report}");
}

#[test]
fn an_original_without_a_last_line_end_gets_one() {
    let mut case = Case::failure(vec![recipient("a@r.test")]);
    let whole = case.report(&[ORIGINAL]);
    assert_eq!(case.report(&[&ORIGINAL[..ORIGINAL.len() - 2]]), whole);
    assert_eq!(case.report(&[&ORIGINAL[..ORIGINAL.len() - 1], b"", b"\n"]), whole);
    case.envelope.ret = Some(Return::Headers);
    assert!(case.report(&[b"A: b"]).contains("\nA: b\n\n--"));
    assert!(case.report(&[]).contains("\nReturn-Path: <sender@client.test>\n\n--"));
}

proptest! {
    #[test]
    fn cuts_of_the_original_change_nothing(cut in 0..ORIGINAL.len(), next in 0..ORIGINAL.len(), is_whole: bool) {
        let mut case = Case::failure(vec![recipient("a@r.test")]);
        case.envelope.ret = if is_whole { None } else { Some(Return::Headers) };
        let (first, second) = (cut.min(next), cut.max(next));
        let pieces = [&ORIGINAL[..first], &ORIGINAL[first..second], &ORIGINAL[second..]];
        prop_assert_eq!(case.report(&pieces), case.report(&[ORIGINAL]));
    }

    #[test]
    fn any_bytes_make_a_report(texts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 7)) {
        let [address, original, given, sender, text, remote, diagnostic] = texts.try_into().unwrap();
        let to = Recipient {
            address,
            original: Some(original.into()),
            dsn_original: Some(given.into()),
            notify: Notify::default(),
        };
        let mut case = Case::failure(vec![to]);
        case.envelope.sender = sender;
        case.cause = Cause { text: text.into(), remote: remote.into(), diagnostic: diagnostic.into(), ..case.cause };
        let report = case.report(&[ORIGINAL]);
        prop_assert_eq!(report.matches("\n--").count(), 4, "{}", report);
    }
}
