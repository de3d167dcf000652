//! Lookups of addresses, against the order of keys that canonical(5) and virtual(5) list.

use std::collections::BTreeMap;
use std::sync::Arc;

use bumpalo::Bump;
use mailrace_core::Sharer;
use mailrace_core::address::{Destinations, RewriteContext, Rewriting};
use mailrace_core::lookup::{AddressLookup, Extension, KeyForm, LookupError, LookupTable, Maps};
use proptest::prelude::*;

#[derive(Debug)]
struct Table(BTreeMap<String, String>);

impl LookupTable for Table {
    fn look_up<'a>(&'a self, _: &'a Bump, key: &[u8], _: Sharer) -> Result<Option<&'a [u8]>, LookupError> {
        let key = String::from_utf8_lossy(key).to_lowercase();
        Ok(self.0.get(&key).map(String::as_bytes))
    }
}

/// Keys for `user`, its extension (with the delimiter, or empty) and its domain, each with the extension that it lacks.
fn keys(user: &str, extension: &str, domain: &str) -> Vec<(String, String)> {
    let is_ours = ["example.com", "own.example"].contains(&domain);
    let all = [
        (format!("{user}{extension}@{domain}"), ""),
        (format!("{user}@{domain}"), extension),
        (if is_ours { format!("{user}{extension}") } else { String::new() }, ""),
        (if is_ours { user.to_owned() } else { String::new() }, extension),
        (format!("@{domain}"), ""),
    ];
    all.into_iter().map(|(key, unmatched)| (key, unmatched.to_owned())).collect()
}

fn rewriting() -> Rewriting {
    let local = RewriteContext { origin: b"example.com".to_vec(), domain: b"example.com".to_vec() };
    Rewriting { local, ..Rewriting::default() }
}

proptest! {
    #[test]
    fn the_first_key_that_any_table_has_decides(
        user in "(joe|ann)", extension in "(\\+(a|b\\+c)?)?",
        domain in prop::sample::select(&["example.com", "own.example", "other.example"][..]),
        entries in prop::collection::vec(
            ("(joe|ann)?(\\+(a|b\\+c)?)?(@(example\\.com|own\\.example|other\\.example))?", "[v-z]{1,3}", 0..2_usize), 0..12,
        ),
    ) {
        let mut tables = [BTreeMap::new(), BTreeMap::new()];
        for (key, value, table) in entries {
            tables[table].entry(key).or_insert(value);
        }
        let expected = keys(&user, &extension, domain).into_iter().find_map(|(key, unmatched)| {
            let value = tables.iter().find_map(|table| table.get(&key).filter(|_| !key.is_empty()))?;
            Some((value.clone(), unmatched))
        });
        let maps = Maps::new(tables.into_iter().map(|table| Arc::new(Table(table)) as Arc<dyn LookupTable>).collect());
        let (arena, rewriting) = (Bump::new(), rewriting());
        let destinations =
            Destinations { mydestination: ["own.example"].into_iter().collect(), ..Destinations::default() };
        let lookup = AddressLookup {
            arena: &arena, rewriting: &rewriting, destinations: &destinations, recipient_delimiter: b"+",
            asker: Sharer::default().into(),
        };
        let address = arena.alloc_str(&format!("{user}{extension}@{domain}")).as_bytes();
        for form in [KeyForm::External, KeyForm::ExternalFirst] {
            let found = lookup.find(&maps, address, form).unwrap();
            let found = found.map(|(value, unmatched)| {
                (String::from_utf8_lossy(value).into_owned(), String::from_utf8_lossy(unmatched).into_owned())
            });
            prop_assert_eq!(&found, &expected, "{:?}", form);
        }
        // As an alias, the value is completed, and has what its key lacks where that is wanted.
        for (extension, is_kept) in [(Extension::Propagate, true), (Extension::Drop, false)] {
            let mapped = lookup.map(&maps, address, extension).unwrap();
            let mapped: Option<Vec<String>> =
                mapped.map(|all| all.iter().map(|one| String::from_utf8_lossy(one).into_owned()).collect());
            let wanted = expected.as_ref().map(|(value, unmatched)| {
                vec![format!("{value}{}@example.com", if is_kept { unmatched } else { "" })]
            });
            prop_assert_eq!(mapped, wanted);
        }
    }

    #[test]
    fn a_result_of_a_domain_replaces_the_domain_only(
        user in "[a-z]{1,6}", extension in "(\\+[a-z]{0,3})?", domain in "[a-z]{1,6}\\.example",
    ) {
        let table = BTreeMap::from([(format!("@{domain}"), "@new.example".to_owned())]);
        let maps = Maps::new(vec![Arc::new(Table(table))]);
        let (arena, rewriting, destinations) = (Bump::new(), rewriting(), Destinations::default());
        let lookup = AddressLookup {
            arena: &arena, rewriting: &rewriting, destinations: &destinations, recipient_delimiter: b"+",
            asker: Sharer::default().into(),
        };
        let address = arena.alloc_str(&format!("{user}{extension}@{domain}")).as_bytes();
        let mapped = lookup.map(&maps, address, Extension::Propagate).unwrap().unwrap();
        let wanted = format!("{user}{extension}@new.example");
        prop_assert_eq!(mapped.as_slice(), &[wanted.as_bytes()]);
    }
}
