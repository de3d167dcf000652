//! Clients that cost more than they bring: they wait, are turned away late, or make room for others.

use super::*;

/// A worker with strangers, who may take as much time as two connections and some receives.
fn rig_with_strangers(settings: WorkerSettings) -> Rig {
    Rig::new(WorkerSettings { client_allowance: Duration::from_micros(150), ..settings })
}

#[test]
fn a_client_that_sends_no_mail_waits_alone() {
    let mut rig = rig_with_strangers(settings());
    let [idler, other] = ["192.0.2.1", "192.0.2.2"].map(|address| rig.connect_from(address));
    let _ = (idler.take(), other.take());
    rig.say(&idler, b"EHLO a.example\r\n");
    let mut answered = 0;
    for _ in 0..100 {
        answered += rig.say(&idler, b"NOOP\r\n").len();
    }
    assert!((16 * 10..16 * 60).contains(&answered), "{answered}");
    assert!(rig.say(&other, b"NOOP\r\n").starts_with("250 "), "another client");
    rig.worker.io.pass(Duration::from_secs(59));
    rig.settle();
    assert!(!idler.take().is_empty(), "it has waited");
    assert!(!idler.is_closed());
}

#[test]
fn a_client_that_owes_is_turned_away_late() {
    let mut rig = rig_with_strangers(WorkerSettings { connection_count_limit: 1, ..settings() });
    let [first, second, third] = [(); 3].map(|()| rig.connect_from("192.0.2.1"));
    assert!(!first.take().is_empty());
    assert!(String::from_utf8(second.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(second.is_closed());
    rig.say(&first, b"EHLO a.example\r\n");
    let fourth = rig.connect_from("192.0.2.1");
    assert!(fourth.take().is_empty() && !fourth.is_closed(), "its client has used its allowance up");
    rig.worker.io.pass(Duration::from_secs(61));
    rig.settle();
    assert!(String::from_utf8(fourth.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(fourth.is_closed() && third.is_closed() && !first.is_closed());
}

#[test]
fn places_that_a_client_gives_back_are_free_while_others_wait_to_be_turned_away() {
    let mut rig = rig_with_strangers(WorkerSettings { connection_count_limit: 1, ..settings() });
    let first = rig.connect_from("192.0.2.1");
    let _ = first.take();
    let held: Vec<Peer> = (0..10).map(|_| rig.connect_from("192.0.2.1")).collect();
    assert!(held.last().unwrap().take().is_empty(), "it waits");
    first.shut();
    rig.settle();
    assert!(first.is_closed());
    let next = rig.connect_from("192.0.2.1");
    rig.worker.io.pass(Duration::from_secs(61));
    rig.settle();
    assert!(String::from_utf8(next.take()).unwrap().starts_with("220 "));
}

#[test]
fn what_waited_is_told_even_if_its_time_is_over_at_the_same_moment() {
    let smtpd_timeout = Duration::from_secs(60);
    let settings = WorkerSettings { connection_count_limit: 1, smtpd_timeout, ..settings() };
    let mut rig = rig_with_strangers(settings);
    let [first, ..] = [(); 10].map(|()| rig.connect_from("192.0.2.1"));
    let _ = first.take();
    let late = rig.connect_from("192.0.2.1");
    rig.worker.io.pass(Duration::from_secs(60));
    rig.settle();
    assert!(String::from_utf8(late.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(late.is_closed());
}

#[test]
fn a_drain_waits_for_no_client_that_owes() {
    let mut rig = rig_with_strangers(WorkerSettings { connection_count_limit: 1, ..settings() });
    let clients = [(); 10].map(|()| rig.connect_from("192.0.2.1"));
    let late = clients.last().unwrap();
    assert!(late.take().is_empty() && !late.is_closed(), "it waits");
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert!(String::from_utf8(late.take()).unwrap().starts_with("421 4.7.0 "));
    assert!(clients.iter().all(Peer::is_closed));
    assert!(!rig.is_running);
}

#[test]
fn a_chunk_that_is_refused_at_its_end_is_answered_when_its_client_has_waited() {
    let smtpd_forbid_bare_newline = smtp::BareNewline::Reject;
    let smtp = smtp::Settings { smtpd_forbid_bare_newline, ..settings().smtp };
    let mut rig = rig_with_strangers(WorkerSettings { smtp, ..settings() });
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    rig.say(&client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\n");
    client.send(b"BDAT 200000\r\n");
    rig.settle();
    let reply = rig.say(&client, &[&[b'a'; 199_999][..], b"\n"].concat());
    assert_eq!(reply, "", "its client has used its allowance up");
    rig.worker.io.pass(Duration::from_secs(61));
    rig.settle();
    let reply = String::from_utf8(client.take()).unwrap();
    assert!(reply.starts_with("550 5.5.2 "), "{reply}");
}

#[test]
fn of_a_client_that_has_sent_no_mail_little_is_read_at_once() {
    let mut rig = rig_with_strangers(settings());
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    client.send(&b"NOOP\r\n".repeat(100_000));
    rig.settle();
    assert!(client.unread() > 400_000, "{}", client.unread());
    assert!(rig.worker.engine.memory() < 100_000, "{}", rig.worker.engine.memory());
}

#[test]
fn accepted_mail_settles_what_a_client_owes() {
    let mut rig = rig_with_strangers(settings());
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    for number in 0..200 {
        let reply = rig.say(&client, &transaction("x"));
        assert!(reply.contains("bytes queued as "), "{number}: {reply}");
    }
}

#[test]
fn refused_mail_is_charged() {
    let cleanup = mailrace_core::cleanup::Settings { hopcount_limit: 1, ..settings().cleanup };
    let mut rig = rig_with_strangers(WorkerSettings { cleanup, ..settings() });
    let client = rig.connect_from("192.0.2.1");
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    // As long as a subject and an empty line.
    let looping =
        String::from_utf8(transaction("x")).unwrap().replace("Subject: s\r\n\r\n", "Received: \r\n\r\n");
    let replies = (0..100).filter(|_| !rig.say(&client, looping.as_bytes()).is_empty()).count();
    assert!(replies < 90, "{replies}");
}

#[test]
fn one_client_has_so_many_connections() {
    let limited = || WorkerSettings { connection_count_limit: 2, ..settings() };
    let mut rig = Rig::new(limited());
    let clients = ["192.0.2.1", "192.0.2.1", "192.0.2.1", "192.0.2.2"].map(|it| rig.connect_from(it));
    let codes = clients.each_ref().map(|client| String::from_utf8(client.take()).unwrap());
    let begins = |index: usize, code| assert!(codes[index].starts_with(code), "{index}: {codes:?}");
    begins(1, "220 ");
    begins(2, "421 4.7.0 ");
    begins(3, "220 ");
    assert!(clients[2].is_closed());
    rig.say(&clients[0], b"QUIT\r\n");
    assert!(rig.connect_from("192.0.2.1").take().starts_with(b"220 "));
    // This machine's own addresses may be those of a proxy.
    let mut rig = Rig::new(WorkerSettings { clients: own_address([192, 0, 2, 1]), ..limited() });
    let clients: Vec<_> = (0..5).map(|_| rig.connect_from("192.0.2.1")).collect();
    assert!(clients.iter().all(|client| client.take().starts_with(b"220 ")));
}

#[test]
fn who_owes_makes_room_for_others() {
    let mut rig = rig_with_strangers(WorkerSettings { max_connections: 2, ..settings() });
    let owing = rig.connect_from("192.0.2.1");
    let quiet = rig.connect_from("192.0.2.2");
    for _ in 0..100 {
        rig.say(&owing, b"NOOP\r\n");
    }
    assert!(rig.connect_from("192.0.2.3").take().starts_with(b"220 "));
    assert!(owing.is_closed() && !quiet.is_closed());
    assert!(rig.connect_from("192.0.2.4").take().starts_with(b"421 4.3.2 "));
}

#[test]
fn who_reads_nothing_is_cut_off_whatever_it_says() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    client.stop_reading();
    client.send(b"NOOP\r\n");
    for _ in 0..4 {
        assert!(!client.is_closed());
        rig.settle();
        rig.worker.io.pass(Duration::from_secs(90));
        client.send(b"N");
    }
    rig.settle();
    assert!(client.is_closed());
    // Nor does it have that much time for the last reply.
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    client.stop_reading();
    client.send(b"QUIT\r\n");
    rig.settle();
    assert!(!client.is_closed());
    rig.worker.io.pass(Duration::from_secs(6));
    rig.settle();
    assert!(client.is_closed());
}
