//! A job that is being done: which servers are tried in turn, and what has become of its recipients so far.

use std::collections::VecDeque;

use mailrace_core::record::delivery::Cause;
use mailrace_core::smtp::client::Protocol;

use super::{Settings, Times};
use crate::agent::smtp::{Handed, Report, SmtpSettings};
use crate::hosts::Servers;
use crate::manager::Job;
use crate::outcome::{Health, Outcome};
use crate::route::{HostName, NextHop, Server};

/// A job that is being done.
#[derive(Debug)]
pub(super) struct Handover<S> {
    pub(super) job: Job,
    /// Where its content is, and the number of its bytes.
    pub(super) source: (S, u64),
    pub(super) times: Times,
    /// Servers to try next.
    servers: VecDeque<Server>,
    /// Next hops whose servers are tried after those.
    hops: VecDeque<Hop>,
    /// Addresses that were tried, and servers that were ready for a transaction.
    tried: (usize, u32),
    /// Outcome of each recipient of the job. One that may change at another server is kept for the end.
    outcomes: Vec<Option<Outcome>>,
    /// The log has the outcome of each.
    is_told: Vec<bool>,
    health: Health,
}

/// A next hop.
#[derive(Debug)]
struct Hop {
    place: NextHop,
    /// It was configured for mail that is not its own, so that what is wrong with it is no fault of the recipient.
    is_configured: bool,
    is_fallback: bool,
}

/// What is to be done next for a job.
#[derive(Debug)]
pub(super) enum Step {
    /// Connect to this server.
    Connect(Server),
    /// Look for the servers of this name.
    Resolve(HostName),
    /// It is over.
    End,
}

impl<S: Clone> Handover<S> {
    pub(super) fn new(
        job: Job,
        source: (S, u64),
        times: Times,
        settings: &Settings,
        protocol: Protocol,
    ) -> Self {
        let mut handover = Self {
            outcomes: vec![None; job.recipients.len()],
            is_told: vec![false; job.recipients.len()],
            job,
            source,
            times,
            servers: VecDeque::new(),
            hops: VecDeque::new(),
            tried: (0, 0),
            health: Health::Good,
        };
        let next_hop = &*handover.job.route.next_hop;
        let is_relayhost = !settings.relayhost.is_empty() && next_hop == &*settings.relayhost;
        let places = NextHop::parse_list(next_hop, protocol, &settings.own_name);
        let fallback = match protocol {
            Protocol::Smtp if !settings.fallback_relay.is_empty() => {
                NextHop::parse_list(&settings.fallback_relay, protocol, &settings.own_name)
                    .unwrap_or_default()
            }
            _ => Vec::new(),
        };
        match places {
            Ok(places) => handover.hops.extend(places.into_iter().map(|place| Hop {
                place,
                is_configured: is_relayhost,
                is_fallback: false,
            })),
            Err(error) => {
                let cause = Cause::new(4, 3, 5, error.to_string());
                handover.health = Health::Failed(cause.clone());
                handover.outcomes.fill(Some(Outcome::Deferred(cause)));
            }
        }
        handover.hops.extend(fallback.into_iter().map(|place| Hop {
            place,
            is_configured: true,
            is_fallback: true,
        }));
        handover
    }

    /// What is to be done next.
    pub(super) fn next(&mut self, settings: &SmtpSettings) -> Step {
        if self.left().next().is_none() {
            return Step::End;
        }
        loop {
            let (addresses, sessions) = self.tried;
            let is_exhausted = (settings.address_limit > 0 && addresses >= settings.address_limit)
                || (settings.session_limit > 0 && sessions >= settings.session_limit);
            if is_exhausted {
                self.servers.clear();
            }
            if let Some(server) = self.servers.pop_front() {
                self.tried.0 += 1;
                return Step::Connect(server);
            }
            let Some(hop) = self.hops.front() else { return Step::End };
            if is_exhausted && !hop.is_fallback {
                self.hops.pop_front();
                continue;
            }
            self.tried = (0, 0);
            match &hop.place {
                NextHop::Server(server) => {
                    self.servers.push_back(server.clone());
                    self.hops.pop_front();
                }
                NextHop::Name(name) => return Step::Resolve(name.clone()),
            }
        }
    }

    /// The servers of the name that was asked for are known, or there are none.
    pub(super) fn resolved(&mut self, servers: Servers) {
        let Some(hop) = self.hops.pop_front() else { return };
        if servers.has_self {
            // This host is where the fallback would hand it back to.
            self.hops.retain(|hop| !hop.is_fallback);
        }
        match servers.result {
            Ok(servers) => self.servers = servers.into(),
            Err(mut cause) => {
                if hop.is_configured && cause.status.class == 5 {
                    (cause.status.class, cause.status.subject, cause.status.detail) = (4, 3, 5);
                }
                let is_final = cause.status.class == 5;
                self.health = Health::Failed(cause.clone());
                for outcome in &mut self.outcomes {
                    match outcome {
                        Some(Outcome::Sent(..) | Outcome::Failed(_)) => {}
                        // What a server said before counts for more.
                        Some(Outcome::Deferred(_)) if hop.is_fallback => {}
                        outcome if is_final && self.hops.is_empty() => {
                            *outcome = Some(Outcome::Failed(cause.clone()));
                        }
                        outcome => *outcome = Some(Outcome::Deferred(cause.clone())),
                    }
                }
            }
        }
    }

    /// The same server is tried again: the connection that was kept has ended before it was used.
    pub(super) fn again(&mut self, server: Server) {
        self.tried.0 = self.tried.0.saturating_sub(1);
        self.servers.push_front(server);
    }

    /// A server was ready for a transaction.
    pub(super) const fn session_began(&mut self) {
        self.tried.1 += 1;
    }

    /// What is to be handed over in the next transaction.
    pub(super) fn handed(&self) -> Handed {
        let recipients = self.left().filter_map(|place| self.job.recipients.get(place).copied()).collect();
        Handed { job: self.job.clone(), recipients, size: self.source.1 }
    }

    /// A transaction is over: `report` is about the recipients that [`Handover::handed`] named.
    pub(super) fn take(&mut self, report: Report) {
        let left: Vec<usize> = self.left().collect();
        assert_eq!(left.len(), report.outcomes.len(), "each recipient of a transaction has an outcome");
        for (place, outcome) in left.into_iter().zip(report.outcomes) {
            if let Some(taken) = self.outcomes.get_mut(place) {
                *taken = Some(outcome);
            }
        }
        self.health = report.health;
    }

    /// Places of the recipients whose outcome is not certain.
    pub(super) fn left(&self) -> impl Iterator<Item = usize> {
        let is_left = |outcome: &Option<Outcome>| matches!(outcome, None | Some(Outcome::Deferred(_)));
        self.outcomes.iter().enumerate().filter(move |(_, outcome)| is_left(outcome)).map(|(place, _)| place)
    }

    /// The outcomes of the recipients, in the job's order, and what they say about the destination.
    pub(super) fn end(self) -> (Job, Vec<Outcome>, Health) {
        let unreachable = || Outcome::Deferred(Cause::new(4, 3, 0, "no server was tried"));
        let outcomes = self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(unreachable)).collect();
        (self.job, outcomes, self.health)
    }

    /// Outcome so far of the recipient with this place in the job.
    pub(super) fn outcome(&self, place: usize) -> Option<&Outcome> {
        self.outcomes.get(place)?.as_ref()
    }

    /// Number and outcome of the recipients that were not told of yet, or only of those whose outcome is certain. They count
    /// as told of from now on.
    pub(super) fn untold(&mut self, is_certain: bool) -> Vec<(u32, Outcome)> {
        let mut untold = Vec::new();
        for ((number, outcome), is_told) in
            self.job.recipients.iter().zip(&self.outcomes).zip(&mut self.is_told)
        {
            let Some(outcome) = outcome.as_ref().filter(|_| !*is_told) else { continue };
            if is_certain && matches!(outcome, Outcome::Deferred(_)) {
                continue;
            }
            *is_told = true;
            untold.push((*number, outcome.clone()));
        }
        untold
    }
}
