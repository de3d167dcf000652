use std::prelude::rust_2024::*;
use std::{format, vec};

use proptest::prelude::*;

use super::*;

/// The content after conversion, from pieces that end at these places.
fn converted(content: &[u8], cuts: &[usize]) -> Result<Vec<u8>, TooDeep> {
    let (mut downgrade, mut out, mut start) = (Downgrade::new(), Vec::new(), 0);
    for end in cuts.iter().copied().chain([content.len()]) {
        downgrade.append(&content[start..end], &mut out)?;
        assert!(downgrade.held.len() <= LINE_START_MAX + 1);
        start = end;
    }
    downgrade.end(&mut out)?;
    Ok(out)
}

/// Compares with what Postfix 3.7 sends, cut at every place and into single bytes. `|` is a line end, `\u{fc}` in Latin-1.
fn check(content: &str, expected: &str) {
    let bytes = |text: &str| -> Vec<u8> {
        text.chars()
            .flat_map(|letter| if letter == '|' { vec![13, 10] } else { vec![letter as u8] })
            .collect()
    };
    let (content, expected) = (bytes(content), bytes(expected));
    let all: Vec<usize> = (0..content.len()).collect();
    for cuts in (0..=content.len()).map(|cut| vec![cut]).chain([all]) {
        let out = converted(&content, &cuts).unwrap();
        assert_eq!(out.escape_ascii().to_string(), expected.escape_ascii().to_string(), "{cuts:?}");
    }
}

#[test]
fn a_leaf_that_declares_eight_bits_becomes_quoted_printable() {
    check(
        "A: \u{fc}|MIME-Version: 1.0|Content-Transfer-Encoding: 8bit|Content-Type: text/plain|B: c||Gr\u{fc}n = |.||x|",
        "A: \u{fc}|MIME-Version: 1.0|Content-Type: text/plain|B: c|Content-Transfer-Encoding: quoted-printable||Gr=FCn =3D=20|.||x|",
    );
    check(
        "content-transfer-ENCODING :\t(c)| Binary|A :b||=",
        "A:b|Content-Transfer-Encoding: quoted-printable||=3D|",
    );
    check("Content-Transfer-Encoding: 8bit|A: b|", "A: b|Content-Transfer-Encoding: quoted-printable|");
    check("Content-Transfer-Encoding: 8bit", "Content-Transfer-Encoding: quoted-printable|");
}

#[test]
fn what_declares_nothing_stays() {
    for content in [
        "",
        "|",
        "|\u{fc}|",
        "A: b|",
        "A: \u{fc}| c|\td||\u{fc} = |--||-|",
        "Content-Transfer-Encoding: 7bit||\u{fc}|",
        "Content-Transfer-Encoding: base64|A: b||\u{fc}|",
        "Content-Transfer-Encoding:| x-other|A: b||\u{fc}|",
        "Content-Type: multipart/mixed; boundary=b||--b||\u{fc}|--b--|",
    ] {
        check(content, content);
    }
    check("A: b||x", "A: b||x|");
    check("A: b||x\r", "A: b||x\r|");
}

#[test]
fn the_last_declaration_counts() {
    check(
        "Content-Transfer-Encoding: 7bit|A: b|Content-Transfer-Encoding: 8bit||\u{fc}|",
        "Content-Transfer-Encoding: 7bit|A: b|Content-Transfer-Encoding: quoted-printable||=FC|",
    );
    check(
        "Content-Transfer-Encoding: 8bit|A: b|Content-Transfer-Encoding: 7bit||\u{fc}|",
        "A: b|Content-Transfer-Encoding: 7bit||\u{fc}|",
    );
    check(
        "Content-Transfer-Encoding: 8bit|Content-Transfer-Encoding: x-other||\u{fc}|",
        "Content-Transfer-Encoding: quoted-printable||=FC|",
    );
}

#[test]
fn each_part_is_converted_by_its_own_declaration() {
    check(
        "Content-Transfer-Encoding: 8bit|Content-Type: multipart/mixed; boundary=b||pre\u{fc}|--b|Content-Transfer-Encoding: 8bit||\u{fc}|--b||\u{fc}|--b--|epi\u{fc}|",
        "Content-Type: multipart/mixed; boundary=b|Content-Transfer-Encoding: 7bit||pre\u{fc}|--b|Content-Transfer-Encoding: quoted-printable||=FC|--b||\u{fc}|--b--|epi\u{fc}|",
    );
    check(
        "Content-Type: multipart/x;| boundary=\"a \\\"b\"||--a \"b|Content-Type: multipart/digest; boundary=c||--c|Content-Transfer-Encoding: 8bit||A: b|Content-Transfer-Encoding: 8bit||=|--a \"bc|Content-Transfer-Encoding: binary||=|-|--d|",
        "Content-Type: multipart/x;| boundary=\"a \\\"b\"||--a \"b|Content-Type: multipart/digest; boundary=c||--c|Content-Transfer-Encoding: 7bit||A: b|Content-Transfer-Encoding: quoted-printable||=3D|--a \"bc|Content-Transfer-Encoding: quoted-printable||=3D|-|--d|",
    );
}

#[test]
fn an_attached_message_is_converted_inside() {
    for kind in ["rfc822", "global"] {
        check(
            &format!("Content-Type: message/{kind}||A: \u{fc}|Content-Transfer-Encoding: 8bit||\u{fc}|"),
            &format!(
                "Content-Type: message/{kind}||A: \u{fc}|Content-Transfer-Encoding: quoted-printable||=FC|"
            ),
        );
    }
    check(
        "Content-Transfer-Encoding: 8bit|Content-Type: message/rfc822||Content-Transfer-Encoding: 8bit||\u{fc}|",
        "Content-Type: message/rfc822|Content-Transfer-Encoding: 7bit||Content-Transfer-Encoding: quoted-printable||=FC|",
    );
    // Its fields may be UTF-8 only as long as the whole is encoded.
    check(
        "Content-Transfer-Encoding: 8bit|Content-Type: message/global||A: \u{fc}|Content-Transfer-Encoding: 8bit||\u{fc}|",
        "Content-Type: message/global|Content-Transfer-Encoding: quoted-printable||A: =FC|Content-Transfer-Encoding: 8bit||=FC|",
    );
}

#[test]
fn other_message_types_are_labelled_as_what_they_are() {
    for kind in ["partial", "external-body", "delivery-status"] {
        check(
            &format!("Content-Transfer-Encoding: 8bit|Content-Type: message/{kind}||A: \u{fc}||\u{fc}|"),
            &format!(
                "Content-Type: message/{kind}|Content-Transfer-Encoding: quoted-printable||A: =FC||=FC|"
            ),
        );
    }
}

#[test]
fn a_header_section_may_end_without_an_empty_line() {
    check(
        "Content-Transfer-Encoding: 8bit|no field \u{fc}|A: b||",
        "Content-Transfer-Encoding: quoted-printable||no field =FC|A: b||",
    );
    check(
        "Content-Type: multipart/x; boundary=b||--b|Content-Transfer-Encoding: 8bit|no field \u{fc}|--b--|",
        "Content-Type: multipart/x; boundary=b||--b|Content-Transfer-Encoding: quoted-printable|no field =FC|--b--|",
    );
    check(" no field|A: b|", "| no field|A: b|");
    check("A: b|--|", "A: b||--|");
}

#[test]
fn a_bare_line_feed_or_carriage_return_is_data() {
    check(
        "Content-Type: multipart/x; boundary=b||--b|Content-Transfer-Encoding: 8bit||a\n--b\r--b|--b--|",
        "Content-Type: multipart/x; boundary=b||--b|Content-Transfer-Encoding: quoted-printable||a=0A--b=0D--b|--b--|",
    );
    check("Content-Transfer-Encoding: 8bit||a\r", "Content-Transfer-Encoding: quoted-printable||a=0D|");
}

#[test]
fn a_message_that_is_nested_too_deep_cannot_be_converted() {
    let nested = |depth: usize| -> Vec<u8> {
        let part = |part| format!("Content-Type: multipart/x; boundary=b{part}-\r\n\r\n--b{part}-\r\n");
        (0..depth).flat_map(|depth| part(depth).into_bytes()).collect()
    };
    let content = nested(NESTING_MAX + 1);
    assert_eq!(converted(&content, &[]), Ok(content));
    let content = nested(NESTING_MAX + 2);
    assert_eq!(converted(&content, &[]), Err(TooDeep));
    assert_eq!(converted(&content[..content.len() - 10], &[]), Err(TooDeep), "at the end");
    assert_eq!(format!("{TooDeep}"), "MIME nesting exceeds safety limit");
}

#[test]
fn memory_is_bounded_whatever_the_message_is() {
    let long = vec![b'x'; 3 * FIELD_SIZE_MAX];
    let type_field = b"Content-Type: multipart/x; boundary=b; ".as_slice();
    for start in [b"".as_slice(), b"A: ", type_field, b"Content-Transfer-Encoding: 8bit ", b"\r\n--", b"-"] {
        let (mut downgrade, mut out) = (Downgrade::new(), Vec::new());
        for piece in [start].into_iter().chain(long.chunks(1000)) {
            downgrade.append(piece, &mut out).unwrap();
            assert!(downgrade.held.len() <= LINE_START_MAX && downgrade.field_text.len() <= FIELD_SIZE_MAX);
        }
        downgrade.append(b"\r\n\r\n--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n=\r\n", &mut out).unwrap();
        downgrade.end(&mut out).unwrap();
        let is_found = out.ends_with(b"--b\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n=3D\r\n");
        assert_eq!(is_found, start == type_field, "{}", start.escape_ascii());
    }
}

/// A part of a message.
#[derive(Clone, Debug)]
enum Part {
    /// Its type, and its lines.
    Leaf(&'static str, Vec<Vec<u8>>),
    /// Its preamble, and its parts.
    Multipart(Vec<u8>, Vec<Self>),
    Message(Box<Self>),
}

fn part() -> impl Strategy<Value = Part> {
    let byte = prop_oneof![any::<u8>(), Just(b' '), Just(b'='), Just(0xc3), Just(b'a')];
    let line = prop::collection::vec(byte, 0..160).prop_map(|mut line| {
        line.retain(|byte| *byte != b'\n');
        // Neither a boundary nor the first half of a line end.
        if line.starts_with(b"--b") || line.ends_with(b"\r") {
            line.clear();
        }
        line
    });
    let kind =
        prop::sample::select(vec!["text/plain", "image/x", "message/global", "message/delivery-status"]);
    let leaf = (kind, prop::collection::vec(line, 0..5)).prop_map(|(kind, lines)| Part::Leaf(kind, lines));
    leaf.prop_recursive(3, 12, 4, |inner| {
        let parts = prop::collection::vec(inner.clone(), 1..4);
        prop_oneof![
            ("[ -,.-~]{0,90}", parts).prop_map(|(text, parts)| Part::Multipart(text.into_bytes(), parts)),
            inner.prop_map(|part| Part::Message(part.into())),
        ]
    })
}

impl Part {
    /// Writes the part with its header section, and notes the bytes of its leaves.
    fn write(&self, encoding: &str, count: &mut usize, out: &mut Vec<u8>, leaves: &mut Vec<Vec<u8>>) {
        *count += 1;
        let boundary = format!("b{count}-");
        let kind = match self {
            Self::Leaf(kind, _) => (*kind).to_owned(),
            Self::Multipart(..) => format!("multipart/mixed; boundary={boundary}"),
            Self::Message(_) => "message/rfc822".to_owned(),
        };
        let fields = format!("Content-Transfer-Encoding: {encoding}\r\nContent-Type: {kind}\r\n\r\n");
        out.extend_from_slice(fields.as_bytes());
        match self {
            Self::Leaf(_, lines) => {
                let text: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\r\n"[..]].concat()).collect();
                out.extend_from_slice(&text);
                leaves.push(text);
            }
            Self::Multipart(preamble, parts) => {
                out.extend_from_slice(&[preamble, &b"\r\n"[..]].concat());
                for part in parts {
                    out.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
                    part.write(encoding, count, out, leaves);
                }
                out.extend_from_slice(format!("--{boundary}--\r\nepilogue\r\n").as_bytes());
            }
            Self::Message(part) => part.write(encoding, count, out, leaves),
        }
    }
}

/// The bytes of all leaves that are quoted-printable, decoded. No multipart may be labelled so.
fn decoded(content: &[u8]) -> Vec<Vec<u8>> {
    let mut leaves: Vec<Vec<u8>> = Vec::new();
    let (mut is_in_header, mut is_encoded, mut is_multipart) = (true, false, false);
    for line in content.split_inclusive(|byte| *byte == b'\n') {
        if line.starts_with(b"--b") {
            is_encoded = false;
            is_in_header = !line.ends_with(b"--\r\n");
        } else if is_in_header {
            is_multipart |= line.starts_with(b"Content-Type: multipart");
            is_encoded |= line == b"Content-Transfer-Encoding: quoted-printable\r\n";
            if line == b"\r\n" {
                assert!(!(is_encoded && is_multipart));
                is_in_header = !is_encoded && !is_multipart;
                is_multipart = false;
                if is_encoded {
                    leaves.push(Vec::new());
                }
            }
        } else if is_encoded {
            assert!(line.len() <= 78, "{}", line.escape_ascii());
            decode_line(line, leaves.last_mut().unwrap());
        }
    }
    leaves
}

/// RFC 2045 §6.7.
fn decode_line(line: &[u8], out: &mut Vec<u8>) {
    let text = line.strip_suffix(b"\r\n").unwrap();
    assert!(!text.ends_with(b" ") && !text.ends_with(b"\t"));
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        if *byte != b'=' {
            out.push(*byte);
            continue;
        }
        let Some(digits) = bytes.as_slice().get(..2) else { return };
        out.push(u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap());
        bytes.nth(1);
    }
    out.extend_from_slice(b"\r\n");
}

proptest! {
    #[test]
    fn decoding_the_parts_gives_the_original(
        part in part(), is_binary in any::<bool>(), cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..9),
    ) {
        let (mut content, mut leaves) = (Vec::new(), Vec::new());
        part.write(if is_binary { "binary" } else { "8bit" }, &mut 0, &mut content, &mut leaves);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
        cuts.sort_unstable();
        let out = converted(&content, &cuts).unwrap();
        prop_assert!(out.is_ascii());
        prop_assert_eq!(decoded(&out), leaves);
        prop_assert_eq!(out, converted(&content, &[]).unwrap());
    }

    #[test]
    fn any_content_gives_the_same_wherever_it_is_cut(
        words in prop::collection::vec(prop::sample::select(WORDS.to_vec()), 0..30), size in 1_usize..50,
    ) {
        let content: Vec<u8> = words.concat();
        let cuts: Vec<usize> = (1..=content.len() / size).map(|piece| piece * size).collect();
        let whole = converted(&content, &[]).unwrap();
        prop_assert_eq!(&converted(&content, &cuts).unwrap(), &whole);
        prop_assert!(whole.is_empty() || whole.ends_with(b"\r\n"));
    }
}

/// What content is made of.
const WORDS: [&[u8]; 22] = [
    b"\r\n",
    b"\r\n",
    b"\r",
    b"\n",
    b"-",
    b"--",
    b"--b",
    b"--b\r\n",
    b"--b--\r\n",
    b"--b\r\nContent-Transfer-Encoding: 8bit\r\n\r\n",
    b"Content-Type: multipart/x; boundary=b\r\n",
    b"Content-Type: message/rfc822\r\n",
    b"Content-Type:\r\n message/global\r\n",
    b"Content-Transfer-Encoding: 8bit\r\n",
    b"Content-Transfer-Encoding : binary\r\n",
    b"Content-Transfer-Encoding: 7bit\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"A: b\r\n",
    b" ",
    b"\t",
    b"=",
    b"\xfc\xff and more text \r\n",
];
