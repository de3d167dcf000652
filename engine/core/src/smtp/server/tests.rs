//! Properties of a session beyond single dialogues, which are in `tests/session`: pieces change nothing, and tables are
//! waited for.

use alloc::string::String;
use alloc::vec::Vec;
use bumpalo::Bump;
use proptest::prelude::*;

use super::*;
use crate::address::{Destinations, Domains};
use crate::envelope::Protocol;
use crate::lookup::{self, Asker, Awaited, LookupError, LookupTable, Maps, Ticket};
use crate::{Origin, QueueId, Sharer, Timestamp};
use alloc::sync::Arc;

struct Notes;

impl Observer for Notes {
    fn replied(&mut self, _code: u16) {}
    fn rejected(&mut self, _origin: &Origin, _reject: &Reject<'_>) {}
}

/// Result of a dialogue.
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
        Self { settings, is_trusted: false, piece: usize::MAX }
    }
}

impl Player {
    /// Plays groups of commands; each is sent when the one before is answered.
    fn play(&self, groups: &[&str]) -> Outcome {
        let mut outcome = Outcome::default();
        let mut notes = Notes;
        let mut session = Session::new(Origin::default(), self.is_trusted);
        let mut context = Context {
            settings: &self.settings,
            wall: Timestamp::from_unix_microseconds(1),
            is_storage_low: false,
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
                            outcome.messages.push(String::from_utf8(content.clone()).unwrap());
                            let verdict = Verdict::Queued(QueueId::from_number(1));
                            session.verdict(&mut context, verdict, &mut replies);
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
}

const EHLO: &str = "EHLO client.example.net\r\n";
const ENVELOPE: &str = "MAIL FROM:<a@client.example.net>\r\nRCPT TO:<user@example.com>\r\n";

/// Clients say HELO after EHLO out of habit and go on in groups: to Postfix they are ESMTP clients still.
#[test]
fn helo_after_ehlo_changes_only_the_name() {
    let player = Player::default();
    let mut session = Session::new(Origin::default(), false);
    let (mut notes, mut replies) = (Notes, Vec::new());
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
}

/// Another system that keeps the CR must not see another header section.
#[test]
fn a_line_with_an_extra_cr_is_not_empty() {
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
fn an_idle_session_is_small() {
    assert!(size_of::<Session>() <= 160, "{}", size_of::<Session>());
}

proptest! {
    #[test]
    fn splitting_the_input_changes_nothing(
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
    fn any_input_is_answered_or_waits_for_more(octets in prop::collection::vec(any::<u8>(), 0..200)) {
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
fn waits_for_a_table_of_domains() {
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

/// A table that counts its questions, and gives each answer once, where it was told to.
#[derive(Debug, Default)]
struct Counting {
    asked: core::sync::atomic::AtomicU64,
    answered: std::sync::Mutex<alloc::collections::BTreeMap<Ticket, Arc<Arrival>>>,
}

#[derive(Debug, Default)]
struct Arrival(core::sync::atomic::AtomicBool);

impl Awaited for Arrival {
    fn outcome(&self) -> Option<lookup::Outcome<'_>> {
        self.0.load(core::sync::atomic::Ordering::Relaxed).then_some(lookup::Outcome::Answered(Some(b"x")))
    }
}

impl Counting {
    fn answer(&self, ticket: Ticket) {
        let arrival = self.answered.lock().unwrap().remove(&ticket).unwrap();
        arrival.0.store(true, core::sync::atomic::Ordering::Relaxed);
    }
}

impl LookupTable for Counting {
    fn look_up<'a>(&'a self, _: &'a Bump, _: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        unreachable!("it is asked in a transaction")
    }

    fn ask<'a>(&'a self, _: &'a Bump, _: &[u8], asker: Asker<'_>) -> Result<Option<&'a [u8]>, LookupError> {
        let ticket = Ticket(self.asked.fetch_add(1, core::sync::atomic::Ordering::Relaxed));
        let arrival = Arc::<Arrival>::default();
        self.answered.lock().unwrap().insert(ticket, Arc::clone(&arrival));
        Err(asker.wait_for(ticket, arrival))
    }

    fn may_wait(&self) -> bool {
        true
    }
}

/// Plays groups of commands, each with the total number of questions that `table` has been asked after it.
fn assert_asked(settings: &Settings, table: &Counting, groups: &[(&str, u64)]) {
    let mut session = Session::new(Origin::default(), false);
    let (mut notes, mut replies) = (Notes, Vec::new());
    let mut context =
        Context { settings, wall: Timestamp::default(), is_storage_low: false, observer: &mut notes };
    for (input, asked) in groups {
        let mut rest = input.as_bytes();
        loop {
            let step = session.feed(&mut context, rest, &mut replies);
            rest = &rest[step.consumed..];
            match step.event {
                Event::NeedInput => break,
                Event::Ask(ticket) => {
                    // An early call finds the question under way.
                    let again = session.feed(&mut context, rest, &mut replies);
                    assert_eq!(again, Step { consumed: 0, event: Event::Ask(ticket) });
                    table.answer(ticket);
                    assert!(session.memory() > 0);
                }
                event => panic!("{event:?}"),
            }
        }
        assert_eq!(table.asked.load(core::sync::atomic::Ordering::Relaxed), *asked, "{input}");
    }
    let replies = String::from_utf8(replies).unwrap();
    assert!(!replies.contains("\r\n4") && !replies.contains("\r\n5"), "{replies}");
}

#[test]
fn each_question_is_asked_exactly_once_in_a_transaction() {
    let table = Arc::new(Counting::default());
    let mut player = Player::default();
    let mut domains = Domains::default();
    domains.add_tables(Maps::new(alloc::vec![Arc::<Counting>::clone(&table) as Arc<dyn LookupTable>]), false);
    player.settings.destinations =
        Arc::new(Destinations { relay_domains: domains, ..Destinations::default() });
    let group =
        "MAIL FROM:<>\r\nRCPT TO:<a@one.example>\r\nRCPT TO:<b@one.example>\r\nRCPT TO:<c@two.example>\r\n";
    let groups = [(EHLO, 0), (group, 2), ("VRFY a@one.example\r\n", 2), ("RSET\r\n", 2), (group, 4)];
    assert_asked(&player.settings, &table, &groups);
}

/// Routes in a table, which may have to be waited for.
#[derive(Debug)]
struct Routed(Maps);

impl Routes for Routed {
    fn dead_end<'a>(
        &self,
        _: &'a Bump,
        sender: &[u8],
        address: &[u8],
        asker: Asker<'_>,
    ) -> Result<Option<DeadEnd<'a>>, LookupError> {
        let key = [sender, b" ", address].concat();
        self.0.find(&Bump::new(), &key, asker).map(|_| None)
    }

    fn may_wait(&self) -> bool {
        true
    }
}

#[test]
fn each_route_is_looked_up_once_in_a_transaction() {
    let table = Arc::new(Counting::default());
    let maps = Maps::new(alloc::vec![Arc::<Counting>::clone(&table) as Arc<dyn LookupTable>]);
    let mut player = Player::default();
    player.settings.listed_addresses = Arc::new(ListedAddresses {
        smtpd_reject_unlisted_sender: true,
        routes: Some(Arc::new(Routed(maps))),
        ..ListedAddresses::default()
    });
    let group = "MAIL FROM:<s@example.com>\r\nRCPT TO:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n";
    // To and from each recipient.
    let groups = [(EHLO, 0), (group, 4), ("VRFY a@example.com\r\n", 4), ("RSET\r\n", 4), (group, 8)];
    assert_asked(&player.settings, &table, &groups);
}

#[test]
fn each_address_is_validated_once_in_a_transaction() {
    let table = Arc::new(Counting::default());
    let maps = Maps::new(alloc::vec![Arc::<Counting>::clone(&table) as Arc<dyn LookupTable>]);
    let mut player = Player::default();
    player.settings.listed_addresses = Arc::new(ListedAddresses {
        smtpd_reject_unlisted_sender: true,
        relay: ClassTables { maps, ..ClassTables::default() },
        ..ListedAddresses::default()
    });
    let group = "MAIL FROM:<s@example.com>\r\nRCPT TO:<a@example.com>\r\nRCPT TO:<b@example.com>\r\n";
    let groups = [(EHLO, 0), (group, 3), ("VRFY a@example.com\r\n", 3), ("RSET\r\n", 3), (group, 6)];
    assert_asked(&player.settings, &table, &groups);
}
