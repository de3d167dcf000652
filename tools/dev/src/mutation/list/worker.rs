//! Bugs in the loop of one core: messages on their way, connections, marks.

use crate::mutation::Check::{Seeds, Test};
use crate::mutation::Mutation;

const ACCOUNTS: &str = "engine/server/src/worker/accounts.rs";
const CONNECTIONS: &str = "engine/server/src/worker/connections.rs";
const CONTENT: &str = "engine/server/src/worker/content.rs";
const CONTROL: &str = "engine/server/src/worker/control.rs";
const ENGINE: &str = "engine/server/src/worker/engine.rs";
const INCOMING: &str = "engine/server/src/worker/incoming.rs";
const INTAKE: &str = "engine/server/src/worker/intake.rs";
const LINE: &str = "engine/server/src/worker/line.rs";
const SMTP_SOURCE: &str = "engine/server/src/worker/sources/smtp.rs";

pub(super) const BUGS: &[Mutation] = &[
    Mutation {
        name: "field-pieces-lost",
        what: "the last pieces of a field that came in many are dropped",
        file: CONTENT,
        before: "                rest.iter().for_each(|piece| extend(&mut self.raw, piece));\n",
        after: "                rest.iter().take(6).for_each(|piece| extend(&mut self.raw, piece));\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "chunk-lost-when-busy",
        what: "content that the spool has no room for is dropped",
        file: INCOMING,
        before: "                Err(Refusal::Busy) => return Progress::Wait,\n                Err(refusal) => {\n",
        after: "                Err(Refusal::Busy) => {\n                    drop(piece);\n                    self.content.clean = Default::default();\n                    return Progress::Wait;\n                }\n                Err(refusal) => {\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "draft-kept",
        what: "a message that is given up keeps its segments",
        file: INCOMING,
        before: "            spool.abandon(draft);\n        }\n    }\n\n    fn halted",
        after: "            drop(draft);\n        }\n    }\n\n    fn halted",
        check: Seeds(2000),
    },
    Mutation {
        name: "answer-for-one",
        what: "of several connections that wait for one answer of a table only the first gets it",
        file: ENGINE,
        before: "        for source in self.intake.answered(ticket) {\n",
        after: "        for source in self.intake.answered(ticket).into_iter().take(1) {\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "pause-without-end",
        what: "a connection that was not read from for want of buffers is never read from again",
        file: "engine/server/src/worker/shortage.rs",
        before: "            connection.waits.is_paused = false;\n",
        after: "            connection.waits.is_paused = connection.message.is_some() && self.settings.content_memory < 100_000;\n",
        check: Seeds(1000),
    },
    Mutation {
        name: "connection-charged-for-ever",
        what: "a client's connections stay counted when they are gone",
        file: CONNECTIONS,
        before: "        self.accounts.disconnect(connection.id.slot);\n",
        after: "        if !connection.waits.is_shut {\n            self.accounts.disconnect(connection.id.slot);\n        }\n",
        check: Seeds(1000),
    },
    Mutation {
        name: "reload-forgets-table",
        what: "a reload forgets the tables of aliases",
        file: ENGINE,
        before: "        self.telemetry.log_connections = settings.log_connections;\n        self.settings = settings;\n",
        after: "        self.telemetry.log_connections = settings.log_connections;\n        let mut kept = (*settings).clone();\n        if self.connections.open() > 0 {\n            kept.cleanup.virtual_alias.maps = Default::default();\n        }\n        self.settings = Arc::new(kept);\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "timer-runs-out",
        what: "a connection is looked at once, and never again",
        file: ENGINE,
        before: "            self.timers.stand(slot, connection.deadline.max(self.now.after(Duration::from_millis(1))));\n",
        after: "",
        check: Seeds(1000),
    },
    Mutation {
        name: "drain-drops-message",
        what: "a drain ends sessions in the middle of a message",
        file: SMTP_SOURCE,
        before: "        if !self.is_draining() || connection.message.is_some() {",
        after: "        if !self.is_draining() {",
        check: Seeds(1000),
    },
    Mutation {
        name: "busy-commit-loses",
        what: "a message whose commit waits for room loses all but the last piece of its content",
        file: INCOMING,
        before: "                self.content.clean = clean;\n                self.content.keep_clean(content);\n",
        after: "                self.content.clean = clean;\n                self.content.keep_clean(content.get(content.len().saturating_sub(1)..).unwrap_or_default());\n",
        check: Seeds(4000),
    },
    Mutation {
        name: "asked-again-loses-front",
        what: "a message that waits for a table at its end loses what was cleaned before",
        file: INCOMING,
        before: "                self.content.keep_clean(&content);\n                return self.halted",
        after: "                self.content.clean = Default::default();\n                self.content.keep_clean(&content);\n                return self.halted",
        check: Seeds(1000),
    },
    Mutation {
        name: "busy-chunk-loses",
        what: "pieces that find no room for a chunk of their own are lost",
        file: INCOMING,
        before: "        if progress == Progress::Wait {\n            self.content.keep_clean(in_place);\n        }\n",
        after: "",
        check: Test(&["-p", "mailrace", "--lib", "worker::tests::shortage"]),
    },
    Mutation {
        name: "line-loses-network",
        what: "a network that has had its turn is forgotten, with all that wait in it",
        file: LINE,
        before: "            self.networks.push_back(network);\n        }\n        Some(next)",
        after: "        }\n        Some(next)",
        check: Seeds(1000),
    },
    Mutation {
        name: "turn-not-taken",
        what: "a connection whose turn it is goes to the end of the line again, without end",
        file: INTAKE,
        before: "        self.turn.take_if(|turn| *turn == source).is_some()",
        after: "        self.turn.take_if(|turn| *turn == source).is_some() && self.chunks.is_empty()",
        check: Seeds(1000),
    },
    Mutation {
        name: "mark-tags-overlap",
        what: "two requests for marks of several messages have the same tags",
        file: CONTROL,
        before: "        self.next += ids.len() as u64;\n",
        after: "        self.next += 1;\n",
        check: Seeds(1000),
    },
    Mutation {
        name: "outcomes-lost",
        what: "a request that names messages is not told of each",
        file: CONTROL,
        before: "        if self.is_itemised {\n",
        after: "        if !self.is_itemised {\n",
        check: Seeds(200),
    },
    Mutation {
        name: "refused-mark-untold",
        what: "a mark that is refused is not counted",
        file: CONTROL,
        before: "Err(MarkError::Refused(_)) => job.count(id, false),",
        after: "Err(MarkError::Refused(_)) => {}",
        check: Seeds(1000),
    },
    Mutation {
        name: "settled-unproven",
        what: "a client whose message was accepted stays unproven",
        file: ACCOUNTS,
        before: "            account.is_proven = true;\n",
        after: "",
        check: Test(&["-p", "mailrace", "--lib", "accounts"]),
    },
];
