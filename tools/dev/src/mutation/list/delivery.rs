//! Bugs in delivery: what is noted of recipients, when they are tried again, what a server's replies mean, and who gets which
//! report.

use crate::mutation::Check::{self, Test};
use crate::mutation::Mutation;

const MANAGER: &str = "engine/delivery/src/manager/mod.rs";
const MESSAGE: &str = "engine/delivery/src/manager/message.rs";
const WAITING: &str = "engine/delivery/src/manager/waiting.rs";
const HANDOVER: &str = "engine/delivery/src/dispatcher/handover.rs";
const CONNECTIONS: &str = "engine/delivery/src/dispatcher/connections.rs";
const LOADING: &str = "engine/delivery/src/dispatcher/loading.rs";
const TRANSACTION: &str = "engine/delivery/src/agent/smtp/transaction.rs";
const REPORTS: &str = "engine/delivery/src/dispatcher/reports.rs";
const DESTINATION: &str = "engine/delivery/src/manager/destination.rs";
const SMTP: &str = "engine/delivery/src/agent/smtp/mod.rs";
const KIND: &str = "engine/delivery/src/bounce/kind.rs";
const NOTICE: &str = "engine/delivery/src/bounce/notice.rs";
const TEXT: &str = "engine/delivery/src/bounce/text.rs";
const HEADER_SECTION: &str = "engine/delivery/src/bounce/header_section.rs";

/// All tests of delivery.
const DELIVERY: Check = Test(&["-p", "mailrace-delivery", "--lib"]);

pub(super) const BUGS: &[Mutation] = &[
    Mutation {
        name: "sent-not-noted",
        what: "what was handed over is not noted: a later attempt hands it over again",
        file: MESSAGE,
        before: "            Outcome::Sent(..) => RecipientState::Done,\n",
        after: "            Outcome::Sent(..) => return,\n",
        check: DELIVERY,
    },
    Mutation {
        name: "noted-at-the-end",
        what: "outcomes are noted only when all jobs of a message are over: a crash repeats those before",
        file: MANAGER,
        before: "        if message.is_changed {\n            message.is_noting = true;",
        after: "        if message.is_changed && message.jobs == 0 {\n            message.is_noting = true;",
        check: DELIVERY,
    },
    Mutation {
        name: "deferral-forgotten",
        what: "a message whose recipients were all deferred is known no longer, and never tried again",
        file: MANAGER,
        before: "            Some(until) => self.waiting.defer(id, until),\n            None => self.waiting.forget(id),",
        after: "            Some(_) | None => self.waiting.forget(id),",
        check: DELIVERY,
    },
    Mutation {
        name: "retry-storm",
        what: "a deferred message that is read before it is due is tried at once",
        file: MANAGER,
        before: "filter(|until| *until > now)",
        after: "filter(|until| *until > now && states.is_empty())",
        check: DELIVERY,
    },
    Mutation {
        name: "expansion-unreported",
        what: "the sender is not told that a virtual alias was expanded",
        file: MESSAGE,
        before: "            *state = if wants_report(&self.envelope, recipient, Action::Expanded, settings) {",
        after: "            *state = if wants_report(&self.envelope, recipient, Action::Failed, settings) {",
        check: DELIVERY,
    },
    Mutation {
        name: "expansion-of-another",
        what: "the report of an expansion names another recipient",
        file: REPORTS,
        before: "original.numbered().nth(*number as usize)?;",
        after: "original.recipients.first()?;",
        check: DELIVERY,
    },
    Mutation {
        name: "dead-for-ever",
        what: "a dead destination is never tried again",
        file: DESTINATION,
        before: "            if destination.dead.take().is_some() {",
        after: "            if destination.dead.is_some() {",
        check: DELIVERY,
    },
    Mutation {
        name: "refused-recipient-sent",
        what: "a recipient that the server refused counts as reached once it took the content",
        file: TRANSACTION,
        before: "        for undecided in self.outcomes.iter_mut().filter(|found| found.is_none()) {",
        after: "        for undecided in self.outcomes.iter_mut() {",
        check: DELIVERY,
    },
    Mutation {
        name: "lost-after-content-sent",
        what: "a connection that breaks before the reply to the content counts as a delivery",
        file: SMTP,
        before: "            self.transaction.decide(&Outcome::Deferred(cause.clone()));\n            self.transaction.health",
        after: "            self.transaction.decide(&Outcome::Sent(cause.clone(), None));\n            self.transaction.health",
        check: DELIVERY,
    },
    Mutation {
        name: "report-lost",
        what: "a failure is noted as reported although the report could not be taken into the queue",
        file: MANAGER,
        before: "            Noted::Failed => message.put_report_off(&self.settings, now),",
        after: "            Noted::Failed => message.reported(kind),",
        check: DELIVERY,
    },
    Mutation {
        name: "report-twice",
        what: "after a crash a report is made again although it is in the queue",
        file: LOADING,
        before: "filter(|_| is_there)",
        after: "filter(|_| !is_there)",
        check: DELIVERY,
    },
    Mutation {
        name: "report-overtakes",
        what: "after a crash a report is handed over before it is known whether it was noted",
        file: LOADING,
        before: "self.manager.may_have_report(about)",
        after: "about == id",
        check: DELIVERY,
    },
    Mutation {
        name: "delay-reported-again",
        what: "a delay is reported after each attempt",
        file: MESSAGE,
        before: "        self.is_warned |= kind == Kind::Delay;\n",
        after: "",
        check: DELIVERY,
    },
    Mutation {
        name: "never-expires",
        what: "mail that is too old is tried for ever",
        file: MANAGER,
        before: "if (is_expired || is_forced) &&",
        after: "if (is_expired && is_forced) &&",
        check: DELIVERY,
    },
    Mutation {
        name: "flush-ignored",
        what: "a deferred message that an operator flushes waits until it is due",
        file: WAITING,
        before: "                self.incoming.push_back(id);\n            }\n        }\n        let noted",
        after: "                self.deferred.insert((until, id));\n            }\n        }\n        let noted",
        check: DELIVERY,
    },
    Mutation {
        name: "next-server-skipped",
        what: "recipients that a server defers are not given to the next one",
        file: HANDOVER,
        before: "            if let Some(server) = self.servers.pop_front() {",
        after: "            if let Some(server) = self.servers.pop_front().filter(|_| sessions == 0) {",
        check: DELIVERY,
    },
    Mutation {
        name: "stale-connection-defers",
        what: "a kept connection that the server has closed defers the message that was to be sent on it",
        file: CONNECTIONS,
        before: "link.delivery.transactions() > 1 && !link.delivery.has_answered()",
        after: "link.delivery.transactions() > 9 && !link.delivery.has_answered()",
        check: DELIVERY,
    },
    Mutation {
        name: "never-reported",
        what: "a recipient with NOTIFY=NEVER is reported",
        file: KIND,
        before: "notify.is_empty() || notify.contains(Notify::FAILURE)",
        after: "true",
        check: DELIVERY,
    },
    Mutation {
        name: "bounce-answered",
        what: "a report that fails is answered with a report: two mail systems may send them to each other for ever",
        file: NOTICE,
        before: "        if sender.is_empty() {\n",
        after: "        if sender == b\"<>\" {\n",
        check: DELIVERY,
    },
    Mutation {
        name: "reply-adds-fields",
        what: "a server's reply adds lines to a report",
        file: TEXT,
        before: "!character.is_ascii_control()",
        after: "true",
        check: DELIVERY,
    },
    Mutation {
        name: "fields-of-a-body",
        what: "RET=HDRS: what looks like a field is returned although a line that is none came before it",
        file: HEADER_SECTION,
        before: "        } else {\n            self.place = Place::Body;\n",
        after: "        } else if self.held == b\"\\r\\n\" {\n            self.place = Place::Body;\n",
        check: DELIVERY,
    },
];
