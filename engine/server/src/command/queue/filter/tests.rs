use std::io::Cursor;

use clap::Parser as _;

use super::*;

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    choice: Choice,
}

fn choice(words: &str) -> Choice {
    Line::parse_from(std::iter::once("x").chain(words.split(' '))).choice
}

fn id(microseconds: u64) -> QueueId {
    QueueId::new(Timestamp::from_unix_microseconds(microseconds), 0)
}

#[test]
fn reads_ids_from_arguments_and_lines_without_duplicates() {
    let (one, two) = (id(1_740_800_000_000_000), id(1_740_800_000_000_001));
    let lines = format!("{two} incoming 2026-11-27\n\n  {one}\nnonsense here\n");
    let input = || Box::new(Cursor::new(lines.into_bytes())) as Box<dyn BufRead>;
    let given = choice(&format!("{one} what - -")).given(input).unwrap();
    let invalid = vec!["what".to_owned(), "nonsense".to_owned()];
    assert_eq!(given, Given { ids: vec![one, two], invalid, ..Given::default() });
    let given = choice(&"a1".repeat(16)).given(|| Box::new(Cursor::new(Vec::new()))).unwrap();
    assert_eq!(given.aside, ["a1".repeat(16)]);
    let none = || Box::new(Cursor::new(Vec::new())) as Box<dyn BufRead>;
    assert!(choice("ALL").given(none).unwrap().is_all);
    assert!(choice("--state hold").given(none).unwrap().is_all);
    assert!(!choice("--state hold -").given(none).unwrap().is_all);
    assert!(Line::try_parse_from(["x"]).is_err());
}

#[test]
fn derives_ages_from_ids() {
    let now = Timestamp::from_unix_microseconds(1_740_800_100_000_000);
    let old = id(1_740_800_000_000_000);
    for (words, is_taken) in [
        ("--older-than 100", true),
        ("--older-than 101s", false),
        ("--newer-than 100s", false),
        ("--newer-than 2m", true),
        ("--older-than 1m --newer-than 2m", true),
        ("--state hold", false),
        ("--state incoming", true),
    ] {
        assert_eq!(choice(words).filter.takes(old, State::Incoming, now), is_taken, "{words}");
    }
    // A clock that was set back makes nothing old.
    assert!(!choice("--older-than 1s").filter.takes(id(1_740_800_200_000_000), State::Incoming, now));
}

#[test]
fn addresses_ignore_case_and_domains_match_as_a_whole() {
    for (pattern, address, is_alike) in [
        ("a@example.org", "A@Example.ORG", true),
        ("<a@example.org>", "a@example.org", true),
        ("a@example.org", "aa@example.org", false),
        ("@example.org", "anyone@EXAMPLE.org", true),
        ("@example.org", "anyone@sub.example.org", false),
        ("@example.org", "\"a@example.org\"@example.net", false),
        ("<>", "", true),
        ("", "", true),
        ("<>", "a@example.org", false),
    ] {
        assert_eq!(is_like(pattern, address.as_bytes()), is_alike, "{pattern} {address}");
    }
}

#[test]
fn input_that_is_not_text_is_refused() {
    let input = || Box::new(Cursor::new(b"\xff\n".to_vec())) as Box<dyn BufRead>;
    let failure = choice("-").given(input).unwrap_err();
    assert_eq!(failure.status, EXIT_DATA);
    assert!(failure.text.starts_with("standard input: "), "{}", failure.text);
}

#[test]
fn standard_input_is_read_only_on_request() {
    let id = id(1_740_800_000_000_000);
    let untouched = || -> Box<dyn BufRead> { panic!("nothing was to be read") };
    let given = choice(&format!("{id} {id}")).given(untouched).unwrap();
    assert_eq!(given, Given { ids: vec![id], ..Given::default() });
}

#[test]
fn values_that_no_filter_has_are_refused() {
    for words in ["--state gone", "--older-than x", "--newer-than -1", "--sender", "--older-than 1y ALL"] {
        assert!(Line::try_parse_from(std::iter::once("x").chain(words.split(' '))).is_err(), "{words}");
    }
    assert!(!choice("ALL").has_filter());
    for words in ["--sender a@b", "--recipient @b", "--older-than 1d", "--newer-than 5", "--state hold"] {
        assert!(choice(words).has_filter(), "{words}");
    }
}
