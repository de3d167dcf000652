//! Bugs in tables on servers.

use crate::mutation::Check::{self, Test};
use crate::mutation::Mutation;

const REMOTE: &str = "engine/server/src/tables/remote/mod.rs";

/// Tables on servers.
const TABLES: Check = Test(&["-p", "mailrace", "--lib", "tables::remote"]);

pub(super) const BUGS: &[Mutation] = &[
    Mutation {
        name: "given-up-wakes-none",
        what: "those are not told whose question made room for another",
        file: REMOTE,
        before: "        if has_given_up {\n            self.memory",
        after: "        if has_given_up && !is_new {\n            self.memory",
        check: TABLES,
    },
    Mutation {
        name: "failure-kept-long",
        what: "that a server gave no answer is remembered for as long as an answer",
        file: REMOTE,
        before: "let time = if answer.is_ok() { self.settings.memory_time } else { FAILURE_TIME };",
        after: "let time = self.settings.memory_time.max(FAILURE_TIME);",
        check: TABLES,
    },
    Mutation {
        name: "one-wakeup-for-all",
        what: "a table that is closed ends one of its connections only",
        file: REMOTE,
        before: "                self.asked.notify_one();\n                return question;",
        after: "                return question;",
        check: TABLES,
    },
];
