//! Bugs in delivery: what is noted of recipients, when they are tried again, and what a server's replies mean.

use crate::mutation::Check::{self, Test};
use crate::mutation::Mutation;

const MANAGER: &str = "engine/delivery/src/manager/mod.rs";
const DESTINATION: &str = "engine/delivery/src/manager/destination.rs";
const SMTP: &str = "engine/delivery/src/agent/smtp/mod.rs";

/// All tests of delivery.
const DELIVERY: Check = Test(&["-p", "mailrace-delivery", "--lib"]);

pub(super) const BUGS: &[Mutation] = &[
    Mutation {
        name: "sent-not-noted",
        what: "what was handed over is not noted: a later attempt hands it over again",
        file: MANAGER,
        before: "            Outcome::Sent(_) => RecipientState::Done,\n",
        after: "            Outcome::Sent(_) => return,\n",
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
        before: "            Some(until) => self.defer(id, until),\n            None => drop(self.known.remove(&id)),",
        after: "            Some(_) | None => drop(self.known.remove(&id)),",
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
        name: "dead-for-ever",
        what: "a dead destination is never tried again",
        file: DESTINATION,
        before: "                destination.dead = None;\n",
        after: "",
        check: DELIVERY,
    },
    Mutation {
        name: "refused-recipient-sent",
        what: "a recipient that the server refused counts as reached once it took the content",
        file: SMTP,
        before: "        for undecided in self.outcomes.iter_mut().filter(|found| found.is_none()) {",
        after: "        for undecided in self.outcomes.iter_mut() {",
        check: DELIVERY,
    },
    Mutation {
        name: "lost-after-content-sent",
        what: "a connection that breaks before the reply to the content counts as a delivery",
        file: SMTP,
        before: "            self.decide(&Outcome::Deferred(reason.clone()));\n            self.health",
        after: "            self.decide(&Outcome::Sent(reason.clone()));\n            self.health",
        check: DELIVERY,
    },
];
