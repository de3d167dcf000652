//! Counters: each worker counts in its own memory, a scrape adds them up.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use mailrace_spool::Shared;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use crate::file_system::QueuePart;
use crate::log::LinesLost;
use process::ProcessMetrics;

pub(crate) use dns::{DnsMetrics, DnsNumbers};
pub(crate) use text::Format;

mod dns;
mod process;
mod text;

/// A number that one thread changes and any thread reads.
#[derive(Debug, Default)]
pub(crate) struct Cell(AtomicU64);

impl Cell {
    /// Only the owner calls this: it needs no atomic addition.
    pub(crate) fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    pub(crate) fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Reply codes from 200 to 599.
const REPLY_CODES: usize = 400;
/// Upper bounds of the buckets, in seconds.
const LATENCY_BOUNDS: [f64; 12] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 10.0];
/// Upper bounds of the buckets, in bytes.
const BATCH_BOUNDS: [f64; 8] =
    [4_096.0, 8_192.0, 16_384.0, 32_768.0, 65_536.0, 131_072.0, 262_144.0, 1_048_576.0];

/// Counts values in buckets.
#[derive(Debug)]
pub(crate) struct Histogram<const SIZE: usize> {
    bounds: [f64; SIZE],
    buckets: [Cell; SIZE],
    count: Cell,
    /// In the unit's millionths.
    sum: Cell,
}

impl<const SIZE: usize> Histogram<SIZE> {
    fn new(bounds: [f64; SIZE]) -> Self {
        Self {
            bounds,
            buckets: std::array::from_fn(|_| Cell::default()),
            count: Cell::default(),
            sum: Cell::default(),
        }
    }

    fn record(&self, value: f64, millionths: u64) {
        let bucket = self.bounds.iter().position(|bound| value <= *bound);
        if let Some(cell) = bucket.and_then(|index| self.buckets.get(index)) {
            cell.add(1);
        }
        self.count.add(1);
        self.sum.add(millionths);
    }

    /// Sum, count and buckets, as they are encoded.
    fn shown(&self) -> (f64, u64, Vec<(f64, u64)>) {
        let buckets = self.bounds.iter().zip(&self.buckets);
        let mut buckets: Vec<(f64, u64)> = buckets.map(|(bound, cell)| (*bound, cell.get())).collect();
        let count = self.count.get();
        let inside: u64 = buckets.iter().map(|(_, count)| count).sum();
        buckets.push((f64::INFINITY, count.saturating_sub(inside)));
        #[expect(clippy::cast_precision_loss, reason = "a sum for a picture")]
        let sum = self.sum.get() as f64 / 1e6;
        (sum, count, buckets)
    }
}

/// A cell of each worker that is shown as one metric.
struct Declaration {
    kind: Kind,
    name: &'static str,
    help: &'static str,
    cell: fn(&WorkerNumbers) -> &Cell,
}

/// How the value of a cell changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It only grows.
    Counter,
    Gauge,
}

/// Declares the cells of a worker: `KIND FIELD as "NAME";`, the meaning above it. The metrics show the sum over all workers.
macro_rules! worker_numbers {
    ($( #[doc = $help:literal] $kind:ident $field:ident as $name:literal ; )+) => {
        /// One worker's numbers.
        #[derive(Debug)]
        pub(crate) struct WorkerNumbers {
            $( #[doc = $help] pub(crate) $field: Cell, )+
            batches: Histogram<{ BATCH_BOUNDS.len() }>,
            commit_latency: Histogram<{ LATENCY_BOUNDS.len() }>,
            replies: [Cell; REPLY_CODES],
            rejects: Mutex<BTreeMap<&'static str, Arc<Cell>>>,
        }

        impl Default for WorkerNumbers {
            fn default() -> Self {
                Self {
                    $( $field: Cell::default(), )+
                    batches: Histogram::new(BATCH_BOUNDS),
                    commit_latency: Histogram::new(LATENCY_BOUNDS),
                    replies: std::array::from_fn(|_| Cell::default()),
                    rejects: Mutex::default(),
                }
            }
        }

        const DECLARATIONS: &[Declaration] = &[ $( Declaration {
            kind: Kind::$kind,
            name: $name,
            help: $help,
            cell: |numbers| &numbers.$field,
        }, )+ ];
    };
}

worker_numbers! {
    /// SMTP sessions begun
    Counter sessions as "sessions";
    /// Messages queued
    Counter messages as "messages";
    /// Bytes of content queued
    Counter octets as "content_octets";
    /// Sessions that ended because the client was silent
    Counter timeouts as "timeouts";
    /// Times that a connection had to wait for a receive buffer
    Counter receive_buffer_shortages as "receive_buffer_shortages";
    /// Connections that could not be taken
    Counter accept_failures as "accept_failures";
    /// Times that a connection was left to wait because its client had used up its allowance
    Counter waits_of_clients as "client_waits";
    /// Connections that were ended to make room for others, of such clients or where memory was used up
    Counter places_given_up as "places_given_up";
    /// Batches that could not be written
    Counter write_failures as "write_failures";
    /// SMTP sessions open
    Gauge sessions_open as "sessions_open";
    /// Messages in the queue
    Gauge queue_messages as "queue_messages";
    /// Bytes of content in the queue
    Gauge queue_octets as "queue_octets";
    /// Messages on hold
    Gauge queue_held as "queue_held_messages";
    /// Bytes of content and input in memory
    Gauge content_memory as "content_memory_octets";
    /// Blocks of memory that gather or are being written
    Gauge blocks_in_use as "write_blocks_in_use";
}

impl WorkerNumbers {
    pub(crate) fn replied(&self, code: u16) {
        if let Some(cell) = usize::from(code).checked_sub(200).and_then(|index| self.replies.get(index)) {
            cell.add(1);
        }
    }

    pub(crate) fn committed(&self, latency: Duration) {
        let microseconds = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        self.commit_latency.record(latency.as_secs_f64(), microseconds);
    }

    #[expect(clippy::cast_precision_loss, reason = "a batch is far below 2^52 octets")]
    pub(crate) fn batch_written(&self, octets: usize) {
        self.batches.record(octets as f64, octets as u64 * 1_000_000);
    }
}

/// The reject counters that a worker has used: the lock is taken at the first use of each reason.
#[derive(Debug, Default)]
pub(crate) struct RejectCells(HashMap<&'static str, Arc<Cell>>);

impl RejectCells {
    pub(crate) fn count(&mut self, numbers: &WorkerNumbers, reason: &'static str) {
        let cell = self.0.entry(reason).or_insert_with(|| {
            let mut rejects = numbers.rejects.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(rejects.entry(reason).or_default())
        });
        cell.add(1);
    }
}

/// What became of submitted messages.
#[derive(Debug, Default)]
pub(crate) struct SubmissionNumbers {
    pub(crate) queued: Cell,
    pub(crate) discarded: Cell,
    pub(crate) refused: Cell,
    pub(crate) deferred: Cell,
}

/// All numbers of the process.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) workers: Vec<Arc<WorkerNumbers>>,
    pub(crate) submissions: Arc<SubmissionNumbers>,
    pub(crate) spool: Arc<Shared>,
    pub(crate) lines_lost: LinesLost,
    /// How workers reach the kernel.
    pub(crate) io: &'static str,
    pub(crate) queue_parts: Vec<QueuePart>,
}

impl Metrics {
    /// These and the metrics of the process.
    pub(crate) fn into_registry(self) -> Registry {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(ProcessMetrics::starting()));
        registry.sub_registry_with_prefix("mailrace").register_collector(Box::new(self));
        registry
    }

    fn sum(&self, cell: impl Fn(&WorkerNumbers) -> u64) -> u64 {
        self.workers.iter().map(|numbers| cell(numbers)).sum()
    }

    fn buckets<const SIZE: usize>(
        &self,
        bounds: &[f64; SIZE],
        of: impl Fn(&WorkerNumbers) -> &Histogram<SIZE>,
    ) -> (f64, u64, Vec<(f64, u64)>) {
        let mut buckets: Vec<(f64, u64)> = bounds
            .iter()
            .enumerate()
            .map(|(index, bound)| {
                (*bound, self.sum(|numbers| of(numbers).buckets.get(index).map_or(0, Cell::get)))
            })
            .collect();
        let count = self.sum(|numbers| of(numbers).count.get());
        let inside: u64 = buckets.iter().map(|(_, count)| count).sum();
        buckets.push((f64::INFINITY, count.saturating_sub(inside)));
        #[expect(clippy::cast_precision_loss, reason = "a sum for a picture")]
        let sum = self.sum(|numbers| of(numbers).sum.get()) as f64 / 1e6;
        (sum, count, buckets)
    }
}

fn declared(kind: Kind) -> impl Iterator<Item = &'static Declaration> {
    DECLARATIONS.iter().filter(move |declaration| declaration.kind == kind)
}

/// The features that this program was built with.
fn features() -> String {
    let all = [
        ("sqlite", cfg!(feature = "sqlite")),
        ("pgsql", cfg!(feature = "pgsql")),
        ("ldap", cfg!(feature = "ldap")),
    ];
    let built: Vec<&str> = all.into_iter().filter(|(_, is_built)| *is_built).map(|(name, _)| name).collect();
    built.join(",")
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        self.encode_counters(&mut encoder)?;
        self.encode_facts(&mut encoder)?;
        self.encode_gauges(&mut encoder)?;
        self.encode_families(&mut encoder)?;
        self.encode_histograms(&mut encoder)
    }
}

/// What is said of an engine, in this order.
impl Metrics {
    fn encode_counters(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut counter = |name: &str, help: &str, value: u64| {
            let mut metric = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            metric.encode_counter::<NoLabelSet, u64, u64>(&value, None)
        };
        for Declaration { name, help, cell, .. } in declared(Kind::Counter) {
            counter(name, help.trim(), self.sum(|numbers| cell(numbers).get()))?;
        }
        counter("log_lines_lost", "Log lines dropped for lack of memory", self.lines_lost.count())
    }

    /// What the engine runs on, and what it was built from.
    fn encode_facts(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        encoder.encode_descriptor("build", "Build of this program", None, MetricType::Info)?.encode_info(
            &[("version", env!("CARGO_PKG_VERSION")), ("features", &features()), ("profile", profile)],
        )?;
        encoder
            .encode_descriptor("io", "Kernel interface of the workers", None, MetricType::Info)?
            .encode_info(&[("io", self.io)])?;

        let mut file_systems = encoder.encode_descriptor(
            "queue_file_system",
            "File systems of the queue's directories, and whether they keep synced data after a power failure",
            None,
            MetricType::Info,
        )?;
        for QueuePart { name, file_system } in &self.queue_parts {
            file_systems.encode_info(&[
                ("directory", *name),
                ("type", &file_system.kind),
                ("durable", file_system.durability.name()),
            ])?;
        }
        Ok(())
    }

    fn encode_gauges(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut gauge = |name: &str, help: &str, value: u64| {
            encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
        };
        for Declaration { name, help, cell, .. } in declared(Kind::Gauge) {
            gauge(name, help.trim(), self.sum(|numbers| cell(numbers).get()))?;
        }
        gauge("queue_segments", "Segment files", self.spool.segments())?;
        gauge("queue_free_octets", "Octets free on the queue's file system", self.spool.free_octets())
    }

    /// Counters that have a label each.
    fn encode_families(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let mut replies =
            encoder.encode_descriptor("replies", "Replies by code", None, MetricType::Counter)?;
        for index in 0..REPLY_CODES {
            let count = self.sum(|numbers| numbers.replies.get(index).map_or(0, Cell::get));
            if count > 0 {
                family(&mut replies, &[("code", (200 + index).to_string())], count)?;
            }
        }
        let mut submissions = encoder.encode_descriptor(
            "submissions",
            "Messages submitted on this machine, by result",
            None,
            MetricType::Counter,
        )?;
        let SubmissionNumbers { queued, discarded, refused, deferred } = &*self.submissions;
        for (result, cell) in
            [("queued", queued), ("discarded", discarded), ("refused", refused), ("deferred", deferred)]
        {
            family(&mut submissions, &[("result", result.to_owned())], cell.get())?;
        }
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        for numbers in &self.workers {
            let rejects = numbers.rejects.lock().unwrap_or_else(PoisonError::into_inner);
            rejects.iter().for_each(|(reason, cell)| *reasons.entry(reason).or_default() += cell.get());
        }
        let mut rejects =
            encoder.encode_descriptor("rejects", "Refusals by reason", None, MetricType::Counter)?;
        for (reason, count) in reasons {
            family(&mut rejects, &[("reason", reason.to_owned())], count)?;
        }
        Ok(())
    }

    fn encode_histograms(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (sum, count, buckets) = self.buckets(&BATCH_BOUNDS, |numbers| &numbers.batches);
        encoder
            .encode_descriptor("batch_octets", "Octets of a batch", None, MetricType::Histogram)?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)?;
        let (sum, count, buckets) = self.buckets(&LATENCY_BOUNDS, |numbers| &numbers.commit_latency);
        encoder
            .encode_descriptor(
                "commit_latency_seconds",
                "Time from the end of a message's content until it is durable",
                None,
                MetricType::Histogram,
            )?
            .encode_histogram::<NoLabelSet>(sum, count, &buckets, None)
    }
}

fn family(
    metric: &mut prometheus_client::encoding::MetricEncoder<'_>,
    labels: &impl EncodeLabelSet,
    count: u64,
) -> Result<(), fmt::Error> {
    metric.encode_family(labels)?.encode_counter::<NoLabelSet, u64, u64>(&count, None)
}
