//! The destinations for which there is mail, and whose turn it is.

use std::collections::{BTreeSet, HashMap, VecDeque};

use mailrace_core::Timestamp;

use super::Job;
use super::window::{Window, WindowSettings};
use crate::outcome::{Health, Reason};
use crate::route::NextHop;

/// All destinations that have mail or are dead.
#[derive(Debug, Default)]
pub(super) struct Destinations {
    table: HashMap<NextHop, Destination>,
    /// Those with waiting mail and room in their window, each once: they are served in turns.
    turns: VecDeque<NextHop>,
    /// The dead ones, by the time at which they are tried again.
    dead: BTreeSet<(Timestamp, NextHop)>,
    /// Deliveries under way.
    busy: u32,
}

/// One destination.
#[derive(Debug)]
struct Destination {
    window: Window,
    busy: u32,
    waiting: VecDeque<Job>,
    has_turn: bool,
    /// Why it is dead, and until when.
    dead: Option<(Timestamp, Reason)>,
}

impl Destination {
    /// Whether a delivery may begin.
    fn is_ready(&self) -> bool {
        !self.waiting.is_empty() && self.busy < self.window.size()
    }
}

impl Destinations {
    /// Deliveries under way.
    pub(super) const fn busy(&self) -> u32 {
        self.busy
    }

    /// Adds a job, or returns it with the reason for which its destination is dead.
    pub(super) fn add(&mut self, job: Job, settings: &WindowSettings) -> Result<(), (Job, Reason)> {
        let destination = self.table.entry(job.next_hop).or_insert_with(|| Destination {
            window: Window::new(settings),
            busy: 0,
            waiting: VecDeque::new(),
            has_turn: false,
            dead: None,
        });
        if let Some((_, reason)) = &destination.dead {
            return Err((job, reason.clone()));
        }
        let next_hop = job.next_hop;
        destination.waiting.push_back(job);
        self.offer_turn(next_hop);
        Ok(())
    }

    /// The next job of the destination whose turn it is.
    pub(super) fn next(&mut self) -> Option<Job> {
        while let Some(next_hop) = self.turns.pop_front() {
            let destination = self.table.get_mut(&next_hop)?;
            destination.has_turn = false;
            if destination.is_ready()
                && let Some(job) = destination.waiting.pop_front()
            {
                destination.busy += 1;
                self.busy += 1;
                self.offer_turn(next_hop);
                return Some(job);
            }
        }
        None
    }

    /// A job is over. Returns the jobs that its destination's death leaves, with the reason.
    pub(super) fn finished(
        &mut self,
        next_hop: NextHop,
        health: Health,
        settings: &WindowSettings,
        dead_until: Timestamp,
    ) -> Option<(VecDeque<Job>, Reason)> {
        let destination =
            self.table.get_mut(&next_hop).expect("a destination stays while a delivery is under way");
        let busy = destination.busy;
        destination.busy -= 1;
        self.busy -= 1;
        let mut left = None;
        match health {
            Health::Good => destination.window.succeeded(settings, busy),
            Health::Failed(reason) => {
                if destination.dead.is_none() && destination.window.failed(settings) {
                    destination.dead = Some((dead_until, reason.clone()));
                    self.dead.insert((dead_until, next_hop));
                    left = Some((std::mem::take(&mut destination.waiting), reason));
                }
            }
        }
        self.offer_turn(next_hop);
        self.forget_unused(next_hop);
        left
    }

    /// A job that [`Destinations::next`] returned is not done.
    pub(super) fn dropped(&mut self, next_hop: NextHop) {
        let destination =
            self.table.get_mut(&next_hop).expect("a destination stays while a job of it is out");
        destination.busy -= 1;
        self.busy -= 1;
        self.offer_turn(next_hop);
        self.forget_unused(next_hop);
    }

    /// Takes the dead ones for alive whose time has come.
    pub(super) fn revive(&mut self, now: Timestamp, settings: &WindowSettings) {
        while let Some((until, next_hop)) = self.dead.first().copied()
            && until <= now
        {
            self.dead.pop_first();
            if let Some(destination) = self.table.get_mut(&next_hop) {
                destination.dead = None;
                destination.window = Window::new(settings);
            }
            self.forget_unused(next_hop);
        }
    }

    /// When the next dead one is tried again.
    pub(super) fn revives_at(&self) -> Option<Timestamp> {
        self.dead.first().map(|(until, _)| *until)
    }

    fn offer_turn(&mut self, next_hop: NextHop) {
        if let Some(destination) = self.table.get_mut(&next_hop)
            && !destination.has_turn
            && destination.is_ready()
        {
            destination.has_turn = true;
            self.turns.push_back(next_hop);
        }
    }

    /// Forgets a destination of which nothing is left to know, and with it its window, as Postfix does.
    fn forget_unused(&mut self, next_hop: NextHop) {
        let is_unused = |found: &Destination| {
            found.busy == 0 && found.waiting.is_empty() && found.dead.is_none() && !found.has_turn
        };
        if self.table.get(&next_hop).is_some_and(is_unused) {
            self.table.remove(&next_hop);
        }
    }
}
