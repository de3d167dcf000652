//! Owns the configuration: TOML and arguments to checked settings, once.

mod apply;
mod choice;
mod document;
mod engine;
mod error;
mod expand;
mod listing;
mod location;
mod machine;
mod nearest;
mod network;
mod postfix;
mod queue;
mod reader;
mod rewriting;
mod unsupported;
mod value;

use std::collections::BTreeMap;
use std::path::PathBuf;

use mailrace_core::address::Subdomains;
use mailrace_core::lookup::Maps;

use crate::tables::{Files, Lookups, OpenTables, Opener, RemoteSettings, TableErrors, TableSettings};
use document::{Document, Raw, Section};
use reader::{Known, Machine, Reader};
use value::{Refusal, Setting, is_table, pattern};

pub use choice::{Backend, IoChoice, LogFormat};
pub use engine::EngineSettings;
pub(crate) use machine::{own_processors, zone_now};

pub use error::{ConfigError, ConfigErrors, Fault, Place};
pub use location::{CONFIG_VARIABLE, SYSTEM_CONFIG, config_file};
pub use network::Networks;
pub use postfix::Parameters;
pub use queue::QueueSettings;
pub use rewriting::RewritingParameters;
pub(crate) use value::time;
pub use value::{Octets, TableName};

/// Where a configuration comes from.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file; without one everything has its default.
    pub file: Option<PathBuf>,
    /// Replaces `engine.listen` unless empty.
    pub listen: Vec<String>,
    /// Replaces `queue.directory`.
    pub queue: Option<PathBuf>,
    /// Replaces `engine.io`.
    pub io: Option<String>,
    /// `NAME=VALUE` each; replaces what the file says.
    pub set: Vec<String>,
}

impl Sources {
    /// The log's format as far as it can be read: where a configuration has errors, they are logged.
    #[must_use]
    pub fn log_format(&self) -> LogFormat {
        let mut document = Document::default();
        if let Some(path) = &self.file {
            // What is wrong with it is found where all of it is read.
            let _ = document.read_file(path);
        }
        for (name, value) in self.set.iter().filter_map(|setting| setting.split_once('=')) {
            document.set("--set", name.trim(), value.trim());
        }
        let given = document.get(Section::Engine, "log_format");
        given.and_then(|given| LogFormat::read(&given.raw).ok()).unwrap_or_default()
    }
}

/// All settings, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Configuration {
    /// Postfix's parameters that are in force.
    pub parameters: Parameters,
    /// Postfix's parameters of address rewriting.
    pub rewriting: RewritingParameters,
    /// The process.
    pub engine: EngineSettings,
    /// The queue; its directory is relative to where the process runs, or absolute.
    pub queue: QueueSettings,
    /// What an operator should know of it though nothing is wrong.
    pub notes: Vec<String>,
    /// Which tables which parameter names.
    pub(crate) tables: Vec<TablesGiven>,
    /// Where `memory_limit` was given.
    pub(crate) memory_place: Place,
}

/// The tables that one parameter names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TablesGiven {
    parameter: &'static str,
    place: Place,
    /// Where relative paths start.
    base: PathBuf,
    names: Vec<String>,
}

/// All tables of a configuration, open.
#[derive(Clone, Debug, Default)]
pub struct Tables {
    maps: BTreeMap<&'static str, Maps>,
    /// The files that they came from.
    pub files: Files,
    /// What an operator should know though nothing is wrong.
    pub notes: Vec<String>,
    /// For the next ones.
    open: OpenTables,
}

impl Tables {
    /// The tables of a parameter.
    fn of(&self, parameter: &str) -> Maps {
        self.maps.get(parameter).cloned().unwrap_or_default()
    }
}

impl Configuration {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(sources: &Sources) -> Result<Self, ConfigErrors> {
        Self::check(&Self::document(sources)?, &Machine::this())
    }

    /// The parameters that were given, or with `has_defaults` all, as TOML.
    ///
    /// # Errors
    /// Everything that is wrong with the configuration.
    pub fn listing(sources: &Sources, has_defaults: bool) -> Result<String, ConfigErrors> {
        let document = Self::document(sources)?;
        Self::check(&document, &Machine::this())?;
        Ok(listing::listing(&document, &known(), has_defaults))
    }

    /// What the file and the arguments say.
    fn document(sources: &Sources) -> Result<Document, ConfigErrors> {
        let mut document = Document::default();
        if let Some(path) = &sources.file {
            document.read_file(path)?;
        }
        if !sources.listen.is_empty() {
            document.put(Section::Engine, "listen", Raw::List(sources.listen.clone()), "--listen");
        }
        if let Some(queue) = &sources.queue {
            document.put(
                Section::Queue,
                "directory",
                Raw::Text(queue.to_string_lossy().into_owned()),
                "--queue",
            );
        }
        if let Some(io) = &sources.io {
            document.put(Section::Engine, "io", Raw::Text(io.clone()), "--io");
        }
        for setting in &sources.set {
            let Some((name, value)) = setting.split_once('=') else {
                let fault = Fault::Value {
                    reason: format!("{setting:?} has no ="),
                    remedy: "write --set NAME=VALUE".to_owned(),
                };
                return Err(
                    ConfigError { place: Place::Argument("--set"), name: String::new(), fault }.into()
                );
            };
            document.set("--set", name.trim(), value.trim());
        }
        Ok(document)
    }

    /// Opens all tables that are named. Of `previous` those are used again whose files are as they were; `lookups` is
    /// where remote tables are asked.
    ///
    /// # Errors
    /// Those that cannot be used, each under its parameter.
    pub fn open_tables(&self, lookups: &Lookups, previous: &Tables) -> Result<Tables, ConfigErrors> {
        let mut opener = Opener::new(lookups, self.table_settings(), &previous.open);
        let mut tables = Tables::default();
        let mut failed = Vec::new();
        for given in &self.tables {
            let maps = if has_actions(given.parameter) {
                opener.action_maps(&given.names, &given.base)
            } else {
                opener.maps(&given.names, &given.base)
            };
            match maps {
                Ok(maps) => drop(tables.maps.insert(given.parameter, maps)),
                Err(errors) => failed.push((given, errors)),
            }
        }
        (tables.open, tables.files, tables.notes) = opener.into_parts();
        let errors = table_errors(failed);
        if errors.is_empty() { Ok(tables) } else { Err(ConfigErrors(errors)) }
    }

    /// How tables are read.
    pub(crate) fn table_settings(&self) -> TableSettings {
        TableSettings {
            bad_lines: self.engine.table_errors,
            size_max: self.engine.table_size_limit.0,
            remote: RemoteSettings {
                timeout: self.engine.lookup_timeout,
                connections: usize::from(self.engine.lookup_connections),
                memory_time: self.engine.lookup_cache_time,
                memory: usize::try_from(self.engine.lookup_cache_size.0).unwrap_or(usize::MAX),
            },
        }
    }

    fn check(document: &Document, machine: &Machine) -> Result<Self, ConfigErrors> {
        let known = known();
        let mut reader = Reader::new(document, &known, machine);
        reader.refuse_unknown_names();
        let (parameters, rewriting) = (Parameters::read(&mut reader), RewritingParameters::read(&mut reader));
        let (engine, queue) = (EngineSettings::read(&mut reader), QueueSettings::read(&mut reader));
        let queue = queue.map(|queue| located(queue, &reader));
        if let (Some(parameters), Some(queue)) = (&parameters, &queue) {
            check_together(parameters, queue, &mut reader);
        }
        if let Some(engine) = &engine
            && (1..MEMORY_LIMIT_MIN).contains(&engine.memory_limit.0)
        {
            let place = reader.place(Section::Engine, "memory_limit");
            let reason = format!("{} is out of bounds", engine.memory_limit.0);
            let remedy = format!("write 0, or {MEMORY_LIMIT_MIN} or more");
            reader.refuse(Section::Engine, "memory_limit", place, Refusal::new(reason, remedy));
        }
        if let Some(rewriting) = &rewriting {
            check_words(rewriting, &mut reader);
        }
        let mut tables = Vec::new();
        if let (Some(parameters), Some(rewriting)) = (&parameters, &rewriting) {
            check_domains(parameters, rewriting, &mut reader);
            tables = tables_given(parameters, rewriting, &reader);
        }
        let mut notes = notes(document, &known);
        if let (Some(parameters), Some(rewriting)) = (&parameters, &rewriting) {
            notes.extend(dotted_domain_notes(parameters, rewriting, &reader));
        }
        let memory_place = reader.place(Section::Engine, "memory_limit");
        let mut errors = without_repetitions(reader.errors, document);
        errors.sort_by_key(|error| match &error.place {
            Place::File { line, .. } => *line,
            Place::Argument(_) | Place::Default => usize::MAX,
        });
        match (parameters, rewriting, engine, queue) {
            (Some(parameters), Some(rewriting), Some(engine), Some(queue)) if errors.is_empty() => {
                Ok(Self { parameters, rewriting, engine, queue, notes, tables, memory_place })
            }
            _ => Err(ConfigErrors(errors)),
        }
    }

    /// Number of workers where so many processors may be used.
    #[must_use]
    pub fn workers(&self, processors: usize) -> u16 {
        match self.engine.workers {
            0 => u16::try_from(processors).unwrap_or(u16::MAX).max(1),
            count => count,
        }
    }

    /// Workers that have nearly no memory beside their fixed buffers would read from nobody for most of the time. Only whoever
    /// is to serve knows how many they are: other commands may run elsewhere.
    ///
    /// # Errors
    /// When `memory_limit` is less than so many workers need.
    pub fn check_memory(&self, workers: u16) -> Result<(), ConfigErrors> {
        let limit = self.engine.memory_limit.0;
        let least = self.least_memory(usize::from(workers)).div_ceil(1 << 20);
        if limit == 0 || limit >> 20 >= least as u64 {
            return Ok(());
        }
        let reason =
            format!("is too little for the fixed buffers of {workers} workers and content beside them");
        let remedy =
            format!("write at least \"{least}MiB\" or 0, or lower workers, or block_size in [queue]");
        Err(ConfigErrors(vec![ConfigError {
            place: self.memory_place.clone(),
            name: Section::Engine.qualify("memory_limit"),
            fault: Fault::Value { reason, remedy },
        }]))
    }
}

/// All parameters.
fn known() -> Vec<Known> {
    [Parameters::KNOWN, RewritingParameters::KNOWN, EngineSettings::KNOWN, QueueSettings::KNOWN].concat()
}

/// Whether the values of a parameter's tables are actions of header_checks(5).
fn has_actions(parameter: &str) -> bool {
    matches!(parameter, "header_checks" | "mime_header_checks" | "nested_header_checks" | "body_checks")
}

/// What is wrong with tables, each once however many parameters name the table: under the one that was given first.
fn table_errors(mut failed: Vec<(&TablesGiven, TableErrors)>) -> Vec<ConfigError> {
    failed.sort_by_key(|(given, _)| match given.place {
        Place::File { line, .. } => line,
        Place::Argument(_) => usize::MAX - 1,
        Place::Default => usize::MAX,
    });
    let mut errors: Vec<ConfigError> = Vec::new();
    let mut known = Vec::new();
    for (given, TableErrors(these)) in failed {
        for error in these.into_iter().filter(|error| !known.contains(error)).collect::<Vec<_>>() {
            known.push(error.clone());
            let (place, name) = (given.place.clone(), given.parameter.to_owned());
            errors.push(ConfigError { place, name, fault: Fault::Table(error) });
        }
    }
    errors
}

/// Takes out what is said of a parameter only because its value is that of another, of which the same is said.
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

/// The least `memory_limit` but for 0, whatever the workers.
const MEMORY_LIMIT_MIN: u64 = 16 << 20;

/// A relative directory in a file starts from that file's.
fn located(queue: QueueSettings, reader: &Reader<'_>) -> QueueSettings {
    let base = reader.base(Section::Queue, "directory");
    let directory = base.map_or_else(|| queue.directory.clone(), |base| base.join(&queue.directory));
    QueueSettings { directory, ..queue }
}

/// What no value shows alone.
fn check_together(parameters: &Parameters, queue: &QueueSettings, reader: &mut Reader<'_>) {
    let mut refuse = |section, name: &str, reason: &str, remedy: &str| {
        let place = reader.place(section, name);
        reader.refuse(section, name, place, Refusal::new(reason, remedy));
    };
    if !is_host_name(&parameters.myhostname) {
        let reason = format!("{:?} is not a host name", parameters.myhostname);
        refuse(
            Section::Top,
            "myhostname",
            &reason,
            "write a fully qualified name such as \"mx.example.com\"",
        );
    }
    for client in &parameters.local_header_rewrite_clients {
        if !matches!(client.as_str(), "permit_inet_interfaces" | "permit_mynetworks") {
            let reason = format!("{client:?} is not known");
            refuse(
                Section::Top,
                "local_header_rewrite_clients",
                &reason,
                "write permit_inet_interfaces or permit_mynetworks",
            );
        }
    }
    if !queue.segment_size.0.is_multiple_of(4096) {
        refuse(Section::Queue, "segment_size", "is not a multiple of 4096", "write for example \"64MiB\"");
    }
    if queue.block_size.0 > queue.segment_size.0 / 2 {
        refuse(
            Section::Queue,
            "block_size",
            "is more than half of segment_size",
            "make it smaller, or the segments larger",
        );
    }
    // An envelope goes into one batch: so much of it is needed for addresses of the usual size.
    if u64::from(parameters.smtpd_recipient_limit) * ENVELOPE_RECIPIENT_SIZE > queue.block_size.0 {
        refuse(
            Section::Top,
            "smtpd_recipient_limit",
            "is more than fits into a batch of block_size in [queue]",
            "lower it, or set block_size to a KiB for each recipient",
        );
    }
}

/// Lists of domains.
fn check_domains(parameters: &Parameters, rewriting: &RewritingParameters, reader: &mut Reader<'_>) {
    for (name, domains, has_tables) in [
        ("mydestination", &parameters.mydestination, false),
        ("relay_domains", &parameters.relay_domains, true),
        ("virtual_alias_domains", &rewriting.virtual_alias_domains, true),
    ] {
        let is_wrong = |domain: &&String| {
            let (name, _) = pattern(domain);
            !(is_host_name(name.trim_start_matches('.')) || has_tables && is_table(name))
        };
        for domain in domains.iter().filter(is_wrong) {
            let remedy = if has_tables {
                "write domains such as \"example.com\", or tables such as \"texthash:domains\""
            } else {
                "write domains such as \"example.com\"; tables and files are not read here"
            };
            let refusal = Refusal::new(format!("{domain:?} is not a domain"), remedy);
            let place = reader.place(Section::Top, name);
            reader.refuse(Section::Top, name, place, refusal);
        }
    }
    let name = "parent_domain_matches_subdomains";
    for list in
        parameters.parent_domain_matches_subdomains.iter().filter(|list| !DOMAIN_LISTS.contains(&&***list))
    {
        let remedy = format!("write some of {}", DOMAIN_LISTS.join(", "));
        let place = reader.place(Section::Top, name);
        reader.refuse(Section::Top, name, place, Refusal::new(format!("{list:?} is not known"), remedy));
    }
}

/// Lists of domains and hosts of Postfix's, for `parent_domain_matches_subdomains`.
const DOMAIN_LISTS: [&str; 8] = [
    "debug_peer_list",
    "fast_flush_domains",
    "mynetworks",
    "permit_mx_backup_networks",
    "qmqpd_authorized_clients",
    "relay_domains",
    "smtpd_access_maps",
    "smtpd_client_event_limit_exceptions",
];

/// Domains that begin with a dot in a list where such an entry matches nothing.
fn dotted_domain_notes(
    parameters: &Parameters,
    rewriting: &RewritingParameters,
    reader: &Reader<'_>,
) -> Vec<String> {
    let lists = [
        ("mydestination", &parameters.mydestination),
        ("relay_domains", &parameters.relay_domains),
        ("virtual_alias_domains", &rewriting.virtual_alias_domains),
    ];
    let mut notes = Vec::new();
    for (name, domains) in lists {
        let text = match parameters.subdomains(name) {
            Subdomains::OfDotted => continue,
            Subdomains::Never => "domains of this list match exactly",
            Subdomains::OfEach => {
                "write it without the dot, or take relay_domains out of parent_domain_matches_subdomains"
            }
        };
        for domain in domains.iter().filter(|domain| pattern(domain).0.starts_with('.')) {
            notes.push(format!(
                "{}: {name}: {domain:?} matches nothing; {text}",
                reader.place(Section::Top, name)
            ));
        }
    }
    notes
}

/// The tables that are named, by parameter.
fn tables_given(
    parameters: &Parameters,
    rewriting: &RewritingParameters,
    reader: &Reader<'_>,
) -> Vec<TablesGiven> {
    let tables_in = |items: &[String]| -> Vec<TableName> {
        let patterns = items.iter().map(|item| pattern(item).0);
        patterns.filter(|item| is_table(item)).map(|item| TableName(item.to_owned())).collect()
    };
    let given: [(&'static str, &Vec<TableName>); 12] = [
        ("relay_domains", &tables_in(&parameters.relay_domains)),
        ("virtual_alias_domains", &tables_in(&rewriting.virtual_alias_domains)),
        ("canonical_maps", &rewriting.canonical_maps),
        ("sender_canonical_maps", &rewriting.sender_canonical_maps),
        ("recipient_canonical_maps", &rewriting.recipient_canonical_maps),
        ("virtual_alias_maps", &rewriting.virtual_alias_maps),
        ("sender_bcc_maps", &rewriting.sender_bcc_maps),
        ("recipient_bcc_maps", &rewriting.recipient_bcc_maps),
        ("header_checks", &rewriting.header_checks),
        ("mime_header_checks", &rewriting.mime_header_checks),
        ("nested_header_checks", &rewriting.nested_header_checks),
        ("body_checks", &rewriting.body_checks),
    ];
    let given = given.into_iter().filter(|(_, names)| !names.is_empty());
    given
        .map(|(parameter, names)| {
            // The default of some is the value of another.
            let named = match parameter {
                "virtual_alias_domains" => [parameter, "virtual_alias_maps"],
                _ => [parameter, "header_checks"],
            };
            let base = named.into_iter().find_map(|name| reader.base(Section::Top, name));
            TablesGiven {
                parameter,
                place: reader.place(Section::Top, parameter),
                base: base.map(|base| base.to_path_buf()).unwrap_or_default(),
                names: names.iter().map(|TableName(name)| name.clone()).collect(),
            }
        })
        .collect()
}

/// Lists of known words, and characters.
fn check_words(rewriting: &RewritingParameters, reader: &mut Reader<'_>) {
    const CLASSES: &[&str] = &["envelope_sender", "envelope_recipient", "header_sender", "header_recipient"];
    const EXTENSIONS: &[&str] = &["alias", "canonical", "forward", "generic", "include", "virtual"];
    const DETECTION: &[&str] = &["all", "bounce", "forward", "notify", "sendmail", "smtpd", "verify"];
    let lists: [(&str, &Vec<String>, &[&str]); 6] = [
        ("canonical_classes", &rewriting.canonical_classes, CLASSES),
        ("sender_canonical_classes", &rewriting.sender_canonical_classes, CLASSES),
        ("recipient_canonical_classes", &rewriting.recipient_canonical_classes, CLASSES),
        ("masquerade_classes", &rewriting.masquerade_classes, CLASSES),
        ("propagate_unmatched_extensions", &rewriting.propagate_unmatched_extensions, EXTENSIONS),
        ("smtputf8_autodetect_classes", &rewriting.smtputf8_autodetect_classes, DETECTION),
    ];
    let mut refuse = |name: &str, reason: String, remedy: &str| {
        let place = reader.place(Section::Top, name);
        reader.refuse(Section::Top, name, place, Refusal::new(reason, remedy));
    };
    for (name, words, known) in lists {
        for word in words.iter().filter(|word| !known.contains(&word.as_str())) {
            let remedy = format!("write some of {}", known.join(", "));
            refuse(name, format!("{word:?} is not known"), &remedy);
        }
    }
    for (name, text) in [
        ("message_reject_characters", &rewriting.message_reject_characters),
        ("message_strip_characters", &rewriting.message_strip_characters),
    ] {
        if characters(text).is_none() {
            refuse(
                name,
                format!("{text:?} has a backslash that means nothing"),
                "write \\\\0 for NUL, \\\\\\\\ for a backslash",
            );
        }
    }
}

/// The octets that a text means with the escapes of C; `None` if one means nothing.
fn characters(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut octets = text.bytes().peekable();
    while let Some(octet) = octets.next() {
        if octet != b'\\' {
            out.push(octet);
            continue;
        }
        out.push(match octets.next()? {
            b'a' => 7,
            b'b' => 8,
            b'f' => 12,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'v' => 11,
            digit @ b'0'..=b'7' => {
                let mut number = u32::from(digit - b'0');
                for _ in 0..2 {
                    if let Some(digit @ b'0'..=b'7') = octets.peek().copied() {
                        number = number * 8 + u32::from(digit - b'0');
                        octets.next();
                    }
                }
                u8::try_from(number).ok()?
            }
            letter if letter.is_ascii_alphanumeric() => return None,
            sign => sign,
        });
    }
    Some(out)
}

/// Octets that a recipient with its DSN wishes takes, generously.
const ENVELOPE_RECIPIENT_SIZE: u64 = 1000;

fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|octet| {
                octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_') || !octet.is_ascii()
            })
    };
    name.len() <= 255 && (name.split('.').all(is_label) || name.starts_with('[') && name.ends_with(']'))
}

/// Parameters that were given and wait for what they steer.
fn notes(document: &Document, known: &[Known]) -> Vec<String> {
    let mut notes = Vec::new();
    for (section, name, given) in document.iter() {
        let known = known.iter().find(|known| known.section == section && known.name == name);
        if let Some(feature) = known.and_then(|known| known.comes_with) {
            notes.push(format!(
                "{}: {name}: read, not in force yet: this release does no {feature}",
                given.place
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use super::*;

    fn check(text: &str) -> Result<Configuration, String> {
        let mut document = Document::default();
        let path = Arc::new(PathBuf::from("/etc/mailrace/test.toml"));
        let machine = Machine { hostname: "host.example.org".to_owned() };
        document.read_text(text, &path).map_err(|errors| errors.to_string())?;
        Configuration::check(&document, &machine).map_err(|errors| errors.to_string())
    }

    #[test]
    fn defaults_are_read() {
        let configuration = check("").unwrap();
        assert_eq!(configuration.parameters.myhostname, "host.example.org");
        assert_eq!(configuration.parameters.mydomain, "example.org");
        assert_eq!(
            configuration.parameters.mydestination,
            ["host.example.org", "localhost.example.org", "localhost"]
        );
        assert_eq!(configuration.queue.directory, Path::new("mailrace-queue"));
        assert_eq!(configuration.notes, Vec::<String>::new());
    }

    #[test]
    fn domains_match_subdomains_as_the_parameter_says() {
        let subdomains = |text: &str| check(text).unwrap().parameters.subdomains("relay_domains");
        assert_eq!(subdomains(""), Subdomains::OfEach);
        assert_eq!(subdomains("parent_domain_matches_subdomains = []"), Subdomains::OfDotted);
        let configuration =
            check("relay_domains = [\"!a.example\", \"!texthash:x\", \"b\u{fc}cher.example\"]").unwrap();
        assert_eq!(configuration.parameters.subdomains("mydestination"), Subdomains::Never);
        assert_eq!(
            configuration.tables.iter().map(|given| &given.names[..]).collect::<Vec<_>>(),
            [["texthash:x"]]
        );
        assert_eq!(configuration.notes, [""; 0]);
        for (text, note) in [
            (
                "relay_domains = [\".a.example\"]",
                "relay_domains: \".a.example\" matches nothing; write it without the dot, or take relay_domains out of \
                 parent_domain_matches_subdomains",
            ),
            (
                "mydestination = [\".a.example\"]",
                "mydestination: \".a.example\" matches nothing; domains of this list match exactly",
            ),
        ] {
            assert_eq!(check(text).unwrap().notes, [format!("/etc/mailrace/test.toml:1: {note}")]);
        }
        let text = "relay_domains = [\".a.example\"]\nparent_domain_matches_subdomains = [\"mynetworks\"]";
        assert_eq!(check(text).unwrap().notes, [""; 0]);
        let errors = check("parent_domain_matches_subdomains = [\"relay_domain\"]").unwrap_err();
        assert!(
            errors.contains(
                "test.toml:1: parent_domain_matches_subdomains: \"relay_domain\" is not known; write some of"
            ),
            "{errors}"
        );
    }

    #[test]
    fn a_gateway_is_read() {
        let configuration = check(
            "myhostname = \"mx.example.com\"\nrelay_domains = [\"example.com\", \"example.net\"]\nmynetworks = []\n\
             message_size_limit = \"50MiB\"\nrecipient_delimiter = \"+\"\n\
             [engine]\nlisten = [\"127.0.0.1:25\", \"[::1]:25\"]\nworkers = 1\n[queue]\ndirectory = \"queue\"\n",
        )
        .unwrap();
        assert_eq!(configuration.parameters.message_size_limit, Octets(50 << 20));
        assert_eq!(configuration.engine.listen.len(), 2);
        assert_eq!(configuration.queue.directory, Path::new("/etc/mailrace/queue"));
        assert_eq!(configuration.notes, Vec::<String>::new());
    }

    #[test]
    fn a_limit_of_memory_has_a_bound_whatever_the_workers() {
        for limit in ["1", "16777215"] {
            let error = check(&format!("[engine]\nmemory_limit = {limit}\n")).unwrap_err();
            let expected = format!(
                "test.toml:2: engine.memory_limit: {limit} is out of bounds; write 0, or 16777216 or more"
            );
            assert!(error.contains(&expected), "{error}");
        }
    }

    #[test]
    fn each_worker_has_memory_for_content() {
        let of = |text: &str, workers: u16| {
            check(text).unwrap().worker_settings(workers, &Tables::default()).content_memory >> 20
        };
        assert_eq!([1, 2, 4, 16, 64].map(|workers| of("", workers)), [232, 104, 48, 48, 48]);
        // Fixed are 8 blocks of 1 MiB, three times 4 MiB of receive buffers and 4 MiB of log lines.
        assert_eq!(of("[engine]\nmemory_limit = \"56MiB\"\n", 2), 4);
        assert!(check("").unwrap().check_memory(1024).is_ok());
        assert!(check("[engine]\nmemory_limit = \"56MiB\"\n").unwrap().check_memory(2).is_ok());
        for (text, workers, least) in [
            ("[engine]\nmemory_limit = \"55MiB\"\n", 2, "56MiB"),
            ("[engine]\nworkers = 16\nmemory_limit = \"256MiB\"\n", 16, "448MiB"),
            ("[engine]\nmemory_limit = \"16MiB\"\n[queue]\nblock_size = \"16MiB\"\n", 1, "148MiB"),
        ] {
            let error = check(text).unwrap().check_memory(workers).unwrap_err().to_string();
            assert!(error.contains("test.toml:"), "{error}");
            assert!(error.contains("engine.memory_limit: is too little"), "{error}");
            assert!(error.contains(&format!("write at least \"{least}\"")), "{error}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_line_and_remedy() {
        for (text, wanted) in [
            (
                "\nmyhostnam = \"a.example\"",
                "test.toml:2: myhostnam: unknown parameter; did you mean myhostname?",
            ),
            (
                "\nsmtpd_milters = \"inet:x:1\"",
                "test.toml:2: smtpd_milters: not supported in this release; remove it",
            ),
            (
                "smtpd_milter = \"inet:x:1\"",
                "test.toml:1: smtpd_milter: unknown parameter; see docs/configuration.md for those that exist",
            ),
            (
                "inet_interfaces = \"all\"",
                "test.toml:1: inet_interfaces: not supported in this release; set listen in the table [engine]",
            ),
            ("use_srv_lookup = \"smtp\"", "test.toml:1: use_srv_lookup: not supported in this release"),
            (
                "slow_destination_rate_delay = 1",
                "test.toml:1: slow_destination_rate_delay: not supported in this release",
            ),
            (
                "smptd_recipient_limit = 5",
                "test.toml:1: smptd_recipient_limit: unknown parameter; did you mean smtpd_recipient_limit?",
            ),
            ("[engine]\ntransport_maps = []", "test.toml:2: engine.transport_maps: unknown parameter"),
            ("workers = 2", "test.toml:1: workers: unknown parameter; did you mean engine.workers?"),
            ("[engine]\nworkers = -1", "test.toml:2: engine.workers: -1 is not a number"),
            ("[queue]\nblock_size = \"2GiB\"", "test.toml:2: queue.block_size: 2147483648 is out of bounds"),
            (
                "mydestination = [\"hash:/etc/domains\"]",
                "test.toml:1: mydestination: \"hash:/etc/domains\" is not a domain",
            ),
            (
                "smtpd_recipient_limit = 5000",
                "test.toml:1: smtpd_recipient_limit: is more than fits into a batch",
            ),
            ("myhostname = \"a b\"", "is not a host name"),
            (
                "myhostname = \"mx.$mydomain\"",
                "test.toml:1: myhostname: $myhostname_parent leads back to itself",
            ),
            ("smtpd_timeout = ", "test.toml:1: not TOML"),
            ("[nonsense]\na = 1", "the tables are [engine] and [queue]"),
        ] {
            let errors = check(text).unwrap_err();
            assert!(errors.contains(wanted), "{text:?} gave {errors}");
        }
    }

    #[test]
    fn a_listing_reads_as_the_same_configuration() {
        let text = "myhostname = \"mx.example.com\"\nrelay_domains = [\"a.example\", \"texthash:$x\"]\n\
            smtpd_helo_required = true\nmessage_size_limit = 5000\nundisclosed_recipients_header = \"To: \\\"a\\\\\\\"\\tb:;\"\n\
            \n[engine]\nworkers = 2\n\n[queue]\nsegment_size = \"32MiB\"\n";
        let document = |text: &str| {
            let mut document = Document::default();
            document.read_text(text, &Arc::new(PathBuf::from("/test.toml"))).unwrap();
            document
        };
        let listed = listing::listing(&document(text), &known(), false);
        let sorted = |text: &str| {
            let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
            lines.sort_unstable();
            lines
        };
        assert_eq!(sorted(&listed), sorted(text));
        assert_eq!(listing::listing(&document(&listed), &known(), false), listed);
        assert_eq!(listing::listing(&Document::default(), &known(), false), "");
        let all = listing::listing(&document("[engine]\nworkers = 2"), &known(), true);
        assert_eq!(all.lines().filter(|line| line.contains(" = ")).count(), known().len());
        assert!(all.contains("\n[engine]\n") && all.contains("\nworkers = 2\n"), "{all}");
        assert_eq!(listing::listing(&document(&all), &known(), true), all);
        check(&all).unwrap();
    }

    #[test]
    fn the_reference_names_all_parameters() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let reference = std::fs::read_to_string(path).unwrap();
        let tables =
            [Parameters::KNOWN, RewritingParameters::KNOWN, EngineSettings::KNOWN, QueueSettings::KNOWN];
        for known in tables.concat() {
            let row = format!("| `{}` | `{}` |", known.name, known.default);
            assert!(reference.contains(&row), "docs/configuration.md has no row {row}");
        }
    }

    #[test]
    fn the_outside_configurations_load() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/contract");
        let Ok(entries) = std::fs::read_dir(&directory) else {
            eprintln!("skipped: {} is not there", directory.display());
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let sources = Sources { file: Some(path.clone()), ..Sources::default() };
                Configuration::load(&sources).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
            }
        }
    }
}
