//! Owns `mailrace sendmail`: a message from standard input into the maildrop, with the options, the messages and the exit
//! statuses of Postfix's `sendmail`. Also run under the names `sendmail`, `mailq` and `newaliases`.
//!
//! It ends with 0 when the message is durable there, whether or not an engine runs; with 64 when a value of an option
//! cannot be obeyed; with 65 when the message cannot enter the queue as it is; with 69 when something is asked for that
//! there is no part for; with 75 when anything else is wrong, as Postfix does.

mod check;
mod interruption;
mod message;
mod options;
mod session;
mod user;

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use mailrace_core::Recipient;
use mailrace_core::record::submission::Submission;
use mailrace_core::submission::{HeaderRecipients, addresses, full_name, is_plain_address};

use super::{EXIT_DATA, EXIT_UNAVAILABLE, Failure, queue};
use crate::config::{Configuration, Sources, config_file};
use crate::maildrop::Maildrop;
use crate::registration;
use interruption::Interruption;
use message::Rules;
use options::{Mode, Options};
use user::Caller;

/// EX_USAGE of sysexits.h.
const EXIT_USAGE: u8 = 64;
/// EX_TEMPFAIL.
const EXIT_TEMPORARY: u8 = 75;

/// Why nothing was submitted.
#[derive(Debug)]
struct Fatal {
    status: u8,
    text: String,
}

impl Fatal {
    fn temporary(text: &str) -> Self {
        Self { status: EXIT_TEMPORARY, text: text.to_owned() }
    }

    fn usage(text: &str) -> Self {
        Self { status: EXIT_USAGE, text: text.to_owned() }
    }
}

/// Names of the program that say what it does.
pub(super) const NAMES: [&str; 3] = ["sendmail", "mailq", "newaliases"];

/// Does what its name (one of [`NAMES`]) and its arguments ask for.
pub(super) fn run(name: &str, arguments: impl Iterator<Item = OsString>) -> ExitCode {
    let mode = match name {
        "mailq" => Mode::List,
        "newaliases" => options::ALIASES,
        _ => Mode::Submit,
    };
    let options = Options::parse(mode, arguments);
    let result = options.and_then(|options| match options.mode {
        Mode::Submit => submit(options),
        Mode::List => list(options.config),
        Mode::Session => session::run(options.config),
        Mode::Ignore => Ok(()),
        Mode::Missing(option, remedy) => {
            Err(Fatal { status: EXIT_UNAVAILABLE, text: format!("{option} is not supported: {remedy}") })
        }
    });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Fatal { status, text }) => {
            say(&format!("fatal: {text}"));
            ExitCode::from(status)
        }
    }
}

fn warn(text: &str) {
    say(&format!("warning: {text}"));
}

/// Tells the caller something. One who has closed standard error does not want to know.
fn say(text: &str) {
    let _ = writeln!(io::stderr(), "sendmail: {text}");
}

/// `-bp`, `mailq`: the messages in the queue, as `mailrace queue list` shows them.
fn list(config: Option<PathBuf>) -> Result<(), Fatal> {
    let (_, maildrop) = configuration(config)?;
    let shown = queue::list_for_sendmail(maildrop.queue());
    shown.map_err(|Failure { status, text }| Fatal { status, text })
}

fn submit(options: Options) -> Result<(), Fatal> {
    let (configuration, queue) = configuration(options.config)?;
    let caller = Caller::of_process();
    let sender = sender(options.sender.as_deref(), &caller)?;
    let told = |text: &str| format!("{}({}): {text}", printable(&sender), caller.user_id);
    let failed = |text: &str| Fatal::temporary(&told(text));
    let refused = |text: &str| Fatal { status: EXIT_DATA, text: told(text) };
    if !options.extracts_recipients && options.recipients.is_empty() {
        let text = "Recipient addresses must be specified on the command line or via the -t option";
        return Err(failed(text));
    }
    let mut recipients = named(&options.recipients);
    let session = &configuration.session;
    let rules = Rules {
        is_ended_by_dot: options.is_ended_by_dot,
        record_size_max: session.line_length_limit as usize,
        size_max: session.message_size_limit.0,
    };
    let cannot = |error: io::Error| failed(&format!("cannot use {}: {error}", queue.path().display()));
    queue.make().map_err(cannot)?;
    let interruption =
        Interruption::handle().map_err(|error| failed(&format!("cannot handle signals: {error}")))?;
    let mut file = interruption.begin(|| queue.create()).map_err(cannot)?;
    let field_size_max = configuration.cleanup.header_size_limit.in_memory();
    let mut extraction = options.extracts_recipients.then(|| HeaderRecipients::new(field_size_max));
    message::copy(&mut io::stdin().lock(), rules, extraction.as_mut(), |content| file.write(content))
        .map_err(|error| failed(&error.to_string()))?;
    if let Some(extraction) = extraction {
        let extracted = extraction.finish();
        if extracted.len() > configuration.submission.extract_recipient_limit as usize {
            return Err(failed("more recipients in message header than extract_recipient_limit"));
        }
        recipients.extend(extracted);
    }
    if recipients.is_empty() {
        return Err(failed("No recipient addresses found in message header"));
    }
    if recipients.iter().chain([&sender]).any(|address| address.len() > rules.record_size_max) {
        return Err(failed("an address is longer than line_length_limit"));
    }
    if let Some(address) = recipients.iter().chain([&sender]).find(|address| !is_plain_address(address)) {
        return Err(refused(&format!("the address {} has control characters", printable(address))));
    }
    let submission = Submission {
        full_name: full_name(&options.full_name.unwrap_or_else(|| caller.full_name())),
        is_gateway: options.is_gateway,
        body: options.body,
        ret: options.ret,
        envelope_id: options.envelope_id,
        recipients: recipients
            .into_iter()
            .map(|address| Recipient { address, notify: options.notify, ..Recipient::default() })
            .collect(),
        sender: sender.clone(),
    };
    let (content, header) =
        file.written().map_err(|error| failed(&format!("error reading queue file: {error}")))?;
    check::check(&configuration, content, header, &submission, caller.user_id)
        .map_err(|reason| refused(&reason))?;
    file.finish(&submission, || interruption.end())
        .map_err(|error| failed(&format!("error writing queue file: {error}")))
}

/// The configuration, and the maildrop of the engine that runs with it; of the queue that it names when none runs.
fn configuration(config: Option<PathBuf>) -> Result<(Configuration, Maildrop), Fatal> {
    let file = config_file(config);
    let running = file.as_deref().and_then(registration::queue_of);
    let configuration = Configuration::load(&Sources { file, ..Sources::default() })
        .map_err(|errors| Fatal::temporary(&format!("the configuration is invalid:\n{errors}")))?;
    let queue = running.unwrap_or_else(|| configuration.queue.directory.clone());
    if !queue.is_dir() {
        let text =
            format!("there is no queue in {}: no engine has run with this configuration", queue.display());
        return Err(Fatal::temporary(&text));
    }
    let maildrop = Maildrop::of(Path::new(&queue));
    Ok((configuration, maildrop))
}

/// The reverse-path: what `-f` gives, or who calls.
fn sender(given: Option<&[u8]>, caller: &Caller) -> Result<Vec<u8>, Fatal> {
    match given {
        Some(given) => Ok(reverse_path(given)),
        None => caller
            .login()
            .map(|login| login.as_bytes().to_vec())
            .ok_or_else(|| Fatal::temporary(&format!("no login name found for user ID {}", caller.user_id))),
    }
}

/// The addresses that arguments name.
fn named(arguments: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut recipients = Vec::new();
    for argument in arguments {
        let found = addresses(argument);
        // Postfix keeps an argument without address as the empty one, which is MAILER-DAEMON.
        recipients.extend(if found.is_empty() { vec![vec![]] } else { found });
    }
    recipients
}

/// The first address of `-f`; none is the null reverse-path.
fn reverse_path(given: &[u8]) -> Vec<u8> {
    let mut found = addresses(given).into_iter();
    let first = found.next().unwrap_or_default();
    if found.next().is_some() {
        warn(&format!("-f option specified malformed sender: {}", printable(given)));
    }
    first
}

/// Without what a terminal could take for more than text.
fn printable(octets: &[u8]) -> String {
    crate::log::printable(&String::from_utf8_lossy(octets))
}
