//! `mailrace queue flush` and `expire`: by the engine that delivers.

use std::io::{self, Write};

use mailrace_io::OsDisk;

use super::Failure;
use super::filter::Choice;
use super::mark::{ask, selection};
use crate::command::{EXIT_DATA, EXIT_UNAVAILABLE};
use crate::services::{CONTROL_SOCKET, Request, Wish};

pub(super) fn run(disk: &OsDisk, wish: Wish, choice: &Choice, out: &mut impl Write) -> Result<(), Failure> {
    let mut given = choice.given(|| Box::new(io::stdin().lock()))?;
    given.invalid.append(&mut given.aside);
    let selection = selection(disk, choice, &given)?;
    let control = disk.root().join(CONTROL_SOCKET);
    let outcome = ask(&control, |subject| Request::Wish(wish, subject), &selection).map_err(|error| {
        let text = format!(
            "cannot ask the engine on {}: {error}; only a running engine delivers",
            control.display()
        );
        Failure::new(EXIT_UNAVAILABLE, text)
    })?;
    let done = match wish {
        Wish::Flush => "to be tried now",
        Wish::Expire => "to be given back",
    };
    writeln!(out, "{} {done}", outcome.messages).and_then(|()| out.flush()).map_err(Failure::output)?;
    for word in &given.invalid {
        eprintln!("mailrace: {word:?} is not a queue id: mailrace queue list shows them");
    }
    let is_short = !choice.has_filter() && !given.is_all && outcome.messages < given.ids.len() as u64;
    if is_short {
        eprintln!("mailrace: not all of these messages are in the queue of mail that is delivered");
    }
    if is_short || !given.invalid.is_empty() { Err(Failure::reported(EXIT_DATA)) } else { Ok(()) }
}
