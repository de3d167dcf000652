use super::*;
use bumpalo::Bump;

fn found(table: &str, key: &str) -> Option<String> {
    let arena = Bump::new();
    let maps = open(table, Path::new("/")).unwrap();
    let value = maps.find(&arena, key.as_bytes(), mailrace_core::Sharer::default()).unwrap();
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

/// Postfix refuses them too; some would come out as another value.
#[test]
fn refuses_unbalanced_braces() {
    for table in [
        "pcre:{{/a/ x}}}",
        "pcre:{{{/a/ x}}",
        "pcre:{{/a/ x}y}",
        "pcre:{{/a/ x}{/b/ y}}",
        "cidr:{{10.0.0.0/8 x}}}",
        "inline:{{a = b}}}",
        "inline:{a=b}}",
        "unionmap:{static:a}}",
    ] {
        assert!(refused(table).contains("do not match"), "{table}: {}", refused(table));
    }
    assert_eq!(found("pcre:{{/a{2}/ {x}}}", "aa").as_deref(), Some("{x}"));
    assert!(refused("static:").contains("has no value"));
}

#[test]
fn opens_tables_without_files() {
    let inline = "inline:{ a=b, { C = d e } }";
    assert_eq!(found(inline, "A").as_deref(), Some("b"));
    assert_eq!(found(inline, "c").as_deref(), Some("d e"));
    assert_eq!(found(inline, "x"), None);
    assert_eq!(found("proxy:static:x", "any").as_deref(), Some("x"));
    assert_eq!(found("unionmap:{proxy:static:a}", "any").as_deref(), Some("a"));
    let pcre = "pcre:{{/^a{2}(b+),/ REJECT $1, x}, {if /c/}\n{!/d/ e}, { endif }}";
    assert_eq!(found(pcre, "aabb,").as_deref(), Some("REJECT bb, x"));
    assert_eq!(found(pcre, "c").as_deref(), Some("e"));
    assert_eq!(found("regexp:{{/^(a|b)$/x no},{/^(a|b)$/ yes}}", "b").as_deref(), Some("yes"));
    assert_eq!(found("cidr:{{192.0.2.0/24 x}, {::/0 y}}", "192.0.2.9").as_deref(), Some("x"));
    assert_eq!(found("static:x", "any").as_deref(), Some("x"));
    assert_eq!(found("static:{ x y }", "any").as_deref(), Some("x y"));
    assert_eq!(found("unionmap:{static:a, inline:{k=b}, static:c}", "k").as_deref(), Some("a,b,c"));
    assert_eq!(found("unionmap:{inline:{k=b}}", "l"), None);
    assert_eq!(found("pipemap:{inline:{a=b}, inline:{b=c}}", "a").as_deref(), Some("c"));
    assert_eq!(found("pipemap:{inline:{a=b}, inline:{x=c}}", "a"), None);
    assert!(["x", "y"].contains(&found("randmap:{x,y}", "any").unwrap().as_str()));
}

#[test]
fn reports_invalid_tables() {
    assert!(refused("hahs:/x").contains("unknown table type \"hahs\""));
    assert!(refused("inline:a=b").contains("write inline:{ one, two }"));
    assert!(refused("inline:{a, b=c, d}").contains("rule 1: \"a\" has no ="));
    assert!(refused("inline:{a, b=c, d}").contains("rule 3: \"d\" has no ="));
    assert!(refused("mysql:/etc/x.cf").contains("mysql are not supported in this release; use pgsql"));
    assert!(refused("pcre:{/a/ b}").contains("\"/a/\" is not in braces"));
    assert!(refused("texthash:no/such/file").contains("cannot read /no/such/file"));
}

/// A directory with table files that is removed at the end of its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mailrace-tables-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn write(&self, name: &str, text: &str) {
        // A new file, so that its inode tells it from the old one even within the clock's resolution.
        let new = self.0.join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(&new, self.0.join(name)).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn names(tables: &[&str]) -> Vec<String> {
    tables.iter().map(|table| (*table).to_owned()).collect()
}

fn value(maps: &Maps, key: &str) -> Option<String> {
    let arena = Bump::new();
    let found = maps.find(&arena, key.as_bytes(), mailrace_core::Sharer::default()).unwrap();
    found.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

#[test]
fn tables_are_searched_in_the_order_of_the_list() {
    let (lookups, nothing) = (Lookups::default(), OpenTables::default());
    let mut opener = Opener::new(&lookups, TableSettings::default(), &nothing);
    let tables = names(&["inline:{a=1}", "inline:{a=2, b=3}", "static:rest"]);
    let maps = opener.maps(&tables, Path::new("/")).unwrap();
    for (key, wanted) in [("a", "1"), ("b", "3"), ("c", "rest")] {
        assert_eq!(value(&maps, key).as_deref(), Some(wanted), "{key}");
    }
}

#[test]
fn a_reload_reads_only_files_that_changed() {
    let scratch = Scratch::new("reload");
    scratch.write("one", "a 1\n");
    scratch.write("two", "b 1\n");
    let lookups = Lookups::default();
    let open = |previous: &OpenTables| {
        let mut opener = Opener::new(&lookups, TableSettings::default(), previous);
        let maps = opener.maps(&names(&["texthash:one", "hash:two"]), &scratch.0);
        (maps, opener.into_parts())
    };
    let same = |one: &OpenTables, other: &OpenTables, name: &str| {
        let key = (scratch.0.clone(), name.to_owned());
        Arc::ptr_eq(&one.0[&key].table, &other.0[&key].table)
    };
    let (maps, (first, files, _)) = open(&OpenTables::default());
    assert_eq!(value(&maps.unwrap(), "a").as_deref(), Some("1"));
    assert_eq!(files.now(), files);
    scratch.write("one", "a 22\n");
    assert_ne!(files.now(), files);
    let (maps, (second, files, _)) = open(&first);
    let maps = maps.unwrap();
    assert_eq!((value(&maps, "a").as_deref(), value(&maps, "b").as_deref()), (Some("22"), Some("1")));
    assert!(!same(&first, &second, "texthash:one") && same(&first, &second, "hash:two"));
    std::fs::remove_file(scratch.0.join("two")).unwrap();
    assert_ne!(files.now(), files);
    let (maps, _) = open(&second);
    assert!(maps.unwrap_err().to_string().starts_with("hash:two: cannot read "));
}

#[test]
fn a_file_without_a_last_line_end_may_still_be_being_written() {
    let scratch = Scratch::new("unfinished");
    let lookups = Lookups::default();
    let files = |text: &str| {
        scratch.write("table", text);
        let nothing = OpenTables::default();
        let mut opener = Opener::new(&lookups, TableSettings::default(), &nothing);
        opener.maps(&names(&["texthash:table"]), &scratch.0).unwrap();
        opener.into_parts()
    };
    let hour = std::time::Duration::from_secs(3600);
    let (_, whole, notes) = files("a 1\n");
    assert!(whole.unfinished(&Files::default()).is_empty() && !whole.are_being_written(hour));
    assert_eq!(notes, [""; 0]);
    let (_, part, notes) = files("a 1\nb 2");
    assert_eq!(part.unfinished(&whole), [scratch.0.join("table")]);
    assert!(part.unfinished(&part).is_empty(), "it is said once");
    assert!(part.are_being_written(hour) && !part.are_being_written(std::time::Duration::ZERO));
    assert!(notes[0].contains("/table:2: texthash:table: the last line has no line end"), "{notes:?}");
}

#[test]
fn a_file_that_is_too_large_is_refused_with_its_size() {
    let scratch = Scratch::new("large");
    scratch.write("table", &"a 1\n".repeat(2000));
    let (lookups, nothing) = (Lookups::default(), OpenTables::default());
    let open = |size_max| {
        let settings = TableSettings { size_max, ..TableSettings::default() };
        let result = Opener::new(&lookups, settings, &nothing).maps(&names(&["texthash:table"]), &scratch.0);
        result.map(drop).map_err(|errors| errors.to_string())
    };
    assert_eq!(open(8000), Ok(()));
    let said = open(7999).unwrap_err();
    assert!(said.contains("has 8000 bytes, more than the 7999 that are allowed"), "{said}");
    assert!(said.ends_with("; name a smaller file, or raise table_size_limit in [engine]"), "{said}");
}

#[test]
fn values_that_are_no_action_refuse_a_table_of_checks() {
    let lookups = Lookups::default();
    let open = |bad_lines| {
        let nothing = OpenTables::default();
        let settings = TableSettings { bad_lines, ..TableSettings::default() };
        let mut opener = Opener::new(&lookups, settings, &nothing);
        let tables = names(&["inline:{a=REJECT, b=FROBNICATE}", "static:IGNORE", "pcre:{{/(x)/ $1}}"]);
        // The same table may be used where its values are no actions.
        assert!(opener.maps(&tables, Path::new("/")).is_ok());
        let result = opener.action_maps(&tables, Path::new("/")).map(drop);
        (result.map_err(|errors| errors.to_string()), opener.into_parts().2)
    };
    let (result, notes) = open(BadLines::Refuse);
    let said = result.unwrap_err();
    assert!(said.contains("rule 2: ") && said.contains("write an action of header_checks(5)"), "{said}");
    assert_eq!((said.lines().count(), notes), (1, vec![]));
    let (result, notes) = open(BadLines::Warn);
    assert_eq!(result, Ok(()));
    assert!(notes.len() == 1 && notes[0].ends_with("; the value has no effect"), "{notes:?}");
}

#[test]
fn all_tables_of_a_list_that_cannot_be_used_are_named() {
    let (lookups, nothing) = (Lookups::default(), OpenTables::default());
    let mut opener = Opener::new(&lookups, TableSettings::default(), &nothing);
    let tables = names(&["nosuch:x", "static:ok", "memcache:/x", "pcre:{/a/ b}"]);
    let TableErrors(errors) = opener.maps(&tables, Path::new("/")).unwrap_err();
    assert_eq!(
        errors.iter().map(|error| &*error.table).collect::<Vec<_>>(),
        ["nosuch:x", "memcache:/x", "pcre:{/a/ b}"]
    );
    for (kind, _) in INSTEAD {
        assert!(refused(&format!("{kind}:x")).contains("not supported in this release; "), "{kind}");
    }
}

#[test]
fn an_inline_table_says_what_is_wrong_with_an_entry() {
    for (table, wanted) in [
        ("inline:{=b}", "rule 1: has no key; "),
        ("inline:{a=b, { = c }}", "rule 2: has no key; "),
        ("inline:{}", "its list is empty"),
        ("inline:{ , }", "its list is empty"),
    ] {
        assert!(refused(table).contains(wanted), "{table}: {}", refused(table));
    }
    assert_eq!(found("inline:{a=b=c}", "a").as_deref(), Some("b=c"));
    assert_eq!(found("inline:{a=}", "a").as_deref(), Some(""), "as in Postfix");
    let (lookups, nothing) = (Lookups::default(), OpenTables::default());
    let mut opener = Opener::new(&lookups, TableSettings::default(), &nothing);
    let maps = opener.maps(&names(&["inline:{a=1, A=2}"]), Path::new("/")).unwrap();
    assert_eq!(value(&maps, "a").as_deref(), Some("2"));
    assert_eq!(opener.into_parts().2, ["inline:{a=1, A=2}: rule 1: duplicate key a; the last entry counts"]);
}

#[test]
fn a_failing_part_fails_the_table_that_is_made_of_it() {
    for table in
        ["fail:x", "unionmap:{static:a, fail:x}", "pipemap:{static:a, fail:x}", "pipemap:{fail:x, static:a}"]
    {
        let arena = Bump::new();
        let maps = open(table, Path::new("/")).unwrap();
        assert!(maps.find(&arena, b"k", mailrace_core::Sharer::default()).is_err(), "{table}");
    }
    // Nothing is asked after a part that has no answer.
    assert_eq!(found("pipemap:{inline:{a=b}, fail:x}", "c"), None);
    for table in ["unionmap:{static:a, nosuch:x}", "pipemap:{nosuch:x}"] {
        assert!(refused(table).contains("unknown table type \"nosuch\""), "{table}");
    }
}
