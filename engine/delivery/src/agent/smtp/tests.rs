//! Dialogues with servers that the tests play.

use mailrace_core::envelope::Recipient;
use mailrace_core::{Envelope, QueueId};

use super::*;
use crate::manager::Job;
use crate::route::Route;

const HOST: &str = "192.0.2.1[192.0.2.1]";

fn settings() -> SmtpSettings {
    let second = Duration::from_secs(1);
    SmtpSettings {
        protocol: Protocol::Smtp,
        own_name: b"mx.example.com".as_slice().into(),
        helo_name: b"mx.example.com".as_slice().into(),
        line_length_limit: 998,
        connection_cache_time: 2 * second,
        address_limit: 5,
        session_limit: 2,
        timeouts: Timeouts {
            connect: second,
            helo: 2 * second,
            mail: 3 * second,
            rcpt: 4 * second,
            data_init: 5 * second,
            data_xfer: 6 * second,
            data_done: 7 * second,
            quit: 9 * second,
        },
    }
}

/// A delivery from `a@example.com` to these, whose connection was just made.
fn delivery(recipients: &[&str]) -> SmtpDelivery {
    delivery_of(Envelope { sender: b"a@example.com".to_vec(), ..Envelope::default() }, recipients)
}

fn handed(mut envelope: Envelope, recipients: &[&str]) -> Handed {
    let recipient =
        |address: &&str| Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() };
    envelope.recipients = recipients.iter().map(recipient).collect();
    let recipients: Vec<u32> = (0..u32::try_from(recipients.len()).unwrap()).collect();
    let job = Job {
        id: QueueId::from_number(1),
        envelope: Arc::new(envelope),
        route: Route { transport: 0, next_hop: "[192.0.2.1]".into(), mailbox: None },
        recipients: recipients.clone(),
    };
    Handed { job, recipients, size: 5 }
}

fn delivery_of(envelope: Envelope, recipients: &[&str]) -> SmtpDelivery {
    let server = Server::at("192.0.2.1:25".parse().unwrap());
    SmtpDelivery::new(server, handed(envelope, recipients), Arc::new(settings()))
}

fn lmtp(recipients: &[&str]) -> SmtpDelivery {
    let settings = SmtpSettings { protocol: Protocol::Lmtp, ..settings() };
    let server = Server::at("192.0.2.1:25".parse().unwrap());
    SmtpDelivery::new(server, handed(Envelope::default(), recipients), Arc::new(settings))
}

impl SmtpDelivery {
    /// The server says this, and gets that.
    fn hears(&mut self, said: &str, sent: &str) {
        self.received(said.as_bytes());
        let output = std::mem::take(self.output());
        assert_eq!(String::from_utf8(output).unwrap(), sent, "in reply to {said}");
    }

    /// The same, and the client has nothing further to do there.
    fn hears_last(&mut self, said: &str) {
        self.hears(said, "");
        assert!(self.is_idle() && !self.is_over(), "in reply to {said}");
        self.quit();
        self.hears("", "QUIT\r\n");
        assert!(self.is_over());
    }

    fn greet(&mut self, keywords: &[&str]) {
        self.hears("220 mail.example ESMTP\r\n", "EHLO mx.example.com\r\n");
        let mut reply = "250-mail.example\r\n".to_owned();
        keywords.iter().for_each(|keyword| reply += &format!("250-{keyword}\r\n"));
        self.received((reply + "250 HELP\r\n").as_bytes());
    }

    fn told(&self) -> Vec<(&'static str, String, String)> {
        let told = |outcome: &Outcome| {
            let Cause { status, text, .. } = outcome.cause();
            (outcome.word(), status.to_string(), String::from_utf8(text.to_vec()).unwrap())
        };
        self.report().expect("all recipients have an outcome").outcomes.iter().map(told).collect()
    }

    fn is_told(&self, word: &str, status: &str, text: &str) {
        for (found, found_status, found_text) in self.told() {
            assert_eq!((found, &*found_status, &*found_text), (word, status, text));
        }
    }

    fn is_healthy(&self) -> bool {
        self.report().unwrap().health == Health::Good
    }
}

#[test]
fn commands_go_together_where_the_server_allows_it() {
    let mut delivery = delivery(&["b@example.net", "c d@example.net"]);
    delivery.greet(&["PIPELINING", "8BITMIME", "SIZE 1000"]);
    delivery.hears(
        "",
        "MAIL FROM:<a@example.com> SIZE=5\r\nRCPT TO:<b@example.net>\r\nRCPT TO:<\"c d\"@example.net>\r\nDATA\r\n",
    );
    delivery.hears("250 Ok\r\n250 Ok\r\n550 5.1.1 no c\r\n", "");
    assert!(!delivery.wants_content());
    delivery.hears("354 Go\r\n", "");
    delivery.content(b".x\r", false);
    delivery.content(b"\n", true);
    delivery.hears("", "..x\r\n.\r\n");
    assert_eq!(delivery.report(), None);
    delivery.hears_last("250 2.0.0 Ok: queued as 77\r\n");
    let said = format!("host {HOST} said: 550 5.1.1 no c (in reply to RCPT TO command)");
    let expected = [
        ("sent", "2.0.0".to_owned(), "250 2.0.0 Ok: queued as 77".to_owned()),
        ("bounced", "5.1.1".to_owned(), said),
    ];
    assert_eq!(delivery.told(), expected);
    assert!(delivery.is_over() && delivery.is_healthy());
}

#[test]
fn the_null_reverse_path_stays_what_it_is() {
    let mut delivery = delivery_of(Envelope::default(), &["b@example.net"]);
    delivery.greet(&[]);
    delivery.hears("", "MAIL FROM:<>\r\n");
}

#[test]
fn each_command_waits_for_its_reply_where_it_has_to() {
    let mut delivery = delivery(&["b@example.net", "c@example.net"]);
    delivery.greet(&[]);
    delivery.hears("", "MAIL FROM:<a@example.com>\r\n");
    delivery.hears("250 Ok\r\n", "RCPT TO:<b@example.net>\r\n");
    delivery.hears("450 later\r\n", "RCPT TO:<c@example.net>\r\n");
    delivery.hears("250 Ok\r\n", "DATA\r\n");
    delivery.hears("354 Go\r\n", "");
    delivery.content(b"", true);
    delivery.hears("", ".\r\n");
    delivery.hears_last("250-2.0.0 a\r\n250 2.0.0 b\r\n");
    let said = format!("host {HOST} said: 450 later (in reply to RCPT TO command)");
    let expected = [
        ("deferred", "4.0.0".to_owned(), said),
        ("sent", "2.0.0".to_owned(), "250-2.0.0 a 250 2.0.0 b".to_owned()),
    ];
    assert_eq!(delivery.told(), expected);
}

#[test]
fn without_an_accepted_recipient_no_content_is_sent() {
    let mut alone = delivery(&["b@example.net"]);
    alone.greet(&[]);
    alone.hears("", "MAIL FROM:<a@example.com>\r\n");
    alone.hears("250 Ok\r\n", "RCPT TO:<b@example.net>\r\n");
    alone.hears_last("550 no\r\n");
    assert!(alone.is_over());
    let mut piped = delivery(&["b@example.net"]);
    piped.greet(&["PIPELINING"]);
    piped.output().clear();
    piped.hears("250 Ok\r\n550 no\r\n", "");
    assert!(piped.report().is_some() && !piped.is_over(), "the reply to DATA is awaited");
    piped.hears("354 Go\r\n", ".\r\n");
    piped.hears_last("554 no valid recipients\r\n");
    piped.is_told("bounced", "5.0.0", &format!("host {HOST} said: 550 no (in reply to RCPT TO command)"));
    assert!(piped.is_over());
}

#[test]
fn a_refused_command_decides_for_all() {
    for (replies, command) in [
        ("550 no\r\n503 no\r\n503 no\r\n", "MAIL FROM command"),
        ("250 Ok\r\n250 Ok\r\n550 no\r\n", "DATA command"),
    ] {
        let mut delivery = delivery(&["b@example.net"]);
        delivery.greet(&["PIPELINING"]);
        delivery.output().clear();
        delivery.hears_last(replies);
        delivery.is_told("bounced", "5.0.0", &format!("host {HOST} said: 550 no (in reply to {command})"));
        assert!(delivery.is_healthy(), "the server was there");
    }
    let mut delivery = delivery(&["b@example.net"]);
    delivery.greet(&["PIPELINING"]);
    delivery.received(b"250 Ok\r\n250 Ok\r\n354 Go\r\n");
    delivery.content(b"x\r\n", true);
    delivery.output().clear();
    delivery.hears_last("452 4.3.1 full\r\n");
    let text = format!("host {HOST} said: 452 4.3.1 full (in reply to end of DATA command)");
    delivery.is_told("deferred", "4.3.1", &text);
}

#[test]
fn a_server_that_does_not_talk_is_a_failed_destination() {
    let mut busy = delivery(&["b@example.net"]);
    busy.hears("421 4.7.0 busy\r\n", "");
    busy.is_told("deferred", "4.7.0", &format!("host {HOST} refused to talk to me: 421 4.7.0 busy"));
    assert!(!busy.is_healthy() && busy.is_over());
    let mut closed = delivery(&["b@example.net"]);
    closed.hears("554 5.7.1 not here\r\n", "");
    closed.is_told("deferred", "4.7.1", &format!("host {HOST} refused to talk to me: 554 5.7.1 not here"));
    assert!(!closed.is_healthy());
    let mut old = delivery(&["b@example.net"]);
    old.hears("220 hi\r\n", "EHLO mx.example.com\r\n");
    old.hears("502 what\r\n", "HELO mx.example.com\r\n");
    old.hears("250 hi\r\n", "MAIL FROM:<a@example.com>\r\n");
    let mut stranger = delivery(&["b@example.net"]);
    stranger.hears("220 hi\r\n", "EHLO mx.example.com\r\n");
    stranger.hears("502 what\r\n", "HELO mx.example.com\r\n");
    stranger.hears_last("550 no\r\n");
    stranger.is_told("bounced", "5.0.0", &format!("host {HOST} refused to talk to me: 550 no"));
}

#[test]
fn a_lost_connection_defers_what_is_not_decided() {
    let cases = [
        ("", "receiving the initial server greeting"),
        ("220 a\r\n", "performing the EHLO handshake"),
        ("220 a\r\n250 PIPELINING\r\n", "sending MAIL FROM"),
        ("220 a\r\n250-a\r\n250 PIPELINING\r\n250 Ok\r\n", "sending RCPT TO"),
        ("220 a\r\n250-a\r\n250 PIPELINING\r\n250 Ok\r\n250 Ok\r\n550 no\r\n", "sending DATA command"),
        (
            "220 a\r\n250-a\r\n250 PIPELINING\r\n250 Ok\r\n250 Ok\r\n550 no\r\n354 Go\r\n",
            "sending message body",
        ),
    ];
    for (received, doing) in cases {
        let mut delivery = delivery(&["b@example.net", "c@example.net"]);
        delivery.received(received.as_bytes());
        delivery.lost(Loss::Closed);
        let (_, status, text) = delivery.told().remove(0);
        assert_eq!((&*status, text), ("4.4.2", format!("lost connection with {HOST} while {doing}")));
        assert!(delivery.is_over() && !delivery.is_healthy());
        let refused = if received.contains("550") { "bounced" } else { "deferred" };
        assert_eq!(delivery.told()[1].0, refused);
    }
    let mut late = delivery(&["b@example.net"]);
    late.greet(&["PIPELINING"]);
    late.received(b"250 Ok\r\n250 Ok\r\n354 Go\r\n");
    assert_eq!(late.patience(), Duration::from_secs(6));
    late.content(b"x", true);
    assert_eq!(late.patience(), Duration::from_secs(7));
    late.lost(Loss::TimedOut);
    let doing = "sending end of data -- message may be sent more than once";
    late.is_told("deferred", "4.4.2", &format!("conversation with {HOST} timed out while {doing}"));
    let mut absent = delivery(&["b@example.net"]);
    absent.not_connected("Connection refused");
    absent.is_told("deferred", "4.4.1", &format!("connect to {HOST}:25: Connection refused"));
}

#[test]
fn a_421_in_a_transaction_defers_and_says_nothing_of_the_destination() {
    let mut delivery = delivery(&["b@example.net"]);
    delivery.greet(&["PIPELINING"]);
    delivery.received(b"250 Ok\r\n421 4.3.2 shutting down\r\n");
    let text = format!("host {HOST} said: 421 4.3.2 shutting down (in reply to RCPT TO command)");
    delivery.is_told("deferred", "4.3.2", &text);
    assert!(delivery.is_healthy() && delivery.is_over());
}

#[test]
fn an_answer_before_the_end_of_content_counts_unless_it_is_positive() {
    for (reply, word, text) in [
        (
            "552 5.3.4 too big\r\n",
            "bounced",
            format!("host {HOST} said: 552 5.3.4 too big (in reply to end of DATA command)"),
        ),
        ("250 Ok\r\n", "deferred", format!("Protocol error: host {HOST} said: 250 Ok")),
    ] {
        let mut delivery = delivery(&["b@example.net"]);
        delivery.greet(&["PIPELINING"]);
        delivery.received(b"250 Ok\r\n250 Ok\r\n354 Go\r\n");
        delivery.content(b"x", false);
        delivery.received(reply.as_bytes());
        assert!(delivery.is_over());
        let (found, _, said) = delivery.told().remove(0);
        assert_eq!((found, said), (word, text));
    }
}

#[test]
fn what_is_no_reply_ends_the_connection() {
    let mut delivery = delivery(&["b@example.net"]);
    delivery.received(b"hello\tthere\r\n");
    delivery.is_told("deferred", "4.5.0", &format!("Protocol error: host {HOST} said: hello?there"));
    assert!(delivery.is_over());
}

#[test]
fn what_the_server_cannot_take_is_not_sent() {
    let envelope = Envelope { sender: b"a@example.com".to_vec(), ..Envelope::default() };
    let mut small = delivery_of(envelope.clone(), &["b@example.net"]);
    small.greet(&["SIZE 4"]);
    small.is_told("bounced", "5.3.4", &format!("message size 5 exceeds size limit 4 of server {HOST}"));
    let mut ascii = delivery_of(Envelope { smtputf8: true, ..envelope }, &["b@example.net"]);
    ascii.greet(&[]);
    ascii.is_told("bounced", "5.6.7", &format!("SMTPUTF8 is required, but was not offered by host {HOST}"));
    let binary = Envelope { body: BodyType::BinaryMime, ..Envelope::default() };
    let mut binary = delivery_of(binary, &["b@example.net"]);
    binary.greet(&["8BITMIME", "CHUNKING", "BINARYMIME"]);
    binary.is_told("bounced", "5.6.3", "content of BODY=BINARYMIME cannot be sent with DATA");
    for delivery in [&mut small, &mut ascii, &mut binary] {
        delivery.hears_last("");
        assert!(delivery.is_over());
    }
}

/// Wherever the server's words are cut, the dialogue is the same.
#[test]
fn pieces_do_not_matter() {
    let said: &[u8] = b"220 a\r\n250-a\r\n250 SIZE 99\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n";
    for cut in 0..=said.len() {
        let mut delivery = delivery(&["b@example.net"]);
        let (first, second) = said.split_at(cut);
        delivery.received(first);
        delivery.received(second);
        assert!(delivery.wants_content(), "cut at {cut}");
    }
}

/// A transaction follows another one, after RSET where the server has one that came to nothing.
#[test]
fn transactions_follow_each_other() {
    let mut delivery = delivery(&["b@example.net"]);
    delivery.greet(&["PIPELINING"]);
    let commands = "MAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n";
    delivery.hears("", commands);
    delivery.received(b"250 Ok\r\n250 Ok\r\n354 Go\r\n");
    delivery.content(b"x\r\n", true);
    delivery.output().clear();
    delivery.hears("250 Ok\r\n", "");
    assert!(delivery.is_idle() && delivery.patience() == Duration::from_secs(2));
    let envelope = Envelope { sender: b"a@example.com".to_vec(), ..Envelope::default() };
    delivery.begin(handed(envelope.clone(), &["b@example.net"]));
    assert!(delivery.transactions() == 2 && !delivery.has_answered() && delivery.report().is_none());
    delivery.hears("", commands);
    delivery.hears("250 Ok\r\n550 no\r\n503 no\r\n", "");
    delivery.is_told("bounced", "5.0.0", &format!("host {HOST} said: 550 no (in reply to RCPT TO command)"));
    assert!(delivery.is_idle() && delivery.has_answered());
    delivery.begin(handed(envelope, &["b@example.net"]));
    delivery.hears("", "RSET\r\n");
    delivery.hears("250 Ok\r\n", commands);
    delivery.lost(Loss::Closed);
    delivery.is_told("deferred", "4.4.2", &format!("lost connection with {HOST} while sending MAIL FROM"));
}

/// RFC 2033 §4.2: a reply for each recipient that was accepted.
#[test]
fn lmtp_answers_for_each_recipient() {
    let recipients = ["a@example.net", "b@example.net", "c@example.net", "d@example.net"];
    let mut delivery = lmtp(&recipients);
    delivery.hears("220 hi\r\n", "LHLO mx.example.com\r\n");
    delivery.received(b"250-hi\r\n250 PIPELINING\r\n");
    delivery.received(b"250 Ok\r\n250 Ok\r\n550 no b\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n");
    delivery.content(b"x\r\n", true);
    delivery.received(b"250 a\r\n452 4.2.2 c is full\r\n");
    assert!(delivery.report().is_none() && !delivery.is_idle());
    delivery.received(b"552 5.2.2 d is full\r\n");
    assert!(delivery.is_idle());
    let words: Vec<&str> = delivery.told().iter().map(|(word, ..)| *word).collect();
    assert_eq!(words, ["sent", "bounced", "deferred", "bounced"]);
    let mut lost = lmtp(&recipients);
    lost.received(b"220 hi\r\n250-hi\r\n250 PIPELINING\r\n");
    lost.received(b"250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n250 Ok\r\n354 Go\r\n");
    lost.content(b"x\r\n", true);
    lost.received(b"250 a\r\n");
    lost.lost(Loss::Closed);
    let words: Vec<&str> = lost.told().iter().map(|(word, ..)| *word).collect();
    assert_eq!(words, ["sent", "deferred", "deferred", "deferred"], "what was answered is done");
}

#[test]
fn a_report_is_left_to_a_server_that_sends_it() {
    for (keyword, action) in [("DSN", None), ("HELP", Some(Action::Relayed))] {
        let mut delivery = delivery(&["b@example.net"]);
        delivery.greet(&["PIPELINING", keyword]);
        delivery.received(b"250 Ok\r\n250 Ok\r\n354 Go\r\n");
        delivery.content(b"x\r\n", true);
        delivery.received(b"250-2.0.0 Ok\r\n250 2.0.0 it is\r\n");
        let Outcome::Sent(cause, found) = delivery.report().unwrap().outcomes.remove(0) else {
            panic!("sent")
        };
        assert_eq!(found, action);
        assert_eq!(
            (&*cause.remote, &*cause.diagnostic),
            (&b"192.0.2.1"[..], &b"250-2.0.0 Ok\n250 2.0.0 it is"[..])
        );
    }
}

#[test]
fn a_reply_that_is_none_of_both_breaks_the_protocol() {
    let mut delivery = delivery(&["b@example.net"]);
    delivery.greet(&["PIPELINING"]);
    delivery.received(b"354 Go\r\n");
    let text = format!("Protocol error: host {HOST} said: 354 Go (in reply to MAIL FROM command)");
    delivery.is_told("bounced", "5.5.0", &text);
}

/// RFC 6152 §3: a server that does not offer 8BITMIME is sent 7 bits.
#[test]
fn content_is_converted_for_a_server_that_takes_seven_bits() {
    let envelope = Envelope { body: BodyType::EightBitMime, ..Envelope::default() };
    let mut delivery = delivery_of(envelope, &["b@example.net"]);
    delivery.greet(&["PIPELINING", "SIZE"]);
    delivery.hears("", "MAIL FROM:<>\r\nRCPT TO:<b@example.net>\r\nDATA\r\n");
    delivery.hears("250 Ok\r\n250 Ok\r\n354 Go\r\n", "");
    let field = "Content-Transfer-Encoding: ";
    delivery.content(format!("{field}8bit\r\n\r\n.\u{e9}\r\n").as_bytes(), true);
    delivery.hears("", &format!("{field}quoted-printable\r\n\r\n..=C3=A9\r\n.\r\n"));
}
