//! Processor time and memory of a server's processes, from /proc.

use std::collections::HashMap;
use std::fs;
use std::time::Duration;

/// Returns the processor time of a process and its descendants, including those that have ended.
///
/// The precision is nanoseconds where the scheduler provides exact sums; the time of ended threads is known only in ticks.
pub fn cpu_time(root: u32) -> Duration {
    let tick =
        Duration::from_secs(1) / u32::try_from(rustix::param::clock_ticks_per_second()).unwrap_or(100).max(1);
    let times = |ticks: u64| tick * u32::try_from(ticks).unwrap_or(u32::MAX);
    let mut sum = Duration::ZERO;
    for (pid, stat) in tree(root) {
        // The kernel scales user and system time to the exact sum, then rounds down.
        sum += times(stat.own_ticks).max(scheduled(pid)) + times(stat.children_ticks);
    }
    sum
}

/// Name of a process and its own processor time.
#[derive(Clone, Debug)]
pub struct Usage {
    /// Name in the kernel, at most 15 bytes.
    pub name: String,
    /// Processor time of all its threads.
    pub time: Duration,
}

/// Returns all processes that are visible to this one.
pub fn usages() -> HashMap<u32, Usage> {
    let usage = |pid: u32| {
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim().to_owned();
        Some((pid, Usage { name, time: scheduled(pid) }))
    };
    all().into_keys().filter_map(usage).collect()
}

/// Returns the anonymous resident memory of a process in bytes, without its program and mapped files.
pub fn anonymous_memory(pid: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status_field(&status, "RssAnon:")
}

fn status_field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    parent: u32,
    own_ticks: u64,
    /// Time of children that have ended and been waited for.
    children_ticks: u64,
}

fn tree(root: u32) -> HashMap<u32, Stat> {
    let mut rest = all();
    let mut found = HashMap::new();
    let mut to_visit = vec![root];
    while let Some(pid) = to_visit.pop() {
        if let Some(stat) = rest.remove(&pid) {
            found.insert(pid, stat);
            to_visit.extend(rest.iter().filter(|(_, stat)| stat.parent == pid).map(|(pid, _)| *pid));
        }
    }
    found
}

fn all() -> HashMap<u32, Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return HashMap::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Some((pid, parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?)))
        .collect()
}

/// Parses `pid (name) state ppid ...`; the name may contain any character.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, rest) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // Fields are numbered as in proc(5); `fields` starts at field 3.
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    Some(Stat {
        parent: fields.get(1)?.parse().ok()?,
        own_ticks: field(14)? + field(15)?,
        children_ticks: field(16)? + field(17)?,
    })
}

fn scheduled(pid: u32) -> Duration {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Duration::ZERO };
    let run_times = tasks.flatten().filter_map(|task| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_ascii_whitespace().next()?.parse::<u64>().ok()
    });
    Duration::from_nanos(run_times.sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_a_process_name_with_brackets() {
        let text = "42 (a) b) S 7 42 42 0 -1 0 0 0 0 0 11 22 33 44 20 0 1 0 5";
        assert_eq!(parse_stat(text), Some(Stat { parent: 7, own_ticks: 33, children_ticks: 77 }));
    }

    #[test]
    fn work_increases_this_processs_cpu_time() {
        let before = cpu_time(std::process::id());
        let mut sum = 0u64;
        for number in 0..50_000_000u64 {
            sum = std::hint::black_box(sum ^ number);
        }
        assert!(cpu_time(std::process::id()) > before);
        assert!(anonymous_memory(std::process::id()).unwrap() > 0);
    }

    #[test]
    fn counts_ended_children() {
        let before = cpu_time(std::process::id());
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        assert!(std::process::Command::new("sh").args(["-c", script]).status().unwrap().success());
        assert!(cpu_time(std::process::id()) - before > Duration::from_millis(20));
    }
}
