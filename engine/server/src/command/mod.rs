//! The subcommands of `mailrace`: a file for each. Here errors meet people.
#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "commands end, and people read what they print"
)]

mod check;
mod clean;
mod config;
mod envelope;
mod lookup;
mod queue;
mod refused;
mod rewrite;
mod route;
mod sendmail;
mod serve;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigErrors, Configuration, Sources, Tables, config_file};
use crate::tables::Lookups;

/// EX_DATAERR of sysexits.h.
const EXIT_DATA: u8 = 65;
/// EX_UNAVAILABLE.
const EXIT_UNAVAILABLE: u8 = 69;
/// EX_IOERR.
const EXIT_IO: u8 = 74;
/// EX_CONFIG.
const EXIT_CONFIG: u8 = 78;

/// Accepts mail over SMTP and from local programs, cleans it up as Postfix does, and makes it durable in a queue.
#[derive(Debug, Parser)]
#[command(name = "mailrace", version)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the engine in the foreground
    Serve(serve::Arguments),
    /// Check the configuration and its tables, and report all errors
    Check(ConfigurationArguments),
    /// Print all parameters with their values, as a configuration file
    Config(config::Arguments),
    /// List, print, export, hold, release and delete queued messages
    Queue(queue::Arguments),
    /// Print a message as the engine would queue it
    Clean(clean::Arguments),
    /// Print addresses as the engine would rewrite them
    Rewrite(rewrite::Arguments),
    /// Print transport and next hop of mail to an address, and what decided them
    Route(route::Arguments),
    /// Print the value of a key in a lookup table; the exit status is 1 if there is none
    Lookup(lookup::Arguments),
    /// Submit a message on this machine, with the options of Postfix's sendmail
    #[command(disable_help_flag = true)]
    Sendmail {
        /// Options and recipients
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
}

/// Which configuration.
#[derive(Debug, Args)]
struct ConfigurationArguments {
    /// Configuration file [default: the file named by $MAILRACE_CONFIG, else /etc/mailrace/mailrace.toml if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Override one parameter, such as message_size_limit=50MiB or engine.workers=2; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
}

impl ConfigurationArguments {
    fn sources(self) -> Sources {
        Sources { file: config_file(self.config), set: self.set, ..Sources::default() }
    }

    /// The configuration and all of its tables.
    fn load(self, lookups: &Lookups) -> Result<(Configuration, Tables), Failure> {
        let configuration = Configuration::load(&self.sources()).map_err(wrong)?;
        let tables = configuration.open_tables(lookups, &Tables::default()).map_err(wrong)?;
        Ok((configuration, tables))
    }
}

fn wrong(errors: ConfigErrors) -> Failure {
    Failure::new(EXIT_CONFIG, format!("the configuration is invalid:\n{errors}"))
}

/// Does what the arguments of the process ask for.
#[must_use]
pub fn run() -> ExitCode {
    let mut given = std::env::args_os();
    let name = given.next().unwrap_or_default();
    if let Some(name) = Path::new(&name).file_name().and_then(|name| name.to_str())
        && sendmail::NAMES.contains(&name)
    {
        return sendmail::run(name, given);
    }
    let result = match Arguments::parse().command {
        Command::Serve(arguments) => serve::run(arguments),
        Command::Check(arguments) => check::run(arguments),
        Command::Config(arguments) => config::run(arguments),
        Command::Queue(arguments) => queue::run(arguments),
        Command::Clean(arguments) => clean::run(arguments),
        Command::Rewrite(arguments) => rewrite::run(arguments),
        Command::Route(arguments) => route::run(arguments),
        Command::Lookup(arguments) => lookup::run(arguments),
        // As they were given: clap takes `--` for itself.
        Command::Sendmail { .. } => return sendmail::run("sendmail", given.skip(1)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure { status, text }) => {
            if !text.is_empty() {
                eprintln!("mailrace: {text}");
            }
            ExitCode::from(status)
        }
    }
}

/// How a command ends that could not do what it was asked.
#[derive(Debug)]
struct Failure {
    status: u8,
    /// What to print on standard error; empty if it was reported already.
    text: String,
}

impl Failure {
    fn new(status: u8, text: impl ToString) -> Self {
        Self { status, text: text.to_string() }
    }

    /// One whose reason was reported already.
    const fn reported(status: u8) -> Self {
        Self { status, text: String::new() }
    }
}
