//! Recipients that cleanup has expanded.

use mailrace_core::envelope::Notify;

use super::*;

/// A message to `b@example.net`, a member of the list that it was sent to.
fn to_member() -> Envelope {
    let recipient = |address: &[u8], notify| Recipient {
        address: address.to_vec(),
        original: Some(b"team@example.org".as_slice().into()),
        notify,
        ..Recipient::default()
    };
    Envelope {
        sender: b"a@6.example".to_vec(),
        recipients: vec![recipient(b"b@example.net", Notify::NEVER)],
        expanded: vec![recipient(b"list@example.org", Notify::SUCCESS)],
        ..Envelope::default()
    }
}

#[test]
fn an_expansion_is_told_to_the_sender_and_not_delivered_to() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    life.put_envelope(to_member(), &[b"Subject: x\r\n\r\ntext\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    let sender = listen_at(&life.world, "192.0.2.6:25");
    let heard = take_message(&mut life, &peer, "250 Ok\r\n");
    assert!(heard.contains("RCPT TO:<b@example.net>\r\nDATA"), "{heard}");
    let peer = sender.accept().expect("the report goes to the sender");
    let heard = take_message(&mut life, &peer, "250 Ok\r\n");
    for expected in [
        "\r\n<list@example.org> (expanded from <team@example.org>): alias expanded\r\n",
        "\r\nFinal-Recipient: rfc822; list@example.org\r\nOriginal-Recipient: rfc822;team@example.org\r\n",
        "\r\nAction: expanded\r\nStatus: 2.0.0\r\n",
    ] {
        assert!(heard.contains(expected), "{heard}");
    }
    assert_eq!(heard.matches("Final-Recipient").count(), 1);
    let told = life.told();
    assert!(
        told[0].starts_with("active nrcpt=1 ") && told.contains(&"reported Success".to_owned()),
        "{told:?}"
    );
    assert!(life.messages() == 0 && life.dispatcher.is_idle() && life.dispatcher.messages.is_empty());
}

/// A kill between the report and the note of it does not make another one, and the member is still tried again.
#[test]
fn an_expansion_is_reported_once_whatever_a_kill_leaves() {
    let disk = World::calm().disk();
    let mut life = Life::begin(&disk);
    let listener = listen(&life.world);
    life.put_envelope(to_member(), &[b"x\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    life.is_forgetful = true;
    take_message(&mut life, &peer, "450 later\r\n");
    assert_eq!(life.messages(), 2, "the message and the report");
    drop((life, listener));
    let mut life = Life::begin(&disk);
    let (listener, sender) = (listen(&life.world), listen_at(&life.world, "192.0.2.6:25"));
    life.go_on();
    let peer = listener.accept().expect("the member");
    take_message(&mut life, &peer, "250 Ok\r\n");
    life.pass(2);
    let peer = sender.accept().expect("the report");
    take_message(&mut life, &peer, "250 Ok\r\n");
    life.pass(600);
    assert!(sender.accept().is_none() && life.messages() == 0, "one report");
}

/// A check's REDIRECT replaces the members, but the alias was expanded.
#[test]
fn an_expansion_is_reported_though_a_check_redirects_the_message() {
    let mut life = Life::begin(&World::calm().disk());
    let listener = listen(&life.world);
    let mut envelope = Envelope { redirect: Some(b"c@example.net".as_slice().into()), ..to_member() };
    envelope.recipients.push(envelope.recipients[0].clone());
    life.put_envelope(envelope, &[b"x\r\n"]);
    life.go_on();
    let peer = listener.accept().unwrap();
    let sender = listen_at(&life.world, "192.0.2.6:25");
    let heard = take_message(&mut life, &peer, "250 Ok\r\n");
    assert!(heard.contains("RCPT TO:<c@example.net>\r\nDATA"), "{heard}");
    let peer = sender.accept().expect("the report");
    let heard = take_message(&mut life, &peer, "250 Ok\r\n");
    assert!(heard.contains("\r\nAction: expanded\r\n"), "{heard}");
    assert!(life.messages() == 0 && life.dispatcher.is_idle());
}
