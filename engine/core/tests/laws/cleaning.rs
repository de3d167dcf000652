//! What cleanup has done once is done.

use std::sync::Arc;

use bumpalo::Bump;
use mailrace_core::address::{RewriteContext, Rewriting};
use mailrace_core::cleanup::{Cleanup, Notice, Observer, Settings, Surroundings};
use mailrace_core::{Envelope, Origin, QueueId, Recipient};
use proptest::prelude::*;

struct Quiet;

impl Observer for Quiet {
    fn noticed(&mut self, _notice: &Notice<'_>) {}
}

/// Cleans content of a local client and returns it without the trace field.
fn cleaned(content: &[u8]) -> Vec<u8> {
    let local = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.com".to_vec() };
    let settings =
        Settings { rewriting: Arc::new(Rewriting { local, ..Rewriting::default() }), ..Settings::default() };
    let recipient = Recipient { address: b"user@example.com".to_vec(), ..Recipient::default() };
    let envelope = Envelope { recipients: vec![recipient], ..Envelope::default() };
    let arena = Bump::new();
    let mut surroundings = Surroundings {
        arena: &arena,
        settings: &settings,
        origin: &Origin::default(),
        envelope: &envelope,
        observer: &mut Quiet,
    };
    let mut cleanup = Cleanup::new(QueueId::from_number(1), true);
    let part = cleanup.content(&mut surroundings, content, true).expect("nothing refuses the message");
    let whole = [part.output.concat().as_slice(), &content[part.consumed..]].concat();
    let end: &[u8] = b"(UTC)\r\n";
    let trace =
        whole.windows(end.len()).position(|window| window == end).expect("the trace field has a date");
    whole[trace + end.len()..].to_vec()
}

/// Address lists of usual and of odd elements.
fn addresses() -> impl Strategy<Value = String> {
    let element = prop::sample::select(
        &[
            "joe",
            "mary@host",
            "a@b.example",
            "Name <c@d.example>",
            "\"Q, R\" <q> (why)",
            "\"x y\"@z",
            "(comment)",
            "",
            "list: a, b@c;",
            "h.example!u",
            "u%h.example",
            "<>",
            "u@[192.0.2.1]",
            "u@",
            "<@r.example:u@s>",
            "a.b..c",
            "two words",
            "<open",
            "u@h.example.",
        ][..],
    );
    let separator = prop::sample::select(&[",", ", ", ",\r\n ", " , ", ";"][..]);
    prop::collection::vec((element, separator), 0..8).prop_map(|parts| {
        parts.into_iter().map(|(element, separator)| [element, separator].concat()).collect()
    })
}

proptest! {
    #[test]
    fn cleaning_a_clean_message_changes_nothing(
        to in addresses(), from in addresses(), lines in prop::collection::vec("X[ -~\t]{0,20}", 0..6),
    ) {
        let content = format!("From: {from}\r\nTo: {to}\r\n{}\r\n\r\nbody\r\n", lines.join("\r\n"));
        let once = cleaned(content.as_bytes());
        let twice = cleaned(&once);
        prop_assert_eq!(twice.escape_ascii().to_string(), once.escape_ascii().to_string());
    }
}
