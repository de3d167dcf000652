//! Both sides of SMTP against each other.

use mailrace_core::address::Destinations;
use mailrace_core::smtp::client::{DotStuffing, ReplyReader};
use mailrace_core::smtp::{Context, Event, Observer, Reject, Session, Settings, Verdict};
use mailrace_core::{Origin, QueueId, Timestamp};
use proptest::prelude::*;
use std::sync::Arc;

struct Quiet;

impl Observer for Quiet {
    fn replied(&mut self, _code: u16) {}
    fn rejected(&mut self, _origin: &Origin, _reject: &Reject<'_>) {}
}

/// Replies, contents of messages, and whether the session ended, of a client that sends `pieces`.
pub(super) fn served<'p>(pieces: impl IntoIterator<Item = &'p [u8]>) -> (Vec<u8>, Vec<Vec<u8>>, bool) {
    let settings = Settings {
        myhostname: b"mx.example.com".to_vec(),
        smtpd_error_sleep_time_ms: 0,
        smtpd_forbid_unauth_pipelining: false,
        destinations: Arc::new(Destinations {
            relay_domains: ["example.com"].into_iter().collect(),
            ..Destinations::default()
        }),
        ..Settings::default()
    };
    let mut session = Session::new(Origin::default(), false);
    let mut context = Context {
        settings: &settings,
        wall: Timestamp::from_unix_microseconds(1),
        is_storage_low: false,
        observer: &mut Quiet,
    };
    let (mut replies, mut sent, mut content, mut messages) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    session.greet(&mut context, &mut replies);
    for piece in pieces {
        let mut rest = piece;
        loop {
            let step = session.feed(&mut context, rest, &mut replies);
            rest = &rest[step.consumed..];
            match step.event {
                Event::NeedInput => break,
                Event::SendReplies => sent.append(&mut replies),
                Event::ContentBegin | Event::ContentAbandon => content.clear(),
                Event::Content(bytes) => content.extend_from_slice(bytes),
                Event::ContentEnd => {
                    messages.push(std::mem::take(&mut content));
                    let verdict = Verdict::Queued(QueueId::from_number(1));
                    session.verdict(&mut context, verdict, &mut replies);
                }
                Event::Delay { .. } => {}
                Event::Ask(_) => unreachable!("no table is asked"),
                Event::Close => {
                    sent.append(&mut replies);
                    return (sent, messages, true);
                }
            }
        }
    }
    sent.append(&mut replies);
    (sent, messages, false)
}

/// The codes of all replies, as a client reads them.
fn codes(mut replies: &[u8]) -> Vec<u16> {
    let mut reader = ReplyReader::default();
    let mut codes = Vec::new();
    while let Some(reply) = reader.read(&mut replies) {
        let reply = reply.expect("a server's replies are valid");
        assert!(reply.lines().all(|line| line.len() <= 510), "{:?}", reply.line().escape_ascii());
        codes.push(reply.code());
    }
    codes
}

const ENVELOPE: &str = "EHLO c\r\nMAIL FROM:<>\r\nRCPT TO:<u@example.com>\r\n";

proptest! {
    #[test]
    fn content_survives_dot_stuffing_and_data(
        lines in prop::collection::vec("[.a]{0,4}", 0..8), pieces in prop::collection::vec(1..9_usize, 1..6),
    ) {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let (mut stuffing, mut sent) = (DotStuffing::new(), format!("{ENVELOPE}DATA\r\n").into_bytes());
        let (mut rest, mut sizes) = (content.as_bytes(), pieces.iter().cycle());
        while !rest.is_empty() {
            let (piece, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            stuffing.append(piece, &mut sent);
            rest = behind;
        }
        sent.extend_from_slice(b".\r\nQUIT\r\n");
        for size in [1, 3, sent.len()] {
            let (replies, messages, is_closed) = served(sent.chunks(size));
            prop_assert_eq!(codes(&replies), [220, 250, 250, 250, 354, 250, 221]);
            prop_assert_eq!(&messages, &[content.clone().into_bytes()]);
            prop_assert!(is_closed);
        }
    }

    #[test]
    fn content_of_lines_survives_chunks_of_any_size(
        lines in prop::collection::vec("[.ab]{0,5}", 1..6), sizes in prop::collection::vec(1..9_usize, 1..6),
    ) {
        let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        let mut sent = ENVELOPE.as_bytes().to_vec();
        let (mut rest, mut sizes, mut chunks) = (content.as_bytes(), sizes.iter().cycle(), 0);
        while !rest.is_empty() {
            let (chunk, behind) = rest.split_at((*sizes.next().unwrap()).min(rest.len()));
            sent.extend_from_slice(format!("BDAT {}\r\n", chunk.len()).as_bytes());
            sent.extend_from_slice(chunk);
            rest = behind;
            chunks += 1;
        }
        sent.extend_from_slice(b"BDAT 0 LAST\r\n");
        let (replies, messages, _) = served([sent.as_slice()]);
        prop_assert_eq!(codes(&replies), [vec![220], vec![250; 3 + chunks + 1]].concat());
        prop_assert_eq!(messages, [content.into_bytes()]);
    }

    #[test]
    fn every_reply_to_any_command_is_one_that_clients_can_read(
        commands in prop::collection::vec(prop_oneof![
            "(MAIL FROM:|RCPT TO:|VRFY |BDAT |HELO |EHLO |NOOP|RSET|HELP|EXPN |AUTH |ETRN )[ -~é]{0,40}",
            Just(format!("RCPT TO:<{}@other.example>", "x".repeat(900))),
            Just(format!("MAIL FROM:<> {}", "X".repeat(900))),
        ], 0..8),
    ) {
        let text: String = commands.iter().map(|command| format!("{command}\r\n")).collect();
        let (replies, _, _) = served([text.as_bytes()]);
        codes(&replies);
    }

    #[test]
    fn commands_in_any_case_of_letters_have_the_same_replies(flips in any::<u64>()) {
        let flipped = |text: &str| -> String {
            let flip = |(index, letter): (usize, char)| {
                if flips >> (index % 64) & 1 == 1 { letter.to_ascii_lowercase() } else { letter }
            };
            text.chars().enumerate().map(flip).collect()
        };
        let text = "EHLO C\r\nMAIL FROM:<A@B.EXAMPLE> BODY=8BITMIME SIZE=5 RET=HDRS ENVID=X\r\n\
                    RCPT TO:<U@EXAMPLE.COM> NOTIFY=SUCCESS,DELAY ORCPT=RFC822;X@Y\r\nVRFY\r\nBDAT 0 LAST\r\nQUIT\r\n";
        prop_assert_eq!(served([flipped(text).as_bytes()]), served([text.as_bytes()]));
    }
}
