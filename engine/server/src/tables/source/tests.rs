use std::path::Path;

use bumpalo::Bump;
use mailrace_core::Sharer;
use mailrace_core::lookup::LookupTable;
use proptest::prelude::*;

use super::*;
use crate::tables::report::Findings;
use crate::tables::{BadLines, Spec};

#[test]
fn joins_continued_lines_and_skips_comments() {
    let text = b"# c\n\na 1\n  2\n# x\n\n\t3\n #c\nb  4 \n";
    let lines: Vec<_> = logical_lines(text).collect();
    assert_eq!(lines, [(3, b"a 1  2\t3".to_vec()), (9, b"b  4".to_vec())]);
}

#[test]
fn a_quoted_space_is_not_a_separator() {
    assert_eq!(split_entry(b"\"a \\\" b\"@c \t d e "), (&b"\"a \\\" b\"@c"[..], &b"d e"[..]));
    assert_eq!(split_entry(b"a"), (&b"a"[..], &b""[..]));
}

fn read(text: &[u8]) -> (StringTable, Vec<String>, Vec<String>) {
    let spec = Spec::parse("texthash:x", Path::new("/"), 0);
    let mut report = Report::new(&spec, BadLines::Refuse);
    let table = table(text, &mut report);
    let Findings { errors, notes, .. } = report.finish();
    (table, errors.iter().map(ToString::to_string).collect(), notes)
}

fn found(table: &StringTable, key: &str) -> Option<String> {
    let arena = Bump::new();
    let value = table.look_up(&arena, key.as_bytes(), Sharer::default()).unwrap();
    value.map(|value| String::from_utf8_lossy(value).into_owned())
}

#[test]
fn each_line_is_a_key_and_a_value() {
    let text = b"a@example.com  b@example.com, c \r\nKey\tvalue\n# comment\n\n\"quoted key\"@x y\n\
                 long one\n  # not a value\n\ttwo\n#a comment between\n three\nlast x\n";
    let (table, errors, notes) = read(text);
    assert_eq!((errors, notes), (vec![], vec![]));
    for (key, value) in [
        ("a@example.com", Some("b@example.com, c")),
        ("KEY", Some("value")),
        ("\"quoted key\"@x", Some("y")),
        ("long", Some("one\ttwo three")),
        ("last", Some("x")),
        ("#", None),
        ("two", None),
    ] {
        assert_eq!(found(&table, key).as_deref(), value, "{key}");
    }
}

#[test]
fn bad_lines_are_all_named() {
    let (_, errors, _) = read(b" a b\nkey\nkey2 \t \na\0b c\n\"a b c\n");
    let wanted = [
        "/x:1: texthash:x: begins with a space; remove the space, or the line",
        "/x:2: texthash:x: has no value; write the key, a space and the value",
        "/x:3: texthash:x: has no value; write the key, a space and the value",
        "/x:4: texthash:x: has a NUL byte; write the table as text",
        "/x:5: texthash:x: has no value; write the key, a space and the value",
    ];
    assert_eq!(errors, wanted);
}

#[test]
fn the_first_of_two_entries_counts_and_the_other_is_noted() {
    let (table, errors, notes) = read(b"key one\nother x\nKEY two\n");
    assert_eq!(errors, [""; 0]);
    assert_eq!(found(&table, "key").as_deref(), Some("one"));
    assert_eq!(notes, ["/x:3: texthash:x: duplicate key KEY; the first entry counts"]);
}

#[test]
fn an_empty_text_is_a_table_without_entries() {
    for text in [&b""[..], b"\n\n", b"# only a comment\n", b"\r\n", b" \t\n"] {
        let (table, errors, notes) = read(text);
        assert_eq!((errors, notes), (vec![], vec![]), "{}", text.escape_ascii());
        assert_eq!(found(&table, ""), None);
    }
}

proptest! {
    /// What is written with one entry per line is found, in whatever order and with whatever comments.
    #[test]
    fn entries_are_found_among_comments(entries in proptest::collection::btree_map("[a-z0-9@.]{1,8}", "[a-z@,]{1,12}", 0..40), every in 1usize..5) {
        let mut text = String::new();
        for (index, (key, value)) in entries.iter().enumerate() {
            if index % every == 0 {
                text += "# comment\n\n";
            }
            text += &format!("{key}{}{value}{}\n", [" ", "\t", "  "][index % 3], ["", " ", "\r"][index % 3]);
        }
        let (table, errors, notes) = read(text.as_bytes());
        prop_assert_eq!((errors.len(), notes.len()), (0, 0));
        for (key, value) in &entries {
            prop_assert_eq!(found(&table, key), Some(value.clone()));
        }
    }

    #[test]
    fn logical_lines_lose_no_text(text in "([ab# \t\n]|\r\n){0,60}") {
        let joined: Vec<u8> = logical_lines(text.as_bytes()).flat_map(|(_, line)| line).collect();
        let is_comment = |line: &&str| line.trim_start().starts_with('#');
        let kept: String = text.split('\n').filter(|line| !is_comment(line)).collect();
        let letters = |text: &[u8]| text.iter().filter(|byte| byte.is_ascii_alphabetic()).count();
        prop_assert_eq!(letters(&joined), letters(kept.as_bytes()));
    }
}
