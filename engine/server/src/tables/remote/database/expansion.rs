//! How keys become queries and rows become values: `%s`, `%u`, `%d` and their kin, as in Postfix's
//! mysql_table(5).

use super::super::super::TableError;
use super::parameters::Parameters;

/// Parameters that all tables in databases have.
pub(super) const COMMON_NAMES: [&str; 3] = ["result_format", "domain", "expansion_limit"];

/// A query or a format of results.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// `%s`, `%S`: all of it.
    Whole(Of),
    /// `%u`, `%U`: the local-part, or all if there is no domain.
    Mailbox(Of),
    /// `%d`, `%D`: the domain.
    Domain(Of),
    /// `%1` to `%9`: a label of the key's domain, the last one first.
    Label(usize),
}

/// Of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    /// What is put in: the key in a query, the row in a result.
    Input,
    /// The key.
    Key,
}

impl Template {
    pub(super) fn parse(parameters: &Parameters<'_, '_>, name: &str, text: &str) -> Result<Self, TableError> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            if letter != '%' {
                plain.push(letter);
                continue;
            }
            let piece = match letters.next() {
                Some('%') => {
                    plain.push('%');
                    continue;
                }
                Some('s') => Piece::Whole(Of::Input),
                Some('S') => Piece::Whole(Of::Key),
                Some('u') => Piece::Mailbox(Of::Input),
                Some('U') => Piece::Mailbox(Of::Key),
                Some('d') => Piece::Domain(Of::Input),
                Some('D') => Piece::Domain(Of::Key),
                Some(digit @ '1'..='9') => Piece::Label(digit as usize - '1' as usize),
                _ => {
                    let reason = "% is followed by an unknown letter";
                    return Err(parameters.error(name, reason, "write %% for a percent sign"));
                }
            };
            pieces.extend([Piece::Text(std::mem::take(&mut plain)), piece]);
        }
        pieces.push(Piece::Text(plain));
        Ok(Self(pieces))
    }

    /// With what it asks for put in through `escape`; `None` if that is not there.
    pub(super) fn expand(&self, input: &str, key: &str, escape: impl Fn(&str) -> String) -> Option<String> {
        let mut out = String::new();
        for piece in &self.0 {
            let of = |of: Of| if of == Of::Input { input } else { key };
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Whole(whose) => out.push_str(&escape(of(*whose))),
                Piece::Mailbox(whose) => match of(*whose).rsplit_once('@') {
                    Some(("", _)) => return None,
                    Some((mailbox, _)) => out.push_str(&escape(mailbox)),
                    None => out.push_str(&escape(of(*whose))),
                },
                Piece::Domain(whose) => out.push_str(&escape(of(*whose).rsplit_once('@')?.1)),
                Piece::Label(index) => {
                    let label = key.rsplit_once('@')?.1.rsplit('.').nth(*index)?;
                    out.push_str(&escape(label));
                }
            }
        }
        Some(out)
    }
}

/// What all tables in databases are set to.
#[derive(Clone, Debug)]
pub(super) struct Common {
    pub(super) query: Template,
    result_format: Template,
    /// Only keys in one of these domains are queried; empty: all keys.
    domains: Vec<String>,
    /// Values at most; 0: any number.
    expansion_limit: usize,
}

impl Common {
    pub(super) fn new(parameters: &Parameters<'_, '_>, name: &str, query: &str) -> Result<Self, TableError> {
        let domains = parameters.list("domain", "");
        if let Some(table) = domains.iter().find(|domain| domain.contains([':', '/'])) {
            let reason = format!("{table} is a table or a file");
            return Err(parameters.error("domain", &reason, "write the domains themselves"));
        }
        Ok(Self {
            query: Template::parse(parameters, name, query)?,
            result_format: Template::parse(
                parameters,
                "result_format",
                parameters.text("result_format", "%s"),
            )?,
            domains: domains.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
            expansion_limit: parameters.number("expansion_limit", 0)? as usize,
        })
    }

    /// The query for a key; `None`: there is nothing to ask.
    pub(super) fn query(&self, key: &[u8], escape: impl Fn(&str) -> String) -> Option<String> {
        // No database of text has a key that is no text.
        let key = std::str::from_utf8(key).ok().filter(|key| !key.contains('\0'))?;
        if !self.domains.is_empty() {
            let domain = key.rsplit_once('@').map(|(_, domain)| domain).filter(|domain| !domain.is_empty());
            let is_ours = domain
                .is_some_and(|domain| self.domains.iter().any(|ours| domain.eq_ignore_ascii_case(ours)))
                && !key.starts_with('@');
            if !is_ours {
                return None;
            }
        }
        self.query.expand(key, key, escape)
    }

    /// The value that rows make together.
    pub(super) fn value<'r>(
        &self,
        key: &[u8],
        rows: impl Iterator<Item = &'r str>,
    ) -> Result<Option<Vec<u8>>, String> {
        let key = std::str::from_utf8(key).unwrap_or_default();
        let rows = rows.filter(|row| !row.is_empty());
        let values: Vec<String> =
            rows.filter_map(|row| self.result_format.expand(row, key, str::to_owned)).collect();
        if self.expansion_limit > 0 && values.len() > self.expansion_limit {
            return Err(format!(
                "the answer has {} values, and expansion_limit is {}",
                values.len(),
                self.expansion_limit
            ));
        }
        Ok((!values.is_empty()).then(|| values.join(",").into_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::Spec;
    use std::path::Path;

    fn common(text: &str) -> Result<Common, TableError> {
        let spec = Spec::parse("sqlite:x", Path::new("/"), 0);
        let known = [&COMMON_NAMES[..], &["query"]].concat();
        let parameters = Parameters::parse(&spec, text.as_bytes(), &known)?;
        Common::new(&parameters, "query", parameters.needed("query")?)
    }

    fn query(template: &str, key: &str) -> Option<String> {
        common(&format!("query = {template}")).unwrap().query(key.as_bytes(), |text| text.replace('\'', "''"))
    }

    #[test]
    fn queries_are_made_from_keys() {
        for (template, key, made) in [
            ("a '%s' b", "o'x@y", Some("a 'o''x@y' b")),
            ("%u|%d|%%", "u@d.e", Some("u|d.e|%")),
            ("%u", "u", Some("u")),
            ("%u", "@d", None),
            ("%d", "u", None),
            ("%d", "@d", Some("d")),
            ("%1.%2.%3", "u@mail.example.com", Some("com.example.mail")),
            ("%4", "u@mail.example.com", None),
            ("%1", "u", None),
            ("%u", "\"a@b\"@c", Some("\"a@b\"")),
            ("%S", "x", Some("x")),
        ] {
            assert_eq!(query(template, key).as_deref(), made, "{template} {key}");
        }
    }

    #[test]
    fn queries_only_keys_in_listed_domains() {
        let common = common("query = %s\ndomain = Example.com, b.c").unwrap();
        let asked = |key: &str| common.query(key.as_bytes(), str::to_owned).is_some();
        assert!(asked("u@example.COM") && asked("u@b.c"));
        assert!(!asked("u@a.b.c") && !asked("u") && !asked("@b.c") && !asked("u@"));
    }

    #[test]
    fn rows_become_values() {
        let value = |text: &str, rows: &[&str]| common(text).unwrap().value(b"k@d.e", rows.iter().copied());
        assert_eq!(value("query=x", &["a", "", "b"]), Ok(Some(b"a,b".to_vec())));
        assert_eq!(value("query=x", &[""]), Ok(None));
        let formatted = value("query=x\nresult_format = %u:%d:%S:%U:%D:%1", &["a@b", "c"]);
        assert_eq!(formatted, Ok(Some(b"a:b:k@d.e:k:d.e:e".to_vec())));
        assert!(value("query=x\nexpansion_limit=1", &["a", "b"]).is_err());
    }

    #[test]
    fn errors_name_the_line() {
        for (text, wanted) in [
            ("query = a%x", "/x:1: sqlite:x: query: % is followed by an unknown letter"),
            ("\nquery = a\nquery = b", "/x:3: sqlite:x: query is a duplicate"),
            ("qeury = a", "/x:1: sqlite:x: unknown parameter qeury; the parameters are"),
            ("query", "/x:1: sqlite:x: has no ="),
            ("", "sqlite:x: /x has no query"),
            ("query=a\nexpansion_limit = many", "/x:2: sqlite:x: expansion_limit: \"many\" is not a number"),
            ("query=a\ndomain = hash:/x", "/x:2: sqlite:x: domain: hash:/x is a table"),
        ] {
            let error = common(text).unwrap_err().to_string();
            assert!(error.starts_with(wanted), "{text}: {error}");
        }
    }
}
