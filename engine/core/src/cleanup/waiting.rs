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
    use crate::lookup::{LookupError, LookupTable, Maps, Ticket};
    use crate::{QueueId, Sharer};
    use alloc::collections::BTreeMap;
    use alloc::sync::Arc;
    use alloc::vec;
    use alloc::vec::Vec;
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::sync::Mutex;

    /// Table that counts the lookups of each key and forgets each lookup once it has answered it.
    #[derive(Debug, Default)]
    struct Counting {
        asked: Mutex<BTreeMap<Vec<u8>, usize>>,
        tickets: AtomicU64,
        answered: Mutex<Vec<Ticket>>,
    }

    impl LookupTable for Counting {
        fn look_up<'a>(
            &'a self,
            _arena: &'a Bump,
            key: &[u8],
            _sharer: Sharer,
        ) -> Result<Option<&'a [u8]>, LookupError> {
            *self.asked.lock().unwrap().entry(key.to_vec()).or_default() += 1;
            Err(LookupError::Pending(Ticket(self.tickets.fetch_add(1, Ordering::Relaxed))))
        }

        fn resume<'a>(
            &'a self,
            ticket: Ticket,
            _arena: &'a Bump,
            key: &[u8],
            _sharer: Sharer,
        ) -> Result<Option<&'a [u8]>, LookupError> {
            let mut answered = self.answered.lock().unwrap();
            let place = answered.iter().position(|answered| *answered == ticket);
            answered.remove(place.ok_or(LookupError::Pending(ticket))?);
            Ok(match key {
                b"a@example.com" => Some(b"b@example.com, c@example.com"),
                b"Subject: x" => Some(b"WARN seen"),
                _ => None,
            })
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
            table.answered.lock().unwrap().push(ticket);
        };
        let expected: [&[u8]; 3] = [b"b@example.com", b"c@example.com", b"d@example.com"];
        assert_eq!(Vec::<Vec<u8>>::as_slice(&recipients), expected);
        assert_eq!(notices.0, 1);
        let asked = table.asked.lock().unwrap();
        assert!(asked.len() > 5 && asked.values().all(|count| *count == 1), "{asked:?}");
        assert!(cleanup.memory() > 0);
    }
}
