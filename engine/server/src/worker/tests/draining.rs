//! The end of a worker: it ends its sessions and finishes its messages.

use super::*;

#[test]
fn draining_ends_sessions_whose_message_is_refused_meanwhile() {
    let smtp = smtp::Settings { message_size_limit: 1000, ..settings().smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, ..settings() });
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    let replies = rig.say(&client, &[&[b'x'; 2000][..], b"\r\n.\r\n"].concat());
    assert!(replies.starts_with("552 5.3.4 ") && replies.contains("\r\n421 4.3.2 "), "{replies}");
    assert!(!rig.is_running);
    // Also where the refusal is held back for a while.
    let smtp = smtp::Settings { message_size_limit: 1000, smtpd_soft_error_limit: 1, ..settings().smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, ..settings() });
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert_eq!(rig.say(&client, &[&[b'x'; 2000][..], b"\r\n.\r\n"].concat()), "");
    rig.worker.io.pass(Duration::from_secs(2));
    let replies = rig.say(&client, b"");
    assert!(replies.starts_with("552 5.3.4 ") && replies.contains("\r\n421 4.3.2 "), "{replies}");
    assert!(!rig.is_running);
}

#[test]
fn draining_ends_idle_sessions_and_finishes_messages() {
    let mut rig = Rig::new(settings());
    let idle = rig.connect();
    let busy = rig.connect();
    let _ = idle.take();
    rig.begin_content(&busy);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert!(String::from_utf8(idle.take()).unwrap().starts_with("421 4.3.2 "));
    assert!(rig.is_running);
    let reply = rig.say(&busy, b"Subject: s\r\n\r\n.\r\n");
    assert!(reply.starts_with("250 2.0.0 Ok: queued as "), "{reply}");
    assert!(!rig.is_running);
    assert_eq!(rig.queue().len(), 1);
}

#[test]
fn draining_does_not_wait_for_ever() {
    let mut rig = Rig::new(settings());
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    rig.worker.io.pass(Duration::from_secs(31));
    rig.settle();
    assert!(client.is_closed());
    assert!(!rig.is_running);
}
