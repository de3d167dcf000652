//! Lives of the engine in simulated worlds: `docs/simulation.md`.

use std::num::NonZero;

use mailrace_dev::simulation::{Bug, Options, live, search};
use mailrace_io::sim::Fault;

/// Seeds of a run.
const SEEDS: u64 = 2000;
/// Seeds within which a planted bug is found.
const SEEDS_PLANTED: u64 = 1000;

fn jobs() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

#[test]
fn no_message_is_lost_duplicated_or_invented_under_faults() {
    let (done, report, found) = search(1, SEEDS, jobs(), &Options::default(), |_| {});
    if let Some(found) = found {
        panic!("seed {}: {}\n  {}", found.seed, found.violation, found.command);
    }
    assert_eq!(done, SEEDS);
    for (fault, count) in Fault::ALL.into_iter().zip(report.faults) {
        assert!(count > 0, "{} never happened", fault.name());
    }
    assert!(report.accepted > 10 * SEEDS && report.kills > 0 && report.power_cuts > 0, "{report:?}");
}

#[test]
fn planted_bugs_are_found() {
    for bug in Bug::ALL {
        let options = Options { bug: Some(bug), ..Options::default() };
        let (done, _, found) = search(1, SEEDS_PLANTED, jobs(), &options, |_| {});
        assert!(found.is_some(), "{} is not found in {done} seeds", bug.name());
    }
}

#[test]
fn a_seed_is_reproducible() {
    for seed in 1..=200 {
        let [one, two] = [(), ()].map(|()| live(seed, &Options::default(), false));
        assert_eq!(one.trace.digest(), two.trace.digest(), "seed {seed}");
        assert_eq!(one.report, two.report, "seed {seed}");
    }
}
