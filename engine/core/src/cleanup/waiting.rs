//! Undoes a call of the passes if a table has not answered. The caller repeats the call, and each notice is reported once.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::rejection::Halt;
use super::{Cleanup, Notice, Observer, Part, Passes};

impl Cleanup {
    /// [`Cleanup::content`] for tables that may defer their answers.
    pub(super) fn content_with_waiting<'a>(
        &mut self,
        surroundings: &mut Passes<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        let before = self.clone();
        let Passes { arena, settings, origin, envelope, answers, .. } = *surroundings;
        let mut kept = Kept { arena, notices: ArenaVec::new_in(arena) };
        let mut quiet = Passes { arena, settings, origin, envelope, observer: &mut kept, answers };
        let result = self.content_at_once(&mut quiet, input, is_whole);
        if let Err(Halt::Pending(_)) = result {
            *self = before;
        } else {
            kept.notices.iter().for_each(|notice| surroundings.observer.noticed(notice));
        }
        result
    }
}

/// Notices of a call that may still be undone.
struct Kept<'a> {
    arena: &'a Bump,
    notices: ArenaVec<'a, Notice<'a>>,
}

impl Observer for Kept<'_> {
    fn noticed(&mut self, notice: &Notice<'_>) {
        let text = self.arena.alloc_slice_copy(notice.text);
        let argument = self.arena.alloc_slice_copy(notice.argument);
        self.notices.push(Notice { text, argument, ..*notice });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cleanup::{Settings, Surroundings};
    use crate::envelope::{Envelope, Origin, Recipient};
    use crate::lookup::{Asker, Awaited, LookupError, LookupTable, Maps, Outcome, Ticket};
    use crate::{QueueId, Sharer};
    use alloc::collections::BTreeMap;
    use alloc::sync::Arc;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicBool, Ordering};
    use std::sync::Mutex;

    /// Counts how often it is asked each question, and gives each answer once, where it was told to.
    #[derive(Debug, Default)]
    struct Counting {
        asked: Mutex<BTreeMap<Vec<u8>, usize>>,
        waiting: Mutex<Vec<Arc<Arrival>>>,
    }

    #[derive(Debug)]
    struct Arrival {
        key: Vec<u8>,
        is_here: AtomicBool,
    }

    impl Awaited for Arrival {
        fn outcome(&self) -> Option<Outcome<'_>> {
            let value: Option<&[u8]> = match self.key.as_slice() {
                b"a@example.com" => Some(b"b@example.com, c@example.com"),
                b"Subject: x" => Some(b"WARN seen"),
                _ => None,
            };
            self.is_here.load(Ordering::Relaxed).then_some(Outcome::Answered(value))
        }
    }

    impl Counting {
        fn answer(&self, ticket: Ticket) {
            let waiting = self.waiting.lock().unwrap();
            let arrival = &waiting[usize::try_from(ticket.0).unwrap()];
            assert!(!arrival.is_here.swap(true, Ordering::Relaxed), "an answered question is not waited for");
        }
    }

    impl LookupTable for Counting {
        fn look_up<'a>(&'a self, _: &'a Bump, _: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
            unreachable!("it is asked in a transaction")
        }

        fn ask<'a>(
            &'a self,
            _arena: &'a Bump,
            key: &[u8],
            asker: Asker<'_>,
        ) -> Result<Option<&'a [u8]>, LookupError> {
            *self.asked.lock().unwrap().entry(key.to_vec()).or_default() += 1;
            let mut waiting = self.waiting.lock().unwrap();
            let ticket = Ticket(waiting.len() as u64);
            let arrival = Arc::new(Arrival { key: key.to_vec(), is_here: AtomicBool::new(false) });
            waiting.push(Arc::clone(&arrival));
            Err(asker.wait_for(ticket, arrival))
        }

        fn may_wait(&self) -> bool {
            true
        }
    }

    struct Counted(usize);

    impl Observer for Counted {
        fn noticed(&mut self, _: &Notice<'_>) {
            self.0 += 1;
        }
    }

    #[test]
    fn each_key_is_looked_up_exactly_once_per_message() {
        let table = Arc::new(Counting::default());
        let maps = || Maps::new(vec![Arc::<Counting>::clone(&table) as Arc<dyn LookupTable>]);
        let mut settings = Settings::default();
        settings.virtual_alias.maps = maps();
        settings.checks.header = maps();
        settings.bcc.sender_maps = maps();
        let recipient = |address: &[u8]| Recipient { address: address.to_vec(), ..Recipient::default() };
        let envelope = Envelope {
            sender: b"s@example.net".to_vec(),
            recipients: vec![recipient(b"a@example.com"), recipient(b"d@example.com")],
            ..Envelope::default()
        };
        let origin = Origin::default();
        let mut cleanup = Cleanup::new(QueueId::from_number(1), false);
        let (mut notices, mut rounds) = (Counted(0), 0);
        let mut is_content_done = false;
        let recipients = loop {
            rounds += 1;
            assert!(rounds < 100, "the passes end once all lookups are answered");
            let arena = Bump::new();
            let mut surroundings = Surroundings {
                arena: &arena,
                settings: &settings,
                origin: &origin,
                envelope: &envelope,
                observer: &mut notices,
            };
            let halt = if is_content_done {
                match cleanup.envelope(&mut surroundings) {
                    Ok(queued) => break queued.recipients.iter().map(|it| it.address.to_vec()).collect(),
                    Err(halt) => halt,
                }
            } else {
                match cleanup.content(&mut surroundings, b"Subject: x\r\n\r\nbody\r\n", true) {
                    Ok(_) => {
                        is_content_done = true;
                        continue;
                    }
                    Err(halt) => halt,
                }
            };
            let Halt::Pending(ticket) = halt else { panic!("{halt:?}") };
            table.answer(ticket);
        };
        let expected: [&[u8]; 3] = [b"b@example.com", b"c@example.com", b"d@example.com"];
        assert_eq!(Vec::<Vec<u8>>::as_slice(&recipients), expected);
        assert_eq!(notices.0, 1);
        let asked = table.asked.lock().unwrap();
        assert!(asked.len() > 5 && asked.values().all(|count| *count == 1), "{asked:?}");
        assert!(cleanup.memory() > 0);
    }
}
