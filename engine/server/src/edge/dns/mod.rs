//! The resolver: finds the servers of next hops, on a thread of its own.
//!
//! A state machine asks with a number and goes on; later it is given the servers, or why there are none, with that number.
//! Asking never waits. `lookup` asks the DNS and `/etc/hosts`, `system` follows their files, and
//! [`mailrace_delivery::hosts`] decides what comes of it.

mod lookup;
mod system;
#[cfg(test)]
mod tests;

use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mailrace_delivery::hosts::{self, Found, HostSettings, Miss, Servers};
use prometheus_client::collector::Collector;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

use crate::metrics::{DnsMetrics, DnsNumbers};
use lookup::Lookups;

pub use system::SystemFiles;

/// A next hop to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHopName {
    /// A domain or a host, in the form in which it came: with U-labels, or as an address.
    pub host: Box<str>,
    /// The port of its servers.
    pub port: u16,
    /// Whether mail goes to its MX hosts. A next hop in brackets is a host itself.
    pub wants_mx: bool,
}

/// Where addresses of hosts come from (`smtp_host_lookup`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostLookup {
    /// From the DNS.
    pub dns: bool,
    /// From where the system looks: `/etc/hosts`, then the DNS.
    pub native: bool,
}

/// How next hops are looked up.
#[derive(Clone, Debug)]
pub struct DnsSettings {
    /// Which of the servers found are tried, in which order.
    pub hosts: HostSettings,
    /// Where addresses come from.
    pub host_lookup: HostLookup,
    /// Looks up no MX records, and addresses only as the system does (`disable_dns_lookups`).
    pub is_disabled: bool,
    /// Appends the first domain of the search list to host names without a dot (`res_defnames`).
    pub appends_domain: bool,
    /// Tries host names in the domains of the search list, too (`res_dnsrch`).
    pub searches_domains: bool,
    /// The files that say whom to ask.
    pub system: SystemFiles,
}

/// Maximum number of questions that wait for the thread.
pub const QUESTIONS_MAX: usize = 1024;

/// Maximum number of questions that are being answered.
const UNDER_WAY_MAX: usize = 256;

/// Time for one question, with all of its lookups. Each lookup has the time that resolv.conf(5) gives it.
const QUESTION_TIME_MAX: Duration = Duration::from_secs(100);

/// A question that was not taken, because [`QUESTIONS_MAX`] wait or the thread has ended. Ask again later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotTaken(pub NextHopName);

/// The resolver. Its thread ends when this is dropped, and answers no further question.
pub struct Dns {
    questions: mpsc::Sender<(u64, NextHopName)>,
    numbers: Arc<DnsNumbers>,
}

impl Dns {
    /// Starts the thread. It passes each answer to `answer`, with the number of its question; that must not wait.
    ///
    /// # Errors
    /// The thread or its runtime could not be started.
    pub fn start(settings: DnsSettings, answer: impl Fn(u64, Servers) + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
        let numbers = Arc::new(DnsNumbers::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let kept = Arc::clone(&numbers);
        let work = move || LocalSet::new().block_on(&runtime, serve(asked, settings, kept, answer));
        std::thread::Builder::new().name("dns".to_owned()).spawn(work)?;
        Ok(Self { questions, numbers })
    }

    /// Asks for the servers of a next hop. `serial` comes back with the answer.
    ///
    /// # Errors
    /// [`NotTaken`], with the question.
    pub fn ask(&self, serial: u64, question: NextHopName) -> Result<(), NotTaken> {
        let refused = self.questions.try_send((serial, question)).err();
        refused.map_or(Ok(()), |refused| Err(NotTaken(refused.into_inner().1)))
    }

    /// Returns its metrics.
    #[must_use]
    pub fn metrics(&self) -> Box<dyn Collector> {
        Box::new(DnsMetrics(Arc::clone(&self.numbers)))
    }
}

impl fmt::Debug for Dns {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Dns")
    }
}

/// Answers questions until none can come any more.
async fn serve(
    mut asked: mpsc::Receiver<(u64, NextHopName)>,
    settings: DnsSettings,
    numbers: Arc<DnsNumbers>,
    answer: impl Fn(u64, Servers) + 'static,
) {
    let places = Arc::new(Semaphore::new(UNDER_WAY_MAX));
    let state = Rc::new((Lookups::new(settings), numbers, answer));
    // Its keys are random.
    let chance = RandomState::new();
    for count in 0u64.. {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let Some((serial, question)) = asked.recv().await else { return };
        let (state, random) = (Rc::clone(&state), chance.hash_one(count));
        tokio::task::spawn_local(async move {
            let (lookups, numbers, answer) = &*state;
            let begun = Instant::now();
            let found = tokio::time::timeout(QUESTION_TIME_MAX, lookups.find(&question)).await;
            let record = if question.wants_mx { "MX" } else { "A" };
            let found = found.unwrap_or_else(|_| Found::Failed(Miss::temporary(&question.host, record)));
            let settings = &lookups.settings.hosts;
            let servers = hosts::servers(&question.host, question.port, &found, settings, random);
            numbers.answered(&servers.result, begun.elapsed());
            answer(serial, servers);
            drop(place);
        });
    }
}
