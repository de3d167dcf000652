//! Turns a document into checked values: defaults, `$name`, types, ranges, unknown names.

mod declare;
mod document;
mod expand;
mod nearest;
mod unsupported;

use std::path::PathBuf;

use toml::de::DeValue;

use super::error::{ConfigError, Fault, Place};
use super::transport_limits::{is_of_another_transport, limit_of};
use super::value::{At, Refusal, Setting, TableList, split_list};
use expand::expand;
pub(super) use nearest::nearest;
use unsupported::{is_of_a_transport, is_of_a_usual_transport, is_of_postfix};

pub(super) use declare::{Bounds, Declaration, Feature, name, optional, parameters, section};
pub(super) use document::{Document, Given, Raw, Section};

/// Facts about the machine that defaults use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Machine {
    /// Name of this host, with a domain.
    pub(super) hostname: String,
}

/// Reads checked values from a document and collects the errors.
pub(super) struct Reader<'a> {
    document: &'a Document,
    features: &'a [Feature],
    machine: &'a Machine,
    errors: Vec<ConfigError>,
    /// Tables that values name, by parameter.
    tables: Vec<TableList>,
}

impl<'a> Reader<'a> {
    pub(super) const fn new(document: &'a Document, features: &'a [Feature], machine: &'a Machine) -> Self {
        Self { document, features, machine, errors: Vec::new(), tables: Vec::new() }
    }

    /// Returns the value of a parameter, or its default; `None` after an error.
    pub(super) fn read<T: Setting>(&mut self, declaration: &Declaration) -> Option<T> {
        let given = self.given(declaration);
        let result = self.expanded(declaration.section, &given.raw).and_then(|raw| {
            let value = T::read(&raw)?;
            check_bounds(&value, declaration.bounds)?;
            Ok(value)
        });
        match result {
            Ok(mut value) => {
                value.locate(&At {
                    parameter: declaration.name,
                    place: given.place.clone(),
                    base: self.base(declaration.section, &given),
                });
                self.tables.extend(value.tables().filter(|tables| !tables.is_empty()).cloned());
                Some(value)
            }
            Err(refusal) => {
                self.refuse(declaration.name, refusal);
                None
            }
        }
    }

    /// Adds an error about the value of a parameter.
    ///
    /// # Panics
    /// Panics if no parameter has the name.
    pub(super) fn refuse(&mut self, parameter: &str, Refusal { reason, remedy }: Refusal) {
        let declaration = self.declaration(parameter);
        self.errors.push(ConfigError {
            place: self.given(declaration).place,
            name: declaration.section.qualify(parameter),
            fault: Fault::Value { reason, remedy },
        });
    }

    /// Returns the place where a parameter was set.
    ///
    /// # Panics
    /// Panics if no parameter has the name.
    pub(super) fn place(&self, parameter: &str) -> Place {
        self.given(self.declaration(parameter)).place
    }

    /// Iterates over the values at the top of the file that no declaration covers.
    pub(super) fn undeclared(&self) -> impl Iterator<Item = (&'a str, &'a Given)> {
        let features = self.features;
        let is_declared = move |name: &str| {
            let mut known = features.iter().flat_map(|feature| feature.parameters);
            known.any(|known| known.section == Section::Top && known.name == name)
        };
        let document = self.document;
        document.iter().filter_map(move |(section, name, given)| {
            (section == Section::Top && !is_declared(name)).then_some((name, given))
        })
    }

    /// Reads the value of a parameter that is not declared; `None` after an error.
    pub(super) fn read_undeclared<T: Setting>(
        &mut self,
        name: &str,
        given: &Given,
        bounds: Bounds,
    ) -> Option<T> {
        let result = self.expanded(Section::Top, &given.raw).and_then(|raw| {
            let value = T::read(&raw)?;
            check_bounds(&value, Some(bounds))?;
            Ok(value)
        });
        let Refusal { reason, remedy } = match result {
            Ok(value) => return Some(value),
            Err(refusal) => refusal,
        };
        let fault = Fault::Value { reason, remedy };
        self.errors.push(ConfigError { place: given.place.clone(), name: name.to_owned(), fault });
        None
    }

    /// Returns the text of one of Postfix's parameters, with its `$name`s expanded; `None` if it has none.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        let text = self.text_of(name)?;
        expand(&text, &|name| self.text_of(name)).ok()
    }

    /// Adds an error about a file that a parameter names.
    ///
    /// # Panics
    /// Panics if no parameter has the name.
    pub(super) fn refuse_file(&mut self, parameter: &str, fault: Fault) {
        let place = self.place(parameter);
        self.errors.push(ConfigError { place, name: parameter.to_owned(), fault });
    }

    /// Takes the tables that the values read so far name.
    pub(super) fn take_tables(&mut self) -> Vec<TableList> {
        std::mem::take(&mut self.tables)
    }

    /// Returns all errors, in the order of the lines.
    ///
    /// Omits errors about defaults that come from a refused value. One that comes from a value that is valid by itself has
    /// the place of that value.
    pub(super) fn into_errors(mut self) -> Vec<ConfigError> {
        let mut errors = std::mem::take(&mut self.errors);
        let is_default = |error: &ConfigError| error.place == Place::Default;
        let set = errors.iter().filter(|error| !is_default(error));
        let refused: Vec<String> = set.map(|error| error.name.clone()).collect();
        errors.retain(|error| {
            let origins = if is_default(error) { self.origins(&error.name, DEPTH_MAX) } else { Vec::new() };
            !origins.iter().any(|(name, _)| refused.iter().any(|refused| refused == name))
        });
        let mut errors = without_repetitions(errors, self.document);
        for error in errors.iter_mut().filter(|error| is_default(error)) {
            if let Some((_, place)) = self.origins(&error.name, DEPTH_MAX).into_iter().next() {
                error.place = place;
            }
        }
        errors.sort_by_key(|error| error.place.rank());
        errors
    }

    /// Adds an error for each unknown name in the document.
    pub(super) fn refuse_unknown_names(&mut self) {
        for (section, name, given) in self.document.iter() {
            let is_declared = self.declarations().any(|known| known.section == section && known.name == name);
            if is_declared || section == Section::Top && limit_of(name).is_some() {
                continue;
            }
            // Search all sections, because the name may be valid in another one.
            let names: Vec<String> =
                self.declarations().map(|known| known.section.qualify(known.name)).collect();
            let elsewhere = self.declarations().find(|known| known.name == name);
            let nearest = match elsewhere {
                Some(known) => Some(known.section.qualify(name)),
                None => nearest(&section.qualify(name), names.iter().map(String::as_str)).map(str::to_owned),
            };
            let instead = INSTEAD.iter().find(|(replaced, _)| *replaced == name);
            let is_at_top = section == Section::Top;
            let is_of_postfix =
                is_at_top && elsewhere.is_none() && (is_of_postfix(name) || is_of_a_usual_transport(name));
            let fault = match &given.raw {
                Raw::Other("a table") if section == Section::Top => Fault::Value {
                    reason: "unknown table".to_owned(),
                    remedy: "the tables are [engine] and [queue]".to_owned(),
                },
                _ if is_of_postfix
                    || is_at_top
                        && is_of_a_transport(name)
                        && (nearest.is_none() || is_of_another_transport(name)) =>
                {
                    Fault::Unsupported { instead: instead.map(|(_, text)| *text) }
                }
                _ => Fault::UnknownName { nearest },
            };
            self.errors.push(ConfigError { place: given.place.clone(), name: section.qualify(name), fault });
        }
    }

    fn declarations(&self) -> impl Iterator<Item = &'static Declaration> {
        self.features.iter().flat_map(|feature| feature.parameters)
    }

    fn declaration(&self, parameter: &str) -> &'static Declaration {
        let mut declarations = self.declarations();
        declarations.find(|known| known.name == parameter).expect("a check names a declared parameter")
    }

    fn given(&self, declaration: &Declaration) -> Given {
        match self.document.get(declaration.section, declaration.name) {
            Some(given) => given.clone(),
            None => Given { raw: default_of(declaration), place: Place::Default, base: None },
        }
    }

    /// Returns name and place of each set parameter from which a default takes its value, itself or through other
    /// defaults.
    fn origins(&self, parameter: &str, depth: usize) -> Vec<(&'static str, Place)> {
        let find = |name: &str| {
            let mut declarations = self.declarations();
            declarations.find(|known| known.section == Section::Top && known.name == name)
        };
        let Some(declaration) = find(parameter).filter(|_| depth > 0) else { return Vec::new() };
        let raw = self.given(declaration).raw;
        let names = raw.names().map(|name| if name == HOSTNAME_PARENT { "myhostname" } else { name });
        let of_name = |declaration: &'static Declaration| match self.given(declaration).place {
            Place::Default => self.origins(declaration.name, depth - 1),
            place => vec![(declaration.name, place)],
        };
        names.filter_map(find).flat_map(of_name).collect()
    }

    /// Returns the directory at which relative file names in a value start. A value that refers to another parameter uses
    /// the directory of that parameter.
    fn base(&self, section: Section, given: &Given) -> PathBuf {
        let of_others = || {
            let mut others = given.raw.names().filter_map(|name| self.document.get(Section::Top, name));
            others.find_map(|other| other.base.clone())
        };
        let is_expanded = section == Section::Top;
        let base = given.base.clone().or_else(|| is_expanded.then(of_others).flatten());
        base.map(|base| base.to_path_buf()).unwrap_or_default()
    }

    /// Expands `$name` in `raw` for Postfix's parameters. In `[engine]` and `[queue]` a dollar sign is literal.
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

    /// Returns the unexpanded text of a parameter that `$name` refers to.
    fn text_of(&self, name: &str) -> Option<String> {
        match name {
            SYSTEM_HOSTNAME => return Some(self.machine.hostname.clone()),
            HOSTNAME_PARENT => {
                // A host name that refers to its own parent domain is refused as a cycle.
                let look_up = |name: &str| if name == HOSTNAME_PARENT { None } else { self.text_of(name) };
                let Ok(hostname) = expand("$myhostname", &look_up) else {
                    return Some(format!("${HOSTNAME_PARENT}"));
                };
                return Some(hostname.split_once('.').map_or("localdomain", |(_, parent)| parent).to_owned());
            }
            _ => {}
        }
        let mut declarations = self.declarations();
        let declaration = declarations.find(|known| known.section == Section::Top && known.name == name)?;
        Some(match self.given(declaration).raw {
            Raw::Text(text) => text,
            Raw::Integer(number) => number.to_string(),
            Raw::Boolean(value) => if value { "yes" } else { "no" }.to_owned(),
            Raw::List(items) => items.join(", "),
            Raw::Other(_) => return None,
        })
    }
}

/// Returns the default as a value. Defaults are TOML; a test reads them all.
pub(super) fn default_of(declaration: &Declaration) -> Raw {
    DeValue::parse(declaration.default)
        .map_or(Raw::Other("a default that is not TOML"), |value| Raw::from(value.get_ref()))
}

fn check_bounds<T: Setting>(value: &T, bounds: Option<Bounds>) -> Result<(), Refusal> {
    match (bounds, value.quantity()) {
        (Some(bounds), Some(quantity)) if !bounds.contain(quantity) => {
            let Bounds { least, most, other } = bounds;
            let other = other.map(|other| format!("{other}, or ")).unwrap_or_default();
            Err(Refusal::new(
                format!("{quantity} is out of range"),
                format!("write {other}{least} to {most}"),
            ))
        }
        _ => Ok(()),
    }
}

/// Removes errors about a parameter that takes its value from another parameter with the same error.
fn without_repetitions(errors: Vec<ConfigError>, document: &Document) -> Vec<ConfigError> {
    let is_derived = |error: &ConfigError| match error.place {
        Place::Default => true,
        _ => document.get(Section::Top, &error.name).is_some_and(|given| given.raw.has_names()),
    };
    let said = |error: &ConfigError| match &error.fault {
        Fault::Value { reason, remedy } => Some((reason.clone(), remedy.clone())),
        _ => None,
    };
    let original: Vec<_> = errors.iter().filter(|error| !is_derived(error)).filter_map(said).collect();
    let mut derived = Vec::new();
    errors
        .into_iter()
        .filter(|error| match said(error) {
            Some(said) if is_derived(error) => {
                let is_new = !original.contains(&said) && !derived.contains(&said);
                derived.push(said);
                is_new
            }
            _ => true,
        })
        .collect()
}

/// Maximum number of defaults between a default and the value that it comes from.
const DEPTH_MAX: usize = 4;

/// Name that only defaults use.
const SYSTEM_HOSTNAME: &str = "system_hostname";
const HOSTNAME_PARENT: &str = "myhostname_parent";

/// Postfix parameters that another setting replaces.
const INSTEAD: [(&str, &str); 7] = [
    ("inet_interfaces", "set listen in the table [engine]"),
    ("queue_directory", "set directory in the table [queue]"),
    ("default_process_limit", "set workers and max_connections in the table [engine]"),
    ("mynetworks_style", "write the networks in mynetworks"),
    ("compatibility_level", "defaults are those of Postfix's newest level"),
    ("maillog_file", "log lines go to standard error"),
    ("mail_owner", "run mailrace as the owner of the queue"),
];

#[cfg(test)]
mod tests;
