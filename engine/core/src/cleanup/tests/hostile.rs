//! Hostile content: whatever it is and wherever it is cut, all passes make the same of it.

use alloc::boxed::Box;
use alloc::string::ToString;
use alloc::vec;

use super::*;
use crate::Sharer;
use crate::lookup::{LookupError, LookupTable, Maps};

/// A table whose answer depends on the sign that a field or line has after its first `!`.
#[derive(Debug)]
struct Signs;

impl LookupTable for Signs {
    fn look_up<'a>(&'a self, _: &'a Bump, key: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        let place = memchr::memchr(b'!', key).map(|place| place + 1);
        Ok(match place.and_then(|place| key.get(place)) {
            Some(b'd') => Some(b"IGNORE"),
            Some(b'p') => Some(b"PREPEND X-P: before"),
            Some(b'r') => Some(b"REPLACE X-R: instead"),
            Some(b'w') => Some(b"WARN look"),
            Some(b'h') => Some(b"HOLD"),
            Some(b'b') => Some(b"BCC copy@example.com"),
            Some(b's') => Some(b"PASS"),
            Some(b'x') => Some(b"REJECT no"),
            _ => None,
        })
    }
}

#[derive(Default)]
struct Notes(Vec<String>);

impl Observer for Notes {
    fn noticed(&mut self, notice: &Notice<'_>) {
        self.0.push(format!("{} {}: {}", notice.action, notice.subject, notice.text.escape_ascii()));
    }
}

/// The content that is kept, or why the message is refused; what was noticed; what was decided.
type Made = (Result<String, Rejection>, Vec<String>, String);

/// Runs all passes over `input`, cut at `cuts`.
fn made(case: &Case, input: &[u8], cuts: &[usize]) -> Made {
    let mut cleanup = Cleanup::new(id(), case.is_local);
    let (mut notes, mut kept, mut out, mut is_done) = (Notes::default(), Vec::new(), Vec::new(), false);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (input.len() + 1)).collect();
    cuts.extend([0, input.len()]);
    cuts.sort_unstable();
    for window in cuts.windows(2) {
        kept.extend_from_slice(&input[window[0]..window[1]]);
        let arena = Bump::new();
        if !is_done {
            let mut surroundings = Surroundings {
                arena: &arena,
                settings: &case.settings,
                origin: &case.origin,
                envelope: &case.envelope,
                observer: &mut notes,
            };
            let part = match cleanup.content(&mut surroundings, &kept, window[1] == input.len()) {
                Ok(part) => part,
                Err(halt) => return (Err(rejected(halt)), notes.0, String::new()),
            };
            out.extend(part.output.concat());
            is_done = part.is_done;
            let consumed = part.consumed;
            drop(part);
            kept.drain(..consumed);
        }
        if is_done {
            out.append(&mut kept);
        }
    }
    assert!(kept.is_empty(), "input is left: {}", kept.escape_ascii());
    (Ok(out.escape_ascii().to_string()), notes.0, format!("{:?}", cleanup.decisions()))
}

/// Pieces of content: some make a structure, others look like one.
const PIECES: &[&[u8]] = &[
    b"\r\n",
    b"\r",
    b"\n",
    b"\0",
    b" ",
    b"-",
    b"--",
    b"--b",
    b"--b--",
    b"--bb\r\n",
    b"\r\n--b\r\n",
    b"\r\n--c--\r\n",
    b"Content-Type: multipart/mixed; boundary=b\r\n",
    b"Content-Type: multipart/digest;\r\n\tboundary=\"c\"\r\n",
    b"Content-Type: message/rfc822\r\n\r\n",
    b"Content-Transfer-Encoding: base64\r\n",
    b"Content-Transfer-Encoding: 8bit\r\n",
    b"A: !d\r\n",
    b"A: x\r\n !p folded\r\n",
    b"B: !r\r\n",
    b"B: !wyz\r\n",
    b"!h line\r\n",
    b"C: !b\r\n",
    b"!s",
    b"!x",
    b"caf\xe9\r\n",
    b"To: a, (b\r\n c) d@e, \"f\r\n",
    b"From: <g@h>\r\n",
    b"Received: from i\r\n",
    b"Bcc: j\r\n",
    b"text text text text",
    b":",
];

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(PIECES), 0..16).prop_map(|pieces| pieces.concat())
}

/// A case with checks of all kinds; the bits of `choice` are its settings.
fn hostile_case(choice: u16) -> Case {
    let mut case = case();
    let has = |bit: u16| choice >> bit & 1 == 1;
    let signs = Maps::new(vec![Arc::new(Signs)]);
    let checks = &mut case.settings.checks;
    for (bit, maps) in
        [&mut checks.header, &mut checks.mime_header, &mut checks.nested_header, &mut checks.body]
            .into_iter()
            .enumerate()
    {
        if choice >> bit & 1 == 1 {
            *maps = signs.clone();
        }
    }
    checks.body_size_limit = if has(4) { 30 } else { 0 };
    case.is_local = has(5);
    case.settings.mime.strict_7bit_headers = has(6);
    case.settings.mime.strict_8bit_body = has(7);
    case.settings.mime.strict_encoding_domain = has(8);
    case.settings.mime.nesting_limit = if has(9) { 1 } else { 100 };
    case.settings.line_length_limit = if has(10) { 12 } else { 2048 };
    // What checks see of a field beyond this limit depends on the pieces, so none is that long here.
    case.settings.header_size_limit = 100_000;
    case.settings.message_reject_characters = has(12).then(|| Box::new(OctetSet::of(b"\0")));
    case.settings.message_strip_characters = has(13).then(|| Box::new(OctetSet::of(b"\0xt")));
    case.settings.always_add_missing_headers = has(14);
    case.envelope.content.has_raw_start = has(15);
    case
}

/// Content that was cut after a bare line feed had a boundary there that it has not otherwise.
#[test]
fn a_bare_line_feed_begins_no_boundary() {
    let case = hostile_case(0);
    let input = b"Content-Type: multipart/mixed; boundary=b\r\n\n--b--\r\n--b\r\n- :";
    let whole = made(&case, input, &[]);
    for cut in 0..input.len() {
        assert_eq!(made(&case, input, &[cut]), whole, "cut at {cut}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4 * ProptestConfig::default().cases, ..ProptestConfig::default() })]

    #[test]
    fn hostile_content_becomes_the_same_wherever_it_is_cut(
        input in content(), choice in any::<u16>(), cuts in prop::collection::vec(any::<usize>(), 1..8),
    ) {
        let case = hostile_case(choice);
        let whole = made(&case, &input, &[]);
        prop_assert_eq!(&made(&case, &input, &cuts), &whole, "{}", input.escape_ascii());
        let everywhere: Vec<usize> = (0..input.len()).collect();
        prop_assert_eq!(&made(&case, &input, &everywhere), &whole, "octet by octet: {}", input.escape_ascii());
    }

    /// What a check drops or replaces is gone, and it is consulted about all that is not after PASS or a refusal.
    #[test]
    fn checks_of_all_tables_leave_nothing_that_they_drop(input in content()) {
        let mut case = hostile_case(0b1111);
        case.settings.mime.is_disabled = false;
        let (content, notes, _) = made(&case, &input, &[]);
        let Ok(content) = content else { return Ok(()) };
        if !notes.iter().any(|note| note.starts_with("pass ")) {
            for line in content.split("\\r\\n").skip(2) {
                // A NUL or a bare line feed may hide the sign from the table.
                let is_plain = !line.contains("\\x00") && !line.contains("\\n");
                prop_assert!(!is_plain || !line.starts_with("A: !d") && !line.starts_with("B: !r"), "{line}");
            }
        }
    }
}
