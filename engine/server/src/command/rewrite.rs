//! `mailrace rewrite`: addresses through the trivial rewrite, and what the tables of the configuration make of them.

use std::io::{self, Write};

use bumpalo::Bump;
use crossbeam::channel::Receiver;
use mailrace_core::address::{RewriteStep, quoted, rewrite_by_steps, unquoted};
use mailrace_core::cleanup::{
    Bcc, Canonical, Checks, Cleanup, Halt, Masquerade, Notice, Observer, Settings, Surroundings,
};
use mailrace_core::lookup::{Maps, Ticket};
use mailrace_core::{Envelope, Origin, Protocol, QueueId, Recipient};

use super::clean::{refused, wait_for};
use super::{ConfigurationArguments, EXIT_UNAVAILABLE, Failure};
use crate::log::now;
use crate::tables::Lookups;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// Print each step with its parameter, and the results for the sender and for a recipient of a message
    #[arg(long)]
    explain: bool,
    /// Rewrite as in the header section of a remote client (remote_header_rewrite_domain) instead of in an envelope
    #[arg(long)]
    remote: bool,
    /// Addresses as written in a header section, quoted where needed
    #[arg(value_name = "ADDR", required = true)]
    addresses: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let lookups = Lookups::default();
    let answers = lookups.answers();
    let (configuration, tables) = arguments.configuration.load(&lookups)?;
    let rewriting = configuration.address_rewriting();
    let settings = &configuration.worker_settings(1, &tables).cleanup;
    let context = if arguments.remote { rewriting.remote.as_ref() } else { Some(&rewriting.local) };
    let arena = Bump::new();
    let mut output = Vec::new();
    for address in &arguments.addresses {
        let mut steps = Vec::new();
        let rewritten = match context {
            Some(context) => {
                let note = &mut |step, now: &[u8]| steps.push((step, now.to_vec()));
                rewrite_by_steps(&arena, &rewriting.rules, context, address.as_bytes(), note)
            }
            None => address.as_bytes(),
        };
        if arguments.explain {
            explain(&mut output, address, &steps, rewritten);
            // Other parameters decide what tables do to the header section of a remote client.
            if !arguments.remote {
                for place in [Place::Sender, Place::Recipient] {
                    explain_mapping(&mut output, place, settings, &answers, rewritten)?;
                }
            }
        } else {
            output.extend_from_slice(rewritten);
            output.push(b'\n');
        }
    }
    let written = io::stdout().lock().write_all(&output);
    written.map_err(|error| Failure::new(EXIT_UNAVAILABLE, format!("cannot write the output: {error}")))
}

fn push_line(output: &mut Vec<u8>, name: &str, text: &[u8]) {
    output.extend_from_slice(format!("{name:<28}").as_bytes());
    output.extend_from_slice(text);
    output.push(b'\n');
}

/// Adds a line for the address, one for each step, one for the result.
fn explain(output: &mut Vec<u8>, address: &str, steps: &[(RewriteStep, Vec<u8>)], rewritten: &[u8]) {
    push_line(output, "address", address.as_bytes());
    let mut last = address.as_bytes();
    for (step, now) in steps {
        push_line(output, &format!("  {}", name(*step)), now);
        last = now;
    }
    if last != rewritten {
        push_line(output, "  quotes where needed", rewritten);
    }
    push_line(output, "result", rewritten);
}

/// The name of a step: its parameter, if it has one.
const fn name(step: RewriteStep) -> &'static str {
    match step {
        RewriteStep::LoneAt => "lone @",
        RewriteStep::SourceRoute => "source route",
        RewriteStep::BangPath => "swap_bangpath",
        RewriteStep::PercentHack => "allow_percent_hack",
        RewriteStep::Origin => "append_at_myorigin",
        RewriteStep::Domain => "append_dot_mydomain",
        RewriteStep::TrailingDot => "trailing dot",
    }
}

/// Where in an envelope an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Sender,
    Recipient,
}

/// Adds a line for each parameter with tables or domains that changes `address`, and one for the result: the passes run
/// with more and more of the settings in force.
fn explain_mapping(
    output: &mut Vec<u8>,
    place: Place,
    settings: &Settings,
    answers: &Receiver<Ticket>,
    address: &[u8],
) -> Result<(), Failure> {
    let mut partial = Settings {
        canonical: Canonical::default(),
        sender_canonical: Canonical::default(),
        recipient_canonical: Canonical::default(),
        masquerade: Masquerade::default(),
        bcc: Bcc::default(),
        checks: Checks::default(),
        ..settings.clone()
    };
    partial.virtual_alias.maps = Maps::default();
    let own = match place {
        Place::Sender => "sender_canonical_maps",
        Place::Recipient => "recipient_canonical_maps",
    };
    let mut last = mapped(place, &partial, answers, address)?;
    for parameter in [own, "canonical_maps", "masquerade_domains", "virtual_alias_maps"] {
        match parameter {
            "canonical_maps" => partial.canonical = settings.canonical.clone(),
            "masquerade_domains" => partial.masquerade = settings.masquerade.clone(),
            "virtual_alias_maps" => partial.virtual_alias = settings.virtual_alias.clone(),
            _ => {
                partial.sender_canonical = settings.sender_canonical.clone();
                partial.recipient_canonical = settings.recipient_canonical.clone();
            }
        }
        let now = mapped(place, &partial, answers, address)?;
        if now != last {
            push_line(output, &format!("  {parameter}"), &now);
        }
        last = now;
    }
    push_line(output, if place == Place::Sender { "as sender" } else { "as recipient" }, &last);
    Ok(())
}

/// Returns what the passes make of `address`: several recipients are separated by commas.
fn mapped(
    place: Place,
    settings: &Settings,
    answers: &Receiver<Ticket>,
    address: &[u8],
) -> Result<Vec<u8>, Failure> {
    let arena = Bump::new();
    let own = unquoted(&arena, address).to_vec();
    // A recipient there must be.
    let (sender, recipient) = match place {
        Place::Sender => (own, b"postmaster".to_vec()),
        Place::Recipient => (Vec::new(), own),
    };
    let recipients = vec![Recipient { address: recipient, ..Recipient::default() }];
    let envelope = Envelope { arrival: now(), sender, recipients, ..Envelope::default() };
    let origin = Origin { protocol: Protocol::Local, ..Origin::default() };
    let mut observer = Unheard;
    let mut passes = Surroundings {
        arena: &arena,
        settings,
        origin: &origin,
        envelope: &envelope,
        observer: &mut observer,
    };
    let mut cleanup = Cleanup::new(QueueId::new(envelope.arrival, 0), true);
    loop {
        match cleanup.content(&mut passes, b"\r\n", true) {
            Err(Halt::Pending(ticket)) => wait_for(answers, ticket)?,
            Err(halt) => return Err(refused(&halt)),
            Ok(_) => break,
        }
    }
    let queued = loop {
        match cleanup.envelope(&mut passes) {
            Err(Halt::Pending(ticket)) => wait_for(answers, ticket)?,
            Err(halt) => return Err(refused(&halt)),
            Ok(queued) => break queued,
        }
    };
    let addresses: Vec<&[u8]> = match place {
        Place::Sender => vec![quoted(&arena, queued.sender)],
        Place::Recipient => {
            queued.recipients.iter().map(|recipient| quoted(&arena, recipient.address)).collect()
        }
    };
    Ok(addresses.join(&b", "[..]))
}

/// Checks have no part in this.
struct Unheard;

impl Observer for Unheard {
    fn noticed(&mut self, _: &Notice<'_>) {}
}
