//! Whose memory, places and room are taken back when they run short, and who notices nothing of it.

use mailrace_io::{ConnectionId, Operation, ReceiveEnd};
use mailrace_spool::Spool;

use super::super::engine::Engine;
use super::super::intake::Part;
use super::super::reading::CROWD;
use super::super::shortage::RESUMED_MAX;
use super::*;

const MEMORY: usize = 1 << 20;

/// A worker with little memory, whose clients are strangers that may talk as much as they like.
fn rig() -> Rig {
    Rig::new(rig_settings())
}

fn rig_settings() -> WorkerSettings {
    WorkerSettings {
        content_memory: MEMORY,
        client_allowance: Duration::ZERO,
        clients: own_address([127, 0, 0, 1]),
        ..settings()
    }
}

fn greet(rig: &mut Rig, address: &str) -> Peer {
    let client = rig.connect_from(address);
    rig.say(&client, b"EHLO a.example\r\n");
    client
}

/// Sends a message, and returns its last reply.
fn send_message(rig: &mut Rig, client: &Peer) -> String {
    let replies = rig.say(client, &transaction("x"));
    replies.lines().last().unwrap_or_default().to_owned()
}

/// What a bad client does on one connection to hold memory.
type Hold = fn(&mut Rig, &Peer);

/// Each keeps as much as it can for as long as it likes.
const HOLDS: [(&str, Hold); 6] = [
    ("recipients", |rig, client| {
        let recipient = format!("RCPT TO:<{}@example.com>\r\n", "u".repeat(1900));
        rig.say(client, format!("MAIL FROM:<a@b.example>\r\n{}", recipient.repeat(8)).as_bytes());
    }),
    ("ORCPT", |rig, client| {
        let recipient = format!("RCPT TO:<postmaster> ORCPT=rfc822;{}\r\n", "u".repeat(1900));
        rig.say(client, format!("MAIL FROM:<a@b.example>\r\n{}", recipient.repeat(8)).as_bytes());
    }),
    ("a field without end", |rig, client| {
        rig.say(client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n");
        client.send(&[b"X: ", &[b'x'; 15_000][..]].concat());
    }),
    ("content without end", |rig, client| {
        rig.say(client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n");
        client.send(&[b"Subject: s\r\n\r\n", &b"body\r\n".repeat(2500)[..]].concat());
    }),
    ("a chunk without the last", |rig, client| {
        rig.say(client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT 20000\r\n");
        client.send(&[b"Subject: s\r\n\r\n", &b"body\r\n".repeat(2500)[..]].concat());
    }),
    ("replies unread", |_, client| {
        client.stop_reading();
        client.send(b"NOOP\r\n");
        client.send(&b"NOOP\r\n".repeat(2600));
    }),
];

/// `addresses` hold memory as `hold` does, on 100 connections, after a message was accepted of each; honest clients of
/// another network and of the same one go on meanwhile.
fn honest_clients_notice_nothing(name: &str, hold: Hold, addresses: &[String]) {
    let mut rig = rig();
    let mut honest = ["198.51.100.1", "192.0.2.250", "127.0.0.1"].map(|address| greet(&mut rig, address));
    for round in 0..100 {
        let bad = greet(&mut rig, &addresses[round % addresses.len()]);
        send_message(&mut rig, &bad);
        hold(&mut rig, &bad);
        rig.settle();
        assert!(rig.worker.engine.memory() <= MEMORY, "{name}: {} bytes", rig.worker.engine.memory());
        let honest = &mut honest[round % 3];
        let reply = send_message(&mut rig, honest);
        assert!(reply.starts_with("250 2.0.0 Ok"), "{name}, round {round}: {reply}");
        assert!(!honest.is_closed());
        // A newcomer's message has more recipients than the bad ones' share would allow.
        let newcomer = greet(&mut rig, "198.51.100.2");
        let recipients = "RCPT TO:<someone@example.com>\r\n".repeat(50);
        let replies = rig.say(&newcomer, format!("MAIL FROM:<a@b.example>\r\n{recipients}").as_bytes());
        assert_eq!(replies.matches("250 2.1.5 Ok").count(), 50, "{name}, round {round}: {replies}");
        newcomer.shut();
        rig.settle();
    }
}

#[test]
fn honest_clients_notice_nothing_of_one_that_takes_all_memory() {
    for (name, hold) in HOLDS {
        honest_clients_notice_nothing(name, hold, &["192.0.2.1".to_owned()]);
    }
}

#[test]
fn honest_clients_notice_nothing_of_a_network_that_takes_all_memory() {
    let addresses: Vec<String> = (1..=50).map(|number| format!("192.0.2.{number}")).collect();
    for (name, hold) in HOLDS {
        honest_clients_notice_nothing(name, hold, &addresses);
    }
}

#[test]
fn a_client_alone_is_refused_recipients_before_memory_is_short_and_loses_nothing() {
    let mut rig = rig();
    let mut clients = Vec::new();
    let recipients = format!("RCPT TO:<{}@example.com>\r\n", "u".repeat(1900)).repeat(8);
    let refused = loop {
        assert!(clients.len() < 80, "{} bytes are held", rig.worker.engine.memory());
        let client = greet(&mut rig, "192.0.2.1");
        let replies = rig.say(&client, format!("MAIL FROM:<a@b.example>\r\n{recipients}").as_bytes());
        if replies.contains("250 2.1.5 ") {
            clients.push(client);
        }
        if let Some(refused) = replies.lines().find(|reply| !reply.starts_with("250 2.1")) {
            break refused.to_owned();
        }
    };
    assert!(refused.starts_with("452 4.3.1 "), "{refused}");
    let memory = rig.worker.engine.memory();
    assert!((MEMORY / 2..MEMORY / 4 * 3).contains(&memory), "{memory}");
    // Its messages still come to their end, and make room.
    for client in &clients {
        assert!(!client.is_closed());
        let replies = rig.say(client, b"BDAT 14 LAST\r\nSubject: s\r\n\r\n");
        assert!(replies.starts_with("250 2.0.0 Ok"), "{replies}");
    }
    assert!(rig.worker.engine.memory() < 1 << 10);
    rig.begin_content(&clients[0]);
}

#[test]
fn one_that_makes_room_is_told() {
    let mut rig = rig();
    let recipients = format!("RCPT TO:<{}@example.com>\r\n", "u".repeat(1900)).repeat(200);
    let greedy = greet(&mut rig, "192.0.2.1");
    rig.say(&greedy, format!("MAIL FROM:<a@b.example>\r\n{recipients}").as_bytes());
    let mut others = Vec::new();
    while !greedy.is_closed() {
        assert!(others.len() < 250, "{} bytes are held", rig.worker.engine.memory());
        let client = greet(&mut rig, &format!("198.18.{}.1", others.len()));
        let recipients = "RCPT TO:<u@example.com>\r\n".repeat(50);
        let replies = rig.say(&client, format!("MAIL FROM:<a@b.example>\r\n{recipients}").as_bytes());
        assert!(!replies.contains("452 "), "{replies}");
        others.push(client);
    }
    let replies = String::from_utf8(greedy.take()).unwrap();
    assert!(replies.ends_with("Error: server is short of memory\r\n"), "{replies}");
    assert!(replies.lines().last().unwrap().starts_with("421 4.3.1 "), "{replies}");
    assert!(!others.iter().any(Peer::is_closed));
}

/// The places of a worker, taken by 8 connections from each of `addresses`.
fn full_of(addresses: &[&str]) -> (Rig, Vec<Peer>) {
    let max_connections = 8 * addresses.len();
    let mut rig = Rig::new(WorkerSettings {
        max_connections,
        client_allowance: Duration::ZERO,
        clients: own_address([127, 0, 0, 1]),
        ..settings()
    });
    let clients = addresses.iter().flat_map(|address| vec![*address; 8]);
    let clients: Vec<Peer> = clients.map(|address| rig.connect_from(address)).collect();
    assert!(clients.iter().all(|client| client.take().starts_with(b"220 ")));
    (rig, clients)
}

#[test]
fn newcomers_get_places_of_the_greediest_client() {
    let (mut rig, clients) = full_of(&["192.0.2.1", "192.0.2.2", "198.51.100.1"]);
    // Of the network that has most, then of any until all have as many.
    for round in 0..6 {
        let newcomer = rig.connect_from("203.0.113.1");
        let reply = String::from_utf8(newcomer.take()).unwrap();
        assert!(reply.starts_with("220 "), "{round}: {reply}");
    }
    let closed: Vec<bool> = clients.iter().map(Peer::is_closed).collect();
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 6);
    assert!(!closed[16..].contains(&true), "the network has 8 places, and the other one had 16");
    let told = clients.iter().filter(|client| client.is_closed());
    assert!(told.clone().all(|client| client.take().starts_with(b"421 4.4.5 ")));
    // Within a network, of the client that has most.
    let newcomer = rig.connect_from("192.0.2.3");
    assert!(newcomer.take().starts_with(b"220 "));
    assert_eq!(clients[..16].iter().filter(|client| client.is_closed()).count(), 7);
}

#[test]
fn one_with_a_message_under_way_lends_its_place_and_goes_when_it_has_its_reply() {
    let (mut rig, clients) = full_of(&["192.0.2.1"]);
    rig.worker.io.hold_writes();
    for client in &clients {
        client.send(b"EHLO a.example\r\n");
        client.send(&transaction("x"));
    }
    rig.settle();
    clients.iter().for_each(|client| drop(client.take()));
    for address in ["203.0.113.1", "203.0.113.2"] {
        assert!(rig.connect_from(address).take().starts_with(b"220 "), "{address}");
    }
    assert!(!clients.iter().any(Peer::is_closed), "none goes without its reply");
    rig.worker.io.release_writes();
    rig.settle();
    let told: Vec<_> = clients.iter().map(|client| String::from_utf8(client.take()).unwrap()).collect();
    assert!(told.iter().all(|told| told.contains("250 2.0.0 Ok")), "{told:?}");
    assert_eq!(told.iter().filter(|told| told.contains("\r\n421 4.4.5 ")).count(), 2, "{told:?}");
    assert_eq!(clients.iter().filter(|client| client.is_closed()).count(), 2);
    assert_eq!(rig.queue().len(), 8);
}

#[test]
fn the_greediest_gets_no_place_of_others() {
    let (mut rig, clients) = full_of(&["192.0.2.1", "198.51.100.1"]);
    let newcomer = rig.connect_from("192.0.2.1");
    assert!(newcomer.take().starts_with(b"421 4.3.2 ") && newcomer.is_closed());
    assert!(!clients.iter().any(Peer::is_closed));
}

#[test]
fn silence_gives_way_where_no_one_is_greedier() {
    let mut rig = Rig::new(WorkerSettings { max_connections: 2, ..settings() });
    let [first, second] = ["192.0.2.1", "198.51.100.1"].map(|address| rig.connect_from(address));
    rig.worker.io.pass(Duration::from_secs(9));
    assert!(rig.say(&second, b"NOOP\r\n").ends_with("250 2.0.0 Ok\r\n"));
    assert!(rig.connect_from("203.0.113.1").take().starts_with(b"421 "));
    rig.worker.io.pass(Duration::from_secs(2));
    assert!(rig.connect_from("203.0.113.1").take().starts_with(b"220 "));
    assert!(first.is_closed() && !second.is_closed());
}

#[test]
fn room_in_the_spool_is_taken_back_from_the_greediest() {
    let mut rig = rig();
    rig.disk.world().set_capacity(20 << 20);
    (0..3).for_each(|_| rig.settle());
    let mut bad = Vec::new();
    let mut honest = Vec::new();
    for _ in 0..40 {
        let client = greet(&mut rig, "192.0.2.1");
        rig.say(&client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT 1000000\r\n");
        for _ in 0..16 {
            client.send(&[b"Subject: s\r\n\r\n", &b"body\r\n".repeat(10_000)[..]].concat());
            rig.settle();
        }
        bad.push(client);
        let client = greet(&mut rig, "198.51.100.1");
        let reply = send_message(&mut rig, &client);
        assert!(reply.starts_with("250 2.0.0 Ok"), "{}: {reply}", bad.len());
        honest.push(client);
    }
    let replies = bad.iter().map(|client| {
        rig.say(client, &b"x".repeat(39_776));
        rig.say(client, b"BDAT 0 LAST\r\n")
    });
    let replies: Vec<String> = replies.collect();
    let refused = replies.iter().filter(|reply| reply.starts_with("452 4.3.1 ")).count();
    assert!(refused > 20, "{replies:?}");
}

/// 150 strangers of one network, and the connection of another that came last.
fn rig_with_a_crowd() -> (Rig, Vec<Peer>, Vec<ConnectionId>) {
    let mut rig = Rig::new(WorkerSettings { max_connections: 1000, ..rig_settings() });
    let mut clients: Vec<Peer> =
        (0..150).map(|number| greet(&mut rig, &format!("192.0.2.{}", number / 10))).collect();
    clients.push(greet(&mut rig, "198.51.100.1"));
    let connections = rig.worker.engine.connections.iter();
    let ids: Vec<ConnectionId> = connections.map(|connection| connection.id).collect();
    assert_eq!(ids.len(), clients.len());
    (rig, clients, ids)
}

/// The connections that are read from at the end of this turn and of those that follow.
fn reads_by_turns(engine: &mut Engine<impl Spool>) -> Vec<Vec<ConnectionId>> {
    let mut turns = Vec::new();
    loop {
        engine.tick();
        let asked = engine.outbox.drain().filter_map(|(_, operation)| match operation {
            Operation::Receive(id) | Operation::ReceiveSome(id) => Some(id),
            _ => None,
        });
        turns.push(asked.collect());
        if !engine.connections.reading.has_more_paused {
            return turns;
        }
        assert_eq!(engine.deadline(), Some(engine.now), "the next turn begins at once");
    }
}

#[test]
fn a_message_that_ends_waits_for_no_content_of_others() {
    let spool = Settings { segment_size: 16 << 20, blocks: 8, writes_in_flight: 4, ..SPOOL };
    let mut rig = Rig::with_spool(WorkerSettings { content_memory: 64 << 20, ..rig_settings() }, &spool);
    let strangers: Vec<Peer> = (0..40).map(|_| rig.connect_from("192.0.2.1")).collect();
    let honest = greet(&mut rig, "198.51.100.1");
    strangers.iter().for_each(|client| rig.begin_content(client));
    rig.worker.io.hold_writes();
    for _ in 0..12 {
        strangers.iter().for_each(|client| client.send(&b"body\r\n".repeat(1_000)));
        rig.turn();
    }
    assert!(rig.worker.engine.intake.in_line(Part::Chunk) > 30);
    honest.send(b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT 14 LAST\r\nSubject: s\r\n\r\n");
    (0..3).for_each(|_| rig.turn());
    let engine = &rig.worker.engine;
    assert!(
        engine.intake.in_line(Part::End) == 0 && engine.intake.spool().has_room(),
        "it is on its way to the disk"
    );
    rig.worker.io.release_writes();
    (0..5).for_each(|_| rig.settle());
    assert!(rig.say(&honest, b"NOOP\r\n").contains("queued as "));
    let replies = strangers.iter().map(|client| rig.say(client, b"\r\n.\r\n"));
    assert!(replies.collect::<Vec<_>>().iter().all(|reply| reply.starts_with("250 2.0.0 Ok")));
    assert!(rig.worker.usage().connections == 41 && rig.queue().len() == 41);
}

#[test]
fn receive_buffers_go_to_networks_in_turn_and_to_some_connections_at_a_time() {
    let (mut rig, _clients, ids) = rig_with_a_crowd();
    let engine = &mut rig.worker.engine;
    engine.outbox.drain().for_each(drop);
    // None of them found a buffer, the honest client last.
    for id in &ids {
        engine.receive_ended(*id, &ReceiveEnd::OutOfBuffers);
    }
    let turns = reads_by_turns(engine);
    assert!(turns[0][..2].contains(&ids[150]), "it waits for one connection of the others' network at most");
    assert!(turns.iter().all(|turn| turn.len() <= RESUMED_MAX));
    assert_eq!(turns.iter().map(Vec::len).sum::<usize>(), ids.len());
}

#[test]
fn in_a_crowd_clients_that_have_sent_no_mail_are_read_from_in_turns() {
    let (mut rig, _clients, ids) = rig_with_a_crowd();
    let engine = &mut rig.worker.engine;
    engine.outbox.drain().for_each(drop);
    let shared = Arc::clone(&rig.worker.shared);
    engine.begin_turn(engine.now, engine.wall, &shared, CROWD);
    for id in &ids {
        engine.receive_ended(*id, &ReceiveEnd::Stopped);
    }
    assert_eq!(engine.outbox.drain().count(), 0, "a turn that is long already makes none of them read");
    let turns = reads_by_turns(engine);
    assert!(turns[0][..2].contains(&ids[150]), "it waits for one connection of the others' network at most");
    assert!(turns.iter().all(|turn| turn.len() <= RESUMED_MAX));
    assert_eq!(turns.iter().map(Vec::len).sum::<usize>(), ids.len());
    assert!(engine.connections.reading.paused.is_empty() && !engine.connections.reading.is_crowded);
}

#[test]
fn large_pieces_of_content_wait_whole_while_no_segment_is_ready() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.begin_content(&client);
    // Much is read at once only from a client that has sent mail.
    rig.say(&client, b"Subject: s\r\n\r\nfirst\r\n.\r\n");
    rig.say(&client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n");
    let body: String = (0..8000).map(|number| format!("{number:098}\r\n")).collect();
    client.send(b"Subject: t\r\n\r\n");
    for piece in body.as_bytes().chunks(20_000) {
        client.send(piece);
        // The keeper has no time for new segments.
        for _ in 0..10 {
            assert!(rig.worker.turn_by(Some(Instant::default())).unwrap());
        }
    }
    let reply = rig.say(&client, b".\r\n");
    assert!(reply.contains("250 2.0.0 Ok"), "{reply}");
    assert!(rig.queue()[1].1.ends_with(&body));
}
