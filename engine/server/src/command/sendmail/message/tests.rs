use proptest::prelude::*;

use super::*;

const RULES: Rules = Rules { is_ended_by_dot: true, record_size_max: 20, size_max: 0 };

fn copied(input: &str, rules: Rules) -> String {
    let mut output = Vec::new();
    let write = |octets: &[u8]| {
        output.extend_from_slice(octets);
        Ok(())
    };
    copy(&mut input.as_bytes(), rules, None, write).unwrap();
    String::from_utf8(output).unwrap()
}

/// Each was seen in Postfix 3.7.
#[test]
fn lines_are_read_as_postfix_reads_them() {
    for (input, wanted) in [
        ("a\r\nb\r\r\nc\rd\n\r\n", "a\nb\nc\rd\n\n"),
        ("no newline", "no newline"),
        ("end\r", "end\r"),
        ("From x\n>From y\n>>From z\nFrom\nS: x\n\nFrom x\n", "From\nS: x\n\nFrom x\n"),
        ("From a\r\nTo: x\r\n\r\nFrom b\r\n", "To: x\n\nFrom b\n"),
        ("\nFrom x\n", "\nFrom x\n"),
        (
            "From a line that is longer than a record\nS: x\n",
            "From a line that is longer than a record\nS: x\n",
        ),
        ("a\n.\r\nb\n", "a\n"),
        ("a\n.\nb\n", "a\n"),
        ("a\n..\n.b\n", "a\n..\n.b\n"),
        (".\nS: x\n", ""),
        ("a\n.", "a\n"),
        // The dot begins a record, but no line.
        ("12345678901234567890.\nb\n", "12345678901234567890.\nb\n"),
        ("", ""),
    ] {
        assert_eq!(copied(input, RULES), wanted, "{input:?}");
    }
    let rules = Rules { is_ended_by_dot: false, ..RULES };
    assert_eq!(copied("a\n.\nb\n", rules), "a\n.\nb\n");
}

#[test]
fn stops_reading_a_message_that_is_too_big() {
    let rules = Rules { size_max: 10, ..RULES };
    for input in ["123456\n", "123456\n\n", "12345678", "12345678\n"] {
        assert_eq!(copied(input, rules), input);
    }
    for input in ["123456\nabc", "123456\na", "123456789", "123456789\n"] {
        let result = copy(&mut input.as_bytes(), rules, None, |_| Ok(()));
        assert!(matches!(result, Err(MessageError::TooBig)), "{input:?}: {result:?}");
    }
}

#[test]
fn extracts_recipients_while_reading() {
    let mut recipients = HeaderRecipients::new(1000);
    let input = "From x\nTo: somebody@example.com, another@example.com\r\n\nTo: c\n";
    copy(&mut input.as_bytes(), RULES, Some(&mut recipients), |_| Ok(())).unwrap();
    assert_eq!(recipients.finish(), [&b"somebody@example.com"[..], b"another@example.com"]);
}

/// A record ends after 20 bytes, in these lines between CR and LF or among CRs.
#[test]
fn a_line_end_is_found_where_a_record_ends() {
    for size in 15..=45 {
        let line = "x".repeat(size);
        for end in ["\r\n", "\r\r\n", "\r\r\r\r\n"] {
            assert_eq!(copied(&format!("{line}{end}.{end}"), RULES), format!("{line}\n"), "{size} {end:?}");
        }
        for text in [format!("{line}\r"), format!("{line}\ry\n"), format!("{line}\r\ry")] {
            assert_eq!(copied(&text, RULES), text, "{size}");
        }
    }
    let crs = "\r".repeat(1000);
    assert_eq!(copied(&crs, RULES), crs);
}

#[test]
fn what_cannot_be_read_or_written_is_said() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("broken"))
        }
    }
    let result = copy(&mut io::BufReader::new(Broken), RULES, None, |_| Ok(()));
    assert_eq!(result.unwrap_err().to_string(), "error reading input: broken");
    let result = copy(&mut &b"a\n"[..], RULES, None, |_| Err(io::Error::other("full")));
    assert_eq!(result.unwrap_err().to_string(), "error writing queue file: full");
    let mut recipients = HeaderRecipients::new(10);
    let input = format!("To: {}\n\n", "a@b, ".repeat(100));
    let result = copy(&mut input.as_bytes(), RULES, Some(&mut recipients), |_| Ok(()));
    let said = result.unwrap_err().to_string();
    assert!(said.starts_with("unable to extract recipients: "), "{said}");
}

proptest! {
    #[test]
    fn only_line_ends_change(parts in proptest::collection::vec(prop_oneof!["a{1,30}", Just("\r\n".to_owned()), Just("\n".to_owned()), Just("\r".to_owned())], 0..12)) {
        let mut text = parts.concat();
        let rules = Rules { is_ended_by_dot: false, ..RULES };
        let copied = copied(&text, rules);
        while text.contains("\r\n") {
            text = text.replace("\r\n", "\n");
        }
        prop_assert_eq!(copied, text);
    }
}
