//! Types of parameters, and how each is parsed.

mod choice;
mod lookups;
mod routes;
mod tables;
mod text;
mod times;
mod words;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::error::Place;
use super::reader::Raw;
use crate::networks::Networks;

pub use choice::{Backend, DeliveryChoice, IoChoice};
pub use lookups::ResolverOptions;
pub use routes::{NextHops, TransportName};
pub use tables::{CheckList, DomainList, DomainNames, TableList};
pub use text::{Characters, HostName};
pub use times::{Days, Hours};
pub use words::{
    ExtensionTables, LocalClients, MailSources, NoticeClasses, RelayRestrictions, SenderRestrictions,
    SubdomainLists,
};

/// Why a value is invalid, and what to write instead.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::config) struct Refusal {
    pub(super) reason: String,
    pub(super) remedy: String,
}

impl Refusal {
    pub(super) fn new(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into() }
    }
}

/// Parameter of a value, and the place where it was set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::config) struct At {
    pub(super) parameter: &'static str,
    pub(super) place: Place,
    /// Directory at which relative file names start.
    pub(super) base: PathBuf,
}

impl Default for At {
    fn default() -> Self {
        Self { parameter: "", place: Place::Default, base: PathBuf::new() }
    }
}

/// Type of a parameter.
pub(in crate::config) trait Setting: Sized {
    /// Name of the type, for the reference.
    const KIND: &'static str;

    /// Reads a value whose `$name`s are already expanded.
    fn read(raw: &Raw) -> Result<Self, Refusal>;

    /// Returns the number that the parameter's range limits.
    fn quantity(&self) -> Option<u64> {
        None
    }

    /// Records the place where the value was set.
    fn locate(&mut self, _at: &At) {}

    /// Iterates over the lookup tables that the value names.
    fn tables(&self) -> impl Iterator<Item = &TableList> {
        std::iter::empty()
    }
}

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Octets(pub u64);

impl Octets {
    /// Returns the number as a size in memory.
    #[must_use]
    pub fn in_memory(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl Setting for String {
    const KIND: &str = "text";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text.chars().any(|letter| letter.is_control() && letter != '\t') => {
                Err(Refusal::new("has a control character", "remove it"))
            }
            Raw::Text(text) => Ok(text.trim().to_owned()),
            other => Err(wrong_type(other, "a text", "write it in double quotes")),
        }
    }
}

impl Setting for bool {
    const KIND: &str = "yes or no";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Boolean(value) => Ok(*value),
            Raw::Text(text) if text.eq_ignore_ascii_case("yes") => Ok(true),
            Raw::Text(text) if text.eq_ignore_ascii_case("no") => Ok(false),
            other => Err(wrong_type(other, "yes or no", "write true or false")),
        }
    }
}

impl Setting for u64 {
    const KIND: &str = "number";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let number = match raw {
            Raw::Integer(number) => Self::try_from(*number).ok(),
            Raw::Text(text) if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) => {
                text.parse().ok()
            }
            _ => None,
        };
        number.ok_or_else(|| wrong_type(raw, "a number", "write a whole number, 0 or more"))
    }

    fn quantity(&self) -> Option<u64> {
        Some(*self)
    }
}

/// Reads a number up to `most`, the maximum of its type.
fn small_number<T: TryFrom<u64> + std::fmt::Display>(raw: &Raw, most: T) -> Result<T, Refusal> {
    let number = u64::read(raw)?;
    T::try_from(number)
        .map_err(|_| Refusal::new(format!("{number} is too large"), format!("write at most {most}")))
}

impl Setting for u32 {
    const KIND: &str = "number";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        small_number(raw, Self::MAX)
    }

    fn quantity(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
}

impl Setting for u16 {
    const KIND: &str = "number";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        small_number(raw, Self::MAX)
    }

    fn quantity(&self) -> Option<u64> {
        Some(u64::from(*self))
    }
}

impl Setting for Octets {
    const KIND: &str = "size";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let size = match raw {
            Raw::Integer(number) => u64::try_from(*number).ok(),
            Raw::Text(text) => number_with_unit(text, &SIZE_UNITS),
            _ => None,
        };
        let remedy = "write bytes as a number, or a text such as \"50MiB\" (KiB MiB GiB TiB, kB MB GB TB)";
        size.map(Self).ok_or_else(|| wrong_type(raw, "a size", remedy))
    }

    fn quantity(&self) -> Option<u64> {
        Some(self.0)
    }
}

impl Setting for Duration {
    const KIND: &str = "time";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let milliseconds = match raw {
            Raw::Integer(number) => u64::try_from(*number).ok().and_then(|seconds| seconds.checked_mul(1000)),
            Raw::Text(text) => number_with_unit(text, &TIME_UNITS),
            _ => None,
        };
        let remedy = "write seconds as a number, or a text such as \"300s\" (ms s m h d w)";
        milliseconds.map(Self::from_millis).ok_or_else(|| wrong_type(raw, "a time", remedy))
    }

    /// Returns whole seconds, rounded down.
    fn quantity(&self) -> Option<u64> {
        Some(self.as_secs())
    }
}

/// Parses a time with the syntax of parameters, for command-line options.
///
/// # Errors
/// Returns why the text is invalid and what to write instead.
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    Duration::read(&Raw::Text(text.to_owned()))
        .map_err(|refusal| format!("{}; {}", refusal.reason, refusal.remedy))
}

impl Setting for Vec<String> {
    const KIND: &str = "list";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::List(items) => Ok(items.iter().map(|item| item.trim().to_owned()).collect()),
            Raw::Text(text) => Ok(split_list(text).map(str::to_owned).collect()),
            other => Err(wrong_type(other, "a list", "write [\"one\", \"two\"]")),
        }
    }
}

impl Setting for PathBuf {
    const KIND: &str = "path";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text.contains('\0') => {
                Err(Refusal::new("has a NUL character", "write a path without it"))
            }
            Raw::Text(text) if !text.is_empty() => Ok(Self::from(text)),
            other => Err(wrong_type(other, "a path", "write it in double quotes")),
        }
    }

    fn locate(&mut self, at: &At) {
        *self = at.base.join(&*self);
    }
}

/// `None` if the text is empty.
impl Setting for Option<PathBuf> {
    const KIND: &str = "path";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text.is_empty() => Ok(None),
            raw => PathBuf::read(raw).map(Some),
        }
    }

    fn locate(&mut self, at: &At) {
        if let Some(path) = self {
            path.locate(at);
        }
    }
}

impl Setting for Vec<SocketAddr> {
    const KIND: &str = "addresses";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let items = Vec::<String>::read(raw)?;
        let addresses = items.iter().map(|item| socket_address(item)).collect::<Result<Self, _>>()?;
        if addresses.is_empty() {
            return Err(Refusal::new("names no address", "write [\"127.0.0.1:2525\"] or another"));
        }
        Ok(addresses)
    }
}

/// `None` if the text is empty.
impl Setting for Option<SocketAddr> {
    const KIND: &str = "address";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        match raw {
            Raw::Text(text) if text.is_empty() => Ok(None),
            Raw::Text(text) => socket_address(text).map(Some),
            other => {
                Err(wrong_type(other, "an address with a port", "write \"127.0.0.1:9925\", or \"\" for none"))
            }
        }
    }
}

fn socket_address(text: &str) -> Result<SocketAddr, Refusal> {
    text.trim().parse().map_err(|_| {
        Refusal::new(
            format!("{text:?} is not an address with a port"),
            "write \"127.0.0.1:2525\", \"0.0.0.0:25\" or \"[::1]:2525\"",
        )
    })
}

impl Setting for Networks {
    const KIND: &str = "networks";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let items = Vec::<String>::read(raw)?;
        Self::parse(&items).map_err(|error| Refusal::new(error.reason, error.remedy))
    }
}

/// Splits a list that is written as one text, as in main.cf.
pub(super) fn split_list(text: &str) -> impl Iterator<Item = &str> {
    crate::tables::split_items(text)
}

/// Refuses `items`, unless empty, with the message that they are not `one` (or `many`).
fn is_not<'i>(
    items: impl Iterator<Item = &'i str>,
    one: &str,
    many: &str,
    remedy: &str,
) -> Result<(), Refusal> {
    let items: Vec<_> = items.map(|item| format!("{item:?}")).collect();
    match &*items {
        [] => Ok(()),
        [item] => Err(Refusal::new(format!("{item} is not {one}"), remedy)),
        items => Err(Refusal::new(format!("{} are not {many}", items.join(", ")), remedy)),
    }
}

/// Returns whether `name` could be a host name, or an address literal.
fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|octet| {
                octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_') || !octet.is_ascii()
            })
    };
    let is_literal = |inner: &str| {
        let is_of_address = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b':' | b'-');
        !inner.is_empty() && inner.bytes().all(is_of_address)
    };
    let inner = name.strip_prefix('[').and_then(|name| name.strip_suffix(']'));
    name.len() <= 255 && inner.map_or_else(|| name.split('.').all(is_label), is_literal)
}

/// Returns the error for a value that is not `expected`.
pub(super) fn wrong_type(raw: &Raw, expected: &str, remedy: &str) -> Refusal {
    let found = match raw {
        Raw::Text(text) => format!("{text:?}"),
        Raw::Integer(number) => format!("{number}"),
        Raw::Boolean(value) => format!("{value}"),
        Raw::List(_) => "a list".to_owned(),
        Raw::Other(kind) => (*kind).to_owned(),
    };
    Refusal::new(format!("{found} is not {expected}"), remedy)
}

/// Parses digits followed by one of `units`, which may be empty. Returns `None` for any other text and on overflow.
fn number_with_unit(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = units.iter().find(|(name, _)| name.eq_ignore_ascii_case(unit.trim()))?.1;
    number.parse::<u64>().ok()?.checked_mul(factor)
}

const SIZE_UNITS: [(&str, u64); 10] = [
    ("", 1),
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// Units in milliseconds. A number without a unit is in seconds.
const TIME_UNITS: [(&str, u64); 7] = time_units(1000);

/// Units in milliseconds; `bare`: the unit of a number without one.
const fn time_units(bare: u64) -> [(&'static str, u64); 7] {
    [
        ("", bare),
        ("ms", 1),
        ("s", 1000),
        ("m", 60_000),
        ("h", 3_600_000),
        ("d", 86_400_000),
        ("w", 604_800_000),
    ]
}

#[cfg(test)]
mod tests;
