//! Owns how a call of the passes is undone when a table has not answered: the same call comes again, and what was
//! noticed is told once.

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::rejection::Halt;
use super::{Cleanup, Notice, Observer, Part, Surroundings};

impl Cleanup {
    /// [`Cleanup::content`] where tables may have to be waited for.
    pub(super) fn content_with_waiting<'a>(
        &mut self,
        surroundings: &mut Surroundings<'_, 'a>,
        input: &'a [u8],
        is_whole: bool,
    ) -> Result<Part<'a>, Halt> {
        let before = self.clone();
        let Surroundings { arena, settings, origin, envelope, .. } = *surroundings;
        let mut kept = Kept { arena, notices: ArenaVec::new_in(arena) };
        let mut quiet = Surroundings { arena, settings, origin, envelope, observer: &mut kept };
        let result = self.content_at_once(&mut quiet, input, is_whole);
        if let Err(Halt::Pending(_)) = result {
            *self = before;
        } else {
            kept.notices.iter().for_each(|notice| surroundings.observer.noticed(notice));
        }
        result
    }
}

/// What was noticed, until it is known that it counts.
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
