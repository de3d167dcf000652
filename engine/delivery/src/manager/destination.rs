//! The destinations for which there is mail, and whose turn it is.

use std::collections::{BTreeSet, HashMap, VecDeque};

use mailrace_core::Timestamp;
use mailrace_core::record::delivery::Cause;

use super::Job;
use super::retry::later;
use super::settings::TransportSettings;
use super::window::Window;
use crate::outcome::Health;
use crate::route::Route;

/// All destinations that have mail, are dead or rest.
#[derive(Debug)]
pub(super) struct Destinations {
    transports: Vec<Transport>,
    table: HashMap<Route, Destination>,
    /// The dead and the resting ones, by the time at which they are tried again.
    paused: BTreeSet<(Timestamp, Route)>,
    /// The transport whose turn it is.
    turn: usize,
}

/// A transport's part.
#[derive(Debug)]
struct Transport {
    settings: TransportSettings,
    /// Its destinations with waiting mail and room in their window, each once: they are served in turns.
    turns: VecDeque<Route>,
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
    /// It rests after a delivery (`default_destination_rate_delay`).
    is_resting: bool,
    /// Why it is dead.
    dead: Option<Cause>,
}

impl Destination {
    fn new(settings: &TransportSettings) -> Self {
        Self {
            window: Window::new(&settings.window),
            busy: 0,
            waiting: VecDeque::new(),
            has_turn: false,
            is_resting: false,
            dead: None,
        }
    }

    /// Whether a delivery may begin.
    fn is_ready(&self, settings: &TransportSettings) -> bool {
        let window = if settings.rate_delay.is_zero() { self.window.size() } else { 1 };
        !self.waiting.is_empty() && self.busy < window && !self.is_resting
    }
}

const STAYS: &str = "a destination stays while a delivery is under way";
const KNOWN: &str = "a route's transport is one of the settings";

impl Destinations {
    pub(super) fn new(transports: &[TransportSettings]) -> Self {
        let transports = transports
            .iter()
            .map(|settings| Transport { settings: settings.clone(), turns: VecDeque::new(), busy: 0 })
            .collect();
        Self { transports, table: HashMap::new(), paused: BTreeSet::new(), turn: 0 }
    }

    /// Why a destination is dead.
    pub(super) fn dead(&self, route: &Route) -> Option<&Cause> {
        self.table.get(route)?.dead.as_ref()
    }

    /// Adds a job.
    pub(super) fn add(&mut self, job: Job) {
        let route = job.route.clone();
        let settings = &self.transports.get(usize::from(route.transport)).expect(KNOWN).settings;
        let destination = self.table.entry(route.clone()).or_insert_with(|| Destination::new(settings));
        destination.waiting.push_back(job);
        self.offer_turn(&route);
    }

    /// The next job of the transport and destination whose turn it is.
    pub(super) fn next(&mut self) -> Option<Job> {
        let transports = self.transports.len();
        for step in 0..transports {
            let number = (self.turn + step) % transports;
            if let Some(job) = self.next_of(number) {
                self.turn = (number + 1) % transports;
                return Some(job);
            }
        }
        None
    }

    fn next_of(&mut self, number: usize) -> Option<Job> {
        let transport = self.transports.get_mut(number)?;
        if transport.busy >= transport.settings.process_limit {
            return None;
        }
        while let Some(route) = transport.turns.pop_front() {
            let destination = self.table.get_mut(&route)?;
            destination.has_turn = false;
            if destination.is_ready(&transport.settings)
                && let Some(job) = destination.waiting.pop_front()
            {
                destination.busy += 1;
                transport.busy += 1;
                self.offer_turn(&route);
                return Some(job);
            }
        }
        None
    }

    /// The next job for a destination whose connection has just become free, unless another destination has to wait for it.
    pub(super) fn next_for(&mut self, route: &Route) -> Option<Job> {
        let transport = self.transports.get_mut(usize::from(route.transport))?;
        let destination = self.table.get_mut(route)?;
        let others = transport.turns.len() - usize::from(destination.has_turn);
        let left = transport.settings.process_limit.saturating_sub(transport.busy);
        let is_wanted = left == 0 || (left == 1 && others > 0);
        if is_wanted || !destination.is_ready(&transport.settings) {
            return None;
        }
        let job = destination.waiting.pop_front()?;
        destination.busy += 1;
        transport.busy += 1;
        Some(job)
    }

    /// Whether mail waits for this destination.
    pub(super) fn has_waiting(&self, route: &Route) -> bool {
        self.table.get(route).is_some_and(|destination| !destination.waiting.is_empty())
    }

    /// A job is over. Returns the jobs that its destination's death leaves, with the cause.
    pub(super) fn finished(
        &mut self,
        route: &Route,
        health: Health,
        now: Timestamp,
        dead_until: Timestamp,
    ) -> Option<(VecDeque<Job>, Cause)> {
        let transport = self.transports.get_mut(usize::from(route.transport)).expect(KNOWN);
        let destination = self.table.get_mut(route).expect(STAYS);
        let busy = destination.busy;
        destination.busy -= 1;
        transport.busy -= 1;
        let window = &transport.settings.window;
        let mut left = None;
        match health {
            Health::Good => destination.window.succeeded(window, busy),
            Health::Failed(cause) => {
                if destination.dead.is_none() && destination.window.failed(window) {
                    destination.dead = Some(cause.clone());
                    self.paused.insert((dead_until, route.clone()));
                    left = Some((std::mem::take(&mut destination.waiting), cause));
                }
            }
        }
        let delay = transport.settings.rate_delay;
        if !delay.is_zero() && destination.dead.is_none() {
            destination.is_resting = true;
            self.paused.insert((later(now, delay), route.clone()));
        }
        self.offer_turn(route);
        self.forget_unused(route);
        left
    }

    /// A job that [`Destinations::next`] returned is not done.
    pub(super) fn dropped(&mut self, route: &Route) {
        self.transports.get_mut(usize::from(route.transport)).expect(KNOWN).busy -= 1;
        self.table.get_mut(route).expect(STAYS).busy -= 1;
        self.offer_turn(route);
        self.forget_unused(route);
    }

    /// Ends the pauses whose time has come.
    pub(super) fn resume(&mut self, now: Timestamp) {
        while let Some((until, _)) = self.paused.first()
            && *until <= now
            && let Some((_, route)) = self.paused.pop_first()
        {
            self.end_pause(&route);
        }
    }

    /// Takes all dead ones for alive.
    pub(super) fn revive_all(&mut self) {
        let dead = |route: &Route| self.table.get(route).is_some_and(|found| found.dead.is_some());
        let routes: Vec<(Timestamp, Route)> =
            self.paused.iter().filter(|(_, route)| dead(route)).cloned().collect();
        for paused in routes {
            self.paused.remove(&paused);
            self.end_pause(&paused.1);
        }
    }

    /// Takes a dead one for alive.
    pub(super) fn revive(&mut self, route: &Route) {
        if self.table.get(route).is_none_or(|destination| destination.dead.is_none()) {
            return;
        }
        self.paused.retain(|(_, paused)| paused != route);
        self.end_pause(route);
    }

    fn end_pause(&mut self, route: &Route) {
        let window = &self.transports.get(usize::from(route.transport)).expect(KNOWN).settings.window;
        if let Some(destination) = self.table.get_mut(route) {
            destination.is_resting = false;
            if destination.dead.take().is_some() {
                destination.window = Window::new(window);
            }
        }
        self.offer_turn(route);
        self.forget_unused(route);
    }

    /// When the next pause ends.
    pub(super) fn resumes_at(&self) -> Option<Timestamp> {
        self.paused.first().map(|(until, _)| *until)
    }

    fn offer_turn(&mut self, route: &Route) {
        let transport = self.transports.get_mut(usize::from(route.transport)).expect(KNOWN);
        if let Some(destination) = self.table.get_mut(route)
            && !destination.has_turn
            && destination.is_ready(&transport.settings)
        {
            destination.has_turn = true;
            transport.turns.push_back(route.clone());
        }
    }

    /// Forgets a destination of which nothing is left to know, and with it its window, as Postfix does.
    fn forget_unused(&mut self, route: &Route) {
        let is_unused = |found: &Destination| {
            let is_known = found.dead.is_some() || found.is_resting || found.has_turn;
            found.busy == 0 && found.waiting.is_empty() && !is_known
        };
        if self.table.get(route).is_some_and(is_unused) {
            self.table.remove(route);
        }
    }
}
