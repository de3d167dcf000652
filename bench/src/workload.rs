//! Workloads of `workloads.toml`.

use serde::Deserialize;

/// A kind of load.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Name on the command line.
    pub name: String,
    /// Title in reports.
    pub title: String,
    /// Options of mailrace-load.
    pub load: Vec<String>,
    /// Compare latency with the file system's own durable write.
    #[serde(default)]
    pub probe: bool,
    /// Run the load generator on the servers' processor.
    #[serde(default)]
    pub same_cpu: bool,
    /// Targets.
    #[serde(default)]
    pub target: Target,
}

/// Target figures.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Target {
    /// Server CPU per message over the durable canned responder's.
    pub cpu_over_canned_max: Option<f64>,
    /// Messages/s over Postfix's.
    pub rate_over_postfix_min: Option<f64>,
    /// Postfix's server CPU per message over Mailrace's.
    pub cpu_under_postfix_min: Option<f64>,
    /// Median time from end of data to 250 over the probe's median.
    pub latency_over_probe_max: Option<f64>,
}

/// Returns all workloads, in the order of the file.
///
/// # Panics
/// Panics if the embedded file is invalid, which a test rules out.
#[must_use]
pub fn all() -> Vec<Workload> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Table {
        workload: Vec<Workload>,
    }
    let table: Table = toml::from_str(include_str!("../workloads.toml")).expect("checked by a test");
    table.workload
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workloads_have_names_of_their_own() {
        let workloads = all();
        let mut names: Vec<&str> = workloads.iter().map(|workload| workload.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), workloads.len());
        assert!(workloads.iter().any(|workload| workload.probe));
    }
}
