//! Dialogues with a session, octet for octet, and the same cut into pieces anywhere.

use alloc::string::String;
use alloc::vec::Vec;
use bumpalo::Bump;
use proptest::prelude::*;

use super::*;
use crate::address::{Destinations, Domains};
use crate::envelope::Protocol;
use crate::lookup::{LookupError, LookupTable, Maps, Ticket};
use crate::{Origin, QueueId, Sharer, Timestamp};
use alloc::sync::Arc;

#[derive(Default)]
struct Notes {
    replies: Vec<u16>,
    rejects: Vec<&'static str>,
}

impl Observer for Notes {
    fn replied(&mut self, code: u16) {
        self.replies.push(code);
    }
    fn rejected(&mut self, _origin: &Origin, reject: &Reject<'_>) {
        self.rejects.push(reject.reason);
    }
}

/// What came of a dialogue.
#[derive(Debug, Default, PartialEq, Eq)]
struct Outcome {
    replies: String,
    /// Content of messages that were given a 250.
    messages: Vec<String>,
    recipients: usize,
    is_closed: bool,
    delays: usize,
    questions: usize,
}

struct Player {
    settings: Settings,
    is_trusted: bool,
    is_storage_low: bool,
    verdict: Verdict,
    piece: usize,
}

impl Default for Player {
    fn default() -> Self {
        let settings = Settings {
            myhostname: b"mx.example.com".to_vec(),
            message_size_limit: 1000,
            smtpd_recipient_limit: 3,
            smtpd_error_sleep_time_ms: 0,
            destinations: Arc::new(Destinations {
                relay_domains: ["example.com"].into_iter().collect(),
                ..Destinations::default()
            }),
            ..Settings::default()
        };
        let verdict = Verdict::Queued(QueueId::from_number(1));
        Self { settings, is_trusted: false, is_storage_low: false, verdict, piece: usize::MAX }
    }
}

impl Player {
    /// Plays groups of commands; each is sent when the one before is answered.
    fn play(&self, groups: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut notes = Notes::default();
        let mut session = Session::new(Origin::default(), self.is_trusted);
        let mut context = Context {
            settings: &self.settings,
            wall: Timestamp::from_unix_microseconds(1),
            is_storage_low: self.is_storage_low,
            observer: &mut notes,
        };
        let (mut replies, mut content) = (Vec::new(), Vec::new());
        for group in groups {
            for piece in group.as_bytes().chunks(self.piece) {
                let mut rest = piece;
                loop {
                    let step = session.feed(&mut context, rest, &mut replies);
                    rest = &rest[step.consumed..];
                    assert!(replies.len() <= REPLIES_SIZE_MAX);
                    match step.event {
                        Event::NeedInput => break,
                        Event::SendReplies => outcome
                            .replies
                            .push_str(&String::from_utf8(core::mem::take(&mut replies)).unwrap()),
                        Event::ContentBegin => content.clear(),
                        Event::Content(octets) => content.extend_from_slice(octets),
                        Event::ContentEnd => {
                            outcome.recipients += session.envelope().unwrap().recipients.len();
                            if matches!(self.verdict, Verdict::Queued(_)) {
                                outcome.messages.push(String::from_utf8(content.clone()).unwrap());
                            }
                            session.verdict(&mut context, self.verdict.clone(), &mut replies);
                        }
                        Event::ContentAbandon => content.clear(),
                        Event::Delay { .. } => outcome.delays += 1,
                        Event::Ask(_) => outcome.questions += 1,
                        Event::Close => {
                            outcome.is_closed = true;
                            break;
                        }
                    }
                }
                assert!(rest.is_empty() || outcome.is_closed, "input left: {rest:?}");
            }
        }
        outcome.replies.push_str(&String::from_utf8(replies).unwrap());
        outcome
    }

    /// The replies' first words after `groups`, the reply to EHLO left out.
    fn codes(&self, groups: &[&str]) -> String {
        let outcome = self.play(groups);
        let codes = outcome.replies.lines().filter(|line| line.as_bytes().get(3) == Some(&b' '));
        codes.map(|line| &line[..3]).collect::<Vec<_>>().join(" ")
    }
}

const EHLO: &str = "EHLO client.example.net\r\n";
const ENVELOPE: &str = "MAIL FROM:<a@client.example.net>\r\nRCPT TO:<user@example.com>\r\n";

#[test]
fn greeting_and_keywords() {
    let player = Player::default();
    let mut session = Session::new(Origin::default(), false);
    let (mut notes, mut replies) = (Notes::default(), Vec::new());
    let mut context = Context {
        settings: &player.settings,
        wall: Timestamp::default(),
        is_storage_low: false,
        observer: &mut notes,
    };
    session.greet(&mut context, &mut replies);
    assert_eq!(replies, b"220 mx.example.com ESMTP Mailrace\r\n");
    let outcome = player.play(&[EHLO]);
    assert_eq!(
        outcome.replies,
        "250-mx.example.com\r\n250-PIPELINING\r\n250-SIZE 1000\r\n250-VRFY\r\n250-ENHANCEDSTATUSCODES\r\n\
         250-8BITMIME\r\n250-DSN\r\n250-SMTPUTF8\r\n250-LIMITS RCPTMAX=3\r\n250-BINARYMIME\r\n250 CHUNKING\r\n"
    );
    assert_eq!(player.play(&["HELO x\r\n"]).replies, "250 mx.example.com\r\n");
}

#[test]
fn a_message_by_data_and_by_bdat() {
    let player = Player::default();
    let outcome = player.play(&[EHLO, ENVELOPE, "DATA\r\n", "Subject: x\r\n\r\n..dot\r\n.\r\n", "QUIT\r\n"]);
    assert_eq!(outcome.messages, ["Subject: x\r\n\r\n.dot\r\n"]);
    assert!(
        outcome.replies.ends_with("250 2.0.0 Ok: queued as 000000000001\r\n221 2.0.0 Bye\r\n"),
        "{}",
        outcome.replies
    );
    assert!(outcome.is_closed);
    let chunks = "BDAT 14\r\nSubject: x\r\n\r\nBDAT 5\r\none\r\nBDAT 4 LAST\r\n.two";
    let outcome = player.play(&[EHLO, ENVELOPE, chunks]);
    assert_eq!(outcome.messages, ["Subject: x\r\n\r\none\r\n.two\r\n"]);
    assert!(outcome.replies.ends_with(
        "250 2.0.0 Ok: 14 bytes\r\n250 2.0.0 Ok: 5 bytes\r\n250 2.0.0 Ok: 23 bytes queued as 000000000001\r\n"
    ));
    let binary = "MAIL FROM:<> BODY=BINARYMIME\r\nRCPT TO:<user@example.com>\r\nBDAT 6 LAST\r\na\nb\r\0c";
    assert_eq!(player.play(&[EHLO, binary]).messages, ["a\nb\r\0c"]);
}

#[test]
fn replies_in_every_order() {
    let player = Player::default();
    for (groups, codes) in [
        (&["RCPT TO:<user@example.com>\r\n", "DATA\r\n", "BDAT 2 LAST\r\nab"][..], "503 503 503"),
        (&[ENVELOPE, "MAIL FROM:<b@c.example>\r\n", "DATA now\r\n"], "250 250 503 501"),
        (
            &["MAIL FROM:<a@b.example>\r\n", "DATA\r\n", "RCPT TO:<x@evil.example>\r\n", "DATA\r\n"],
            "250 554 554 554",
        ),
        (
            &[
                ENVELOPE,
                "BDAT 3\r\nabc",
                "DATA\r\n",
                "RCPT TO:<user@example.com>\r\n",
                "MAIL FROM:<>\r\n",
                "RSET\r\n",
                "BDAT 0 LAST\r\n",
            ],
            "250 250 250 503 503 503 250 503",
        ),
        (
            &[ENVELOPE, "BDAT 2000\r\n", &"x".repeat(2000), "BDAT 3\r\nabc", "BDAT 3 LAST\r\nabc", ENVELOPE],
            "250 250 552 551 551 250 250",
        ),
        (&[ENVELOPE, "BDAT 0\r\n", "BDAT 3 LAST\r\nabc", ENVELOPE], "250 250 551 551 250 250"),
        // Postfix discards what follows a refused chunk, whatever the client says in between.
        (
            &[
                ENVELOPE,
                "BDAT 3\r\nabc",
                "BDAT 0\r\n",
                "BDAT 3\r\nabc",
                "RCPT TO:<user@example.com>\r\n",
                "MAIL FROM:<>\r\n",
                "DATA\r\n",
                "NOOP\r\n",
                "BDAT 0\r\n",
                "BDAT 0 LAST\r\n",
                ENVELOPE,
                "BDAT 3 LAST\r\nabc",
            ],
            "250 250 250 551 551 503 503 503 250 551 551 250 250 250",
        ),
        (
            &[ENVELOPE, "BDAT 0\r\n", "RSET\r\n", "BDAT 0\r\n", EHLO, ENVELOPE],
            "250 250 551 250 551 250 250 250",
        ),
        (&["BDAT 3\r\nabc", "MAIL FROM:<>\r\n", "DATA\r\n", "BDAT 3\r\nabc"], "503 503 503 551"),
        (&["BDAT 3 LAST\r\nabc", "BDAT 3 LAST\r\nabc", ENVELOPE], "503 503 250 250"),
        (&["MAIL FROM:<>\r\n", "BDAT 3\r\nabc", "RCPT TO:<user@example.com>\r\n"], "250 554 503"),
        (&[ENVELOPE, "BDAT x\r\n"], "250 250 521"),
        (&["MAIL FROM:<a@b.example>\r\n", "BDAT 12 LAST\r\nRSET\r\nNOOP\r\n", ENVELOPE], "250 554 250 250"),
        (
            &[
                "MAIL\r\n",
                "MAIL FROM:\r\n",
                "MAIL FROM <a@b>\r\n",
                "MAIL FROM:<a@>\r\n",
                "MAIL FROM:<a@b> X=y\r\n",
            ],
            "501 501 501 501 555",
        ),
        (
            &[ENVELOPE, "RCPT\r\n", "RCPT TO:<>\r\n", "RCPT TO:<a@>\r\n", "RCPT TO:<a@example.com> X\r\n"],
            "250 250 501 501 501 555",
        ),
        (
            &[ENVELOPE, "RCPT TO:<b@example.com>\r\nRCPT TO:<postmaster>\r\nRCPT TO:<d@example.com>\r\n"],
            "250 250 250 250 452",
        ),
        (
            &[
                "VRFY\r\n",
                "VRFY user@example.com\r\n",
                "VRFY a@evil.example\r\n",
                "EXPN x\r\n",
                "HELP\r\n",
                "NOOP x\r\n",
                "RSET x\r\n",
            ],
            "501 252 554 502 214 250 501",
        ),
        (
            &["AUTH PLAIN\r\n", "STARTTLS\r\n", "XYZZY\r\n", "\r\n", "MAIL FROM:<\u{1}a@b>\r\n"],
            "503 502 500 500 500",
        ),
        (&[ENVELOPE, EHLO, "RCPT TO:<user@example.com>\r\n"], "250 250 250 503"),
    ] {
        let groups: Vec<&str> = [&[EHLO][..], groups].concat();
        let played = player.codes(&groups);
        assert_eq!(played.strip_prefix("250 "), Some(codes), "{groups:?}");
    }
}

/// Clients say HELO after EHLO out of habit and go on in groups: to Postfix they are ESMTP clients still.
#[test]
fn helo_after_ehlo_takes_no_extension_away() {
    let mut player = Player::default();
    let group = alloc::format!("RSET\r\n{ENVELOPE}DATA\r\n");
    let groups = [EHLO, "HELO other.example.net\r\n", &group, "x\r\n.\r\n"];
    assert_eq!(player.codes(&groups), "250 250 250 250 250 354 250");
    let mut session = Session::new(Origin::default(), false);
    let (mut notes, mut replies) = (Notes::default(), Vec::new());
    let mut context = Context {
        settings: &player.settings,
        wall: Timestamp::default(),
        is_storage_low: false,
        observer: &mut notes,
    };
    for (line, protocol, helo) in [
        ("HELO a\r\n", Protocol::Smtp, "a"),
        ("EHLO b\r\n", Protocol::Esmtp, "b"),
        ("HELO c\r\n", Protocol::Esmtp, "c"),
        ("EHLO\r\n", Protocol::Esmtp, "c"),
    ] {
        session.feed(&mut context, line.as_bytes(), &mut replies);
        assert_eq!((session.origin().protocol, &*session.origin().helo), (protocol, helo.as_bytes()));
    }
    for (groups, codes, is_closed) in [
        (&["HELO c\r\n", ENVELOPE][..], "250 554", true),
        (&["HELO c\r\n", EHLO, ENVELOPE], "250 250 250 250", false),
        (&["EHLO\r\n", ENVELOPE], "501 554", true),
        (&[EHLO, "EHLO\r\n", ENVELOPE], "250 501 250 250", false),
        (&[EHLO, "HELO c\r\nNOOP\r\n"], "250 554", true),
        (&[EHLO, "NOOP\r\nNOOP\r\n"], "250 554", true),
        (&[EHLO, "VRFY u@example.com\r\nNOOP\r\n"], "250 554", true),
        (&[EHLO, "DATA\r\nRSET\r\n"], "250 554", true),
        (&[EHLO, "RSET\r\nHELP\r\nEXPN x\r\nSTARTTLS\r\nNOOP\r\n"], "250 250 214 502 502 250", false),
        (&[EHLO, "XYZZY\r\nNOOP\r\n"], "250 500 250", false),
        (&[EHLO, "QUIT\r\nNOOP\r\n"], "250 221", true),
        (&["QUIT\r\nNOOP\r\n"], "554", true),
        (&[EHLO, "QUIT now\r\n"], "250 221", true),
        (&["HELO c\r\n", "RSET\r\nNOOP\r\n"], "250 554", true),
    ] {
        assert_eq!(player.codes(groups), codes, "{groups:?}");
        assert_eq!(player.play(groups).is_closed, is_closed, "{groups:?}");
    }
    player.settings.smtpd_forbid_unauth_pipelining = false;
    assert_eq!(player.codes(&["HELO c\r\n", ENVELOPE]), "250 250 250");
    assert_eq!(player.codes(&[EHLO, "NOOP\r\nVRFY u@example.com\r\nHELO c\r\n"]), "250 250 252 250");
}

#[test]
fn sessions_end_where_they_must() {
    let player = Player::default();
    for (group, reply) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye."),
        ("Subject: x\r\n", "221 2.7.0 Error: I can break rules, too. Goodbye."),
        ("EHLO x\r\nMAIL FROM:<a@b>\r\n", "554 5.5.0 Error: SMTP protocol synchronization"),
        ("HELO x\r\nMAIL FROM:<a@b>\r\n", "554 5.5.0 Error: SMTP protocol synchronization"),
    ] {
        let outcome = player.play(&[group]);
        assert_eq!(outcome.replies.trim_end(), reply);
        assert!(outcome.is_closed);
    }
    let outcome = player.play(&[EHLO, &"BOGUS\r\n".repeat(60)]);
    assert_eq!(outcome.replies.matches("500 5.5.2").count(), 20);
    assert!(outcome.replies.ends_with("421 4.7.0 mx.example.com Error: too many errors\r\n"));
    let noops = ["NOOP\r\n"; 130];
    assert!(player.play(&noops).is_closed);
    let slow = Player {
        settings: Settings { smtpd_error_sleep_time_ms: 1000, ..player.settings },
        ..Player::default()
    };
    assert_eq!(slow.play(&["BOGUS\r\n"; 15]).delays, 6);
}

#[test]
fn bare_newlines_end_nothing() {
    let smuggled = "x\r\n\r\nouter\n.\nMAIL FROM:<b@c>\r\nRCPT TO:<v@example.com>\r\nDATA\r\n\r\ny\r\n.\r\n";
    let groups = [EHLO, ENVELOPE, "DATA\r\n", smuggled];
    let mut player = Player::default();
    assert_eq!(player.play(&groups).messages.len(), 1);
    player.settings.smtpd_forbid_bare_newline = BareNewline::Reject;
    let outcome = player.play(&groups);
    assert!(outcome.messages.is_empty());
    assert!(outcome.replies.ends_with("550 5.5.2 mx.example.com Error: bare <LF> received\r\n"));
    assert!(!outcome.is_closed);
    assert!(player.play(&[EHLO, "NOOP\n"]).is_closed);
    assert!(!player.play(&[EHLO]).replies.contains("BINARYMIME"));
    player.is_trusted = true;
    assert!(player.play(&[EHLO, "NOOP\n"]).replies.ends_with("250 2.0.0 Ok\r\n"));
}

/// Another system that keeps the CR must not see another header section.
#[test]
fn a_line_with_a_cr_too_many_is_not_empty() {
    let text = "A: b\r\n\r\r\nC: d\r\n\r\nx\r\r\ny\r";
    let expected = "A: b\r\n \r\nC: d\r\n\r\nx \r\ny \r\n";
    let size = text.len();
    let chunk = alloc::format!("BDAT {size} LAST\r\n{text}");
    let data = alloc::format!("{text}\r\n.\r\n");
    for piece in [1, 2, 3, 5, usize::MAX] {
        let player = Player { piece, ..Player::default() };
        assert_eq!(player.play(&[EHLO, ENVELOPE, "DATA\r\n", &data]).messages, [expected]);
        assert_eq!(player.play(&[EHLO, ENVELOPE, &chunk]).messages, [expected]);
        for cut in 0..size {
            let (front, back) = text.split_at(cut.max(1));
            let chunks = alloc::format!("BDAT {}\r\n{front}BDAT {} LAST\r\n{back}", front.len(), back.len());
            assert_eq!(player.play(&[EHLO, ENVELOPE, &chunks]).messages, [expected], "{cut}");
        }
        let trusted = Player { piece, is_trusted: true, ..Player::default() };
        let messages = trusted.play(&[EHLO, ENVELOPE, "DATA\r\n", &data]).messages;
        assert_eq!(messages, ["A: b\r\n\r\nC: d\r\n\r\nx\r\ny\r\n"]);
    }
}

#[test]
fn limits_are_told() {
    let mut player = Player::default();
    let long = "x".repeat(998);
    let outcome = player.play(&[EHLO, ENVELOPE, "DATA\r\n", &long, "\r\n", &long, "\r\n.\r\n", ENVELOPE]);
    assert!(outcome.messages.is_empty());
    assert!(
        outcome
            .replies
            .ends_with("552 5.3.4 Error: message file too big\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n")
    );
    let line = alloc::format!("NOOP {}\r\n", "x".repeat(5000));
    assert_eq!(player.codes(&[&line, "NOOP\r\n"]), "500 250");
    let end = "421 4.7.0 mx.example.com Error: too many errors\r\n";
    for pieces in
        [&["x".repeat(512).as_str(); 200][..], &[&"x".repeat(102_400)], &[&("x".repeat(102_400) + "\r\n")]]
    {
        let outcome = player.play(pieces);
        assert!(outcome.is_closed, "a line without end");
        assert_eq!(outcome.replies, end);
    }
    player.is_storage_low = true;
    assert_eq!(player.codes(&["MAIL FROM:<>\r\n"]), "452");
    player.is_storage_low = false;
    let refused = Verdict::Refused { reason: "too_many_hops", reply: b"554 5.4.0 Error"[..].into() };
    for (verdict, code) in
        [(refused, "554"), (Verdict::QueueWriteFailed, "451"), (Verdict::StorageFull, "452")]
    {
        player.verdict = verdict;
        assert_eq!(
            player.codes(&[EHLO, ENVELOPE, "DATA\r\n", ".\r\n", ENVELOPE]),
            alloc::format!("250 250 250 354 {code} 250 250")
        );
    }
}

#[test]
fn relaying_is_refused_unless_trusted() {
    let mut player = Player::default();
    let group = "MAIL FROM:<>\r\nRCPT TO:<a%evil.example@example.com>\r\n";
    let outcome = player.play(&[EHLO, group]);
    assert!(outcome.replies.ends_with("554 5.7.1 <a%evil.example@example.com>: Relay access denied\r\n"));
    player.is_trusted = true;
    assert_eq!(player.codes(&[EHLO, group]), "250 250 250");
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 160, "{}", size_of::<Session>());
}

proptest! {
    #[test]
    fn pieces_change_nothing(
        lines in prop::collection::vec(prop::sample::select(&[
            ENVELOPE, "DATA\r\n", "text\r\n", "..x\r\n", ".\r\n", "RSET\r\n", "BDAT 4\r\nab\r\n", "BDAT 3 LAST\r\nabc",
            "MAIL FROM:<a@b>\r\n", "RCPT TO:<x@evil.example>\r\n", "a\nb\r\n", "BOGUS\r\n", "\r\n",
        ][..]), 0..12),
        piece in 1usize..30,
    ) {
        let mut player = Player::default();
        player.settings.smtpd_forbid_unauth_pipelining = false;
        let all = [EHLO, &lines.concat()];
        let whole = player.play(&all);
        player.piece = piece;
        prop_assert_eq!(player.play(&all), whole);
    }

    #[test]
    fn any_octets_are_answered_or_awaited(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let text: String = octets.iter().map(|octet| char::from(*octet)).collect();
        Player::default().play(&[EHLO, &text]);
    }
}

/// A table of domains that has to be asked twice, and one that cannot be asked.
#[derive(Debug)]
struct SlowDomains(core::sync::atomic::AtomicU64);

impl LookupTable for SlowDomains {
    fn look_up<'a>(
        &'a self,
        _arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let asked = self.0.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
        match key {
            b"broken.example" => Err(LookupError::Unavailable),
            _ if asked.is_multiple_of(2) => Err(LookupError::Pending(Ticket(asked))),
            b"example.net" => Ok(Some(b"x")),
            _ => Ok(None),
        }
    }
}

#[test]
fn a_table_of_domains_is_waited_for() {
    let groups = [
        "EHLO client.example\r\n",
        "MAIL FROM:<a@b>\r\nRCPT TO:<a@example.net>\r\nRCPT TO:<b@example.com>\r\nRCPT TO:<c@other>\r\n\
         RCPT TO:<d@broken.example>\r\nDATA\r\n",
        "x\r\n.\r\n",
    ];
    for piece in 1..40 {
        let mut player = Player { piece, ..Player::default() };
        player.settings.destinations = Arc::new(Destinations {
            relay_domains: {
                let mut domains: Domains = ["example.com"].into_iter().collect();
                domains.add_tables(Maps::new(alloc::vec![Arc::new(SlowDomains(0.into()))]), false);
                domains
            },
            ..Destinations::default()
        });
        let outcome = player.play(&groups);
        let replies = outcome.replies.rsplit_once("250 2.1.0 Ok").unwrap().1;
        let expected = "\r\n250 2.1.5 Ok\r\n250 2.1.5 Ok\r\n554 5.7.1 <c@other>: Relay access denied\r\n\
                        451 4.3.0 <d@broken.example>: Temporary lookup failure\r\n354 ";
        assert!(replies.starts_with(expected), "pieces of {piece}: {replies}");
        assert_eq!((outcome.recipients, outcome.questions), (2, 2), "pieces of {piece}");
    }
}
