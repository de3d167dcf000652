//! Tables that have no answer at first.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use bumpalo::Bump;
use mailrace_core::Sharer;
use mailrace_core::lookup::{LookupError, LookupTable, Maps, Ticket};

/// A table that answers each lookup only the second time.
#[derive(Debug)]
pub(crate) struct Slow {
    maps: Maps,
    asked: Mutex<HashSet<Vec<u8>>>,
}

impl Slow {
    /// A slow table that says what `maps` say.
    pub(crate) fn new(maps: &Maps) -> Self {
        Self { maps: maps.clone(), asked: Mutex::default() }
    }
}

impl LookupTable for Slow {
    fn look_up<'a>(
        &'a self,
        arena: &'a Bump,
        key: &[u8],
        sharer: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        static TICKETS: AtomicU64 = AtomicU64::new(0);
        if self.asked.lock().expect("nobody panicked").insert(key.to_vec()) {
            return Err(LookupError::Pending(Ticket(TICKETS.fetch_add(1, Ordering::Relaxed))));
        }
        self.maps.find(arena, key, sharer)
    }

    fn is_asked_for_parts(&self) -> bool {
        let arena = Bump::new();
        // A table of patterns is not; this one's is known by what it says to a part of an address.
        self.maps.find(&arena, b"F:", Sharer::default()) == Ok(None)
    }

    fn may_wait(&self) -> bool {
        true
    }
}
