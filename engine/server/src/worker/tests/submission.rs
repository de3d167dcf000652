//! Messages that were submitted on this machine.

use crossbeam::channel::{Receiver, Sender, unbounded};
use mailrace_core::{Envelope, Origin, Protocol, Recipient, Submitter, Timestamp};

use super::*;

fn start(rig: &Rig, recipients: usize, states: Sender<SubmissionState>) {
    let recipient = |number| Recipient { address: format!("u{number}").into(), ..Recipient::default() };
    let start = SubmissionStart {
        name: "name".to_owned(),
        origin: Origin { protocol: Protocol::Local, ..Origin::default() },
        envelope: Envelope {
            arrival: Timestamp::from_unix_microseconds(1),
            sender: b"joe".to_vec(),
            recipients: (0..recipients).map(recipient).collect(),
            submitter: Some(Box::new(Submitter { user_id: 1234, full_name: b"Joe Doe".to_vec() })),
            ..Envelope::default()
        },
        is_local_context: true,
        states,
    };
    rig.controls.send(Control::Submit(Submit::Start(Box::new(start)))).unwrap();
}

/// Gives content, part by part, for as long as it is taken; the last state.
fn submit(rig: &mut Rig, content: &[u8], recipients: usize) -> SubmissionState {
    let (sender, states) = unbounded();
    start(rig, recipients, sender);
    let mut parts = content.chunks(64 * 1024).peekable();
    while let Some(part) = parts.next() {
        let state = give(rig, part, parts.peek().is_none(), &states);
        if state != SubmissionState::Taken {
            return state;
        }
    }
    panic!("the last part was taken for one");
}

fn give(rig: &mut Rig, part: &[u8], is_last: bool, states: &Receiver<SubmissionState>) -> SubmissionState {
    rig.controls.send(Control::Submit(Submit::Content { octets: part.to_vec(), is_last })).unwrap();
    rig.settle();
    states.try_recv().unwrap()
}

#[test]
fn a_submission_comes_in_parts_and_is_durable_when_it_is_told() {
    let mut rig = Rig::new(settings());
    let body = "a line of the body\r\n".repeat(50_000);
    let content = format!("Subject: s\r\n\r\n{body}");
    assert_eq!(submit(&mut rig, content.as_bytes(), 1), SubmissionState::Queued);
    assert_eq!(submit(&mut rig, b"\r\n", 1), SubmissionState::Queued);
    rig.disk.cut_power();
    let queue = rig.queue();
    assert_eq!(queue.len(), 2);
    let (header, queued) = queue[0].1.split_once("\r\n\r\n").unwrap();
    assert!(queued == body, "the body is not what was given");
    assert!(header.contains(" (Mailrace, from userid 1234)\r\n\tid "), "{header}");
    assert!(header.contains("; Thu,  1 Jan 1970 "), "{header}");
    assert!(header.contains("\r\nFrom: Joe Doe <joe@"), "{header}");
}

#[test]
fn a_submission_waits_for_the_disk() {
    let mut rig = Rig::new(settings());
    let (sender, states) = unbounded();
    start(&rig, 1, sender);
    rig.controls
        .send(Control::Submit(Submit::Content { octets: b"Subject: s\r\n\r\n".to_vec(), is_last: true }))
        .unwrap();
    rig.turn();
    assert!(states.is_empty(), "it is not written yet");
    // What is on its way is seen through, and only then is the worker over.
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert_eq!(states.try_recv(), Ok(SubmissionState::Queued));
    assert!(!rig.is_running);
    assert_eq!(rig.queue().len(), 1);
}

#[test]
fn a_submission_waits_for_room_in_the_spool() {
    let mut rig = Rig::new(settings());
    let (sender, states) = unbounded();
    start(&rig, 1, sender);
    rig.worker.io.hold_writes();
    let part = b"a line of the body\r\n".repeat(3000);
    let content = |is_last| Control::Submit(Submit::Content { octets: part.clone(), is_last });
    let mut parts = 0;
    loop {
        rig.controls.send(content(false)).unwrap();
        rig.settle();
        parts += 1;
        if states.try_recv() != Ok(SubmissionState::Taken) {
            break;
        }
        assert!(parts < 100, "the spool has no end");
    }
    rig.worker.io.release_writes();
    rig.settle();
    assert_eq!(states.try_recv(), Ok(SubmissionState::Taken));
    assert_eq!(give(&mut rig, &part, true, &states), SubmissionState::Queued);
    let queue = rig.queue();
    assert!(
        queue[0].1.ends_with(&format!("\r\n\r\n{}", "a line of the body\r\n".repeat(3000 * (parts + 1))))
    );
}

#[test]
fn a_drain_puts_a_submission_off() {
    let mut rig = Rig::new(settings());
    let (sender, states) = unbounded();
    start(&rig, 1, sender);
    assert_eq!(give(&mut rig, b"Subject: s\r\n\r\n", false, &states), SubmissionState::Taken);
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert_eq!(states.try_recv(), Ok(SubmissionState::Deferred));
    // One that comes later is put off too; the rest of the first is nobody's.
    rig.controls.send(Control::Submit(Submit::Content { octets: b"x".to_vec(), is_last: true })).unwrap();
    assert_eq!(submit(&mut rig, b"Subject: s\r\n\r\n", 1), SubmissionState::Deferred);
    rig.say(&client, b".\r\n");
    assert!(!rig.is_running);
    assert_eq!(rig.queue().len(), 1);
}

#[test]
fn what_is_too_large_is_refused() {
    let settings = settings();
    let smtp = smtp::Settings { message_size_limit: 100_000, ..settings.smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, ..settings });
    let line = b"a line of the body\r\n";
    assert_eq!(submit(&mut rig, &line.repeat(5_000), 1), SubmissionState::Queued);
    assert_eq!(submit(&mut rig, &line.repeat(5_001), 1), SubmissionState::Refused);
    assert_eq!(submit(&mut rig, line, 500), SubmissionState::Queued);
    assert_eq!(submit(&mut rig, line, 1000), SubmissionState::Refused);
    assert_eq!(rig.queue().len(), 2);
}

#[test]
fn an_abandoned_submission_leaves_nothing() {
    let mut rig = Rig::new(settings());
    let (sender, states) = unbounded();
    start(&rig, 1, sender);
    assert_eq!(give(&mut rig, &b"x\r\n".repeat(30_000), false, &states), SubmissionState::Taken);
    rig.controls.send(Control::Submit(Submit::Abandon)).unwrap();
    rig.settle();
    assert_eq!(submit(&mut rig, b"Subject: s\r\n\r\n", 1), SubmissionState::Queued);
    assert_eq!(rig.queue().len(), 1);
}
