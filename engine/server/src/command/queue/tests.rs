use proptest::prelude::*;

use super::*;

#[test]
fn line_ends_are_found_across_writes() {
    for pieces in [&["a\r\nb\r", "\nc\rd\r\r\n", "e\r"][..], &["a\r\nb\r\nc\rd\r\r\ne\r"]] {
        let mut out = Vec::new();
        let mut lines = LineEnds::new(&mut out);
        for piece in pieces {
            lines.write_all(piece.as_bytes()).unwrap();
        }
        lines.finish().unwrap();
        assert_eq!(out, b"a\nb\nc\rd\r\ne\r");
    }
}

/// An empty queue's directory that is removed at the end of its test.
struct Scratch(OsDisk);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mailrace-queue-{name}-{}", std::process::id()));
        Self(OsDisk::new(&path).unwrap())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(self.0.root());
    }
}

#[test]
fn statistics_name_all_states_even_of_an_empty_queue() {
    let scratch = Scratch::new("stats");
    let mut out = Vec::new();
    stats(&scratch.0, false, &mut out).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "0 messages, 0 bytes\nhold: 0 messages, 0 bytes\nincoming: 0 messages, 0 bytes\n"
    );
    let mut out = Vec::new();
    stats(&scratch.0, true, &mut out).unwrap();
    let value: serde_json::Value = serde_json::from_slice(&out).unwrap();
    let none = serde_json::json!({"messages": 0, "octets": 0});
    assert_eq!(
        value,
        serde_json::json!({"messages": 0, "octets": 0, "states": {"incoming": none, "hold": none}})
    );
    assert!(out.ends_with(b"}\n"));
    let mut out = Vec::new();
    list(&scratch.0, false, &mut out).unwrap();
    assert_eq!(out, b"");
}

#[test]
fn one_message_is_singular() {
    assert_eq!(Sum { messages: 1, octets: 1 }.to_string(), "1 message, 1 bytes");
    assert_eq!(Sum { messages: 2, octets: 0 }.to_string(), "2 messages, 0 bytes");
}

#[test]
fn a_message_that_is_not_there_is_named() {
    let scratch = Scratch::new("cat");
    let id = QueueId::from_number(1_740_800_000_000_001_024);
    let aside = "a1".repeat(16);
    for (given, wanted) in [
        (id.to_string(), format!("there is no message {id} in the queue")),
        (aside.clone(), format!("there is no refused submission {aside}")),
        ("x".to_owned(), "\"x\" is not a queue id: mailrace queue list shows them".to_owned()),
        ("ALL".to_owned(), "\"ALL\" is not a queue id: mailrace queue list shows them".to_owned()),
    ] {
        let failure = cat(&scratch.0, false, false, &given, &mut Vec::new()).unwrap_err();
        assert_eq!((failure.status, failure.text), (EXIT_DATA, wanted));
    }
}

/// `mailrace queue list | head` is no failure; a full disk is.
#[test]
fn only_a_reader_that_left_is_no_failure() {
    let ended = |kind: io::ErrorKind| Failure::output(kind.into()).unless_reader_left();
    assert!(ended(io::ErrorKind::BrokenPipe).is_ok());
    let failure = ended(io::ErrorKind::StorageFull).unwrap_err();
    assert_eq!(failure.status, EXIT_UNAVAILABLE);
    assert!(failure.text.starts_with("cannot write the output: "), "{}", failure.text);
    assert!(Failure::reported(EXIT_DATA).unless_reader_left().is_err());
}

proptest! {
    #[test]
    fn line_ends_do_not_depend_on_the_pieces(text in "[a\r\n]{0,30}", size in 1usize..8) {
        let mut out = Vec::new();
        let mut lines = LineEnds::new(&mut out);
        for piece in text.as_bytes().chunks(size) {
            lines.write_all(piece).unwrap();
        }
        lines.finish().unwrap();
        prop_assert_eq!(String::from_utf8(out).unwrap(), text.replace("\r\n", "\n"));
    }
}
