use proptest::prelude::*;

use super::*;

#[test]
fn converts_line_ends_in_both_directions() {
    assert_eq!(with_crlf(b"a\nb\r\nc\rd\r\r\n\r"), b"a\r\nb\r\nc d\r\n\r\n");
    assert_eq!(with_lf(b"a\r\nb\rc\r\n"), b"a\nb\rc\n");
    assert_eq!(with_crlf(b""), b"");
}

proptest! {
    #[test]
    fn a_message_has_only_crlf_line_ends(message in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'a')], 0..40)) {
        let converted = with_crlf(&message);
        prop_assert!(converted.is_empty() || converted.ends_with(b"\r\n"));
        let bare = String::from_utf8(converted.clone()).unwrap().replace("\r\n", "");
        prop_assert!(!bare.contains(['\r', '\n']));
        prop_assert_eq!(&with_crlf(&converted), &converted);
        let lines = message.split_inclusive(|byte| *byte == b'\n').count();
        prop_assert_eq!(with_lf(&converted).iter().filter(|byte| **byte == b'\n').count(), lines);
    }

    #[test]
    fn lines_without_cr_come_back(lines in proptest::collection::vec("[a-z ]{0,9}", 0..9)) {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        prop_assert_eq!(with_lf(&with_crlf(text.as_bytes())), text.into_bytes());
    }
}
