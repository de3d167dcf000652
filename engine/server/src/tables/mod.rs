//! Owns lookup tables: which kinds there are, where they come from, and when they have to be read again.
//!
//! A table is named `type:name` as in Postfix. All but the remote ones live in memory and answer without waiting.

mod cdb;
mod cidr;
mod composite;
mod lmdb;
mod pattern;
mod pattern_set;
mod prefix;
mod remote;
mod source;
mod string_table;

use std::collections::HashMap;
use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use mailrace_core::lookup::{LookupTable, Maps};

pub use remote::{Lookups, RemoteSettings};

use composite::{FailTable, PipeTable, RandomTable, StaticTable, UnionTable};
use remote::RemoteTable;
use string_table::StringTable;

/// A table that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableError {
    /// Its name as configured.
    pub table: String,
    /// The line of its source, if one is at fault.
    pub line: Option<(PathBuf, usize)>,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for TableError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((path, line)) = &self.line {
            write!(formatter, "{}:{line}: ", path.display())?;
        }
        write!(formatter, "{}: {}; {}", self.table, self.reason, self.remedy)
    }
}

impl std::error::Error for TableError {}

/// A source file as it was when its table was read.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    path: PathBuf,
    /// Modification time, size and inode; `None`: it was not there.
    stamp: Option<(SystemTime, u64, u64)>,
}

impl Version {
    fn of(path: &Path) -> Self {
        use std::os::unix::fs::MetadataExt;
        let stamp = std::fs::metadata(path).and_then(|metadata| {
            let modified = metadata.modified()?;
            Ok((modified, metadata.len(), metadata.ino()))
        });
        Self { path: path.to_owned(), stamp: stamp.ok() }
    }
}

/// Opens tables, each once however often it is named.
#[derive(Debug)]
pub struct Opener<'o> {
    lookups: &'o Lookups,
    remote: RemoteSettings,
    previous: &'o OpenTables,
    open: OpenTables,
    notes: Vec<String>,
}

/// Tables that are open, by where relative paths start and by name.
#[derive(Clone, Debug, Default)]
pub struct OpenTables(HashMap<(PathBuf, String), OpenTable>);

/// A table, with the files that it came from.
#[derive(Clone, Debug)]
struct OpenTable {
    table: Arc<dyn LookupTable>,
    files: Files,
}

/// The files that tables came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files(Vec<Version>);

impl Files {
    /// The same files as they are now.
    #[must_use]
    pub fn now(&self) -> Self {
        Self(self.0.iter().map(|version| Version::of(&version.path)).collect())
    }
}

/// A configured table apart from what it does.
struct Spec<'s> {
    /// As configured.
    text: &'s str,
    kind: &'s str,
    name: &'s str,
    /// Where relative paths start.
    base: &'s Path,
}

impl Spec<'_> {
    /// The file that it is read from.
    fn path(&self) -> PathBuf {
        let name = match self.kind {
            "lmdb" | "cdb" => format!("{}.{}", self.name, self.kind),
            _ => self.name.to_owned(),
        };
        self.base.join(name)
    }

    /// The files that it depends on, as they are now.
    fn files(&self) -> Files {
        match self.kind {
            "texthash" | "hash" | "btree" | "lmdb" | "cdb" | "regexp" | "pcre" | "cidr" | "sqlite"
            | "pgsql" | "ldap" => Files(vec![Version::of(&self.path())]),
            _ => Files::default(),
        }
    }

    fn read(&self) -> Result<Vec<u8>, TableError> {
        self.read_front(usize::MAX)
    }

    /// So many octets of the file at most.
    fn read_front(&self, size_max: usize) -> Result<Vec<u8>, TableError> {
        let path = self.path();
        let mut octets = Vec::new();
        let read = std::fs::File::open(&path).and_then(|file| {
            let size = usize::try_from(file.metadata()?.len()).unwrap_or_default();
            octets.reserve_exact(size.min(size_max));
            file.take(size_max as u64).read_to_end(&mut octets)
        });
        read.map_err(|error| {
            let reason = format!("cannot read {}: {error}", path.display());
            self.error(reason, "name a file that this user may read")
        })?;
        Ok(octets)
    }

    /// Whether its answers are those of other tables.
    fn is_made_of_others(&self) -> bool {
        matches!(self.kind, "unionmap" | "pipemap" | "randmap")
    }

    fn error(&self, reason: impl Into<String>, remedy: &str) -> TableError {
        TableError {
            table: self.text.to_owned(),
            line: None,
            reason: reason.into(),
            remedy: remedy.to_owned(),
        }
    }

    fn error_at(&self, line: usize, reason: impl Into<String>, remedy: &str) -> TableError {
        TableError { line: Some((self.path(), line)), ..self.error(reason, remedy) }
    }
}

/// The kinds of tables, for messages.
const KINDS: &str = "inline, texthash, hash, btree, lmdb, cdb, regexp, pcre, cidr, static, fail, unionmap, pipemap, \
                     randmap, socketmap, tcp, sqlite, pgsql, ldap";

impl<'o> Opener<'o> {
    /// Tables of `previous` whose files are as they were are used again.
    #[must_use]
    pub fn new(lookups: &'o Lookups, remote: RemoteSettings, previous: &'o OpenTables) -> Self {
        Self { lookups, remote, previous, open: OpenTables::default(), notes: Vec::new() }
    }

    /// The tables of one parameter. Relative paths start at `base`.
    ///
    /// # Errors
    /// [`TableError`] of the first that cannot be used.
    pub fn maps(&mut self, tables: &[String], base: &Path) -> Result<Maps, TableError> {
        let tables: Result<Vec<_>, _> = tables.iter().map(|table| self.table(table, base)).collect();
        tables.map(Maps::new)
    }

    /// All tables, the files that they came from, and what an operator should know though they can be used.
    #[must_use]
    pub fn into_parts(self) -> (OpenTables, Files, Vec<String>) {
        let files = self.open.0.values().flat_map(|open| open.files.0.iter().cloned()).collect();
        (self.open, Files(files), self.notes)
    }

    fn table(&mut self, text: &str, base: &Path) -> Result<Arc<dyn LookupTable>, TableError> {
        let key = (base.to_owned(), text.to_owned());
        if let Some(open) = self.open.0.get(&key) {
            return Ok(Arc::clone(&open.table));
        }
        let (kind, name) = text.split_once(':').unwrap_or((text, ""));
        let spec = Spec { text, kind, name, base };
        // Before they are read: a change while they are read is seen as one.
        let files = spec.files();
        let open = match self.previous.0.get(&key) {
            // What is made of others may have another one inside.
            Some(open) if open.files == files && !spec.is_made_of_others() => open.clone(),
            _ => OpenTable { table: self.open_new(&spec)?, files },
        };
        let table = Arc::clone(&open.table);
        self.open.0.insert(key, open);
        Ok(table)
    }

    fn open_new(&mut self, spec: &Spec<'_>) -> Result<Arc<dyn LookupTable>, TableError> {
        Ok(match spec.kind {
            "texthash" | "hash" | "btree" => Arc::new(source::table(spec, &spec.read()?, &mut self.notes)?),
            "inline" => Arc::new(inline(spec)?),
            "lmdb" => Arc::new(lmdb::table(spec)?),
            "cdb" => Arc::new(cdb::table(spec, &spec.read()?)?),
            "regexp" | "pcre" => Arc::new(pattern::PatternTable::parse(spec, &spec.read()?)?),
            "cidr" => Arc::new(cidr::CidrTable::parse(spec, &spec.read()?)?),
            "socketmap" | "tcp" | "sqlite" | "pgsql" | "ldap" => {
                let text = if spec.files().0.is_empty() { Vec::new() } else { spec.read()? };
                Arc::new(RemoteTable::open(spec, &text, self.lookups, self.remote)?)
            }
            "static" => {
                let value = spec.name.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
                Arc::new(StaticTable(value.map_or(spec.name, str::trim).as_bytes().into()))
            }
            "fail" => Arc::new(FailTable),
            "unionmap" => Arc::new(UnionTable(self.members(spec)?)),
            "pipemap" => Arc::new(PipeTable(self.members(spec)?)),
            "randmap" => {
                let values = items(spec)?.iter().map(|value| value.as_bytes().into()).collect();
                Arc::new(RandomTable::new(values))
            }
            other => {
                let remedy = format!("the types are {KINDS}");
                return Err(spec.error(format!("there is no table type {other:?}"), &remedy));
            }
        })
    }

    fn members(&mut self, spec: &Spec<'_>) -> Result<Vec<Arc<dyn LookupTable>>, TableError> {
        items(spec)?.iter().map(|member| self.table(member, spec.base)).collect()
    }
}

/// One table by itself. A relative path starts at `base`.
///
/// # Errors
/// [`TableError`].
pub fn open(table: &str, base: &Path) -> Result<Maps, TableError> {
    let (lookups, nothing) = (Lookups::default(), OpenTables::default());
    Opener::new(&lookups, RemoteSettings::default(), &nothing).maps(&[table.to_owned()], base)
}

/// `inline:{ key=value, { key = text with blanks } }`.
fn inline(spec: &Spec<'_>) -> Result<StringTable, TableError> {
    let mut table = StringTable::default();
    for item in items(spec)? {
        let Some((key, value)) = item.split_once('=') else {
            return Err(
                spec.error(format!("{item:?} has no ="), "write inline:{ key=value, { key = long value } }")
            );
        };
        table.insert(key.trim().as_bytes(), value.trim().as_bytes());
    }
    Ok(table)
}

/// What stands between braces, separated by commas or blanks; an item in braces of its own may hold them.
fn items(spec: &Spec<'_>) -> Result<Vec<String>, TableError> {
    let inner = spec.name.trim().strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
    let Some(inner) = inner else {
        let remedy = format!("write {}:{{ one, two }}", spec.kind);
        return Err(spec.error("its list is not in braces", &remedy));
    };
    let items: Vec<String> = split_items(inner)
        .map(|item| {
            let bare = item.strip_prefix('{').and_then(|item| item.strip_suffix('}'));
            bare.map_or(item, str::trim).to_owned()
        })
        .collect();
    if items.is_empty() {
        return Err(spec.error("its list is empty", "put something between the braces"));
    }
    Ok(items)
}

/// The items of a list: commas and blanks separate them, but not between braces.
pub(crate) fn split_items(text: &str) -> impl Iterator<Item = &str> {
    let mut depth = 0_u32;
    text.split(move |letter: char| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && (letter == ',' || letter.is_ascii_whitespace())
    })
    .filter(|item| !item.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use bumpalo::Bump;

    fn found(table: &str, key: &str) -> Option<String> {
        let arena = Bump::new();
        let maps = open(table, Path::new("/")).unwrap();
        let value = maps.find(&arena, key.as_bytes()).unwrap();
        value.map(|value| String::from_utf8(value.to_vec()).unwrap())
    }

    fn refused(table: &str) -> String {
        open(table, Path::new("/")).unwrap_err().to_string()
    }

    #[test]
    fn lists_are_split_outside_of_braces() {
        let items: Vec<&str> = split_items("a:b, c:{ d, e } {f g},{{h}}").collect();
        assert_eq!(items, ["a:b", "c:{ d, e }", "{f g}", "{{h}}"]);
    }

    #[test]
    fn tables_without_files() {
        let inline = "inline:{ a=b, { C = d e } }";
        assert_eq!(found(inline, "A").as_deref(), Some("b"));
        assert_eq!(found(inline, "c").as_deref(), Some("d e"));
        assert_eq!(found(inline, "x"), None);
        assert_eq!(found("static:x", "any").as_deref(), Some("x"));
        assert_eq!(found("static:{ x y }", "any").as_deref(), Some("x y"));
        assert_eq!(found("unionmap:{static:a, inline:{k=b}, static:c}", "k").as_deref(), Some("a,b,c"));
        assert_eq!(found("unionmap:{inline:{k=b}}", "l"), None);
        assert_eq!(found("pipemap:{inline:{a=b}, inline:{b=c}}", "a").as_deref(), Some("c"));
        assert_eq!(found("pipemap:{inline:{a=b}, inline:{x=c}}", "a"), None);
        assert!(["x", "y"].contains(&found("randmap:{x,y}", "any").unwrap().as_str()));
    }

    #[test]
    fn what_is_wrong_is_said() {
        assert!(refused("hahs:/x").contains("no table type \"hahs\""));
        assert!(refused("inline:a=b").contains("write inline:{ one, two }"));
        assert!(refused("inline:{a}").contains("\"a\" has no ="));
        assert!(refused("texthash:no/such/file").contains("cannot read /no/such/file"));
    }
}
