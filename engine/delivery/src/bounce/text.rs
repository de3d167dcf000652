//! Text from outside as lines of a report: without control characters, folded at spaces.

/// Most bytes of a line, line end not counted, if there are spaces to break it at.
const LINE_SIZE: usize = 79;

/// What further lines begin with.
const INDENT: &[u8] = b"    ";

/// Appends `text` with `?` for each control character and each byte that is not UTF-8. So nothing from outside ends a line
/// or begins a field.
///
/// `is_utf8`: whether characters beyond ASCII stay; `?` replaces them otherwise.
pub(super) fn append_printable(text: &[u8], is_utf8: bool, out: &mut Vec<u8>) {
    for chunk in text.utf8_chunks() {
        for character in chunk.valid().chars() {
            let is_kept = if character.is_ascii() { !character.is_ascii_control() } else { is_utf8 };
            let mut bytes = [0; 4];
            let kept = character.encode_utf8(&mut bytes).as_bytes();
            out.extend_from_slice(if is_kept { kept } else { b"?" });
        }
        out.extend(chunk.invalid().iter().map(|_| b'?'));
    }
}

/// Appends `line`, broken at spaces into lines of at most [`LINE_SIZE`] bytes, and the last line end. A word that is longer
/// has a line of its own.
pub(super) fn append_folded(line: &[u8], out: &mut Vec<u8>) {
    let mut rest = line;
    let mut room = LINE_SIZE;
    while rest.len() > room {
        let fitting = rest.get(..=room).unwrap_or(rest);
        let space = fitting.iter().rposition(|byte| *byte == b' ').filter(|at| *at > 0);
        let after_word = || rest.iter().skip(1).position(|byte| *byte == b' ').map(|at| at + 1);
        let Some(space) = space.or_else(after_word) else { break };
        let (head, tail) = rest.split_at_checked(space).unwrap_or((rest, b""));
        let tail = tail.trim_ascii_start();
        if tail.is_empty() {
            break;
        }
        out.extend_from_slice(head);
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(INDENT);
        rest = tail;
        room = LINE_SIZE - INDENT.len();
    }
    out.extend_from_slice(rest);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folded(line: &str) -> String {
        let mut out = Vec::new();
        append_folded(line.as_bytes(), &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Where Postfix 3.7 breaks the same lines.
    #[test]
    fn breaks_lines_where_postfix_does() {
        let command = "(in reply to RCPT TO command)";
        let line = format!(
            "<html@r.test>: host 127.0.0.1[127.0.0.1] said: 550 5.7.1 <b> & \"q\" \\ (paren) {command}"
        );
        assert!(folded(&line).contains(" (paren)\r\n    (in reply"), "76 bytes");
        let line = format!("<nostatus@r.test>: host 127.0.0.1[127.0.0.1] said: 550 no status here {command}");
        assert!(folded(&line).contains("here (in reply\r\n    to RCPT"), "79 bytes");
        let line =
            format!("<plain@r.test>: host 127.0.0.1[127.0.0.1] said: 550 5.1.1 no such user {command}");
        assert!(folded(&line).contains("user (in\r\n    reply to"), "74 bytes");
        let line = "<multi@relay.example.com>: host 127.0.0.1[127.0.0.1] said: 550-5.1.1 first line of a long story \
                    about why this mailbox does not exist at all here 550-5.1.1 second line 550 5.1.1 third and last";
        let lines = folded(line);
        assert!(lines.contains("first line\r\n    of a long"), "79 bytes: {lines}");
        assert!(lines.contains("here 550-5.1.1\r\n    second"), "79 bytes with indentation: {lines}");
    }

    #[test]
    fn a_long_word_has_a_line_of_its_own() {
        let word = "x".repeat(100);
        let line = format!("Diagnostic-Code: smtp; 550 {word} end");
        assert_eq!(folded(&line), format!("Diagnostic-Code: smtp; 550\r\n    {word}\r\n    end\r\n"));
        assert_eq!(folded(&word), format!("{word}\r\n"));
        assert_eq!(folded(""), "\r\n");
    }

    #[test]
    fn nothing_ends_a_line_or_is_no_text() {
        let printable = |text: &[u8], is_utf8| {
            let mut out = Vec::new();
            append_printable(text, is_utf8, &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(printable(b"a\r\nTo: b\t\0\x7f", true), "a??To: b???");
        assert_eq!(printable("boîte".as_bytes(), true), "boîte");
        assert_eq!(printable("boîte".as_bytes(), false), "bo?te");
        assert_eq!(printable(b"caf\xe9 \xff\xc3", true), "caf? ??");
    }

    proptest! {
        #[test]
        fn folding_changes_only_spaces(line in "[a-c ]{0,400}") {
            let lines = folded(&line);
            let words = |text: &str| text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            prop_assert_eq!(words(&lines), words(&line));
            for text in lines.trim_end_matches("\r\n").split("\r\n") {
                let longest = text.trim_start().split(' ').map(str::len).max().unwrap_or(0);
                prop_assert!(text.trim_end().len() <= LINE_SIZE || text.trim().len() == longest, "{:?}", text);
            }
        }

        #[test]
        fn any_bytes_become_one_line_of_utf8(text in prop::collection::vec(any::<u8>(), 0..60), is_utf8: bool) {
            let mut out = Vec::new();
            append_printable(&text, is_utf8, &mut out);
            let line = String::from_utf8(out).unwrap();
            prop_assert!(line.bytes().all(|byte| !byte.is_ascii_control()));
            prop_assert!(is_utf8 || line.is_ascii());
        }
    }
}
