//! The configuration: TOML and arguments to checked settings, once.
//!
//! Each feature has a file that declares, checks, maps and documents its parameters: `domains`, `connections`, `session`,
//! `rewriting`, `aliases`, `cleanup`, `checks`, `submission`, `queue`, `engine`, `tables`, `log`. `reader` leads from the text to
//! their values, whose types are in `value`. `listing` and `reference` print what is declared.
//!
//! To add a parameter, declare it in the file of its feature, map it there to the settings of the part that uses it, and run
//! the command that the test in `reference` names when docs/configuration.md is out of date.

mod aliases;
mod checks;
mod cleanup;
mod connections;
mod domains;
mod engine;
mod error;
mod listing;
mod location;
mod log;
mod machine;
mod queue;
mod reader;
mod reference;
mod rewriting;
mod session;
mod sources;
mod submission;
mod tables;
pub mod value;

use reader::{Document, Feature, Machine, Reader};
use value::TableList;

pub(crate) use machine::{own_processors, zone_now};
pub(crate) use value::time;

pub use crate::networks::Networks;
pub use aliases::AliasParameters;
pub use checks::CheckParameters;
pub use cleanup::CleanupParameters;
pub use connections::ConnectionParameters;
pub use domains::DomainParameters;
pub use engine::EngineParameters;
pub use error::{ConfigError, ConfigErrors, Fault, Place};
pub use location::{CONFIG_VARIABLE, SYSTEM_CONFIG, config_file};
pub use log::LogParameters;
pub use queue::QueueParameters;
pub use rewriting::RewritingParameters;
pub use session::SessionParameters;
pub use sources::Sources;
pub use submission::SubmissionParameters;
pub use tables::{TableParameters, Tables};
pub use value::{IoChoice, Octets};

/// Lists the features: a field of [`Configuration`] for each, in the order of the reference.
macro_rules! features {
    ($( $(#[doc = $about:literal])+ $feature:ident : $parameters:ty ; )+) => {
        /// All settings, checked.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Configuration {
            $( $(#[doc = $about])+ pub $feature: $parameters, )+
            /// What an operator should know of it though it is valid.
            pub notes: Vec<String>,
            /// The tables that parameters name.
            named_tables: Vec<TableList>,
            /// Where `memory_limit` was given.
            memory_place: Place,
        }

        const FEATURES: &[Feature] = &[$( <$parameters>::FEATURE ),+];

        impl Configuration {
            /// Reads the parameters of all features; `None` when one is invalid, which the reader then knows.
            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                $( let $feature = <$parameters>::read(reader); )+
                Some(Self {
                    $( $feature: $feature?, )+
                    notes: Vec::new(),
                    named_tables: reader.take_tables(),
                    memory_place: reader.place("memory_limit"),
                })
            }

            /// Takes the values of `[engine]` and `[queue]` from the configuration that is running, and returns whether one was
            /// different: they are read at the start only.
            #[must_use]
            pub fn keep_started(&mut self, running: &Self) -> bool {
                let were_different = [$( self.$feature.keep_started(&running.$feature) ),+];
                were_different.contains(&true)
            }
        }
    };
}

features! {
    /// What this host is called.
    domains: DomainParameters;
    /// Who may connect.
    connections: ConnectionParameters;
    /// What clients may say.
    session: SessionParameters;
    /// How addresses are rewritten.
    rewriting: RewritingParameters;
    /// Which recipients are replaced and added.
    aliases: AliasParameters;
    /// What content may have.
    cleanup: CleanupParameters;
    /// What is looked for in content.
    checks: CheckParameters;
    /// How lookup tables are read.
    tables: TableParameters;
    /// How messages are submitted on this machine.
    submission: SubmissionParameters;
    /// Where messages become durable.
    queue: QueueParameters;
    /// The workers.
    engine: EngineParameters;
    /// What operators can read.
    log: LogParameters;
}

impl Configuration {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// All that is invalid.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Self::check(&sources.document()?, &Machine::this())
    }

    /// The parameters that were given, or with `has_defaults` all, as TOML.
    ///
    /// # Errors
    /// All that is invalid.
    pub fn listing(sources: &Sources, has_defaults: bool) -> Result<String, ConfigErrors> {
        let document = sources.document()?;
        Self::check(&document, &Machine::this())?;
        Ok(listing::listing(&document, FEATURES, has_defaults))
    }

    /// All parameters with type, default, range and meaning, as Markdown.
    #[must_use]
    pub fn reference() -> String {
        reference::reference(FEATURES)
    }

    fn check(document: &Document, machine: &Machine) -> Result<Self, ConfigErrors> {
        let mut reader = Reader::new(document, FEATURES, machine);
        reader.refuse_unknown_names();
        let mut configuration = Self::read(&mut reader);
        if let Some(configuration) = &mut configuration {
            configuration.queue.check(&mut reader);
            configuration.session.check(&configuration.queue, &mut reader);
            configuration.notes = configuration.dotted_domain_notes();
        }
        let errors = reader.into_errors();
        configuration.filter(|_| errors.is_empty()).ok_or(ConfigErrors(errors))
    }
}

#[cfg(test)]
mod tests;
