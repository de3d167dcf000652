//! Bugs in submission: messages that users of the machine drop, from their files to the spool.

use crate::mutation::Check::{Seeds, Test};
use crate::mutation::Mutation;

const ENGINE: &str = "engine/server/src/worker/engine.rs";
const SUBMISSION: &str = "engine/server/src/worker/sources/submission.rs";

pub(super) const BUGS: &[Mutation] = &[
    Mutation {
        name: "submission-put-off-leaks",
        what: "a submission that is put off keeps its segments",
        file: SUBMISSION,
        before: "    fn put_off(&mut self, mut submission: Submission<S::Draft>) {\n        self.intake.abandon(&mut submission.message);\n",
        after: "    fn put_off(&mut self, mut submission: Submission<S::Draft>) {\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "submission-refused-leaks",
        what: "a submission that is refused keeps its segments",
        file: SUBMISSION,
        before: "        self.intake.abandon(&mut submission.message);\n        let state = match verdict {",
        after: "        let state = match verdict {",
        check: Seeds(2000),
    },
    Mutation {
        name: "submission-limit",
        what: "a submission that is one byte larger than message_size_limit is taken",
        file: SUBMISSION,
        before: "submission.received > size_max {",
        after: "submission.received > size_max + 1 {",
        check: Seeds(2000),
    },
    Mutation {
        name: "submission-answer-for-one",
        what: "of several submissions that wait for one answer of a table only the first gets it",
        file: ENGINE,
        before: "        for source in self.intake.answered(ticket) {\n",
        after: "        let mut sources = self.intake.answered(ticket);\n        let first = sources.iter().position(|source| matches!(source, Source::Submission(_)));\n        let mut place = 0;\n        sources.retain(|source| {\n            place += 1;\n            first.is_none_or(|first| place == first + 1 || matches!(source, Source::Connection(_)))\n        });\n        for source in sources {\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "submission-room-for-none",
        what: "a submission that waits for room in the spool is not tried again",
        file: ENGINE,
        before: "            while let Some(source) = self.intake.next(part, self.budget.is_pressed) {\n",
        after: "            while let Some(source) = self.intake.next(part, self.budget.is_pressed) {\n                if matches!(source, Source::Submission(_)) {\n                    continue;\n                }\n",
        check: Seeds(1000),
    },
    Mutation {
        name: "discarded-stays",
        what: "the file of a submission that a check orders to be dropped stays in the maildrop",
        file: "engine/server/src/services/pickup/messages.rs",
        before: "                self.numbers.discarded.add(1);\n                self.remove(name, now);\n",
        after: "                self.numbers.discarded.add(1);\n",
        check: Test(&["-p", "mailrace-tests", "--test", "submission", "discards"]),
    },
];
