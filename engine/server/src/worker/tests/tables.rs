//! Tables that answer late or never.

use super::*;

/// A table that never answers.
#[derive(Debug, Default)]
struct Silent(std::sync::atomic::AtomicU64);

impl LookupTable for Silent {
    fn look_up<'a>(
        &'a self,
        _: &'a bumpalo::Bump,
        _: &[u8],
        _: mailrace_core::Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let asked = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        assert!(asked < 1000, "the same question over and over");
        Err(LookupError::Pending(Ticket(asked)))
    }

    fn may_wait(&self) -> bool {
        true
    }
}

#[test]
fn a_question_of_the_session_waits_whatever_its_message_has_waited() {
    let silent = Arc::new(Silent::default());
    let asked = || silent.0.load(std::sync::atomic::Ordering::Relaxed);
    let maps = Maps::new(vec![Arc::clone(&silent) as Arc<dyn LookupTable>]);
    let mut relay_domains: Domains = ["example.com"].into_iter().collect();
    relay_domains.add_tables(maps, false);
    let destinations = Destinations { relay_domains, ..Destinations::default() };
    let smtp = smtp::Settings { destinations: Arc::new(destinations), ..settings().smtp };
    let mut rig = Rig::new(WorkerSettings { smtp, ..settings() });
    let client = rig.connect();
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    let replies = rig.say(&client, b"MAIL FROM:<a@b.example>\r\nRCPT TO:<u@example.com>\r\nBDAT 3\r\na\r\n");
    assert!(replies.ends_with("250 2.0.0 Ok: 3 bytes\r\n"), "{replies}");
    assert_eq!(rig.say(&client, b"VRFY a@one.example\r\n"), "");
    assert_eq!(asked(), 1);
    rig.worker.io.pass(Duration::from_secs(101));
    rig.settle();
    rig.worker.engine.answered(Ticket(0));
    rig.settle();
    assert_eq!(String::from_utf8(client.take()).unwrap(), "");
    assert_eq!(asked(), 2, "it asks again, and waits again");
    let other = rig.connect();
    assert!(String::from_utf8(other.take()).unwrap().starts_with("220 "), "no other client waits");
}

#[test]
fn a_message_waits_for_tables_so_long_and_no_longer() {
    let bcc = Bcc { sender_maps: Maps::new(vec![Arc::new(Silent::default())]), ..Bcc::default() };
    let cleanup = mailrace_core::cleanup::Settings { bcc, ..settings().cleanup };
    let mut rig = Rig::new(WorkerSettings { cleanup, ..settings() });
    let client = rig.connect();
    let _ = client.take();
    rig.say(&client, b"EHLO a.example\r\n");
    assert!(!rig.say(&client, &transaction("x")).contains("queued as"));
    for asked in 0..3 {
        assert_eq!(String::from_utf8(client.take()).unwrap(), "", "{asked} answers did not come in time");
        rig.worker.io.pass(Duration::from_secs(40));
        rig.settle();
        rig.worker.engine.answered(Ticket(asked));
        rig.settle();
    }
    let replies = String::from_utf8(client.take()).unwrap();
    assert!(replies.lines().last().is_some_and(|reply| reply.starts_with("451 4.3.0 ")), "{replies}");
}
