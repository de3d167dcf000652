//! Statistics and their report.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use mailrace_io::Instant;
use serde::Serialize;

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
    /// Of the failed ones those whose content was sent and never answered: the server may have them.
    pub(crate) unknown: u64,
    /// Recipients of accepted messages.
    pub(crate) recipients_accepted: u64,
    /// Recipients that were refused in a transaction whose MAIL was accepted.
    pub(crate) recipients_refused: u64,
    /// Bytes of content of the accepted messages.
    pub(crate) octets: u64,
    /// Connections made.
    pub(crate) connections: u64,
    /// Connections that could not be made.
    pub(crate) connections_failed: u64,
    /// Connections that ended otherwise than by our QUIT.
    pub(crate) connections_lost: u64,
    /// Connections on which a requested extension was not used.
    pub(crate) without: Without,
    replies: [u64; 6],
    unexpected: BTreeMap<u16, Unexpected>,
    errors: Errors,
    /// Connect to 220.
    pub(crate) connect: Latency,
    /// MAIL to its 250, if it was not sent after content.
    pub(crate) mail: Latency,
    /// The last bytes of content to their 250.
    pub(crate) end_of_data: Latency,
    /// MAIL to the 250 of the content.
    pub(crate) transaction: Latency,
}

/// Connections on which a requested extension was not used, because the server does not offer it.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Without {
    /// EHLO: HELO was sent instead.
    pub(crate) ehlo: u64,
    /// PIPELINING: each command waited for the reply to the one before.
    pub(crate) pipelining: u64,
    /// CHUNKING: content was sent with DATA.
    pub(crate) chunking: u64,
}

/// What went wrong, by phase of the dialogue and kind; both have fixed names.
type Errors = BTreeMap<&'static str, BTreeMap<&'static str, u64>>;

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
            unknown: 0,
            recipients_accepted: 0,
            recipients_refused: 0,
            octets: 0,
            connections: 0,
            connections_failed: 0,
            connections_lost: 0,
            without: Without::default(),
            replies: [0; 6],
            unexpected: BTreeMap::new(),
            errors: Errors::new(),
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

    /// A reply came in `phase` that was not wanted.
    pub(crate) fn unexpected(&mut self, phase: &'static str, code: u16, line: &[u8]) {
        self.unexpected
            .entry(code)
            .or_insert_with(|| Unexpected { count: 0, example: printable(line) })
            .count += 1;
        let class = match code {
            UNINTELLIGIBLE => "garbage",
            421 => "421",
            400..=499 => "4xx",
            500..=599 => "5xx",
            _ => "unexpected",
        };
        self.error(phase, class);
    }

    /// Something of this kind went wrong in `phase`.
    pub(crate) fn error(&mut self, phase: &'static str, class: &'static str) {
        *self.errors.entry(phase).or_default().entry(class).or_default() += 1;
    }

    /// The figures for people and programs.
    pub(crate) fn report(&self, cpu: Duration, end: End) -> Report {
        let seconds = self.last.since(self.started).as_secs_f64();
        let [unintelligible, _, replies_2xx, replies_3xx, replies_4xx, replies_5xx] = self.replies;
        Report {
            messages: self.accepted,
            failed: self.failed,
            unknown: self.unknown,
            recipients: Recipients { accepted: self.recipients_accepted, refused: self.recipients_refused },
            seconds,
            messages_per_second: if seconds > 0.0 { self.accepted as f64 / seconds } else { 0.0 },
            octets: self.octets,
            client_cpu_seconds: cpu.as_secs_f64(),
            connections: self.connections,
            connections_failed: self.connections_failed,
            connections_lost: self.connections_lost,
            replies: Replies { replies_2xx, replies_3xx, replies_4xx, replies_5xx, unintelligible },
            unexpected: self.unexpected.clone(),
            errors: self.errors.clone(),
            without: self.without,
            end,
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
    /// Of these the ones whose content was sent and never answered.
    pub(crate) unknown: u64,
    /// Recipients.
    pub(crate) recipients: Recipients,
    /// From the start of counting to the last message's answer.
    pub(crate) seconds: f64,
    /// Accepted messages per second.
    pub(crate) messages_per_second: f64,
    /// Bytes of content.
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
    errors: Errors,
    without: Without,
    /// How the run ended.
    #[serde(flatten)]
    pub(crate) end: End,
    latency_us: Latencies,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct End {
    /// Why.
    #[serde(rename = "end")]
    pub(crate) cause: Cause,
    /// Error, if that is the cause.
    pub(crate) reason: Option<String>,
    /// Messages of `--messages` that were not begun.
    pub(crate) not_begun: u64,
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    /// All there was to do was done.
    Done,
    /// `--duration` was over.
    Duration,
    /// SIGINT or SIGTERM came.
    Signal,
    /// No connection was of use for longer than `--patience`.
    GaveUp,
    /// The kernel interface failed.
    Failed,
}

/// Recipients, counted one by one.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Recipients {
    /// Of accepted messages.
    pub(crate) accepted: u64,
    /// Refused, though MAIL was accepted.
    pub(crate) refused: u64,
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
        self.show_answers(out)?;
        self.show_circumstances(out)?;
        self.latency_us.show(out)
    }
}

impl Report {
    /// What the server said, and what went wrong.
    fn show_answers(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
        writeln!(
            out,
            "recipients: {} accepted, {} refused",
            self.recipients.accepted, self.recipients.refused
        )?;
        for unexpected in self.unexpected.values() {
            writeln!(out, "unexpected, {} times: {}", unexpected.count, unexpected.example)?;
        }
        for (phase, classes) in &self.errors {
            let classes: Vec<String> =
                classes.iter().map(|(class, count)| format!("{class} {count}")).collect();
            writeln!(out, "errors in {phase}: {}", classes.join(", "))?;
        }
        if self.unknown > 0 {
            writeln!(
                out,
                "{} messages were sent but never answered: the server may have accepted them",
                self.unknown
            )?;
        }
        Ok(())
    }

    /// What the server does not offer, and why the run ended.
    fn show_circumstances(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (count, what) in [
            (self.without.ehlo, "HELO was sent, since EHLO was refused"),
            (self.without.pipelining, "each command waited for its reply: PIPELINING is not offered"),
            (self.without.chunking, "content was sent with DATA: CHUNKING is not offered"),
        ] {
            if count > 0 {
                writeln!(out, "on {count} connections {what}")?;
            }
        }
        match (self.end.cause, &self.end.reason) {
            (Cause::Done | Cause::Duration, _) => {}
            (Cause::Signal, _) => writeln!(out, "ended by a signal")?,
            (_, reason) => writeln!(out, "ended early: {}", reason.as_deref().unwrap_or("unknown reason"))?,
        }
        if self.end.not_begun > 0 {
            writeln!(out, "{} messages were not started", self.end.not_begun)?;
        }
        Ok(())
    }
}

impl Latencies {
    fn show(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let latencies = [
            ("connect to 220", &self.connect),
            ("MAIL to 250", &self.mail),
            ("end of data to 250", &self.end_of_data),
            ("MAIL to last reply", &self.transaction),
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

/// A line as it can be shown on a terminal: control characters replaced, and cut where it is long.
pub(crate) fn printable(line: &[u8]) -> String {
    let line = &line[..line.len().min(SHOWN_MAX)];
    let replaced = |character: char| if character.is_control() { '?' } else { character };
    String::from_utf8_lossy(line).chars().map(replaced).collect()
}

/// Counted as the code of a line that is not a reply.
pub(crate) const UNINTELLIGIBLE: u16 = 0;

/// Bytes of a reply that are shown.
const SHOWN_MAX: usize = 200;
const LATENCY_MAX_NS: u64 = 3_600_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_measured_from_start_to_last_reply() {
        let mut statistics = Statistics::new(Instant::from_nanoseconds(1_000_000_000));
        statistics.accepted = 100;
        statistics.answered(Instant::from_nanoseconds(3_000_000_000));
        statistics.end_of_data.record(Duration::from_micros(250));
        statistics.replied(250);
        statistics.replied(0);
        statistics.unexpected("data", 451, b"451 4.3.0 no");
        statistics.unexpected("data", 451, b"451 4.3.0 again");
        let report = statistics.report(
            Duration::ZERO,
            End { cause: Cause::GaveUp, reason: Some("gone".to_owned()), not_begun: 7 },
        );
        assert!((report.messages_per_second - 50.0).abs() < 1e-9);
        let json: serde_json::Value = serde_json::to_value(&report).unwrap();
        assert_eq!(json["replies"]["2xx"], 1);
        assert_eq!(json["replies"]["unintelligible"], 1);
        assert_eq!(json["unexpected"]["451"]["count"], 2);
        assert_eq!(json["unexpected"]["451"]["example"], "451 4.3.0 no");
        let p50 = json["latency_us"]["end_of_data"]["p50"].as_f64().unwrap();
        assert!((p50 - 250.0).abs() < 1.0, "{p50}");
        assert!(json["latency_us"]["mail"].is_null());
        assert_eq!(json["errors"]["data"]["4xx"], 2);
        assert_eq!((&json["end"], &json["not_begun"]), (&"gave_up".into(), &7.into()));
        let text = report.to_string();
        for part in
            ["451 4.3.0 no", "errors in data: 4xx 2", "ended early: gone", "7 messages were not started"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn server_text_cannot_control_a_terminal() {
        assert_eq!(printable(b"250 \x1b[2J\x00\x07\r ok"), "250 ?[2J??? ok");
        assert_eq!(printable(&[b'x'; 4096]).len(), SHOWN_MAX);
        assert_eq!(printable("\u{9b}31m".as_bytes()), "?31m");
    }
}
