//! Metrics of the process, under the names that all exporters have for them.

use std::fmt;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use rustix::process::Resource;
use rustix::time::ClockId;

/// Reads what the kernel says of this process, at each scrape.
#[derive(Debug)]
pub(super) struct ProcessMetrics {
    start: SystemTime,
}

impl ProcessMetrics {
    /// Of a process that starts now.
    pub(super) fn starting() -> Self {
        Self { start: SystemTime::now() }
    }
}

impl Collector for ProcessMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let time = rustix::time::clock_gettime(ClockId::ProcessCPUTime);
        let time = Duration::try_from(time).unwrap_or_default();
        let name = "process_cpu_seconds";
        encoder
            .encode_descriptor(name, "User and system time spent", None, MetricType::Counter)?
            .encode_counter::<NoLabelSet, f64, u64>(&time.as_secs_f64(), None)?;
        let mut gauge = |name: &str, help: &str, value: Option<f64>| match value {
            Some(value) => {
                encoder.encode_descriptor(name, help, None, MetricType::Gauge)?.encode_gauge(&value)
            }
            None => Ok(()),
        };
        let pages = pages();
        gauge("process_virtual_memory_bytes", "Virtual memory size", pages.map(|[size, _]| size))?;
        gauge("process_resident_memory_bytes", "Resident memory size", pages.map(|[_, resident]| resident))?;
        gauge("process_open_fds", "Open file descriptors", open_files())?;
        let limit = rustix::process::getrlimit(Resource::Nofile).current;
        gauge(
            "process_max_fds",
            "Limit of open file descriptors",
            Some(limit.map_or(f64::INFINITY, to_f64)),
        )?;
        let start = self.start.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        gauge("process_start_time_seconds", "Start of the process, Unix time", Some(start.as_secs_f64()))
    }
}

/// Returns the bytes of virtual and of resident memory.
fn pages() -> Option<[f64; 2]> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut numbers = text.split(' ').map_while(|number| number.parse::<u64>().ok());
    let size = rustix::param::page_size() as u64;
    Some([numbers.next()?, numbers.next()?].map(|pages| to_f64(pages * size)))
}

/// Returns the number of open descriptors, which Linux 6.2 and newer have as the size of the directory.
fn open_files() -> Option<f64> {
    let path = "/proc/self/fd";
    match std::fs::metadata(path).ok()?.len() {
        // One of them is that of the directory.
        0 => std::fs::read_dir(path).ok().map(|entries| to_f64(entries.count() as u64 - 1)),
        count => Some(to_f64(count)),
    }
}

#[expect(clippy::cast_precision_loss, reason = "metrics are floating-point numbers")]
const fn to_f64(value: u64) -> f64 {
    value as f64
}
