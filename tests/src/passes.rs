//! Properties of the cleanup passes for arbitrary messages, for property tests and fuzzers.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bumpalo::Bump;
use mailrace::tables;
use mailrace_core::address::{RewriteContext, Rewriting};
use mailrace_core::cleanup::{
    Canonical, Checks, Classes, Cleanup, Halt, Mime, Notice, Observer, Rejection, Settings, Surroundings,
    VirtualAlias,
};
use mailrace_core::lookup::Maps;
use mailrace_core::message::header::{Item, next_item};
use mailrace_core::record::envelope::{decode, encode};
use mailrace_core::{Envelope, Origin, QueueId, Recipient, Timestamp};

use crate::slow::Slow;

/// A message, and where its content is split.
#[derive(Clone, Debug, Default)]
pub struct Given {
    /// The client is local.
    pub is_local: bool,
    /// Small limits, which short messages reach.
    pub is_narrow: bool,
    /// Reverse-path.
    pub sender: Vec<u8>,
    /// Forward-paths.
    pub recipients: Vec<Vec<u8>>,
    /// With CRLF line ends.
    pub content: Vec<u8>,
    /// Split points, modulo its length.
    pub cuts: Vec<usize>,
}

impl Given {
    /// Decodes fuzzer input: flags and split points, a line of addresses, content with LF line ends.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        let (front, rest) = octets.split_at_checked(4).unwrap_or((&[0; 4], octets));
        let (line, content) = match rest.iter().position(|octet| *octet == b'\n') {
            Some(end) => (&rest[..end], &rest[end + 1..]),
            None => (&b""[..], rest),
        };
        let mut addresses = line.split(|octet| *octet == b'\t').map(<[u8]>::to_vec);
        Self {
            is_local: front[0] & 1 != 0,
            is_narrow: front[0] & 2 != 0,
            sender: addresses.next().unwrap_or_default(),
            recipients: addresses.collect(),
            content: with_crlf(content),
            cuts: front[1..].iter().map(|octet| usize::from(*octet) * content.len() / 256).collect(),
        }
    }
}

/// Normalises line ends as a session does: CRLF, and no bare CR or LF.
fn with_crlf(text: &[u8]) -> Vec<u8> {
    let lines = text.split_inclusive(|octet| *octet == b'\n');
    let mut out = Vec::with_capacity(text.len() + text.len() / 16 + 2);
    for line in lines {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        out.extend(line.iter().map(|octet| if *octet == b'\r' { b' ' } else { *octet }));
        out.extend_from_slice(b"\r\n");
    }
    out
}

/// Result of cleaning.
type Outcome = Result<Cleaned, Rejection>;

#[derive(PartialEq, Eq)]
struct Cleaned {
    content: Vec<u8>,
    envelope: Envelope,
    notices: Vec<String>,
}

impl std::fmt::Debug for Cleaned {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let recipients = self.envelope.recipients.iter();
        let recipients: Vec<_> =
            recipients.map(|recipient| recipient.address.escape_ascii().to_string()).collect();
        writeln!(formatter, "{recipients:?} {:?}", self.notices)?;
        write!(formatter, "{}", self.content.escape_ascii().to_string().replace("\\r\\n", "\n"))
    }
}

/// Cleans the message as `given` and in other ways, and panics if a property does not hold.
pub fn check(given: &Given) {
    // Where a field has NULs, and comes in pieces, and is too long, more of it is left out than were it in one.
    let is_narrow = given.is_narrow && !given.content.contains(&0);
    let plain = settings(is_narrow);
    let whole = clean(given, &plain, &[]);
    assert_eq!(clean(given, &plain, &given.cuts), whole, "cuts change nothing");
    check_again(given, &plain);
    let mapped = with_tables(&plain, false);
    let whole = clean(given, &mapped, &[]);
    assert_eq!(clean(given, &mapped, &given.cuts), whole, "cuts change nothing with tables");
    let slow = clean(given, &with_tables(&plain, true), &given.cuts);
    assert_eq!(slow, whole, "waiting for tables changes nothing");
}

/// What comes out is mail, and is taken again. It may come out otherwise the second time, as from Postfix, where a
/// list of addresses is none: `<a@b>c` is read as `<a@b>`, `c` and written as it was.
fn check_again(given: &Given, settings: &Settings) {
    if let Some(content) = cleaned(given, settings) {
        cleaned(&Given { content, ..given.clone() }, settings);
    }
}

/// Checks that cleaning is idempotent for well-formed address lists.
pub fn check_twice(given: &Given) {
    let Some(once) = cleaned(given, &settings(false)) else { return };
    let Some(twice) = cleaned(&Given { content: once.clone(), ..given.clone() }, &settings(false)) else {
        return;
    };
    // A From field that is added has the reverse-path as it was given: the caller gives a complete one.
    let (once, twice) = (once.escape_ascii(), twice.escape_ascii());
    assert_eq!(twice.to_string(), once.to_string(), "cleaning twice is cleaning once");
}

/// Returns the cleaned mail without our trace field; `None` if it was rejected.
fn cleaned(given: &Given, settings: &Settings) -> Option<Vec<u8>> {
    match clean(given, settings, &[]) {
        Ok(cleaned) => {
            assert_parses(&cleaned.content);
            Some(without_received(&cleaned.content).to_vec())
        }
        Err(rejection) => {
            assert_eq!(rejection, Rejection::TooManyHops, "nothing else is wrong with any mail");
            None
        }
    }
}

/// Asserts that the header section consists of fields and an empty line.
fn assert_parses(content: &[u8]) {
    let mut rest = content;
    loop {
        match next_item(rest, true) {
            Item::Field(field) => rest = &rest[field.raw.len()..],
            Item::End(_) => return,
            Item::Body if rest.is_empty() => return,
            item => panic!("{item:?} is in a header section: {}", rest.escape_ascii()),
        }
    }
}

/// Returns the content without our trace field, which comes first.
fn without_received(content: &[u8]) -> &[u8] {
    match next_item(content, true) {
        Item::Field(field) if field.is(b"received") => &content[field.raw.len()..],
        item => panic!("{item:?} is not our trace field"),
    }
}

fn settings(is_narrow: bool) -> Settings {
    let local = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.net".to_vec() };
    let settings =
        Settings { rewriting: Arc::new(Rewriting { local, ..Rewriting::default() }), ..Settings::default() };
    if !is_narrow {
        return settings;
    }
    Settings {
        header_size_limit: 100,
        header_address_token_limit: 20,
        line_length_limit: 40,
        hopcount_limit: 4,
        mime: Mime { nesting_limit: 2, boundary_length_limit: 8, ..Mime::default() },
        duplicate_filter_limit: 3,
        ..settings
    }
}

static CANONICAL: LazyLock<Maps> = LazyLock::new(|| {
    open("inline:{ {a@example.com = b}, {@c.example = @example.com}, {b@example.com = \"x y\"@z} }")
});
static VIRTUAL: LazyLock<Maps> = LazyLock::new(|| {
    open(
        "inline:{ {b@example.com = one, two+ext, b@example.com}, {one@example.com = a}, {@loop = @loop.loop} }",
    )
});
static CHECKS: LazyLock<Maps> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("mailrace-passes-{}", std::process::id()));
    let text = "/^Subject: (.*)x/ REPLACE X-Subject: $1\n/^A:/ PREPEND B: prepended\n/^C:/ WARN c\n/^D: / IGNORE\n\
                /^E: (.*)/ BCC $1\n/^F:/ HOLD\n/^G: r/ REJECT no\n/^H: (\\w*)/ REDIRECT $1@z\n/^I:/ DISCARD\n";
    std::fs::write(&file, text).expect("there is room in the temporary directory");
    let maps = open(&format!("pcre:{}", file.display()));
    let _ = std::fs::remove_file(file);
    maps
});

fn open(table: &str) -> Maps {
    tables::open(table, Path::new("/")).expect("the table is right")
}

/// Returns `plain` with tables and checks added.
fn with_tables(plain: &Settings, is_slow: bool) -> Settings {
    let maps = |maps: &Maps| if is_slow { Maps::new(vec![Arc::new(Slow::new(maps))]) } else { maps.clone() };
    let classes = Classes {
        envelope_sender: true,
        envelope_recipient: true,
        header_sender: true,
        header_recipient: true,
    };
    let checks = maps(&CHECKS);
    Settings {
        canonical: Canonical { maps: maps(&CANONICAL), classes },
        virtual_alias: VirtualAlias {
            maps: maps(&VIRTUAL),
            expansion_limit: 20,
            recursion_limit: 20,
            address_length_limit: 100,
            ..VirtualAlias::default()
        },
        checks: Checks {
            header: checks.clone(),
            mime_header: checks.clone(),
            nested_header: checks.clone(),
            body: checks,
            body_size_limit: 1000,
        },
        ..plain.clone()
    }
}

#[derive(Default)]
struct Notices(Vec<String>);

impl Observer for Notices {
    fn noticed(&mut self, notice: &Notice<'_>) {
        self.0.push(format!("{notice:?}"));
    }
}

fn clean(given: &Given, settings: &Settings, cuts: &[usize]) -> Outcome {
    let id = QueueId::new(Timestamp::from_unix_microseconds(1_795_486_199_000_000), 0);
    let origin = Origin::new([192, 0, 2, 1].into(), 4711);
    let recipients = given.recipients.iter().filter(|address| !address.is_empty());
    let mut recipients: Vec<Recipient> =
        recipients.map(|address| Recipient { address: address.clone(), ..Recipient::default() }).collect();
    if recipients.is_empty() {
        recipients.push(Recipient { address: b"user@example.com".to_vec(), ..Recipient::default() });
    }
    let envelope = Envelope { sender: given.sender.clone(), recipients, ..Envelope::default() };
    let size = given.content.len();
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (size + 1)).chain([0, size]).collect();
    cuts.sort_unstable();
    let mut notices = Notices::default();
    let mut cleanup = Cleanup::new(id, given.is_local);
    let (mut out, mut kept, mut is_done) = (Vec::new(), Vec::new(), false);
    let mut arena = Bump::new();
    for window in cuts.windows(2) {
        kept.extend_from_slice(&given.content[window[0]..window[1]]);
        let is_whole = window[1] == size;
        while !is_done && (is_whole || !kept.is_empty()) {
            arena.reset();
            let mut surroundings = Surroundings {
                arena: &arena,
                settings,
                origin: &origin,
                envelope: &envelope,
                observer: &mut notices,
            };
            let part = match cleanup.content(&mut surroundings, &kept, is_whole) {
                Err(Halt::Pending(_)) => continue,
                Err(Halt::Rejected(rejection)) => return Err(rejection),
                Ok(part) => part,
            };
            part.output.iter().for_each(|slice| out.extend_from_slice(slice));
            let consumed = part.consumed;
            is_done = part.is_done;
            drop(part);
            kept.drain(..consumed);
            break;
        }
        if is_done {
            out.append(&mut kept);
        }
    }
    out.append(&mut kept);
    let envelope = loop {
        let arena = Bump::new();
        let mut surroundings = Surroundings {
            arena: &arena,
            settings,
            origin: &origin,
            envelope: &envelope,
            observer: &mut notices,
        };
        let queued = match cleanup.envelope(&mut surroundings) {
            Err(Halt::Pending(_)) => continue,
            Err(Halt::Rejected(rejection)) => return Err(rejection),
            Ok(queued) => queued,
        };
        let mut encoded = bumpalo::collections::Vec::new_in(&arena);
        encode(&origin, &queued, &mut encoded).expect("the values of a test are short");
        break decode(&encoded).expect("what was encoded is decoded").1;
    };
    Ok(Cleaned { content: out, envelope, notices: notices.0 })
}
