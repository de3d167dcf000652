//! Detects other load on the machine, which makes figures misleading.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::thread::sleep;
use std::time::Duration;

use crate::process::{Usage, usages};

/// Other load on the machine.
#[derive(Clone, Debug, PartialEq)]
pub struct Noise {
    processors: usize,
    /// Share of all processors in use.
    busy: f64,
    /// Share of all processors that the hypervisor gave to other machines.
    steal: f64,
    /// Mean number of runnable processes over several samples, without this one.
    running: f64,
    /// Load average of the last minute.
    load_average: f64,
    /// Processes that used the most processor time, each with its share of one processor.
    greediest: Vec<(String, f64)>,
}

/// Processor time of the whole machine since boot, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticks {
    busy: u64,
    steal: u64,
    total: u64,
    processors: usize,
    running: u64,
}

impl Ticks {
    /// Reads the current counters; zero if the kernel does not provide them.
    #[must_use]
    pub fn now() -> Self {
        fs::read_to_string("/proc/stat").map(|text| Self::parse(&text)).unwrap_or_default()
    }

    /// Returns the share of all processors that the hypervisor gave to other machines since `earlier`.
    #[must_use]
    pub fn steal_since(&self, earlier: &Self) -> f64 {
        share(self.steal.saturating_sub(earlier.steal), self.total.saturating_sub(earlier.total))
    }

    fn parse(text: &str) -> Self {
        let mut found = Self::default();
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("cpu") => {
                    let ticks: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
                    // user nice system idle iowait irq softirq steal; guests' time is in user's, too (proc_stat(5)).
                    let of =
                        |places: &[usize]| -> u64 { places.iter().filter_map(|at| ticks.get(*at)).sum() };
                    found.busy = of(&[0, 1, 2, 5, 6]);
                    found.steal = of(&[7]);
                    found.total = of(&[0, 1, 2, 3, 4, 5, 6, 7]);
                }
                Some("procs_running") => {
                    found.running = words.next().and_then(|word| word.parse().ok()).unwrap_or_default();
                }
                Some(word) if word.starts_with("cpu") => found.processors += 1,
                _ => {}
            }
        }
        found
    }
}

impl Noise {
    /// Observes the machine for half a second, while this program is idle.
    #[must_use]
    pub fn listen() -> Self {
        let processes = usages();
        let before = Ticks::now();
        let mut running = 0;
        for _ in 0..LOOKS {
            sleep(LOOK);
            running += Ticks::now().running.saturating_sub(1);
        }
        let after = Ticks::now();
        let total = after.total.saturating_sub(before.total);
        Self {
            processors: after.processors.max(1),
            busy: share(after.busy.saturating_sub(before.busy), total),
            steal: after.steal_since(&before),
            running: running as f64 / f64::from(LOOKS),
            load_average: load_average().unwrap_or_default(),
            greediest: greediest(&processes, &usages(), LOOK * LOOKS),
        }
    }

    /// Why figures that are taken now would mislead; empty on a quiet machine.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if self.busy > BUSY_MAX {
            let mut names: Vec<String> = Vec::new();
            for (name, used) in &self.greediest {
                names.push(format!("{name} {:.0} %", used * 100.0));
            }
            let names = if names.is_empty() { String::new() } else { format!(" ({})", names.join(", ")) };
            complaints.push(format!(
                "other programs use {:.0} % of its {} processors{names}",
                self.busy * 100.0,
                self.processors
            ));
        }
        if self.running > RUNNING_MAX {
            complaints.push(format!("{:.1} other processes are runnable", self.running));
        }
        if self.steal > STEAL_MAX {
            complaints.push(steal_complaint(self.steal));
        }
        if self.load_average > LOAD_AVERAGE_MAX * self.processors as f64 {
            complaints.push(format!("the load average of the last minute is {:.1}", self.load_average));
        }
        complaints
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.complaints().join("; "))
    }
}

/// Warns when the machine is busy before a measurement.
pub fn warn_if_busy() {
    let noise = Noise::listen();
    if !noise.complaints().is_empty() {
        eprintln!("mailrace-bench: WARNING: this machine is busy, so the figures are unreliable: {noise}");
    }
}

/// Warns if the hypervisor has taken processor time away since `before`.
pub fn warn_if_stolen(before: &Ticks) {
    let steal = Ticks::now().steal_since(before);
    if steal > STEAL_MAX {
        eprintln!("mailrace-bench: WARNING: during the measurement {}", steal_complaint(steal));
    }
}

fn steal_complaint(steal: f64) -> String {
    format!("the hypervisor gave {:.1} % of the processors to others (steal)", steal * 100.0)
}

fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}

fn greediest(
    before: &HashMap<u32, Usage>,
    after: &HashMap<u32, Usage>,
    time: Duration,
) -> Vec<(String, f64)> {
    let used = |(pid, usage): (&u32, &Usage)| {
        let earlier = before.get(pid).map_or(Duration::ZERO, |earlier| earlier.time);
        let used = usage.time.saturating_sub(earlier).as_secs_f64() / time.as_secs_f64();
        (*pid != std::process::id() && used > SHOWN_MIN).then(|| (usage.name.clone(), used))
    };
    let mut all: Vec<(String, f64)> = after.iter().filter_map(used).collect();
    all.sort_unstable_by(|a, b| f64::total_cmp(&b.1, &a.1));
    all.truncate(SHOWN);
    all
}

const LOOK: Duration = Duration::from_millis(50);
const LOOKS: u32 = 10;
/// Maximum share of all processors in use.
const BUSY_MAX: f64 = 0.05;
const RUNNING_MAX: f64 = 0.5;
const STEAL_MAX: f64 = 0.01;
/// Maximum load average per processor.
const LOAD_AVERAGE_MAX: f64 = 0.5;
/// Number of processes that warnings name.
const SHOWN: usize = 3;
const SHOWN_MIN: f64 = 0.02;

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Noise = Noise {
        processors: 2,
        busy: 0.01,
        steal: 0.0,
        running: 0.1,
        load_average: 0.3,
        greediest: Vec::new(),
    };

    #[test]
    fn a_quiet_machine_causes_no_warning() {
        assert_eq!(QUIET.complaints(), Vec::<String>::new());
    }

    #[test]
    fn each_kind_of_noise_is_named() {
        let greediest = vec![("cc1".to_owned(), 0.93)];
        for (noise, part) in [
            (Noise { busy: 0.5, greediest, ..QUIET }, "50 % of its 2 processors (cc1 93 %)"),
            (Noise { running: 1.2, ..QUIET }, "1.2 other processes"),
            (Noise { steal: 0.034, ..QUIET }, "3.4 % of the processors to others (steal)"),
            (Noise { load_average: 4.2, ..QUIET }, "load average of the last minute is 4.2"),
        ] {
            assert_eq!(noise.complaints().len(), 1);
            assert!(noise.to_string().contains(part), "{noise}");
        }
    }

    #[test]
    fn parses_the_kernels_figures() {
        let ticks = Ticks::parse(
            "cpu  10 20 30 400 50 6 7 80 9 1\ncpu0 1 1 1 1 1 1 1 1 1 1\ncpu1 1 1\nintr 5\nprocs_running 3\n",
        );
        assert_eq!(ticks, Ticks { busy: 73, steal: 80, total: 603, processors: 2, running: 3 });
        let later = Ticks { steal: 90, total: 703, ..ticks };
        assert!((later.steal_since(&ticks) - 0.1).abs() < 1e-9);
        assert!(ticks.steal_since(&ticks) < 1e-9);
        assert!(Ticks::now().total > 0);
    }
}
