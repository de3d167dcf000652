//! Owns `mailrace rewrite`: addresses through the trivial rewrite.

use std::io::{self, Write};

use bumpalo::Bump;
use mailrace_core::address::{RewriteStep, rewrite_by_steps};

use super::{ConfigurationArguments, EXIT_UNAVAILABLE, Failure};
use crate::tables::Lookups;

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    configuration: ConfigurationArguments,
    /// Print each step, with the parameter behind it
    #[arg(long)]
    explain: bool,
    /// As for a stranger's header section (remote_header_rewrite_domain), not as for an envelope
    #[arg(long)]
    remote: bool,
    /// Addresses as they stand in a header section, quoted where needed
    #[arg(value_name = "ADDR", required = true)]
    addresses: Vec<String>,
}

pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (configuration, _) = arguments.configuration.load(&Lookups::default())?;
    let rewriting = configuration.address_rewriting();
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
        } else {
            output.extend_from_slice(rewritten);
            output.push(b'\n');
        }
    }
    let written = io::stdout().lock().write_all(&output);
    written.map_err(|error| Failure::new(EXIT_UNAVAILABLE, format!("cannot write the output: {error}")))
}

/// One line for the address, one for each step, one for the result.
fn explain(output: &mut Vec<u8>, address: &str, steps: &[(RewriteStep, Vec<u8>)], rewritten: &[u8]) {
    let mut line = |name: &str, text: &[u8]| {
        output.extend_from_slice(format!("{name:<22}").as_bytes());
        output.extend_from_slice(text);
        output.push(b'\n');
    };
    line("address", address.as_bytes());
    let mut last = address.as_bytes();
    for (step, now) in steps {
        line(&format!("  {}", name(*step)), now);
        last = now;
    }
    if last != rewritten {
        line("  quotes where needed", rewritten);
    }
    line("result", rewritten);
}

/// What a step is called: the parameter behind it, where there is one.
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
