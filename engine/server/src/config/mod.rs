//! Reads the configuration from TOML and arguments into checked settings.
//!
//! Each feature has a file that declares, checks, maps and documents its parameters: `domains`, `connections`, `session`,
//! `rewriting`, `aliases`, `recipients`, `cleanup`, `checks`, `submission`, `routing`, `delivery`, `lmtp`, `dns`, `notices`,
//! `queue`, `engine`, `tables`, `log`.
//! `reader` turns the text into values, whose types are in `value`. `listing` and `reference` print the declared parameters.
//!
//! To add a parameter, declare it in the file of its feature, map it there to the settings of the part that uses it, and
//! update docs/configuration.md with the command that the test in `reference` prints.

mod aliases;
mod checks;
mod cleanup;
mod connections;
mod delivery;
mod dns;
mod domains;
mod engine;
mod error;
mod listing;
mod lmtp;
mod location;
mod log;
mod machine;
mod notices;
mod queue;
mod reader;
mod recipients;
mod reference;
mod rewriting;
mod routing;
mod session;
mod sources;
mod submission;
mod tables;
mod transport_limits;
pub mod value;

use mailrace_delivery::bounce::Templates;
use reader::{Document, Feature, Machine, Reader};
use transport_limits::TransportLimits;
use value::TableList;

pub(crate) use delivery::TRANSPORTS;
pub(crate) use machine::{own_processors, zone_now};
pub(crate) use value::time;

pub use crate::networks::Networks;
pub use aliases::AliasParameters;
pub use checks::CheckParameters;
pub use cleanup::CleanupParameters;
pub use connections::ConnectionParameters;
pub use delivery::DeliveryParameters;
pub use dns::DnsParameters;
pub use domains::DomainParameters;
pub use engine::EngineParameters;
pub use error::{ConfigError, ConfigErrors, Fault, Place};
pub use lmtp::LmtpParameters;
pub use location::{CONFIG_VARIABLE, SYSTEM_CONFIG, config_file};
pub use log::LogParameters;
pub use notices::NoticeParameters;
pub use queue::QueueParameters;
pub use recipients::RecipientParameters;
pub use rewriting::RewritingParameters;
pub use routing::RoutingParameters;
pub use session::SessionParameters;
pub use sources::Sources;
pub use submission::SubmissionParameters;
pub use tables::{TableParameters, Tables};
pub use value::{IoChoice, Octets};

/// Declares the features, each a field of [`Configuration`], in the order of the reference.
macro_rules! features {
    ($( $(#[doc = $about:literal])+ $feature:ident : $parameters:ty ; )+) => {
        /// All checked settings.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Configuration {
            $( $(#[doc = $about])+ pub $feature: $parameters, )+
            /// Warnings about a valid configuration.
            pub notes: Vec<String>,
            /// Tables that parameters name.
            named_tables: Vec<TableList>,
            /// Place where `memory_limit` was set.
            memory_place: Place,
            /// Limits of single transports.
            transport_limits: TransportLimits,
            /// Texts of reports.
            templates: Templates,
        }

        const FEATURES: &[Feature] = &[$( <$parameters>::FEATURE ),+];

        impl Configuration {
            /// Reads the parameters of all features. Returns `None` if one is invalid; the reader has the error.
            fn read(reader: &mut Reader<'_>) -> Option<Self> {
                $( let $feature = <$parameters>::read(reader); )+
                let transport_limits = TransportLimits::read(reader);
                Some(Self {
                    $( $feature: $feature?, )+
                    notes: Vec::new(),
                    named_tables: reader.take_tables(),
                    memory_place: reader.place("memory_limit"),
                    transport_limits,
                    templates: Templates::default(),
                })
            }

            /// Keeps the values of `[engine]` and `[queue]` of the running configuration, because they take effect only at
            /// startup. Returns whether one differed.
            #[must_use]
            pub fn keep_started(&mut self, running: &Self) -> bool {
                let were_different = [$( self.$feature.keep_started(&running.$feature) ),+];
                were_different.contains(&true)
            }
        }
    };
}

features! {
    /// Names of this host and its domains.
    domains: DomainParameters;
    /// Listening addresses and clients.
    connections: ConnectionParameters;
    /// Limits of the SMTP dialogue.
    session: SessionParameters;
    /// Address rewriting.
    rewriting: RewritingParameters;
    /// Virtual aliases and blind copies.
    aliases: AliasParameters;
    /// Recipient validation.
    recipients: RecipientParameters;
    /// Limits on content.
    cleanup: CleanupParameters;
    /// Header and body checks.
    checks: CheckParameters;
    /// Reading of lookup tables.
    tables: TableParameters;
    /// Local submission.
    submission: SubmissionParameters;
    /// Routing.
    routing: RoutingParameters;
    /// Delivery.
    delivery: DeliveryParameters;
    /// LMTP.
    lmtp: LmtpParameters;
    /// Reports.
    notices: NoticeParameters;
    /// Name lookups.
    dns: DnsParameters;
    /// Queue.
    queue: QueueParameters;
    /// Workers.
    engine: EngineParameters;
    /// Log and metrics.
    log: LogParameters;
}

impl Configuration {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// All invalid values and unknown names.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Self::check(&sources.document()?, &Machine::this())
    }

    /// Returns the parameters that the sources set, or with `has_defaults` all, as TOML.
    ///
    /// # Errors
    /// All invalid values and unknown names.
    pub fn listing(sources: &Sources, has_defaults: bool) -> Result<String, ConfigErrors> {
        let document = sources.document()?;
        Self::check(&document, &Machine::this())?;
        Ok(listing::listing(&document, FEATURES, has_defaults))
    }

    /// Returns the reference of all parameters with type, default, range and meaning, as Markdown.
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
            configuration.templates = configuration.notices.templates(&mut reader);
            configuration.notes = configuration.dotted_domain_notes();
            configuration.notes.extend(configuration.routing.notes(&reader));
        }
        let errors = reader.into_errors();
        configuration.filter(|_| errors.is_empty()).ok_or(ConfigErrors(errors))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::check;
