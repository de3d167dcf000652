//! Owns what is counted, and how it is told.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use mailrace_io::Instant;
use serde::Serialize;

use crate::reply::Reply;

/// Counts and latencies since counting started.
#[derive(Debug)]
pub(crate) struct Statistics {
    started: Instant,
    /// When the last message was answered.
    last: Instant,
    /// Accepted messages.
    pub(crate) accepted: u64,
    /// Messages that were refused, or lost with their connection.
    pub(crate) failed: u64,
    /// Octets of content of the accepted messages.
    pub(crate) octets: u64,
    /// Connections made.
    pub(crate) connections: u64,
    /// Connections that could not be made.
    pub(crate) connections_failed: u64,
    /// Connections that ended otherwise than by our QUIT.
    pub(crate) connections_lost: u64,
    replies: [u64; 6],
    unexpected: BTreeMap<u16, Unexpected>,
    /// Connect to 220.
    pub(crate) connect: Latency,
    /// MAIL to its 250, where it was not sent behind content.
    pub(crate) mail: Latency,
    /// The last octets of content to their 250.
    pub(crate) end_of_data: Latency,
    /// MAIL to the 250 of the content.
    pub(crate) transaction: Latency,
}

/// Durations in nanoseconds.
#[derive(Debug)]
pub(crate) struct Latency(Histogram<u64>);

/// One reply code that was not wanted.
#[derive(Clone, Debug, Serialize)]
struct Unexpected {
    count: u64,
    /// The first such reply.
    example: String,
}

impl Statistics {
    /// Nothing counted; time starts now.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            started: now,
            last: now,
            accepted: 0,
            failed: 0,
            octets: 0,
            connections: 0,
            connections_failed: 0,
            connections_lost: 0,
            replies: [0; 6],
            unexpected: BTreeMap::new(),
            connect: Latency::new(),
            mail: Latency::new(),
            end_of_data: Latency::new(),
            transaction: Latency::new(),
        }
    }

    /// A message was answered.
    pub(crate) const fn answered(&mut self, now: Instant) {
        self.last = now;
    }

    /// A reply came.
    pub(crate) fn replied(&mut self, code: u16) {
        if let Some(count) = self.replies.get_mut(usize::from(code / 100)) {
            *count += 1;
        }
    }

    /// A reply came that was not wanted.
    pub(crate) fn unexpected(&mut self, reply: &Reply<'_>) {
        self.unexpected
            .entry(reply.code)
            .or_insert_with(|| Unexpected {
                count: 0,
                example: String::from_utf8_lossy(reply.line).into_owned(),
            })
            .count += 1;
    }

    /// The figures for people and programs.
    pub(crate) fn report(&self, cpu: Duration) -> Report {
        let seconds = self.last.since(self.started).as_secs_f64();
        let [unintelligible, _, replies_2xx, replies_3xx, replies_4xx, replies_5xx] = self.replies;
        Report {
            messages: self.accepted,
            failed: self.failed,
            seconds,
            messages_per_second: if seconds > 0.0 { self.accepted as f64 / seconds } else { 0.0 },
            octets: self.octets,
            client_cpu_seconds: cpu.as_secs_f64(),
            connections: self.connections,
            connections_failed: self.connections_failed,
            connections_lost: self.connections_lost,
            replies: Replies { replies_2xx, replies_3xx, replies_4xx, replies_5xx, unintelligible },
            unexpected: self.unexpected.clone(),
            latency_us: Latencies {
                connect: self.connect.percentiles(),
                mail: self.mail.percentiles(),
                end_of_data: self.end_of_data.percentiles(),
                transaction: self.transaction.percentiles(),
            },
        }
    }
}

impl Latency {
    fn new() -> Self {
        // Only the arguments can be wrong, and they are constants.
        Self(Histogram::new_with_bounds(1, LATENCY_MAX_NS, 3).expect("constant bounds"))
    }

    /// Counts one duration.
    pub(crate) fn record(&mut self, duration: Duration) {
        self.0.saturating_record(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX));
    }

    fn percentiles(&self) -> Option<Percentiles> {
        let us = |ns: u64| ns as f64 / 1000.0;
        let at = |quantile| us(self.0.value_at_quantile(quantile));
        (!self.0.is_empty()).then(|| Percentiles {
            count: self.0.len(),
            mean: self.0.mean() / 1000.0,
            min: us(self.0.min()),
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: us(self.0.max()),
        })
    }
}

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Accepted messages.
    pub(crate) messages: u64,
    /// Messages not accepted.
    pub(crate) failed: u64,
    /// From the start of counting to the last message's answer.
    pub(crate) seconds: f64,
    /// Accepted messages each second.
    pub(crate) messages_per_second: f64,
    /// Octets of content.
    pub(crate) octets: u64,
    /// Processor time of this program.
    pub(crate) client_cpu_seconds: f64,
    /// Connections made.
    pub(crate) connections: u64,
    /// Connections that could not be made.
    pub(crate) connections_failed: u64,
    /// Connections that broke.
    pub(crate) connections_lost: u64,
    replies: Replies,
    unexpected: BTreeMap<u16, Unexpected>,
    latency_us: Latencies,
}

#[derive(Debug, Serialize)]
struct Replies {
    #[serde(rename = "2xx")]
    replies_2xx: u64,
    #[serde(rename = "3xx")]
    replies_3xx: u64,
    #[serde(rename = "4xx")]
    replies_4xx: u64,
    #[serde(rename = "5xx")]
    replies_5xx: u64,
    unintelligible: u64,
}

#[derive(Debug, Serialize)]
struct Latencies {
    connect: Option<Percentiles>,
    mail: Option<Percentiles>,
    end_of_data: Option<Percentiles>,
    transaction: Option<Percentiles>,
}

/// Microseconds.
#[derive(Debug, Serialize)]
struct Percentiles {
    count: u64,
    mean: f64,
    min: f64,
    p50: f64,
    p90: f64,
    p99: f64,
    p999: f64,
    max: f64,
}

impl std::fmt::Display for Report {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(
            out,
            "{} messages accepted, {} failed, in {:.3} s: {:.0} messages/s, {:.1} MB/s",
            self.messages,
            self.failed,
            self.seconds,
            self.messages_per_second,
            if self.seconds > 0.0 { self.octets as f64 / self.seconds / 1e6 } else { 0.0 },
        )?;
        writeln!(
            out,
            "{} connections made, {} could not be made, {} lost; this program used {:.2} s of processor time",
            self.connections, self.connections_failed, self.connections_lost, self.client_cpu_seconds,
        )?;
        let replies = &self.replies;
        writeln!(
            out,
            "replies: {} 2xx, {} 3xx, {} 4xx, {} 5xx, {} unintelligible",
            replies.replies_2xx,
            replies.replies_3xx,
            replies.replies_4xx,
            replies.replies_5xx,
            replies.unintelligible
        )?;
        for unexpected in self.unexpected.values() {
            writeln!(out, "unexpected, {} times: {}", unexpected.count, unexpected.example)?;
        }
        let latencies = [
            ("connect to 220", &self.latency_us.connect),
            ("MAIL to 250", &self.latency_us.mail),
            ("end of data to 250", &self.latency_us.end_of_data),
            ("MAIL to the end", &self.latency_us.transaction),
        ];
        writeln!(
            out,
            "{:20} {:>10} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "microseconds", "min", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, latency) in latencies {
            if let Some(it) = latency {
                writeln!(
                    out,
                    "{name:20} {:10.0} {:10.0} {:10.0} {:10.0} {:10.0} {:10.0}",
                    it.min, it.p50, it.p90, it.p99, it.p999, it.max
                )?;
            }
        }
        Ok(())
    }
}

const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_from_start_to_last_answer() {
        let mut statistics = Statistics::new(Instant::from_nanoseconds(1_000_000_000));
        statistics.accepted = 100;
        statistics.answered(Instant::from_nanoseconds(3_000_000_000));
        statistics.end_of_data.record(Duration::from_micros(250));
        statistics.replied(250);
        statistics.replied(0);
        statistics.unexpected(&Reply { code: 451, line: b"451 4.3.0 no" });
        statistics.unexpected(&Reply { code: 451, line: b"451 4.3.0 again" });
        let report = statistics.report(Duration::ZERO);
        assert!((report.messages_per_second - 50.0).abs() < 1e-9);
        let json: serde_json::Value = serde_json::to_value(&report).unwrap();
        assert_eq!(json["replies"]["2xx"], 1);
        assert_eq!(json["replies"]["unintelligible"], 1);
        assert_eq!(json["unexpected"]["451"]["count"], 2);
        assert_eq!(json["unexpected"]["451"]["example"], "451 4.3.0 no");
        let p50 = json["latency_us"]["end_of_data"]["p50"].as_f64().unwrap();
        assert!((p50 - 250.0).abs() < 1.0, "{p50}");
        assert!(json["latency_us"]["mail"].is_null());
        assert!(report.to_string().contains("451 4.3.0 no"));
    }
}
