use proptest::prelude::*;

use super::*;

#[test]
fn text_from_outside_stays_on_its_line() {
    assert_eq!(printable("FATAL: no\nmailrace: all is well\u{202e}\r"), "FATAL: no?mailrace: all is well??");
    assert!(printable(&"x".repeat(100_000)).len() < 10_000);
}

fn json(value: &[u8]) -> (String, bool) {
    let mut buffer = Vec::new();
    let is_exact = push_json(&mut buffer, value, JSON_SIZE_MAX).is_exact;
    (serde_json::from_slice(&buffer).unwrap(), is_exact)
}

#[test]
fn json_strings_preserve_the_value() {
    for text in
        ["", "a", "\"\\/", "\0\u{1}\u{1f}\u{7f}\u{9b}\r\n\t", "grün\u{2028}\u{202e}\u{fffd}", "\u{10ffff}"]
    {
        assert_eq!(json(text.as_bytes()), (text.to_owned(), true));
    }
    assert_eq!(json(b"a\xffb\xc3"), ("a\u{fffd}b\u{fffd}".to_owned(), false));
    // What would be a lone surrogate is no UTF-8.
    assert_eq!(json(b"\xed\xa0\x80"), ("\u{fffd}\u{fffd}\u{fffd}".to_owned(), false));
}

#[test]
fn long_json_strings_are_cut_at_a_character_boundary() {
    for letter in ["x", "ü", "€", "\u{10ffff}"] {
        for shift in 0..4 {
            let text = format!("{}{}", "x".repeat(shift), letter.repeat(JSON_SIZE_MAX));
            let mut buffer = Vec::new();
            let Shown { part, is_exact } = push_json(&mut buffer, text.as_bytes(), JSON_SIZE_MAX);
            assert!(is_exact && text.as_bytes().starts_with(part), "{letter} {shift}");
            assert!((JSON_SIZE_MAX - 3..=JSON_SIZE_MAX).contains(&part.len()));
        }
    }
    let bytes = [0x80; JSON_SIZE_MAX + 1];
    assert_eq!(push_json(&mut Vec::new(), &bytes, JSON_SIZE_MAX).part.len(), JSON_SIZE_MAX);
}

#[test]
fn writes_all_digits_of_numbers() {
    for number in [0, 9, 10, 1_000_001, u64::MAX] {
        assert_eq!(decimal(number, &mut [0; 20]), number.to_string().as_bytes());
    }
}

#[test]
fn every_misleading_character_is_replaced_in_text_and_escaped_in_json() {
    let letters = ('\0'..=char::MAX).filter(|letter| letter.is_control() || is_misleading(*letter));
    let mut count = 0;
    for letter in letters {
        let text = format!("a{letter}b");
        assert_eq!(printable(&text), "a?b", "{letter:?}");
        let mut buffer = Vec::new();
        push_json(&mut buffer, text.as_bytes(), JSON_SIZE_MAX);
        assert!(buffer.is_ascii() && buffer.starts_with(b"\"a\\"), "{letter:?}");
        assert_eq!(json(text.as_bytes()), (text, true));
        count += 1;
    }
    // 65 controls of Unicode, and 14 that end lines or turn their direction.
    assert_eq!(count, 65 + 14);
}

#[test]
fn text_that_is_cut_says_so() {
    let longest = "x".repeat(TEXT_SIZE_MAX);
    assert_eq!(printable(&longest), longest);
    assert_eq!(printable(&format!("{longest}y")), format!("{longest}..."));
    // A letter that is cut in two leaves no part of itself.
    let cut = printable(&format!("{}\u{20ac}", "x".repeat(TEXT_SIZE_MAX - 1)));
    assert_eq!(cut, format!("{}?...", "x".repeat(TEXT_SIZE_MAX - 1)));
}

#[test]
fn hexadecimal_digits_are_two_for_each_byte() {
    let mut buffer = Vec::new();
    push_hex(&mut buffer, &[0, 0x0f, 0xa5, 0xff]);
    assert_eq!(buffer, b"000fa5ff");
}

proptest! {
    #[test]
    fn any_text_stays_on_its_line(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let mut buffer = Vec::new();
        push_text(&mut buffer, &bytes, TEXT_SIZE_MAX);
        let text = String::from_utf8(buffer).unwrap();
        prop_assert!(!text.chars().any(|letter| letter.is_control() || is_misleading(letter)), "{}", text);
        prop_assert_eq!(text.ends_with("..."), bytes.len() > TEXT_SIZE_MAX || bytes.ends_with(b"..."));
        prop_assert!(text.len() <= TEXT_SIZE_MAX + 3);
    }

    #[test]
    fn any_value_is_a_json_string(bytes in proptest::collection::vec(any::<u8>(), 0..60), size_max in 0usize..64) {
        let mut buffer = Vec::new();
        let Shown { part, is_exact } = push_json(&mut buffer, &bytes, size_max);
        prop_assert!(bytes.starts_with(part) && part.len() <= size_max);
        prop_assert_eq!(is_exact, std::str::from_utf8(part).is_ok());
        let value: String = serde_json::from_slice(&buffer).unwrap();
        prop_assert_eq!(value, String::from_utf8_lossy(part));
        prop_assert!(!buffer.iter().any(u8::is_ascii_control));
    }

    #[test]
    fn numbers_have_their_digits(number: u64) {
        let mut digits = [0; 20];
        prop_assert_eq!(decimal(number, &mut digits), number.to_string().into_bytes());
    }
}
