//! Replies cut anywhere, and dialogues with servers that keep the rules and that break them.

use alloc::string::{String, ToString as _};
use alloc::vec::Vec;
use std::format;

use proptest::prelude::*;

use super::*;

/// All that a reader finds in these pieces: the code, the last line and the texts of each reply, or what was invalid.
fn read_all<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> Vec<String> {
    let mut reader = ReplyReader::default();
    let mut found = Vec::new();
    for mut piece in pieces {
        while let Some(result) = reader.read(&mut piece) {
            found.push(match result {
                Ok(reply) => {
                    let texts: Vec<_> = reply.texts().map(String::from_utf8_lossy).collect();
                    format!("{} {} {texts:?}", reply.code(), String::from_utf8_lossy(reply.line()))
                }
                Err(invalid) => format!("{invalid:?}"),
            });
        }
        assert!(piece.is_empty(), "all input is consumed");
    }
    found
}

/// The single result of reading these bytes.
fn read_one<T>(mut bytes: &[u8], look: impl FnOnce(Result<Reply<'_>, InvalidReply<'_>>) -> T) -> T {
    let mut reader = ReplyReader::default();
    look(reader.read(&mut bytes).expect("a reply"))
}

#[test]
fn replies_are_found_wherever_the_input_is_cut() {
    let bytes = b"250-mx\r\n250-PIPELINING\r\n250 DSN\r\n354 go\n221\r\n250 \r\n";
    let expected = [
        "250 250 DSN [\"mx\", \"PIPELINING\", \"DSN\"]",
        "354 354 go [\"go\"]",
        "221 221 [\"\"]",
        "250 250  [\"\"]",
    ];
    assert_eq!(read_all([&bytes[..]]), expected);
    for at in 1..bytes.len() {
        let (first, second) = bytes.split_at(at);
        assert_eq!(read_all([first, second]), expected, "cut at {at}");
    }
    assert_eq!(read_all(bytes.chunks(1)), expected);
}

#[test]
fn the_last_line_has_the_code() {
    assert_eq!(read_one(b"250-a\r\n451 b\r\n", |reply| reply.unwrap().code()), 451);
}

#[test]
fn a_line_without_a_code_is_invalid_and_ends_the_reading() {
    for line in [
        "",
        "25",
        "abc-def",
        "150 no",
        "650 no",
        "250x",
        "2\u{0}0 ok",
        "\u{0}",
        " 250 ok",
        "HTTP/1.1 400",
        "250\r",
    ] {
        let bytes = format!("{line}\r\n250 ok\r\n");
        read_one(bytes.as_bytes(), |result| {
            assert_eq!(result, Err(InvalidReply { violation: Violation::NoCode, got: line.as_bytes() }));
        });
        assert_eq!(read_all([bytes.as_bytes()]).len(), 1, "{line:?}");
    }
}

#[test]
fn lines_and_replies_are_bounded() {
    let line = |size: usize| [b"250 ", &b"x".repeat(size - 6)[..], b"\r\n"].concat();
    let violation = |bytes: &[u8]| {
        read_one(bytes, |result| result.map(|_| ()).map_err(|it| (it.violation, it.got.len())))
    };
    assert_eq!(violation(&line(LINE_SIZE_MAX)), Ok(()));
    assert_eq!(violation(&line(LINE_SIZE_MAX + 2)), Err((Violation::LineTooLong, LINE_SIZE_MAX)));
    assert_eq!(violation(&b"2".repeat(LINE_SIZE_MAX)), Err((Violation::LineTooLong, LINE_SIZE_MAX)));
    let endless = b"250-and more\r\n".repeat(10_000);
    assert_eq!(violation(&endless), Err((Violation::ReplyTooLong, 12)));
    let mut reader = ReplyReader::default();
    let found = endless.chunks(700).filter(|piece| reader.read(&mut &piece[..]).is_some()).count();
    assert_eq!(found, 1);
}

#[test]
fn a_reader_works_after_a_reset() {
    let mut reader = ReplyReader::default();
    assert!(reader.read(&mut &b"nonsense\r\n"[..]).unwrap().is_err());
    reader.reset();
    assert!(reader.read(&mut &b"250-unfin"[..]).is_none());
    reader.reset();
    assert_eq!(reader.read(&mut &b"220 mx\r\n"[..]).unwrap().unwrap().line(), b"220 mx");
}

#[test]
fn an_enhanced_status_has_the_class_of_the_code() {
    for (line, expected) in [
        ("250 2.1.5 Ok", Some("2.1.5")),
        ("550 5.1.1", Some("5.1.1")),
        ("452 4.999.999 x", Some("4.999.999")),
        ("550 4.1.1 x", None),
        ("250 2.1 x", None),
        ("250 2.1.1000 x", None),
        ("250 2..1 x", None),
        ("250 2.1.5.6 x", None),
        ("354 3.0.0 go", None),
        ("250 Ok", None),
        ("250", None),
    ] {
        let status = read_one(format!("{line}\r\n").as_bytes(), |reply| reply.unwrap().status());
        assert_eq!(status.map(|status| status.to_string()).as_deref(), expected, "{line}");
    }
}

#[test]
fn keywords_are_read_in_any_case_from_every_line_but_the_first() {
    let offered = |text: &str| read_one(text.as_bytes(), |reply| Extensions::offered_by(&reply.unwrap()));
    let all = Extensions {
        pipelining: true,
        chunking: true,
        binary_mime: true,
        eight_bit_mime: true,
        smtputf8: true,
        dsn: true,
        enhanced_status_codes: true,
        starttls: true,
        size: Some(1000),
    };
    let text = "250-mx\r\n250-PIPELINING\n250-Chunking x\r\n250-binarymime\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n\
                250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250-STARTTLS\r\n250 SIZE 1000\r\n";
    assert_eq!(offered(text), all);
    let none = Extensions::default();
    for text in ["250 CHUNKING\r\n", "250-PIPELINING\r\n250 XDSN\r\n", "250-mx\r\n250\r\n"] {
        assert_eq!(offered(text), none, "{text}");
    }
    for (text, size) in
        [("SIZE", 0), ("size 99999999999999999999", 0), ("SIZE +5", 0), ("Size 52428800", 52_428_800)]
    {
        assert_eq!(offered(&format!("250-mx\r\n250 {text}\r\n")).size, Some(size), "{text}");
    }
}

/// Both ends of a dialogue.
#[derive(Default)]
struct Dialogue {
    session: Session,
    reader: ReplyReader,
    sent: Vec<u8>,
}

impl Dialogue {
    fn lmtp() -> Self {
        Self { session: Session::new(Protocol::Lmtp), ..Self::default() }
    }

    /// A dialogue after the reply to EHLO or LHLO, which offers these keywords.
    fn greeted(mut self, keywords: &[&str]) -> Self {
        self.received("220 mx\r\n");
        self.session.hello(b"client.example", &mut self.sent).unwrap();
        self.received(&format!(
            "250-mx\r\n{}250 HELP\r\n",
            keywords.iter().map(|it| format!("250-{it}\r\n")).collect::<String>()
        ));
        self.sent.clear();
        self
    }

    /// Sends MAIL and RCPT for a number of recipients without waiting.
    fn envelope(&mut self, recipients: usize) {
        self.session.mail(b"a@example.org", b"", &mut self.sent).unwrap();
        for _ in 0..recipients {
            self.session.rcpt(b"b@example.com", b"", &mut self.sent).unwrap();
        }
    }

    fn received(&mut self, text: &str) -> Vec<Event> {
        let mut bytes = text.as_bytes();
        let mut events = Vec::new();
        while let Some(result) = self.reader.read(&mut bytes) {
            events.push(self.session.reply_received(&result));
        }
        events
    }

    /// What was sent since the last call.
    fn sent(&mut self) -> String {
        String::from_utf8(core::mem::take(&mut self.sent)).unwrap()
    }
}

const PIPELINED: [&str; 1] = ["PIPELINING"];

#[test]
fn without_pipelining_each_command_waits_for_its_reply() {
    let mut it = Dialogue::default();
    assert!(!it.session.may_send(), "the greeting comes first");
    assert_eq!(it.received("220-mx\r\n220 ready\r\n"), [Event::Answer(Awaited::Greeting)]);
    it.session.hello(b"client.example", &mut it.sent).unwrap();
    assert_eq!(it.received("502 no\r\n"), [Event::Answer(Awaited::Ehlo)]);
    it.session.helo(b"client.example", &mut it.sent).unwrap();
    assert_eq!(it.received("250-mx\r\n250 PIPELINING\r\n"), [Event::Answer(Awaited::Helo)]);
    assert_eq!(it.session.extensions(), &Extensions::default(), "HELO offers nothing");
    it.session.mail(b"", b" SIZE=5", &mut it.sent).unwrap();
    assert!(!it.session.may_send());
    assert_eq!(it.received("250 ok\r\n"), [Event::Answer(Awaited::Mail)]);
    it.session.rcpt(b"b@example.com", b"", &mut it.sent).unwrap();
    assert_eq!(it.received("251 forwards\r\n"), [Event::Answer(Awaited::Recipient)]);
    assert_eq!((it.session.is_mail_accepted(), it.session.recipients_accepted()), (true, 1));
    it.session.data(&mut it.sent);
    assert_eq!(it.received("354 go\r\n"), [Event::Answer(Awaited::Data)]);
    assert_eq!((it.session.is_in_content(), it.session.awaited()), (true, Some(Awaited::Content)));
    it.session.content(b"body\r\n", &mut it.sent);
    assert!(!it.session.may_send() && !it.session.is_content_unanswered());
    it.session.end_of_data(&mut it.sent);
    assert!(it.session.is_content_unanswered());
    assert_eq!(it.received("250 queued\r\n"), [Event::Answer(Awaited::Content)]);
    it.session.quit(&mut it.sent);
    assert_eq!(it.received("221 bye\r\n"), [Event::Answer(Awaited::Quit)]);
    assert!(!it.session.may_send());
    assert_eq!(
        it.sent(),
        "EHLO client.example\r\nHELO client.example\r\nMAIL FROM:<> SIZE=5\r\nRCPT TO:<b@example.com>\r\nDATA\r\nbody\r\n.\r\nQUIT\r\n"
    );
}

#[test]
fn pipelined_groups_end_with_data_and_follow_content() {
    let mut it = Dialogue::default().greeted(&PIPELINED);
    it.envelope(2);
    it.session.data(&mut it.sent);
    assert!(!it.session.may_send(), "DATA is the last command of its group");
    let events = it.received("250 ok\r\n550 5.1.1 no\r\n250 ok\r\n354 go\r\n");
    let expected = [Awaited::Mail, Awaited::Recipient, Awaited::Recipient, Awaited::Data].map(Event::Answer);
    assert_eq!(events, expected);
    assert_eq!(it.session.recipients_accepted(), 1);
    it.session.end_of_data(&mut it.sent);
    it.envelope(1);
    assert_eq!(it.received("250 queued\r\n"), [Event::Answer(Awaited::Content)]);
    assert_eq!(it.session.recipients_accepted(), 1, "those of the answered message");
    it.received("250 ok\r\n");
    assert_eq!(it.session.recipients_accepted(), 0, "those of the next one");
    it.session.reset(&mut it.sent);
    assert!(it.sent().ends_with(".\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.com>\r\nRSET\r\n"));
}

#[test]
fn another_command_changes_nothing_and_is_the_last_of_its_group() {
    let mut it = Dialogue::default().greeted(&PIPELINED);
    it.envelope(1);
    it.session.other(b"NOOP", &mut it.sent).unwrap();
    assert!(!it.session.may_send());
    assert_eq!(it.session.other(b"NOOP\r\nQUIT", &mut it.sent), Err(LineBreak));
    it.received("250 ok\r\n250 ok\r\n");
    assert_eq!(it.received("250 ok\r\n"), [Event::Answer(Awaited::Other)]);
    assert_eq!((it.session.is_mail_accepted(), it.session.recipients_accepted()), (true, 1));
    assert!(it.session.may_send() && it.sent().ends_with("RCPT TO:<b@example.com>\r\nNOOP\r\n"));
}

#[test]
fn chunks_have_their_declared_size() {
    let mut it = Dialogue::default().greeted(&["PIPELINING", "CHUNKING"]);
    assert!(it.session.extensions().chunking);
    it.envelope(1);
    it.session.bdat(6, false, &mut it.sent);
    it.session.content(b"abc", &mut it.sent);
    assert_eq!(it.received("250 ok\r\n250 ok\r\n").len(), 2, "replies to what was sent before");
    assert!(it.session.is_in_content() && !it.session.may_send());
    it.session.content(b"def", &mut it.sent);
    it.session.bdat(0, true, &mut it.sent);
    assert!(it.session.is_content_unanswered());
    assert_eq!(
        it.received("250 ok\r\n250 queued\r\n"),
        [Awaited::Chunk, Awaited::Content].map(Event::Answer)
    );
    assert!(it.sent().ends_with("BDAT 6\r\nabcdefBDAT 0 LAST\r\n"));
}

#[test]
fn lmtp_answers_content_for_each_accepted_recipient() {
    let mut it = Dialogue::lmtp().greeted(&["PIPELINING", "CHUNKING"]);
    it.envelope(3);
    it.session.bdat(1, true, &mut it.sent);
    it.session.content(b"x", &mut it.sent);
    it.received("250 ok\r\n250 ok\r\n550 no\r\n250 ok\r\n");
    assert_eq!(it.received("250 one\r\n452 two\r\n"), [Event::Answer(Awaited::Content); 2]);
    assert_eq!(it.session.awaited(), None);
    it.envelope(1);
    it.session.bdat(1, true, &mut it.sent);
    it.session.content(b"x", &mut it.sent);
    it.received("250 ok\r\n550 no\r\n503 no recipients\r\n");
    assert_eq!(it.session.awaited(), None, "one reply where no recipient was accepted");
    it.session.quit(&mut it.sent);
    assert_eq!(it.received("221 bye\r\n"), [Event::Answer(Awaited::Quit)]);
}

#[test]
fn a_reply_out_of_step_ends_the_session() {
    for (text, event) in [
        ("421 closing\r\n", Event::Closing(None)),
        ("250 what\r\n", Event::Unsolicited),
        ("what\r\n", Event::Invalid(None)),
    ] {
        let mut it = Dialogue::default().greeted(&PIPELINED);
        assert_eq!(it.received(text), [event]);
        assert!(!it.session.may_send(), "{text}");
        it.session.restart();
        it.reader.reset();
        assert_eq!(it.received("220 mx\r\n"), [Event::Answer(Awaited::Greeting)]);
        assert!(it.session.may_send(), "{text}");
    }
    let mut it = Dialogue::default().greeted(&PIPELINED);
    it.envelope(1);
    assert_eq!(it.received("421 closing\r\n"), [Event::Closing(Some(Awaited::Mail))]);
}

#[test]
fn a_reply_before_the_end_of_content_is_early() {
    let mut it = Dialogue::default().greeted(&PIPELINED);
    it.envelope(1);
    it.session.data(&mut it.sent);
    it.received("250 ok\r\n250 ok\r\n354 go\r\n");
    it.session.content(b"some", &mut it.sent);
    assert_eq!(it.received("552 too large\r\n"), [Event::Early]);
    let mut it = Dialogue::default().greeted(&["PIPELINING", "CHUNKING"]);
    it.envelope(1);
    it.session.bdat(5, true, &mut it.sent);
    it.session.content(b"some", &mut it.sent);
    let expected = [Event::Answer(Awaited::Mail), Event::Answer(Awaited::Recipient), Event::Early];
    assert_eq!(it.received("250 ok\r\n250 ok\r\n552 too large\r\n"), expected);
}

#[test]
fn an_argument_cannot_inject_a_second_command() {
    let mut it = Dialogue::default().greeted(&PIPELINED);
    for argument in ["a@b>\r\nDATA", "a\nb", "a\rb"] {
        assert_eq!(it.session.mail(argument.as_bytes(), b"", &mut it.sent), Err(LineBreak));
        assert_eq!(it.session.rcpt(b"a@b", argument.as_bytes(), &mut it.sent), Err(LineBreak));
    }
    assert_eq!((it.sent().as_str(), it.session.awaited()), ("", None));
}

#[test]
#[should_panic = "a command that may not be sent now: Mail"]
fn a_command_out_of_order_is_refused() {
    let mut it = Dialogue::default();
    it.envelope(0);
}

/// Lines of replies and of what resembles them.
fn lines() -> impl Strategy<Value = Vec<u8>> {
    let line = prop_oneof![
        8 => "[2-5][0-9]{2}[ -][ -~]{0,20}\r?\n".prop_map(String::into_bytes),
        2 => "[2-5][0-9]{2}\r?\n".prop_map(String::into_bytes),
        1 => (4080..4110_usize).prop_map(|size| [b"250-", &b"y".repeat(size)[..], b"\r\n"].concat()),
        1 => proptest::collection::vec(any::<u8>(), 0..20),
    ];
    proptest::collection::vec(line, 0..30).prop_map(|lines| lines.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_cut_of_the_input_gives_the_same_replies(bytes in lines(), cuts in proptest::collection::vec(1..300_usize, 1..40)) {
        let expected = read_all([&bytes[..]]);
        let mut rest = &bytes[..];
        let mut pieces = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        prop_assert_eq!(read_all(pieces), expected);
    }

    #[test]
    fn parses_any_input_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2000), commands in 0..4_usize) {
        let mut it = Dialogue::default().greeted(&PIPELINED);
        it.envelope(commands);
        let mut reader = ReplyReader::default();
        let mut input = &bytes[..];
        while let Some(result) = reader.read(&mut input) {
            it.session.reply_received(&result);
            if let Ok(reply) = result {
                let _ = (reply.status(), Extensions::offered_by(&reply));
            }
        }
        prop_assert!(input.is_empty());
    }

    /// The server's side takes off what the client's side adds.
    #[test]
    fn stuffed_content_has_no_line_with_a_single_dot(lines in proptest::collection::vec("[.a]{0,4}", 0..20), size in 1..9_usize) {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut stuffing = DotStuffing::new();
        let mut stuffed = Vec::new();
        content.as_bytes().chunks(size).for_each(|piece| stuffing.append(piece, &mut stuffed));
        let stuffed = String::from_utf8(stuffed).unwrap();
        prop_assert!(stuffed.lines().all(|line| line != "."));
        let taken_off: String = stuffed.split_inclusive('\n').map(|line| line.strip_prefix('.').unwrap_or(line)).collect();
        prop_assert_eq!(taken_off, content);
    }
}
