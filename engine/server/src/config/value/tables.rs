//! Parameters that name lookup tables.

use mailrace_core::Sharer;
use mailrace_core::address::{Domains, Subdomains};

use super::{At, Refusal, Setting, is_host_name, is_not};
use crate::config::Tables;
use crate::config::reader::Raw;

/// Lookup tables as `type:name`, in the order in which they are searched.
///
/// The reader records each list that it reads, so that the tables of all parameters are opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TableList {
    pub(in crate::config) at: At,
    pub(in crate::config) names: Vec<String>,
    /// Whether the values are actions of header_checks(5).
    pub(in crate::config) has_actions: bool,
}

impl TableList {
    /// Returns whether the list names no table.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

impl Setting for TableList {
    const KIND: &str = "tables";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let names = Vec::<String>::read(raw)?;
        let is_named = |table: &String| {
            table.split_once(':').is_some_and(|(kind, name)| !kind.is_empty() && !name.is_empty())
        };
        match names.iter().find(|table| !is_named(table)) {
            None => Ok(Self { names, ..Self::default() }),
            Some(table) => Err(Refusal::new(
                format!("{table:?} does not name a lookup table"),
                "write type:name, such as \"texthash:virtual\"",
            )),
        }
    }

    fn locate(&mut self, at: &At) {
        self.at = at.clone();
    }

    fn tables(&self) -> impl Iterator<Item = &Self> {
        std::iter::once(self)
    }
}

/// Lookup tables whose values are actions of header_checks(5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CheckList(pub TableList);

impl Setting for CheckList {
    const KIND: &str = "tables";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        Ok(Self(TableList { has_actions: true, ..TableList::read(raw)? }))
    }

    fn locate(&mut self, at: &At) {
        self.0.locate(at);
    }

    fn tables(&self) -> impl Iterator<Item = &TableList> {
        self.0.tables()
    }
}

/// List of domains, and of tables with domains as keys. The first match decides; `!` before an entry excludes what the entry
/// matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainList {
    entries: Vec<Entry>,
    /// Entries that are tables, in their order.
    tables: TableList,
}

/// An entry of a list of domains.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    /// Text of the entry in the configuration.
    text: String,
    is_excluded: bool,
    is_table: bool,
}

impl Entry {
    fn new(text: &str) -> Self {
        let name = text.trim_start_matches('!');
        // No domain has a colon.
        let (is_excluded, is_table) = ((text.len() - name.len()) % 2 == 1, name.contains(':'));
        Self { text: text.to_owned(), is_excluded, is_table }
    }

    fn name(&self) -> &str {
        self.text.trim_start_matches('!')
    }
}

impl DomainList {
    fn parse(raw: &Raw) -> Result<Self, Refusal> {
        let entries: Vec<_> = Vec::<String>::read(raw)?.iter().map(|text| Entry::new(text)).collect();
        let tables = entries.iter().filter(|entry| entry.is_table);
        let names = tables.map(|entry| entry.name().to_owned()).collect();
        Ok(Self { entries, tables: TableList { names, ..TableList::default() } })
    }

    /// Refuses entries that are not domains, and tables unless `has_tables`.
    fn refuse_others(&self, has_tables: bool, remedy: &str) -> Result<(), Refusal> {
        let is_domain = |entry: &&Entry| {
            is_host_name(entry.name().trim_start_matches('.')) || has_tables && entry.is_table
        };
        is_not(
            self.entries.iter().filter(|entry| !is_domain(entry)).map(|entry| &*entry.text),
            "a domain",
            "domains",
            remedy,
        )
    }

    /// Returns the list in the form that is compared, with its open tables.
    pub(in crate::config) fn domains(&self, subdomains: Subdomains, tables: &Tables) -> Domains {
        let mut domains = Domains::new(subdomains);
        let maps = tables.of(&self.tables);
        let mut maps = maps.each();
        for entry in &self.entries {
            if entry.is_table {
                maps.by_ref().take(1).for_each(|table| domains.add_tables(table, entry.is_excluded));
            } else {
                domains.add_name(entry.name().as_bytes(), entry.is_excluded);
            }
        }
        domains
    }

    /// Returns a note for each domain that is in this list and in `preferred`, which takes precedence. Each list comes with
    /// its compared form; tables on servers are not searched.
    pub(in crate::config) fn shared_domain_notes(
        &self,
        domains: &Domains,
        (preferred, preferred_domains): (&Self, &Domains),
    ) -> Vec<String> {
        let At { parameter, place, .. } = &self.tables.at;
        let in_both = preferred.names().filter(|name| has(domains, name));
        let mut shared: Vec<_> =
            in_both.chain(self.names().filter(|name| has(preferred_domains, name))).collect();
        shared.sort_by_key(|name| name.to_ascii_lowercase());
        shared.dedup_by(|name, before| name.eq_ignore_ascii_case(before));
        let other = preferred.tables.at.parameter;
        let text = "which takes precedence; list it in one of them only";
        shared
            .iter()
            .map(|name| format!("{place}: {parameter}: {name:?} is in {other} too, {text}"))
            .collect()
    }

    /// Iterates over the domains that the list names and does not exclude.
    fn names(&self) -> impl Iterator<Item = &str> {
        let named = self.entries.iter().filter(|entry| !entry.is_table && !entry.is_excluded);
        named.map(Entry::name).filter(|name| !name.starts_with('.'))
    }

    /// Returns a note for each domain with a leading dot if such entries match nothing in this list.
    pub(in crate::config) fn dotted_domain_notes(&self, subdomains: Subdomains) -> Vec<String> {
        let text = match subdomains {
            Subdomains::OfDotted => return Vec::new(),
            Subdomains::Never => "domains of this list match exactly",
            Subdomains::OfEach => {
                "write it without the dot, or take relay_domains out of parent_domain_matches_subdomains"
            }
        };
        let At { parameter, place, .. } = &self.tables.at;
        let dotted = self.entries.iter().filter(|entry| entry.name().starts_with('.'));
        dotted
            .map(|Entry { text: item, .. }| format!("{place}: {parameter}: {item:?} matches nothing; {text}"))
            .collect()
    }
}

/// Returns whether the list has a domain. A table on a server is not searched, and one that fails has nothing.
fn has(domains: &Domains, name: &str) -> bool {
    if domains.may_wait() {
        return domains.has_name(name.as_bytes());
    }
    domains.contains(name.as_bytes(), Sharer::default()) == Ok(true)
}

impl Setting for DomainList {
    const KIND: &str = "domains, tables";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let list = Self::parse(raw)?;
        let remedy = "write domains such as \"example.com\", or tables such as \"texthash:domains\"";
        list.refuse_others(true, remedy)?;
        Ok(list)
    }

    fn locate(&mut self, at: &At) {
        self.tables.locate(at);
    }

    fn tables(&self) -> impl Iterator<Item = &TableList> {
        self.tables.tables()
    }
}

/// A list of domains that takes no tables.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DomainNames(pub DomainList);

impl Setting for DomainNames {
    const KIND: &str = "domains";

    fn read(raw: &Raw) -> Result<Self, Refusal> {
        let list = DomainList::parse(raw)?;
        list.refuse_others(
            false,
            "write domains such as \"example.com\"; tables and files are not read here",
        )?;
        Ok(Self(list))
    }

    fn locate(&mut self, at: &At) {
        self.0.locate(at);
    }
}
