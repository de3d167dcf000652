//! Log lines about deliveries, in the form that analysers of Postfix's log read.

use mailrace_core::{Envelope, QueueId, Timestamp};
use mailrace_delivery::Cause;
use mailrace_delivery::bounce::Kind;
use mailrace_delivery::dispatcher::{Attempt, Observer};
use mailrace_delivery::manager::Expired;

use crate::log::{LogWriter, name};

/// Writes the lines about deliveries.
pub(super) struct DeliveryLog {
    log: LogWriter,
}

impl DeliveryLog {
    pub(super) const fn new(log: LogWriter) -> Self {
        Self { log }
    }
}

impl Observer for DeliveryLog {
    fn active(&mut self, wall: Timestamp, id: QueueId, envelope: &Envelope, size: u64) {
        let mut line = self.log.bare_line(wall, id, name::ACTIVE);
        line.address("from", &envelope.sender).number("size", size);
        line.number("nrcpt", envelope.recipients.len() as u64).reason(b"queue active");
    }

    fn tried(&mut self, attempt: &Attempt<'_>) {
        let Attempt { id, envelope, recipient, relay, connection_use, times, outcome } = attempt;
        let mut line = self.log.bare_line(times.ended, *id, name::DELIVERY);
        line.addresses("to", [&recipient.address[..]]);
        if !recipient.original().eq_ignore_ascii_case(&recipient.address) {
            line.address("orig_to", recipient.original());
        }
        let relay = relay.map_or_else(|| "none".to_owned(), ToString::to_string);
        line.word("relay", &relay);
        if *connection_use > 1 {
            line.number("conn_use", (*connection_use).into());
        }
        let stages = [envelope.arrival, times.active, times.begun, times.ready, times.ended];
        line.word("delay", &seconds(envelope.arrival, times.ended));
        let parts: Vec<String> = stages.windows(2).map(|pair| seconds(pair[0], pair[1])).collect();
        line.word("delays", &parts.join("/"));
        let cause = outcome.cause();
        line.word("dsn", &cause.status.to_string()).word("status", outcome.word()).reason(&cause.text);
    }

    fn skipped(&mut self, wall: Timestamp, id: QueueId, cause: &Cause) {
        let mut line = self.log.bare_line(wall, id, name::SERVER_SKIPPED);
        line.reason(&cause.text);
    }

    fn expired(&mut self, wall: Timestamp, expired: &Expired) {
        let mut line = self.log.bare_line(wall, expired.id, name::EXPIRED);
        line.address("from", &expired.envelope.sender);
        let status = if expired.is_forced { "force-expired" } else { "expired" };
        line.word("status", status).words(("action", "returned to sender"), None);
    }

    fn reported(&mut self, wall: Timestamp, about: QueueId, kind: Kind, id: QueueId) {
        let mut line = self.log.bare_line(wall, about, name::REPORTED);
        let what = match kind {
            Kind::Failure => "sender non-delivery notification",
            Kind::Delay => "sender delay notification",
            Kind::Success | Kind::Verify => "sender delivery status notification",
        };
        line.words(("notification", what), Some(("report_id", &id.to_string())));
    }

    fn removed(&mut self, wall: Timestamp, id: QueueId) {
        self.log.line(wall, Some(id), name::REMOVED);
    }

    fn quiet(&mut self) {
        self.log.flush();
    }
}

/// The seconds between two times, with two significant digits and at most two after the point, as Postfix writes them.
fn seconds(from: Timestamp, to: Timestamp) -> String {
    let microseconds = to.unix_microseconds().saturating_sub(from.unix_microseconds());
    let hundredths = (microseconds + 5_000) / 10_000;
    match hundredths {
        0 => "0".to_owned(),
        1..100 => trimmed(format!("0.{hundredths:02}")),
        100..1_000 => {
            let tenths = (microseconds + 50_000) / 100_000;
            trimmed(format!("{}.{}", tenths / 10, tenths % 10))
        }
        _ => ((microseconds + 500_000) / 1_000_000).to_string(),
    }
}

fn trimmed(mut text: String) -> String {
    let length = text.trim_end_matches('0').trim_end_matches('.').len();
    text.truncate(length);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_have_two_digits() {
        let told =
            |microseconds| seconds(Timestamp::default(), Timestamp::from_unix_microseconds(microseconds));
        let expected = [
            (0, "0"),
            (4_999, "0"),
            (5_000, "0.01"),
            (70_000, "0.07"),
            (100_000, "0.1"),
            (999_000, "1"),
            (1_234_000, "1.2"),
            (9_949_999, "9.9"),
            (9_960_000, "10"),
            (35_400_000, "35"),
            (7_200_000_000, "7200"),
        ];
        for (microseconds, text) in expected {
            assert_eq!(told(microseconds), text, "{microseconds}");
        }
        assert_eq!(seconds(Timestamp::from_unix_microseconds(9), Timestamp::default()), "0");
    }
}
