//! What is known of one message, and so what a look at the queue may find of it.

use mailrace_spool::Mark;

/// Whether a message is in the queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Presence {
    /// It must not be: its content never ended, it was refused, it is done, or it was not there at a start.
    #[default]
    Never,
    /// It may be, once: no reply was read, or it is being marked as done.
    Perhaps,
    /// It must be, once: its 250 was read, or it was there at a start.
    Once,
}

/// Which states a message may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct States {
    /// Waiting for delivery.
    pub incoming: bool,
    /// On hold.
    pub held: bool,
}

impl States {
    /// Whether the state that was found is one of them.
    #[must_use]
    pub const fn allow(self, is_held: bool) -> bool {
        if is_held { self.held } else { self.incoming }
    }
}

/// What became of a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is not settled.
    Open,
    /// It holds.
    Durable,
    /// It may be there or not.
    Failed,
    /// There was no such message any more.
    Unfound,
}

/// A mark that was asked for.
#[derive(Clone, Copy, Debug)]
struct Marking {
    mark: Mark,
    outcome: Outcome,
}

/// What is known of one message: whether it must be in the queue, and in which state.
#[derive(Clone, Debug)]
pub struct Standing {
    presence: Presence,
    /// What its state may be before the marks.
    states: States,
    /// Marks in the order in which they were asked for; none when all are settled.
    marks: Vec<Marking>,
}

impl Default for Standing {
    fn default() -> Self {
        Self { presence: Presence::Never, states: States { incoming: true, held: false }, marks: Vec::new() }
    }
}

impl Standing {
    /// Whether it is in the queue.
    #[must_use]
    pub const fn presence(&self) -> Presence {
        self.presence
    }

    /// All of it has left its client, or may have.
    pub const fn offered(&mut self) {
        self.presence = Presence::Perhaps;
    }

    /// Its 250 was read.
    pub fn accepted(&mut self) {
        let is_being_done = self.open_marks().any(|mark| mark == Mark::Done);
        self.presence = if is_being_done { Presence::Perhaps } else { Presence::Once };
    }

    /// It was refused; `may_be_there`: by a server that does not know what its disk has of it.
    pub const fn refused(&mut self, may_be_there: bool) {
        self.presence = if may_be_there { Presence::Perhaps } else { Presence::Never };
    }

    /// A mark is asked for; returns its place among those of the message.
    pub fn begin_mark(&mut self, mark: Mark) -> usize {
        if mark == Mark::Done && self.presence == Presence::Once {
            self.presence = Presence::Perhaps;
        }
        self.marks.push(Marking { mark, outcome: Outcome::Open });
        self.marks.len() - 1
    }

    /// The mark at a place is settled; returns whether the message is gone with it.
    pub fn settle(&mut self, place: usize, outcome: Outcome) -> bool {
        let Some(marking) = self.marks.get_mut(place) else { return false };
        marking.outcome = outcome;
        let is_gone =
            outcome == Outcome::Durable && marking.mark == Mark::Done && self.presence != Presence::Never;
        if is_gone {
            self.presence = Presence::Never;
        }
        if self.open_marks().next().is_none() {
            self.states = self.states();
            self.marks.clear();
        }
        is_gone
    }

    /// All marks that are open hold.
    pub fn settle_all(&mut self) {
        for place in 0..self.marks.len() {
            if self.marks.get(place).is_some_and(|marking| marking.outcome == Outcome::Open) {
                self.settle(place, Outcome::Durable);
            }
        }
    }

    /// Marks that are not settled.
    pub fn open_marks(&self) -> impl Iterator<Item = Mark> + '_ {
        self.marks.iter().filter(|marking| marking.outcome == Outcome::Open).map(|marking| marking.mark)
    }

    /// Whether it was to be marked as done before the mark at this place was asked for.
    #[must_use]
    pub fn is_done_before(&self, place: usize) -> bool {
        self.marks.iter().take(place).any(|before| before.mark == Mark::Done)
    }

    /// What its state may be. Of marks that hold the one that was asked for last counts, however they became durable.
    #[must_use]
    pub fn states(&self) -> States {
        self.marks.iter().fold(self.states, |states, Marking { mark, outcome }| {
            let is_certain = *outcome == Outcome::Durable;
            match (mark, outcome) {
                (Mark::Done, _) | (_, Outcome::Unfound) => states,
                (Mark::Hold, _) => States { incoming: states.incoming && !is_certain, held: true },
                (Mark::Release, _) => States { incoming: true, held: states.held && !is_certain },
            }
        })
    }

    /// What its state may have been before the open marks.
    #[must_use]
    pub const fn states_before_marks(&self) -> States {
        self.states
    }

    /// Whether a look may find this of it: nothing, or a message, held or not.
    #[must_use]
    pub fn allows(&self, found: Option<bool>) -> bool {
        match (self.presence, found) {
            (Presence::Perhaps, _) | (Presence::Never, None) => true,
            (Presence::Once, Some(is_held)) => self.states().allow(is_held),
            (Presence::Once, None) | (Presence::Never, Some(_)) => false,
        }
    }

    /// A look at a queue at rest found this of it: nothing is open any more.
    pub fn found(&mut self, found: Option<bool>) {
        self.marks.clear();
        match found {
            None => self.presence = Presence::Never,
            Some(is_held) => {
                self.presence = Presence::Once;
                self.states = States { incoming: !is_held, held: is_held };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> Standing {
        let mut standing = Standing::default();
        standing.offered();
        standing.accepted();
        standing
    }

    /// Whether nothing, a message that is not held, and one that is held may be found.
    fn allowed(standing: &Standing) -> [bool; 3] {
        [None, Some(false), Some(true)].map(|found| standing.allows(found))
    }

    #[test]
    fn a_message_must_be_present_once_it_was_accepted() {
        let mut standing = Standing::default();
        assert_eq!(allowed(&standing), [true, false, false]);
        standing.offered();
        assert_eq!(allowed(&standing), [true; 3]);
        standing.accepted();
        assert_eq!(allowed(&standing), [false, true, false]);
        standing.refused(false);
        assert_eq!(allowed(&standing), [true, false, false]);
        standing.refused(true);
        assert_eq!(allowed(&standing), [true; 3]);
    }

    #[test]
    fn a_mark_is_in_doubt_until_it_is_settled() {
        let mut standing = accepted();
        let place = standing.begin_mark(Mark::Hold);
        assert_eq!(allowed(&standing), [false, true, true]);
        assert!(!standing.settle(place, Outcome::Durable));
        assert_eq!(allowed(&standing), [false, false, true]);
        let place = standing.begin_mark(Mark::Release);
        standing.settle(place, Outcome::Failed);
        assert_eq!(allowed(&standing), [false, true, true]);
        standing.found(Some(true));
        assert_eq!(allowed(&standing), [false, false, true]);
        let place = standing.begin_mark(Mark::Done);
        assert_eq!(allowed(&standing), [true; 3]);
        assert!(standing.settle(place, Outcome::Durable));
        assert_eq!(allowed(&standing), [true, false, false]);
    }

    #[test]
    fn the_last_of_several_marks_counts_in_whatever_order_they_settle() {
        let mut standing = accepted();
        let hold = standing.begin_mark(Mark::Hold);
        let release = standing.begin_mark(Mark::Release);
        standing.settle(release, Outcome::Durable);
        assert_eq!(allowed(&standing), [false, true, false]);
        standing.settle(hold, Outcome::Durable);
        assert_eq!(allowed(&standing), [false, true, false]);
        let hold = standing.begin_mark(Mark::Hold);
        standing.settle(hold, Outcome::Unfound);
        assert_eq!(allowed(&standing), [false, true, false]);
    }

    #[test]
    fn a_message_swept_before_it_was_accepted_may_be_missing() {
        let mut standing = Standing::default();
        let done = standing.begin_mark(Mark::Done);
        standing.offered();
        standing.accepted();
        assert_eq!(allowed(&standing), [true; 3]);
        assert!(standing.is_done_before(done + 1) && !standing.is_done_before(done));
        standing.found(None);
        assert_eq!(allowed(&standing), [true, false, false]);
    }
}
