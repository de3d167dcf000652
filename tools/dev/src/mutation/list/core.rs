//! Bugs in the core: sessions, and the passes over messages.

use crate::mutation::Check::{self, Seeds, Test};
use crate::mutation::Mutation;

const ENVELOPE_RECIPIENT: &str = "engine/core/src/cleanup/envelope_recipient.rs";
const FIELD: &str = "engine/core/src/cleanup/field.rs";
const HOP_COUNT: &str = "engine/core/src/cleanup/hop_count.rs";
const RECIPIENT_DEDUPE: &str = "engine/core/src/cleanup/recipient_dedupe.rs";
const ALIASES: &str = "engine/core/src/cleanup/virtual_alias.rs";
const BDAT: &str = "engine/core/src/smtp/server/bdat.rs";
const DATA: &str = "engine/core/src/smtp/server/data.rs";
const HELLO: &str = "engine/core/src/smtp/server/hello.rs";
const RCPT: &str = "engine/core/src/smtp/server/rcpt.rs";
const SESSION: &str = "engine/core/src/smtp/server/session.rs";
const UNLISTED: &str = "engine/core/src/smtp/server/unlisted.rs";

/// Of many recipients, and those that are given twice.
const OF_MANY: Check = Test(&["-p", "mailrace-core", "--lib", "many_recipients_are_each"]);

/// What becomes of addresses.
const ADDRESSES: Check = Test(&["-p", "mailrace-core", "--lib", "cleanup::tests::addresses"]);

/// The dialogues of a session.
const DIALOGUES: Check = Test(&["-p", "mailrace-core", "--test", "dialogues"]);

pub(super) const BUGS: &[Mutation] = &[
    Mutation {
        name: "recipient-forgotten",
        what: "one recipient of many is forgotten when their table grows",
        file: RECIPIENT_DEDUPE,
        before: "            self.grow(is_whole, limit);\n",
        after: "            self.grow(is_whole, limit);\n            if self.recipients.len() > 100 {\n                return;\n            }\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "orcpt-of-another",
        what: "a recipient gets the ORCPT of the first one",
        file: ENVELOPE_RECIPIENT,
        before: "        match all.add_given(recipient.into()) {\n",
        after: "        let dsn_original = surroundings.envelope.recipients.first().and_then(|first| first.dsn_original.as_deref());\n        match all.add_given(QueuedRecipient { dsn_original, ..recipient.into() }) {\n",
        check: Seeds(200),
    },
    Mutation {
        name: "success-twice",
        what: "members of an alias keep SUCCESS: the sender reads of the expansion and of each of them",
        file: ENVELOPE_RECIPIENT,
        before: "            notify = virtual_alias::without_success(notify);\n",
        after: "",
        check: ADDRESSES,
    },
    Mutation {
        name: "duplicate-by-case",
        what: "a recipient that is written in another case counts as another one",
        file: RECIPIENT_DEDUPE,
        before: "    eq_ignoring_case(one.address, other.address)\n",
        after: "    one.address == other.address\n",
        check: Seeds(200),
    },
    Mutation {
        name: "rset-leaves-chunks",
        what: "RSET and EHLO in the middle of BDAT leave the chunks in the spool",
        file: SESSION,
        before: "        (chunking == Chunking::Open).then_some(Event::ContentAbandon)\n",
        after: "        (chunking == Chunking::Failed).then_some(Event::ContentAbandon)\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "helo-stays",
        what: "the name of the first EHLO stays for later ones",
        file: HELLO,
        before: "        self.origin.helo = name.iter().take(DOMAIN_SIZE_MAX).map(keep).collect();\n",
        after: "        if !self.has_greeted {\n            self.origin.helo = name.iter().take(DOMAIN_SIZE_MAX).map(keep).collect();\n        }\n",
        check: Seeds(200),
    },
    Mutation {
        name: "size-limit-of-chunks",
        what: "a message in chunks of exactly message_size_limit is refused",
        file: BDAT,
        before: "size > limit.saturating_sub(transaction.chunks_size)",
        after: "size >= limit.saturating_sub(transaction.chunks_size)",
        check: Seeds(2000),
    },
    Mutation {
        name: "size-limit-of-data",
        what: "a message that is one byte larger than message_size_limit is taken",
        file: DATA,
        before: "self.content_size > limit {",
        after: "self.content_size > limit + 1 {",
        check: Seeds(2000),
    },
    Mutation {
        name: "recipient-limit",
        what: "one recipient more than smtpd_recipient_limit is taken",
        file: RCPT,
        before: "transaction.envelope.recipients.len() >= settings.smtpd_recipient_limit as usize",
        after: "transaction.envelope.recipients.len() > settings.smtpd_recipient_limit as usize",
        check: Seeds(200),
    },
    Mutation {
        name: "sender-refused-once",
        what: "a sender that no table lists is accepted from the second recipient on",
        file: RCPT,
        before: "transaction.is_sender_listed = matches!(decision, Decision::Accept);",
        after: "transaction.is_sender_listed = true;",
        check: DIALOGUES,
    },
    Mutation {
        name: "unlisted-by-failure",
        what: "a recipient is refused for good when a table cannot answer",
        file: UNLISTED,
        before: "lookup.find(maps, address, KeyForm::ExternalFirst)?.is_some()",
        after: "lookup.find(maps, address, KeyForm::ExternalFirst).is_ok_and(|found| found.is_some())",
        check: DIALOGUES,
    },
    Mutation {
        name: "postmaster-unlisted",
        what: "postmaster of a local domain is refused if no table lists it",
        file: UNLISTED,
        before: "class == DomainClass::Local && is_of_mail_system(target.local)",
        after: "class == DomainClass::Default && is_of_mail_system(target.local)",
        check: DIALOGUES,
    },
    Mutation {
        name: "hop-limit",
        what: "a message with as many hops as hopcount_limit is taken",
        file: HOP_COUNT,
        before: "self.hops >= settings.hopcount_limit",
        after: "self.hops > settings.hopcount_limit",
        check: Seeds(2000),
    },
    Mutation {
        name: "cut-field-line-end",
        what: "a field that is cut has no line end",
        file: FIELD,
        before: "    if !field.raw.get(..end).unwrap_or_default().ends_with(b\"\\r\\n\") {",
        after: "    if end > 4000 && !field.raw.get(..end).unwrap_or_default().ends_with(b\"\\r\\n\") {",
        check: Seeds(2000),
    },
    Mutation {
        name: "notify-after-alias",
        what: "success is reported again for a recipient that an alias has replaced",
        file: ALIASES,
        before: "Notify::from_bits(notify.bits() & !Notify::SUCCESS.bits())",
        after: "notify",
        check: Seeds(2000),
    },
    Mutation {
        name: "alias-first-only",
        what: "of the addresses of an alias only the first is left when its table is asked again",
        file: ALIASES,
        before: "                Some([result]) =>",
        after: "                Some([result, ..]) =>",
        check: Seeds(1000),
    },
    Mutation {
        name: "notify-ignored",
        what: "the same recipient with another NOTIFY is taken for a duplicate",
        file: RECIPIENT_DEDUPE,
        before: "                && one.notify == other.notify\n",
        after: "",
        check: Seeds(1000),
    },
    Mutation {
        name: "failed-chunks-stay",
        what: "RSET after a chunk that was refused leaves the session in its chunks",
        file: SESSION,
        before: "let chunking = core::mem::replace(&mut self.chunking, Chunking::None);",
        after: "let chunking = self.chunking;\n        if chunking == Chunking::Open {\n            self.chunking = Chunking::None;\n        }",
        check: Seeds(2000),
    },
    Mutation {
        name: "refused-chunk-forgotten",
        what: "a chunk that is refused leaves those before it in the spool",
        file: BDAT,
        before: "(Chunking::Open, Some(_)) => Outcome::Event(Event::ContentAbandon),",
        after: "(Chunking::Open, Some(_)) => Outcome::Next,",
        check: Seeds(2000),
    },
    Mutation {
        name: "last-octet-of-chunks",
        what: "what the decoder holds back at the end of the last chunk is dropped",
        file: BDAT,
        before: "                if !rest.is_empty() {\n                    // The next",
        after: "                if rest.len() > 9 {\n                    // The next",
        check: Seeds(2000),
    },
    Mutation {
        name: "probe-stops",
        what: "recipients are looked for at one place of their table only",
        file: RECIPIENT_DEDUPE,
        before: "            slot = (slot + 1) & mask;\n",
        after: "            break;\n",
        check: Seeds(2000),
    },
    Mutation {
        name: "grow-forgets-last",
        what: "the recipient that was added last is forgotten when their table grows, and may come again",
        file: RECIPIENT_DEDUPE,
        before: "0..self.recipients.len().min(limit) {",
        after: "0..self.recipients.len().min(limit) - 1 {",
        check: OF_MANY,
    },
    Mutation {
        name: "duplicate-limit",
        what: "one recipient more than duplicate_filter_limit is remembered",
        file: RECIPIENT_DEDUPE,
        before: "        if self.recipients.len() < limit {\n",
        after: "        if self.recipients.len() <= limit {\n",
        check: OF_MANY,
    },
];
