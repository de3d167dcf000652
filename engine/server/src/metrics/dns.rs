//! Metrics of the lookups of next hops.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use mailrace_delivery::{Cause, Server};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;

use super::{Cell, Histogram, family};

/// Upper bounds of the buckets, in seconds: a cached answer, one of a server near by, one of a server that was asked again.
const BOUNDS: [f64; 8] = [0.001, 0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0];

/// The resolver's numbers, which its thread changes.
#[derive(Debug)]
pub(crate) struct DnsNumbers {
    found: Cell,
    deferred: Cell,
    failed: Cell,
    latency: Histogram<{ BOUNDS.len() }>,
}

impl Default for DnsNumbers {
    fn default() -> Self {
        Self {
            found: Cell::default(),
            deferred: Cell::default(),
            failed: Cell::default(),
            latency: Histogram::new(BOUNDS),
        }
    }
}

impl DnsNumbers {
    /// Counts an answer.
    pub(crate) fn answered(&self, result: &Result<Vec<Server>, Cause>, latency: Duration) {
        let cell = match result {
            Ok(_) => &self.found,
            Err(reason) if reason.status.class == 4 => &self.deferred,
            Err(_) => &self.failed,
        };
        cell.add(1);
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.latency.record(latency.as_secs_f64(), microseconds);
    }
}

/// Shows the resolver's numbers.
#[derive(Debug)]
pub(crate) struct DnsMetrics(pub(crate) Arc<DnsNumbers>);

impl Collector for DnsMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let DnsNumbers { found, deferred, failed, latency } = &*self.0;
        let help = "Next hops looked up, by result";
        let mut lookups = encoder.encode_descriptor("next_hop_lookups", help, None, MetricType::Counter)?;
        for (result, cell) in [("found", found), ("deferred", deferred), ("failed", failed)] {
            family(&mut lookups, &[("result", result.to_owned())], cell.get())?;
        }
        let (sum, count, buckets) = latency.shown();
        let help = "Time from a next hop's lookup to its servers";
        encoder
            .encode_descriptor("next_hop_lookup_seconds", help, None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}
