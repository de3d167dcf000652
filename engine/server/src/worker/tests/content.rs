//! Content of messages: whole however it comes, in bounded memory, and answered when it is durable.

use super::*;

#[test]
fn a_message_is_answered_when_it_is_durable() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    assert!(String::from_utf8(client.take()).unwrap().starts_with("220 "));
    rig.begin_content(&client);
    client.send(b"Subject: s\r\n\r\nbody\r\n.\r\n");
    // Received, gathered, submitted; not written yet.
    rig.turn();
    assert_eq!(client.take(), b"");
    rig.settle();
    let reply = String::from_utf8(client.take()).unwrap();
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    rig.disk.cut_power();
    let queue = rig.queue();
    assert_eq!(queue.len(), 1);
    assert!(queue[0].1.ends_with("\r\n\r\nbody\r\n"), "{queue:?}");
}

#[test]
fn it_does_not_matter_how_the_octets_come() {
    let dialogue =
        b"EHLO a.example\r\nMAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nDATA\r\n".to_vec();
    let content = b"Subject: s\r\n\r\n..dots\r\n.\r\n";
    let mut contents = Vec::new();
    for size in [1, 2, 3, 7, 1000] {
        let settings = settings();
        let smtp = smtp::Settings { smtpd_forbid_unauth_pipelining: false, ..settings.smtp };
        let mut rig = Rig::new(WorkerSettings { smtp, ..settings });
        let client = rig.connect();
        for piece in dialogue.chunks(size).chain(content.chunks(size)) {
            client.send(piece);
            rig.turn();
            rig.turn();
        }
        rig.settle();
        let replies = String::from_utf8(client.take()).unwrap();
        assert!(replies.contains("250 2.0.0 Ok: queued as "), "{size}: {replies}");
        contents.push(rig.queue().remove(0).1.split_once("\r\n\r\n").unwrap().1.to_owned());
    }
    assert!(contents.iter().all(|content| content == ".dots\r\n"), "{contents:?}");
}

#[test]
fn large_messages_of_many_clients_are_whole() {
    let mut rig = Rig::new(settings());
    let clients: Vec<Peer> = (0..8).map(|_| rig.connect()).collect();
    let bodies: Vec<String> =
        (0..8).map(|number| format!("{number} line of the body\r\n").repeat(20_000 + number * 999)).collect();
    for client in &clients {
        rig.begin_content(client);
        client.send(b"Subject: s\r\n\r\n");
    }
    // In pieces that do not know lines, in turn.
    for start in (0..700_000).step_by(9_973) {
        for (client, body) in clients.iter().zip(&bodies) {
            if let Some(piece) = body.as_bytes().get(start..body.len().min(start + 9_973)) {
                client.send(piece);
            }
        }
        rig.turn();
    }
    for client in &clients {
        assert!(rig.say(client, b".\r\n").starts_with("250 2.0.0 Ok: queued as "));
    }
    let queue = rig.queue();
    assert_eq!(queue.len(), 8);
    for (body, (_, content)) in bodies.iter().zip(queue) {
        assert!(content.split_once("\r\n\r\n").unwrap().1 == body, "a body is not what was sent");
    }
    assert_eq!(rig.worker.io.lent(), 0);
}

/// 40 clients send content while nothing is written; which replies they get at the end.
fn content_while_the_disk_stands_still(piece: &[u8]) -> Vec<String> {
    let mut rig = Rig::new(settings());
    let clients: Vec<Peer> = (0..40).map(|_| rig.connect()).collect();
    for client in &clients {
        rig.begin_content(client);
    }
    rig.worker.io.hold_writes();
    for _ in 0..100 {
        for client in &clients {
            client.send(piece);
        }
        rig.turn();
        let memory = rig.worker.engine.memory();
        // What was received in the turn in which the limit was reached comes on top.
        assert!(memory < (1 << 20) + 40 * 3 * piece.len(), "{memory} octets");
    }
    rig.worker.io.release_writes();
    (0..5).for_each(|_| rig.settle());
    let replies: Vec<String> = clients.iter().map(|client| rig.say(client, b"\r\n.\r\n")).collect();
    assert_eq!((rig.worker.engine.memory(), rig.worker.io.lent()), (0, 0));
    let accepted = replies.iter().filter(|reply| reply.starts_with("250 2.0.0 Ok: queued as ")).count();
    assert_eq!(rig.queue().len(), accepted, "{replies:?}");
    replies
}

#[test]
fn memory_stays_bounded_while_the_disk_is_slow() {
    let replies = content_while_the_disk_stands_still("\r\nbody".repeat(600).as_bytes());
    assert!(replies.iter().all(|reply| reply.starts_with("250 ")), "{replies:?}");
}

#[test]
fn memory_stays_bounded_when_fields_do_not_end() {
    let replies = content_while_the_disk_stands_still(&[b'x'; 4000]);
    let is_right = |reply: &String| reply.starts_with("250 ") || reply.starts_with("452 4.3.1 ");
    assert!(replies.iter().all(is_right), "{replies:?}");
}

#[test]
fn a_failed_write_is_told_to_its_client_only() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    rig.disk.fail_writes(1);
    let replies = rig.say(&client, &transaction("lost"));
    assert!(replies.ends_with("451 4.3.0 Error: queue file write error\r\n"), "{replies}");
    let replies = rig.say(&client, &transaction("kept"));
    assert!(replies.contains(" queued as "), "{replies}");
    let queue = rig.queue();
    assert_eq!(queue.len(), 1);
    assert!(queue[0].1.ends_with("kept\r\n"));
}

#[test]
fn a_full_disk_refuses_mail_and_loses_none() {
    let mut rig = Rig::new(settings());
    rig.disk.world().set_capacity(1 << 20);
    let client = rig.connect();
    rig.say(&client, b"EHLO a.example\r\n");
    let body = "x".repeat(40_000);
    let mut accepted = 0;
    let reply = loop {
        let replies = rig.say(&client, &transaction(&body));
        if !replies.contains("queued as") {
            break replies;
        }
        accepted += 1;
        assert!(accepted < 100);
    };
    assert!(reply.contains("452 4.3.1 Insufficient system storage"), "{reply}");
    assert_eq!(rig.queue().len(), accepted);
}
