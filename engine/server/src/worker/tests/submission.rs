//! Messages that were submitted on this machine.

use crossbeam::channel::{Receiver, unbounded};
use mailrace_core::{Envelope, Origin, Protocol, Recipient, Submitter, Timestamp};

use super::*;

/// Begins a message; its states.
fn start(rig: &Rig, number: u64, recipients: usize) -> Receiver<SubmissionState> {
    let recipient = |number| Recipient { address: format!("u{number}").into(), ..Recipient::default() };
    let (sender, states) = unbounded();
    let start = SubmissionStart {
        number,
        origin: Origin { protocol: Protocol::Local, ..Origin::default() },
        envelope: Envelope {
            arrival: Timestamp::from_unix_microseconds(1),
            sender: b"joe".to_vec(),
            recipients: (0..recipients).map(recipient).collect(),
            submitter: Some(Box::new(Submitter { user_id: 1234, full_name: b"Joe Doe".to_vec() })),
            ..Envelope::default()
        },
        is_local_context: true,
        report: Report::new(move |state| _ = sender.send(state)),
    };
    rig.controls.send(Control::Submit(Submit::Start(Box::new(start)))).unwrap();
    states
}

fn content(number: u64, octets: &[u8], is_last: bool) -> Control {
    Control::Submit(Submit::Content { number, octets: octets.to_vec(), is_last })
}

/// Gives content, part by part, for as long as it is taken; the last state.
pub(super) fn submit(rig: &mut Rig, octets: &[u8], recipients: usize) -> SubmissionState {
    let states = start(rig, NUMBER, recipients);
    let mut parts = octets.chunks(64 * 1024).peekable();
    while let Some(part) = parts.next() {
        let state = give(rig, NUMBER, part, parts.peek().is_none(), &states);
        if state != SubmissionState::Taken {
            return state;
        }
    }
    panic!("the last part was taken for one");
}

/// Of a message that is alone.
const NUMBER: u64 = 1;

fn give(
    rig: &mut Rig,
    number: u64,
    part: &[u8],
    is_last: bool,
    states: &Receiver<SubmissionState>,
) -> SubmissionState {
    rig.controls.send(content(number, part, is_last)).unwrap();
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
    let states = start(&rig, NUMBER, 1);
    rig.controls.send(content(NUMBER, b"Subject: s\r\n\r\n", true)).unwrap();
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
    let states = start(&rig, NUMBER, 1);
    rig.worker.io.hold_writes();
    let part = b"a line of the body\r\n".repeat(3000);
    let mut parts = 0;
    loop {
        rig.controls.send(content(NUMBER, &part, false)).unwrap();
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
    assert_eq!(give(&mut rig, NUMBER, &part, true, &states), SubmissionState::Queued);
    let queue = rig.queue();
    assert!(
        queue[0].1.ends_with(&format!("\r\n\r\n{}", "a line of the body\r\n".repeat(3000 * (parts + 1))))
    );
}

#[test]
fn a_drain_puts_a_submission_off() {
    let mut rig = Rig::new(settings());
    let states = start(&rig, NUMBER, 1);
    assert_eq!(give(&mut rig, NUMBER, b"Subject: s\r\n\r\n", false, &states), SubmissionState::Taken);
    let client = rig.connect();
    rig.begin_content(&client);
    rig.controls.send(Control::Drain).unwrap();
    rig.settle();
    assert_eq!(states.try_recv(), Ok(SubmissionState::Abandoned));
    // One that comes later is put off too; the rest of the first belongs to no message.
    rig.controls.send(content(NUMBER, b"x", true)).unwrap();
    assert_eq!(submit(&mut rig, b"Subject: s\r\n\r\n", 1), SubmissionState::Abandoned);
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
    let too_big = SubmissionState::Refused(b"552 5.3.4 Error: message file too big"[..].into());
    assert_eq!(submit(&mut rig, &line.repeat(5_001), 1), too_big);
    assert_eq!(submit(&mut rig, line, 500), SubmissionState::Queued);
    let SubmissionState::Refused(reply) = submit(&mut rig, line, 5000) else { panic!("it fits") };
    assert!(reply.starts_with(b"552 5.3.4 Error: more recipients"), "{}", reply.escape_ascii());
    assert_eq!(rig.queue().len(), 2);
}

#[test]
fn an_abandoned_submission_leaves_nothing() {
    let mut rig = Rig::new(settings());
    let states = start(&rig, NUMBER, 1);
    assert_eq!(give(&mut rig, NUMBER, &b"x\r\n".repeat(30_000), false, &states), SubmissionState::Taken);
    rig.controls.send(Control::Submit(Submit::Abandon { number: NUMBER })).unwrap();
    rig.settle();
    assert_eq!(states.try_recv(), Ok(SubmissionState::Abandoned));
    assert_eq!(submit(&mut rig, b"Subject: s\r\n\r\n", 1), SubmissionState::Queued);
    assert_eq!(rig.queue().len(), 1);
}

#[test]
fn submissions_are_independent_of_each_other() {
    let mut rig = Rig::new(settings());
    let states: Vec<_> = (0..5).map(|number| start(&rig, number, 1)).collect();
    // The first has not all of its content, the second goes away in the midst of it.
    for (number, states) in states.iter().enumerate().take(2) {
        let part = b"Subject: s\r\n\r\nx\r\n";
        assert_eq!(give(&mut rig, number as u64, part, false, states), SubmissionState::Taken);
    }
    rig.controls.send(Control::Submit(Submit::Abandon { number: 1 })).unwrap();
    (2..5).for_each(|number| rig.controls.send(content(number, b"Subject: s\r\n\r\n", true)).unwrap());
    rig.turn();
    // What is on its way to the disk is not abandoned.
    rig.controls.send(Control::Submit(Submit::Abandon { number: 3 })).unwrap();
    rig.settle();
    assert_eq!(states[1].try_recv(), Ok(SubmissionState::Abandoned));
    (2..5).for_each(|number| assert_eq!(states[number].try_recv(), Ok(SubmissionState::Queued), "{number}"));
    assert_eq!(give(&mut rig, 0, b"y\r\n", true, &states[0]), SubmissionState::Queued);
    assert!(states.iter().all(Receiver::is_empty), "one final state each");
    assert_eq!(rig.queue().len(), 4);
}

#[test]
fn a_worker_that_ends_tells_of_what_it_had() {
    let mut rig = Rig::new(settings());
    let states = start(&rig, NUMBER, 1);
    assert_eq!(give(&mut rig, NUMBER, b"x\r\n", false, &states), SubmissionState::Taken);
    drop(rig);
    assert_eq!(states.try_recv(), Ok(SubmissionState::Abandoned));
}
