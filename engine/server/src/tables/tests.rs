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
