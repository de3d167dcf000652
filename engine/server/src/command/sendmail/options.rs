//! The options of `sendmail`, as Postfix understands them: what is only there for other systems is ignored, what
//! cannot be is fatal.
//!
//! Values that say how the message is to be handled (`-B`, `-N`, `-R`, `-V`) are obeyed or refused with EX_USAGE. Postfix
//! warns of most that it does not understand, ignores them and takes the message.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use mailrace_core::{BodyType, Notify, Return};

use super::{Fatal, printable, say, warn};

/// What is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Options {
    pub(super) mode: Mode,
    /// `-C`.
    pub(super) config: Option<PathBuf>,
    /// `-f`, `-r`: as given.
    pub(super) sender: Option<Vec<u8>>,
    /// `-F`.
    pub(super) full_name: Option<Vec<u8>>,
    /// `-B`.
    pub(super) body: BodyType,
    /// `-N`.
    pub(super) notify: Notify,
    /// `-R`.
    pub(super) ret: Option<Return>,
    /// `-V`.
    pub(super) envelope_id: Option<Box<[u8]>>,
    /// `-G`.
    pub(super) is_gateway: bool,
    /// `-t`.
    pub(super) extracts_recipients: bool,
    /// Not `-i`.
    pub(super) is_ended_by_dot: bool,
    /// All other arguments, as given.
    pub(super) recipients: Vec<Vec<u8>>,
}

/// What `sendmail` is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Submit a message.
    Submit,
    /// List the queue.
    List,
    /// Hold an SMTP session on standard input and output.
    Session,
    /// Nothing, successfully.
    Ignore,
    /// Something that this program has no part for: the option, and what to do instead.
    Missing(&'static str, &'static str),
}

const DAEMON: Mode = Mode::Missing("-bd", "run mailrace serve");
pub(super) const ALIASES: Mode = Mode::Missing(
    "-bi (newaliases)",
    "there is no alias database to build: lookup tables such as those of virtual_alias_maps are read from their text",
);
const VERIFY: Mode = Mode::Missing("-bv", "mailrace rewrite shows what becomes of an address");
const FLUSH: Mode = Mode::Missing("-q", "there is no delivery, so no message is deferred");
const VERP: Mode = Mode::Missing("-XV", "bounce addresses per recipient (VERP) are not supported");

/// Options with a value, and those without.
const WITH_VALUE: &[u8] = b"ABCFLNORVXbefhopqr";
const PLAIN: &[u8] = b"GIUcimntvx";

/// What separates address and extension in a VERP sender.
const VERP_DELIMITERS: &[u8] = b"-=+";
/// Bytes of an envelope id at most.
const ENVELOPE_ID_SIZE_MAX: usize = 100;

impl Options {
    /// Reads the arguments, without the program's name, which says what `mode` is unless they do.
    ///
    /// # Errors
    /// The first option that cannot be.
    pub(super) fn parse(mode: Mode, arguments: impl Iterator<Item = OsString>) -> Result<Self, Fatal> {
        let mut options = Self {
            mode,
            config: None,
            sender: None,
            full_name: None,
            body: BodyType::Unstated,
            notify: Notify::default(),
            ret: None,
            envelope_id: None,
            is_gateway: false,
            extracts_recipients: false,
            is_ended_by_dot: true,
            recipients: Vec::new(),
        };
        let mut arguments = arguments.map(OsString::into_vec).peekable();
        while let Some(argument) = arguments.next() {
            let next_size = arguments.peek().map_or(0, Vec::len);
            match argument.as_slice() {
                b"--" => break,
                // Neither option takes its value where others do.
                b"-q" => options.mode = FLUSH,
                b"-XV" => options.mode = VERP,
                b"-V" if next_size == 2 => {
                    warn("option -V is deprecated with Postfix 2.3; specify -XV instead");
                    options.mode = VERP;
                }
                [b'-', b'V', value @ ..] if value.len() == 2 => {
                    let value = printable(value);
                    warn(&format!(
                        "option -V{value} is deprecated with Postfix 2.3; specify -XV{value} instead"
                    ));
                    options.take(b'X', format!("V{value}").into_bytes())?;
                }
                [b'-', letters @ ..] if !letters.is_empty() => options.cluster(letters, &mut arguments)?,
                _ => {
                    options.recipients.push(argument);
                    break;
                }
            }
        }
        options.recipients.extend(arguments);
        Ok(options)
    }

    /// Options after one hyphen; the value of the last may be the next argument.
    fn cluster(
        &mut self,
        letters: &[u8],
        arguments: &mut impl Iterator<Item = Vec<u8>>,
    ) -> Result<(), Fatal> {
        let mut letters = letters;
        while let Some((letter, rest)) = letters.split_first() {
            if PLAIN.contains(letter) {
                self.take(*letter, Vec::new())?;
                letters = rest;
                continue;
            }
            if !WITH_VALUE.contains(letter) {
                return Err(usage(&format!("invalid option -- '{}'", printable(&[*letter]))));
            }
            let missing = || usage(&format!("option requires an argument -- '{}'", char::from(*letter)));
            let value = if rest.is_empty() { arguments.next().ok_or_else(missing)? } else { rest.to_vec() };
            return self.take(*letter, value);
        }
        Ok(())
    }

    fn take(&mut self, letter: u8, value: Vec<u8>) -> Result<(), Fatal> {
        let refused = |text: &str| Err(Fatal::temporary(text));
        let misused = |text: &str| Err(Fatal::usage(text));
        match (letter, value.as_slice()) {
            (b'B', b"8BITMIME") => self.body = BodyType::EightBitMime,
            (b'B', b"7BIT") => self.body = BodyType::SevenBit,
            (b'B', _) => return misused("-B option needs 8BITMIME or 7BIT"),
            (b'C', _) => self.config = Some(OsString::from_vec(value).into()),
            (b'F', _) => self.full_name = Some(value),
            (b'G', _) => self.is_gateway = true,
            (b'I', _) => self.mode = ALIASES,
            (b'N', list) => self.notify = notify(list).map_err(Fatal::usage)?,
            (b'R', word) if word.eq_ignore_ascii_case(b"full") => self.ret = Some(Return::Full),
            (b'R', word) if word.eq_ignore_ascii_case(b"hdrs") => self.ret = Some(Return::Headers),
            (b'R', _) => return misused("bad -R option value: expected full or hdrs"),
            (b'V', id) if id.is_empty() || id.len() > ENVELOPE_ID_SIZE_MAX => {
                return misused("bad -V option value: expected an envelope id of 1 to 100 characters");
            }
            (b'V', id) if !id.iter().all(|octet| matches!(octet, 32..=126)) => {
                return misused("bad -V option value: expected printable ASCII characters");
            }
            (b'V', _) => self.envelope_id = Some(value.into()),
            (b'X', [b'V', delimiters @ ..]) => {
                let is_right = |octet: &u8| VERP_DELIMITERS.contains(octet);
                if delimiters.len() != 2 || !delimiters.iter().all(is_right) {
                    return refused("-V requires two characters from -=+");
                }
                self.mode = VERP;
            }
            (b'b', [b'd' | b'l', ..]) => self.mode = DAEMON,
            (b'b', [b'h' | b'H', ..]) => self.mode = Mode::Ignore,
            (b'b', [b'i', ..]) => self.mode = ALIASES,
            (b'b', [b'm', ..]) => self.mode = Mode::Submit,
            (b'b', [b'p', ..]) => self.mode = Mode::List,
            (b'b', [b's', ..]) => self.mode = Mode::Session,
            (b'b', [b'v', ..]) => self.mode = VERIFY,
            (b'b' | b'X', value) => {
                let first = printable(value.get(..1).unwrap_or_default());
                return refused(&format!("unsupported: -{}{first}", char::from(letter)));
            }
            (b'f' | b'r', _) => self.sender = Some(value),
            (b'i', _) | (b'o', [b'i', ..]) => self.is_ended_by_dot = false,
            (b'n', _) => return refused("-n option not supported"),
            (b'o', b"A") => return refused("-oA requires pathname"),
            (b'q', [b'0'..=b'9', ..]) => self.mode = Mode::Ignore,
            (b'q', b"R") => return refused("specify: -qRsitename"),
            (b'q', b"I") => return refused("specify: -qIqueueid"),
            (b'q', [b'R' | b'I', ..]) => self.mode = FLUSH,
            (b'q', value) => {
                let first = printable(value.get(..1).unwrap_or_default());
                return refused(&format!("-q{first} is not implemented"));
            }
            (b't', _) => self.extracts_recipients = true,
            // For other systems.
            _ => {}
        }
        Ok(())
    }
}

/// The wishes of `-N` (RFC 3461 §4.1): NEVER alone, or some of the others.
fn notify(list: &[u8]) -> Result<Notify, &'static str> {
    let is_separator = |octet: &u8| matches!(octet, b',' | b' ' | b'\t' | b'\r' | b'\n');
    let words = list.split(is_separator).filter(|word| !word.is_empty());
    let mut wishes = Notify::default();
    for word in words {
        let known = [
            (&b"never"[..], Notify::NEVER),
            (b"success", Notify::SUCCESS),
            (b"failure", Notify::FAILURE),
            (b"delay", Notify::DELAY),
        ];
        let found = known.into_iter().find(|(name, _)| word.eq_ignore_ascii_case(name));
        let (_, wish) =
            found.ok_or("bad -N option value: expected never, or some of success, failure, delay")?;
        wishes = wishes.with(wish);
    }
    if wishes.is_empty() {
        return Err("bad -N option value: expected never, or some of success, failure, delay");
    }
    if wishes.contains(Notify::NEVER) && wishes != Notify::NEVER {
        return Err("bad -N option value: never cannot be combined with success, failure or delay");
    }
    Ok(wishes)
}

/// What getopt(3) says, and then Postfix.
fn usage(text: &str) -> Fatal {
    say(text);
    Fatal::temporary("usage: sendmail [options]")
}

#[cfg(test)]
mod tests;
