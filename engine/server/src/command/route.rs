//! `mailrace route`: which transport takes mail to an address, to which next hop, and why.

use std::io::{self, Write};
use std::sync::Arc;

use bumpalo::Bump;
use crossbeam::channel::Receiver;
use mailrace_core::Sharer;
use mailrace_core::address::{DomainClass, quoted, rewrite, unquoted};
use mailrace_core::lookup::{Answers, Asker, LookupError, Ticket};
use serde::Serialize;

use super::clean::wait_for;
use super::envelope::{json, text};
use super::{ConfigurationArguments, EXIT_UNAVAILABLE, Failure};
use crate::routing::{Resolved, Resolver, Step};
use crate::tables::Lookups;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// The reverse-path (envelope sender), for tables of senders; empty: the null sender
    #[arg(long, value_name = "ADDR", default_value = "")]
    sender: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// The recipient as it is queued, quoted where needed: virtual aliases are not expanded
    #[arg(value_name = "ADDRESS")]
    address: String,
}

/// EX_TEMPFAIL: a table has no answer now.
const EXIT_TEMPORARY: u8 = 75;

/// The way of mail to an address.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Explained {
    sender: String,
    recipient: String,
    /// Class of its domain; `None`: it has no domain that can be one.
    class: Option<&'static str>,
    steps: Vec<Explanation>,
    transport: String,
    /// For `error`, `retry` and `discard` the reason.
    next_hop: String,
}

/// A parameter that has a part in it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Explanation {
    parameter: &'static str,
    /// The key that a table has, or for tables of senders the address that was searched.
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    value: String,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let lookups = Lookups::default();
    let answers = lookups.answers();
    let (configuration, tables) = arguments.configuration.load(&lookups)?;
    let session = configuration.worker_settings(1, &tables).smtp;
    let (destinations, rewriting) = (Arc::clone(&session.destinations), Arc::clone(&session.rewriting));
    let resolver = configuration.resolver(destinations, rewriting, &tables);
    let explained = explain(&resolver, &answers, &arguments.sender, &arguments.address)?;
    let mut output = if arguments.json { json(&explained) } else { explained.lines() };
    if arguments.json {
        output.push('\n');
    }
    let written = io::stdout().lock().write_all(output.as_bytes());
    written.map_err(|error| Failure::new(EXIT_UNAVAILABLE, format!("cannot write the output: {error}")))
}

/// Resolves an address, both as written in a header section, with each step. Waits for tables on servers.
fn explain(
    resolver: &Resolver,
    answers: &Receiver<Ticket>,
    sender: &str,
    address: &str,
) -> Result<Explained, Failure> {
    let arena = Bump::new();
    let complete = |address: &str| {
        let address = arena.alloc_str(address).as_bytes();
        let rewriting = &resolver.rewriting;
        unquoted(&arena, rewrite(&arena, &rewriting.rules, &rewriting.local, address))
    };
    let sender: &[u8] = if sender.is_empty() || sender == "<>" { b"" } else { complete(sender) };
    let address = complete(address);
    let known = std::cell::RefCell::<Answers>::default();
    loop {
        let mut steps = Vec::new();
        let asker = Asker::new(Sharer::default(), &known);
        let resolved = resolver.resolve(sender, address, asker, &mut |step| steps.extend(explanation(step)));
        match resolved {
            Ok(Resolved { class, way }) => {
                let written = |address: &[u8]| match address {
                    b"" => String::new(),
                    address => text(quoted(&arena, arena.alloc_slice_copy(address)), true),
                };
                return Ok(Explained {
                    sender: written(sender),
                    recipient: written(address),
                    class: class.map(name),
                    steps,
                    transport: way.transport.to_string(),
                    next_hop: way.comparable_next_hop(),
                });
            }
            Err(LookupError::Pending(ticket)) => wait_for(answers, ticket)?,
            Err(LookupError::Unavailable) => {
                let text = "a table cannot answer now; try again later";
                return Err(Failure::new(EXIT_TEMPORARY, text));
            }
        }
    }
}

/// What a step shows besides the class.
fn explanation(step: Step<'_>) -> Option<Explanation> {
    match step {
        Step::Class(_) => None,
        Step::Parameter(parameter, value) => {
            Some(Explanation { parameter, key: None, value: value.to_owned() })
        }
        Step::Found { parameter, key, value } => {
            Some(Explanation { parameter, key: Some(text(key, true)), value: text(value, true) })
        }
    }
}

const fn name(class: DomainClass) -> &'static str {
    match class {
        DomainClass::Local => "local",
        DomainClass::VirtualAlias => "virtual alias",
        DomainClass::VirtualMailbox => "virtual mailbox",
        DomainClass::Relay => "relay",
        DomainClass::Default => "default",
    }
}

impl Explained {
    /// A line for the address, its class, each step, and the result.
    fn lines(&self) -> String {
        let line = |name: &str, value: &str| format!("{name:<43}{value}\n");
        let mut lines = line("recipient", &self.recipient);
        lines.push_str(&line("  class", self.class.unwrap_or("none")));
        for Explanation { parameter, key, value } in &self.steps {
            let value = key.as_ref().map_or_else(|| value.clone(), |key| format!("{key} => {value}"));
            lines.push_str(&line(&format!("  {parameter}"), &value));
        }
        lines.push_str(&line("transport", &self.transport));
        let is_reason = matches!(&*self.transport, "error" | "retry" | "discard");
        lines.push_str(&line(if is_reason { "reason" } else { "next hop" }, &self.next_hop));
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routing::tests::resolver;

    fn explained(configuration: &str, sender: &str, address: &str) -> Result<Explained, Failure> {
        explain(&resolver(configuration), &Lookups::default().answers(), sender, address)
    }

    #[test]
    fn each_step_has_a_line() {
        let configuration = "relayhost = \"[Relay.test]\"\n\
            sender_dependent_relayhost_maps = \"inline:{@client.test=[s.test]}\"\n\
            transport_maps = \"inline:{.other.test=relay:}\"";
        let lines = explained(configuration, "a@client.test", "r@sub.other.test").unwrap().lines();
        let expected = [
            "recipient                                  r@sub.other.test",
            "  class                                    default",
            "  default_transport                        smtp",
            "  sender_dependent_relayhost_maps          a@client.test => [s.test]",
            "  transport_maps                           .other.test => relay:",
            "transport                                  relay",
            "next hop                                   sub.other.test\n",
        ];
        assert_eq!(lines, expected.join("\n"));
        let relayed = explained(configuration, "<>", "r@x.test").unwrap();
        assert_eq!((&*relayed.sender, &*relayed.next_hop), ("", "[relay.test]"));
    }

    #[test]
    fn an_address_is_completed_and_a_reason_shown() {
        let alone = explained("myorigin = \"alias.test\"", "", "jane").unwrap();
        assert_eq!((&*alone.recipient, alone.class), ("jane@alias.test", Some("virtual alias")));
        let reason = "reason                                     5.1.1 User unknown in virtual alias table\n";
        assert!(alone.lines().ends_with(reason), "{}", alone.lines());
        let none = explained("", "", "a@-x.test").unwrap();
        assert!(none.lines().contains("  class                                    none\n"));
    }

    #[test]
    fn json_has_the_same() {
        let explained = explained("relayhost = \"[r.test]\"", "", "a@relayed.test").unwrap();
        let expected = "{\"sender\":\"\",\"recipient\":\"a@relayed.test\",\"class\":\"relay\",\"steps\":[\
            {\"parameter\":\"relay_transport\",\"value\":\"relay\"},{\"parameter\":\"relayhost\",\"value\":\"[r.test]\"}],\
            \"transport\":\"relay\",\"next_hop\":\"[r.test]\"}";
        assert_eq!(json(&explained), expected);
    }

    #[test]
    fn a_table_without_an_answer_is_a_temporary_failure() {
        let failure = explained("transport_maps = \"fail:x\"", "", "a@other.test").unwrap_err();
        assert_eq!(failure.status, EXIT_TEMPORARY);
    }
}
