//! Owns the way from a document to checked values: defaults, `$name`, types, bounds, unknown names.

use std::path::PathBuf;
use std::sync::Arc;

use toml::de::DeValue;

use super::document::{Document, Given, Raw, Section};
use super::error::{ConfigError, Fault, Place};
use super::expand::expand;
use super::nearest::nearest;
use super::unsupported::{is_of_a_transport, is_of_postfix};
use super::value::{Refusal, Setting, split_list};

/// What is known of a parameter apart from its type.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known {
    pub(super) section: Section,
    pub(super) name: &'static str,
    /// As it would stand in a file.
    pub(super) default: &'static str,
    /// What it waits for, when it is only kept so far.
    pub(super) comes_with: Option<&'static str>,
}

/// What the defaults take from the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// The name of this host, with a domain.
    pub(super) hostname: String,
}

/// Reads checked values out of a document and gathers what is wrong.
pub(super) struct Reader<'a> {
    document: &'a Document,
    known: &'a [Known],
    machine: &'a Machine,
    pub(super) errors: Vec<ConfigError>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(document: &'a Document, known: &'a [Known], machine: &'a Machine) -> Self {
        Self { document, known, machine, errors: Vec::new() }
    }

    /// The value of the parameter `known`, or its default; `None` after an error.
    pub(super) fn read<T: Setting>(&mut self, known: &Known, bounds: Option<(u64, u64)>) -> Option<T> {
        let given = self.given(known);
        let result = self.expanded(known.section, &given.raw).and_then(|raw| {
            let value = T::read(&raw)?;
            check_bounds(&value, bounds)?;
            Ok(value)
        });
        result.map_err(|refusal| self.refuse(known.section, known.name, given.place, refusal)).ok()
    }

    /// Says that a value is wrong.
    pub(super) fn refuse(&mut self, section: Section, name: &str, place: Place, refusal: Refusal) {
        let Refusal { reason, remedy } = refusal;
        self.errors.push(ConfigError {
            place,
            name: section.qualify(name),
            fault: Fault::Value { reason, remedy },
        });
    }

    /// Where a parameter was given.
    pub(super) fn place(&self, section: Section, name: &str) -> Place {
        self.document.get(section, name).map_or(Place::Default, |given| given.place.clone())
    }

    /// The directory that a parameter's relative file name starts from.
    pub(super) fn base(&self, section: Section, name: &str) -> Option<Arc<PathBuf>> {
        self.document.get(section, name).and_then(|given| given.base.clone())
    }

    /// Says which of the document's names no parameter has.
    pub(super) fn refuse_unknown_names(&mut self) {
        for (section, name, given) in self.document.iter() {
            if self.known.iter().any(|known| known.section == section && known.name == name) {
                continue;
            }
            // A name may be right and stand in the wrong table, so that all are looked through.
            let names: Vec<String> =
                self.known.iter().map(|known| known.section.qualify(known.name)).collect();
            let elsewhere = self.known.iter().find(|known| known.name == name);
            let nearest = match elsewhere {
                Some(known) => Some(known.section.qualify(name)),
                None => nearest(&section.qualify(name), names.iter().map(String::as_str)).map(str::to_owned),
            };
            let instead = INSTEAD.iter().find(|(replaced, _)| *replaced == name);
            let is_at_top = section == Section::Top;
            let is_of_postfix = is_at_top && elsewhere.is_none() && is_of_postfix(name);
            let fault = match &given.raw {
                Raw::Other("a table") if section == Section::Top => Fault::Value {
                    reason: "unknown table".to_owned(),
                    remedy: "the tables are [engine] and [queue]".to_owned(),
                },
                _ if is_of_postfix || nearest.is_none() && is_at_top && is_of_a_transport(name) => {
                    Fault::Unsupported { instead: instead.map(|(_, text)| *text) }
                }
                _ => Fault::UnknownName { nearest },
            };
            self.errors.push(ConfigError { place: given.place.clone(), name: section.qualify(name), fault });
        }
    }

    fn given(&self, known: &Known) -> Given {
        match self.document.get(known.section, known.name) {
            Some(given) => given.clone(),
            None => Given { raw: default_of(known), place: Place::Default, base: None },
        }
    }

    /// `raw` with `$name` replaced, in Postfix's parameters only: in our tables a dollar is a dollar.
    fn expanded(&self, section: Section, raw: &Raw) -> Result<Raw, Refusal> {
        if section != Section::Top {
            return Ok(raw.clone());
        }
        let look_up = |name: &str| self.text_of(name);
        Ok(match raw {
            Raw::Text(text) => Raw::Text(expand(text, &look_up)?),
            Raw::List(items) => {
                let mut expanded = Vec::with_capacity(items.len());
                for item in items {
                    if item.contains('$') {
                        expanded.extend(split_list(&expand(item, &look_up)?).map(str::to_owned));
                    } else {
                        expanded.push(item.clone());
                    }
                }
                Raw::List(expanded)
            }
            other => other.clone(),
        })
    }

    /// The text of a parameter for `$name`, itself not expanded.
    fn text_of(&self, name: &str) -> Option<String> {
        match name {
            SYSTEM_HOSTNAME => return Some(self.machine.hostname.clone()),
            HOSTNAME_PARENT => {
                // A host name that is made of its own parent leads back to itself, and is refused as such.
                let look_up = |name: &str| if name == HOSTNAME_PARENT { None } else { self.text_of(name) };
                let Ok(hostname) = expand("$myhostname", &look_up) else {
                    return Some(format!("${HOSTNAME_PARENT}"));
                };
                return Some(hostname.split_once('.').map_or("localdomain", |(_, parent)| parent).to_owned());
            }
            _ => {}
        }
        let known = self.known.iter().find(|known| known.section == Section::Top && known.name == name)?;
        Some(match self.given(known).raw {
            Raw::Text(text) => text,
            Raw::Integer(number) => number.to_string(),
            Raw::Boolean(value) => if value { "yes" } else { "no" }.to_owned(),
            Raw::List(items) => items.join(", "),
            Raw::Other(_) => return None,
        })
    }
}

/// The default as a value. Defaults are TOML; a test reads them all.
pub(super) fn default_of(known: &Known) -> Raw {
    DeValue::parse(known.default)
        .map_or(Raw::Other("a default that is not TOML"), |value| Raw::from(value.get_ref()))
}

fn check_bounds<T: Setting>(value: &T, bounds: Option<(u64, u64)>) -> Result<(), Refusal> {
    match (bounds, value.quantity()) {
        (Some((least, most)), Some(quantity)) if quantity < least || quantity > most => {
            Err(Refusal::new(format!("{quantity} is out of bounds"), format!("write {least} to {most}")))
        }
        _ => Ok(()),
    }
}

/// Names that only defaults use.
const SYSTEM_HOSTNAME: &str = "system_hostname";
const HOSTNAME_PARENT: &str = "myhostname_parent";

/// Parameters of Postfix's that another setting replaces.
const INSTEAD: [(&str, &str); 8] = [
    ("inet_interfaces", "set listen in the table [engine]"),
    ("inet_protocols", "set listen in the table [engine], with IPv4 and IPv6 addresses"),
    ("queue_directory", "set directory in the table [queue]"),
    ("default_process_limit", "set workers and max_connections in the table [engine]"),
    ("mynetworks_style", "write the networks in mynetworks"),
    ("compatibility_level", "defaults are those of Postfix's newest level"),
    ("maillog_file", "log lines go to standard error"),
    ("mail_owner", "run mailrace as the user who is to own the queue"),
];

/// Declares a table's settings once: field, type, default, bounds and documentation.
///
/// The struct has a `pub` field for each, a list `KNOWN` and a constructor `read`.
macro_rules! settings {
    (
        $(#[$about:meta])*
        pub struct $name:ident in $section:expr, comes with $comes_with:expr;
        $( $(#[$doc:meta])* $field:ident : $type:ty = $default:literal $(in $least:literal ..= $most:literal)? ; )*
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $( $(#[$doc])* pub $field: $type, )*
        }

        impl $name {
            /// All parameters of this table.
            pub(super) const KNOWN: &'static [$crate::config::reader::Known] = &[
                $( $crate::config::reader::Known {
                    section: $section,
                    name: stringify!($field),
                    default: $default,
                    comes_with: $comes_with,
                }, )*
            ];

            /// Reads all; `None` when one is wrong, which the reader then knows.
            pub(super) fn read(reader: &mut $crate::config::reader::Reader<'_>) -> Option<Self> {
                let mut known = Self::KNOWN.iter();
                $(
                    let $field = {
                        const BOUNDS: &[(u64, u64)] = &[$( ($least, $most) )?];
                        known.next().and_then(|known| reader.read::<$type>(known, BOUNDS.first().copied()))
                    };
                )*
                Some(Self { $( $field: $field?, )* })
            }
        }
    };
}
pub(super) use settings;
