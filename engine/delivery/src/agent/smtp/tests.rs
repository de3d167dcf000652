//! Dialogues with servers that the tests play.

use mailrace_core::envelope::Recipient;
use mailrace_core::{Envelope, QueueId};

use super::*;
use crate::route::NextHop;

const HOST: &str = "192.0.2.1[192.0.2.1]";

fn settings() -> SmtpSettings {
    let second = Duration::from_secs(1);
    SmtpSettings {
        helo_name: b"mx.example.com".as_slice().into(),
        line_length_limit: 998,
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

fn delivery_of(mut envelope: Envelope, recipients: &[&str]) -> SmtpDelivery {
    let recipient =
        |address: &&str| Recipient { address: address.as_bytes().to_vec(), ..Recipient::default() };
    envelope.recipients = recipients.iter().map(recipient).collect();
    let job = Job {
        id: QueueId::from_number(1),
        envelope: Arc::new(envelope),
        next_hop: NextHop::parse("[192.0.2.1]").unwrap(),
        recipients: (0..u32::try_from(recipients.len()).unwrap()).collect(),
    };
    SmtpDelivery::new(job, 5, Arc::new(settings()))
}

impl SmtpDelivery {
    /// The server says this, and gets that.
    fn hears(&mut self, said: &str, sent: &str) {
        self.received(said.as_bytes());
        let output = std::mem::take(self.output());
        assert_eq!(String::from_utf8(output).unwrap(), sent, "in reply to {said}");
    }

    fn greet(&mut self, keywords: &[&str]) {
        self.hears("220 mail.example ESMTP\r\n", "EHLO mx.example.com\r\n");
        let mut reply = "250-mail.example\r\n".to_owned();
        keywords.iter().for_each(|keyword| reply += &format!("250-{keyword}\r\n"));
        self.received((reply + "250 HELP\r\n").as_bytes());
    }

    fn told(&self) -> Vec<(&'static str, String, String)> {
        let told = |outcome: &Outcome| {
            let Reason { status, text } = outcome.reason();
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
    delivery.greet(&["PIPELINING", "SIZE 1000"]);
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
    delivery.hears("250 2.0.0 Ok: queued as 77\r\n", "QUIT\r\n");
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
    delivery.hears("250-2.0.0 a\r\n250 2.0.0 b\r\n", "QUIT\r\n");
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
    alone.hears("550 no\r\n", "QUIT\r\n");
    assert!(alone.is_over());
    let mut piped = delivery(&["b@example.net"]);
    piped.greet(&["PIPELINING"]);
    piped.output().clear();
    piped.hears("250 Ok\r\n550 no\r\n", "");
    assert!(piped.report().is_some() && !piped.is_over(), "the reply to DATA is awaited");
    piped.hears("354 Go\r\n", ".\r\n");
    piped.hears("554 no valid recipients\r\n", "QUIT\r\n");
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
        delivery.hears(replies, "QUIT\r\n");
        delivery.is_told("bounced", "5.0.0", &format!("host {HOST} said: 550 no (in reply to {command})"));
        assert!(delivery.is_healthy(), "the server was there");
    }
    let mut delivery = delivery(&["b@example.net"]);
    delivery.greet(&["PIPELINING"]);
    delivery.received(b"250 Ok\r\n250 Ok\r\n354 Go\r\n");
    delivery.content(b"x\r\n", true);
    delivery.output().clear();
    delivery.hears("452 4.3.1 full\r\n", "QUIT\r\n");
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
    stranger.hears("550 no\r\n", "QUIT\r\n");
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
    let mut ascii = delivery_of(Envelope { smtputf8: true, ..envelope.clone() }, &["b@example.net"]);
    ascii.greet(&[]);
    ascii.is_told("bounced", "5.6.7", &format!("SMTPUTF8 is required, but was not offered by host {HOST}"));
    let mut seven = delivery_of(Envelope { body: BodyType::EightBitMime, ..envelope }, &["b@example.net"]);
    seven.greet(&[]);
    seven.is_told("bounced", "5.6.3", &format!("8BITMIME is required, but was not offered by host {HOST}"));
    let binary = Envelope { body: BodyType::BinaryMime, ..Envelope::default() };
    let mut binary = delivery_of(binary, &["b@example.net"]);
    binary.greet(&["8BITMIME", "CHUNKING", "BINARYMIME"]);
    binary.is_told("bounced", "5.6.3", "content of BODY=BINARYMIME cannot be sent with DATA");
    for delivery in [&mut small, &mut ascii, &mut seven, &mut binary] {
        delivery.hears("", "QUIT\r\n");
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
