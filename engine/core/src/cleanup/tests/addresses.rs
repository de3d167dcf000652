//! What canonical tables, masquerading and virtual aliases make of addresses.

use alloc::borrow::ToOwned;
use alloc::vec;

use super::*;
use crate::Sharer;
use crate::envelope::Notify;
use crate::lookup::{LookupError, LookupTable, Maps};

const EVERYWHERE: Classes =
    Classes { envelope_sender: true, envelope_recipient: true, header_sender: true, header_recipient: true };

#[derive(Debug)]
struct Pairs(&'static [(&'static str, &'static str)]);

impl LookupTable for Pairs {
    fn look_up<'a>(&'a self, _: &'a Bump, key: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        let found = self.0.iter().find(|(pattern, _)| pattern.as_bytes().eq_ignore_ascii_case(key));
        Ok(found.map(|(_, value)| value.as_bytes()))
    }
}

fn maps(pairs: &'static [(&'static str, &'static str)]) -> Maps {
    Maps::new(vec![Arc::new(Pairs(pairs))])
}

/// A case with one recipient.
fn case_to(recipient: &str) -> Case {
    let mut case = case();
    case.envelope.recipients =
        [Recipient { address: recipient.as_bytes().to_vec(), ..Recipient::default() }].into();
    case
}

impl Case {
    fn recipients(&self) -> Vec<String> {
        let recipients = self.queued("\r\n").recipients;
        recipients.into_iter().map(|recipient| String::from_utf8(recipient.address).unwrap()).collect()
    }

    /// Why the envelope is refused.
    fn refusal(&self) -> Rejection {
        let arena = Bump::new();
        let mut surroundings = Surroundings {
            arena: &arena,
            settings: &self.settings,
            origin: &self.origin,
            envelope: &self.envelope,
            observer: &mut Nobody,
        };
        let mut cleanup = Cleanup::new(id(), self.is_local);
        cleanup.content(&mut surroundings, b"\r\n", true).unwrap();
        rejected(cleanup.envelope(&mut surroundings).unwrap_err())
    }
}

#[test]
fn canonical_tables_are_searched_until_an_address_stays() {
    for (recipient, becomes) in [
        ("a@x.example", "c@x.example"),
        ("A@X.example", "c@x.example"),
        ("same@x.example", "same@x.example"),
        ("any@whole.example", "any@x.example"),
        ("other@x.example", "other@x.example"),
    ] {
        let mut case = case_to(recipient);
        let maps = maps(&[
            ("a@x.example", "b@x.example"),
            ("b@x.example", "c@x.example"),
            ("same@x.example", "same@x.example"),
            ("@whole.example", "@x.example"),
        ]);
        case.settings.canonical = Canonical { maps, classes: EVERYWHERE };
        assert_eq!(case.recipients(), [becomes], "{recipient}");
    }
}

/// As Postfix does: the tables end after ten rounds, without an error.
#[test]
fn canonical_tables_that_lead_in_a_circle_end() {
    let mut case = case_to("a@x.example");
    let maps = maps(&[("a@x.example", "b@x.example"), ("b@x.example", "a@x.example")]);
    case.settings.canonical = Canonical { maps, classes: EVERYWHERE };
    assert_eq!(case.recipients(), ["a@x.example"]);
}

#[test]
fn canonical_tables_rewrite_the_classes_that_they_are_for() {
    let text = "From: a@x.example\r\nTo: a@x.example\r\n\r\n";
    for (classes, from, to, recipient) in [
        (EVERYWHERE, "b", "b", "b"),
        (Classes { header_sender: true, ..Classes::default() }, "b", "a", "a"),
        (Classes { header_recipient: true, ..Classes::default() }, "a", "b", "a"),
        (Classes { envelope_recipient: true, ..Classes::default() }, "a", "a", "b"),
    ] {
        let mut case = case_to("a@x.example");
        case.is_local = true;
        case.settings.canonical = Canonical { maps: maps(&[("a@x.example", "b@x.example")]), classes };
        let rest = case.text(text);
        let expected = format!("From: {from}@x.example\r\nTo: {to}@x.example\r\n");
        assert!(rest.contains(&expected), "{classes:?}: {rest}");
        assert_eq!(case.recipients(), [format!("{recipient}@x.example")], "{classes:?}");
    }
}

#[test]
fn masquerading_hides_hosts_below_a_domain() {
    for (recipient, becomes) in [
        ("u@host.x.example", "u@x.example"),
        ("u@deep.HOST.X.example", "u@x.example"),
        ("u@x.example", "u@x.example"),
        ("u@box.example", "u@box.example"),
        ("u@host.open.x.example", "u@host.open.x.example"),
        ("Root@host.x.example", "Root@host.x.example"),
    ] {
        let mut case = case_to(recipient);
        case.settings.masquerade = Masquerade {
            domains: vec![(true, b"open.x.example".to_vec()), (false, b"x.example".to_vec())],
            exceptions: vec![b"root".to_vec()],
            classes: EVERYWHERE,
        };
        assert_eq!(case.recipients(), [becomes], "{recipient}");
    }
}

fn alias_case(recipient: &str) -> Case {
    let mut case = case_to(recipient);
    case.settings.virtual_alias = VirtualAlias {
        maps: maps(&[
            ("list@x.example", "one@x.example, two@x.example, one@x.example"),
            ("two@x.example", "three@y.example"),
            ("self@x.example", "self@x.example, one@x.example"),
            ("many@x.example", "a@y.example, b@y.example, c@y.example, d@y.example"),
            ("deep1@x.example", "deep2@x.example"),
            ("deep2@x.example", "deep3@x.example"),
            ("deep3@x.example", "deep4@x.example"),
            ("long@x.example", "a-name-that-is-too-long@y.example"),
        ]),
        expansion_limit: 3,
        recursion_limit: 2,
        address_length_limit: 20,
        ..VirtualAlias::default()
    };
    case
}

#[test]
fn aliases_expand_again_and_each_recipient_stays_once() {
    for (recipient, becomes) in [
        ("list@x.example", &["one@x.example", "three@y.example"][..]),
        ("self@x.example", &["self@x.example", "one@x.example"]),
        ("one@x.example", &["one@x.example"]),
    ] {
        assert_eq!(alias_case(recipient).recipients(), becomes, "{recipient}");
    }
}

#[test]
fn aliases_without_bound_are_refused() {
    for recipient in ["many@x.example", "deep1@x.example", "long@x.example"] {
        let refusal = alias_case(recipient).refusal();
        assert!(matches!(refusal, Rejection::AliasExpansion), "{recipient}: {refusal:?}");
    }
    assert_eq!(alias_case("deep3@x.example").recipients(), ["deep4@x.example".to_owned()]);
}

/// RFC 3461 §5.2.7.3, as Postfix does it: the sender reads of the expansion, not of the members.
#[test]
fn an_expansion_is_reported_where_success_was_asked_for() {
    const ANY: Notify = Notify::SUCCESS.with(Notify::FAILURE);
    for (recipient, given, expanded, member) in [
        ("list@x.example", Notify::SUCCESS, true, Notify::NEVER),
        ("self@x.example", ANY, true, Notify::FAILURE),
        ("deep3@x.example", ANY.with(Notify::DELAY), true, Notify::FAILURE.with(Notify::DELAY)),
        ("list@x.example", Notify::FAILURE, false, Notify::FAILURE),
        ("list@x.example", Notify::default(), false, Notify::default()),
        ("list@x.example", Notify::NEVER, false, Notify::NEVER),
        ("one@x.example", ANY, false, ANY),
    ] {
        let mut case = alias_case(recipient);
        case.envelope.recipients[0].notify = given;
        case.envelope.recipients[0].dsn_original = Some(b"rfc822;o@x.example".as_slice().into());
        let queued = case.queued("\r\n");
        let kept = if expanded { &case.envelope.recipients[..] } else { &[] };
        assert_eq!(queued.expanded, kept, "{recipient} {given:?}");
        for queued in queued.recipients {
            assert_eq!(queued.notify, member, "{recipient} {given:?}");
            assert_eq!(queued.original(), recipient.as_bytes());
            assert_eq!(queued.dsn_original, case.envelope.recipients[0].dsn_original);
        }
    }
}

#[test]
fn an_expansion_is_that_of_the_address_after_canonical_tables() {
    let mut case = alias_case("old@x.example");
    case.envelope.recipients[0].notify = Notify::SUCCESS;
    let maps = maps(&[("old@x.example", "deep3@x.example")]);
    case.settings.canonical = Canonical { maps, classes: EVERYWHERE };
    let twice = case.envelope.recipients[0].clone();
    case.envelope.recipients.push(twice);
    let queued = case.queued("\r\n");
    assert_eq!(queued.recipients.len(), 1);
    let expanded: Vec<_> = queued.expanded.iter().map(|it| (&it.address[..], it.original())).collect();
    assert_eq!(expanded, [(&b"deep3@x.example"[..], &b"old@x.example"[..]); 2], "each RCPT, as in Postfix");
}

#[test]
fn no_expansion_of_a_copy_is_reported() {
    let mut case = alias_case("one@x.example");
    case.envelope.recipients[0].notify = Notify::SUCCESS;
    case.settings.bcc.always = b"list@x.example".to_vec();
    let queued = case.queued("\r\n");
    assert!(queued.expanded.is_empty() && queued.recipients.len() == 3, "{:?}", queued.recipients);
}
