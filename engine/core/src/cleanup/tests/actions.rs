//! What the actions of header_checks and body_checks do.

use alloc::borrow::ToOwned;
use alloc::vec;

use super::*;
use crate::Sharer;
use crate::lookup::{LookupError, LookupTable, Maps};

/// A table whose answer is what a field or line `X-Check` says.
#[derive(Debug)]
struct Echo;

impl LookupTable for Echo {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        Ok(key.strip_prefix(b"X-Check: ").map(|action| &*arena.alloc_slice_copy(action)))
    }
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn noticed(&mut self, notice: &Notice<'_>) {
        self.0.push(format!("{} {}: {}", notice.action, notice.subject, notice.argument.escape_ascii()));
    }
}

struct Checked {
    /// What is kept after the Received field, or why the message is refused.
    content: Result<String, String>,
    decisions: Decisions,
    notes: Vec<String>,
}

fn check(input: &str) -> Checked {
    let mut case = case();
    let echo = Maps::new(vec![Arc::new(Echo)]);
    case.settings.checks.header = echo.clone();
    case.settings.checks.body = echo;
    let (arena, mut notes) = (Bump::new(), Notes::default());
    let mut surroundings = Surroundings {
        arena: &arena,
        settings: &case.settings,
        origin: &case.origin,
        envelope: &case.envelope,
        observer: &mut notes,
    };
    let mut cleanup = Cleanup::new(id(), false);
    let part = cleanup.content(&mut surroundings, input.as_bytes(), true);
    let content = part.map(|part| {
        let kept = [part.output.concat().as_slice(), &input.as_bytes()[part.consumed..]].concat();
        String::from_utf8(kept).unwrap().split_once("(UTC)\r\n").unwrap().1.to_owned()
    });
    let content = content.map_err(|halt| match rejected(halt) {
        Rejection::Content(reason) => String::from_utf8(reason.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    });
    Checked { content, decisions: cleanup.decisions().clone(), notes: notes.0 }
}

/// A header section with `field` in its middle.
fn around(field: &str) -> String {
    format!("X-A: 1\r\n{field}X-B: 2\r\n\r\n")
}

#[test]
fn a_field_is_replaced_dropped_or_gets_one_before_it() {
    for (action, kept, note) in [
        ("REPLACE X-New: y", "X-New: y\r\n", "replace header: X-New: y"),
        ("prepend X-New: y", "X-New: y\r\nX-Check: prepend X-New: y\r\n", "prepend header: X-New: y"),
        ("STRIP spam", "", "strip header: spam"),
    ] {
        let checked = check(&around(&format!("X-Check: {action}\r\n")));
        assert_eq!(checked.content, Ok(around(kept)), "{action}");
        assert_eq!(checked.notes, [note], "{action}");
    }
    let checked = check(&around("X-Check: IGNORE\r\n"));
    assert_eq!((checked.content, checked.notes.len()), (Ok(around("")), 0));
}

#[test]
fn actions_that_do_nothing_leave_the_field() {
    for action in ["DUNNO", "OK", "WARN x", "INFO"] {
        let field = format!("X-Check: {action}\r\n");
        let checked = check(&around(&field));
        assert_eq!(checked.content, Ok(around(&field)), "{action}");
        assert!(checked.notes.iter().all(|note| !note.starts_with("unusable")), "{action}");
    }
}

/// Postfix warns and goes on, too.
#[test]
fn actions_that_cannot_be_done_are_noticed_and_leave_the_field() {
    for action in
        ["PREPEND", "PREPEND no field", "REPLACE", "REPLACE no field", "FILTER x", "REDIRECT x", "BCC x", "y"]
    {
        let field = format!("X-Check: {action}\r\n");
        let checked = check(&around(&field));
        assert_eq!(checked.content, Ok(around(&field)), "{action}");
        assert_eq!(checked.notes, [format!("unusable action header: {action}")]);
        let Decisions { content_filter, redirect, copies, .. } = checked.decisions;
        assert_eq!((content_filter, redirect, copies.len()), (None, None, 0), "{action}");
    }
}

#[test]
fn a_refusal_ends_the_message() {
    for (action, reason) in [
        ("REJECT", "5.7.1 message content rejected"),
        ("REJECT 4.7.2 later", "4.7.2 later"),
        ("450 later", "4.7.1 later"),
    ] {
        let checked = check(&around(&format!("X-Check: {action}\r\nX-Check: HOLD\r\n")));
        assert_eq!(checked.content, Err(reason.to_owned()), "{action}");
        assert_eq!(checked.notes, [format!("reject header: {reason}")]);
        assert!(!checked.decisions.is_held);
    }
}

#[test]
fn decisions_about_the_message_add_up() {
    let checked = check(
        "X-Check: HOLD\r\nX-Check: HOLD\r\nX-Check: BCC a@b\r\nX-Check: BCC c@d\r\nX-Check: FILTER a:b\r\n\
         X-Check: FILTER c:d\r\n\r\n",
    );
    let Decisions { is_held, is_discarded, content_filter, redirect, copies, .. } = checked.decisions;
    assert!(is_held && !is_discarded);
    assert_eq!(content_filter.as_deref(), Some(&b"c:d"[..]), "the last one counts");
    assert_eq!((redirect, copies), (None, vec![b"a@b".to_vec(), b"c@d".to_vec()]));
    let holds = checked.notes.iter().filter(|note| note.starts_with("hold")).count();
    assert_eq!((holds, checked.notes.len()), (1, 5), "{:?}", checked.notes);
}

#[test]
fn after_some_decisions_nothing_more_is_checked() {
    for action in ["PASS", "DISCARD", "REDIRECT a@b"] {
        let checked = check(&format!("X-Check: {action}\r\nX-Check: REJECT\r\n\r\nX-Check: REJECT\r\n"));
        assert!(checked.content.is_ok(), "{action}");
        assert_eq!(checked.decisions.is_discarded, action == "DISCARD");
        assert_eq!(checked.decisions.redirect.is_some(), action == "REDIRECT a@b");
        assert_eq!(checked.notes.len(), 1, "{action}: {:?}", checked.notes);
    }
}

#[test]
fn lines_of_the_body_are_checked_as_fields_are() {
    for (line, kept) in [
        ("X-Check: REPLACE any text\r\n", "any text\r\n"),
        ("X-Check: PREPEND any text\r\n", "any text\r\nX-Check: PREPEND any text\r\n"),
        ("X-Check: IGNORE\r\n", ""),
        ("X-Check: STRIP\r\n", ""),
        ("X-Check: DUNNO\r\n", "X-Check: DUNNO\r\n"),
        ("x-check: REJECT\r\n", "x-check: REJECT\r\n"),
    ] {
        let body = |line: &str| format!("Subject: s\r\n\r\nfirst\r\n{line}last\r\n");
        assert_eq!(check(&body(line)).content, Ok(body(kept)), "{line}");
    }
    let checked = check("\r\nfirst\r\nX-Check: REJECT go away\r\n");
    assert_eq!(checked.content, Err("5.7.1 go away".to_owned()));
    assert_eq!(checked.notes, ["reject body: 5.7.1 go away"]);
}
