mod longest;

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::tables::report::Findings;
use crate::tables::{BadLines, TableErrors};

fn read(kind: &str, text: &[u8]) -> Result<(PatternTable, Vec<String>), String> {
    let name = format!("{kind}:x");
    let spec = Spec::parse(&name, Path::new("/"), 0);
    let mut report = Report::new(&spec, BadLines::Refuse);
    let table = PatternTable::parse(&spec, text, &mut report, &Lookups::default());
    let Findings { errors, notes, .. } = report.finish();
    if errors.is_empty() { Ok((table, notes)) } else { Err(TableErrors(errors).to_string()) }
}

fn table(kind: &str, text: &str) -> Result<PatternTable, String> {
    read(kind, format!("{text}\n").as_bytes()).map(|(table, _)| table)
}

fn found(table: &PatternTable, key: &[u8]) -> Option<String> {
    let arena = Bump::new();
    table
        .look_up(&arena, key, Sharer::default())
        .unwrap()
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

#[test]
fn the_first_match_wins_and_groups_are_filled_in() {
    let text =
        "/^Subject: (\\w+) x/ REJECT $1 ${1}$$\n!/:/ none\nif /^to:/\n/a@b/i IGNORE\nendif\n/./ REST\n";
    for kind in ["regexp", "pcre"] {
        let table = table(kind, text).unwrap();
        assert_eq!(found(&table, b"SUBJECT: Buy x").as_deref(), Some("REJECT Buy Buy$"));
        assert_eq!(found(&table, b"nothing").as_deref(), Some("none"));
        assert_eq!(found(&table, b"To: a@b").as_deref(), Some("IGNORE"));
        assert_eq!(found(&table, b"To: A@b").as_deref(), Some("REST"), "the flag i turns case on");
    }
}

#[test]
fn patterns_match_invalid_utf8() {
    let pcre = table("pcre", "/^S: \\xe9.\\xff$/ found\n").unwrap();
    assert_eq!(found(&pcre, b"S: \xe9\n\xff").as_deref(), Some("found"));
    let behind = table("pcre", "/(?<=\\xe9)(.)\\1/ $1\n").unwrap();
    assert_eq!(found(&behind, b"\xe9\xc3\xc3").map(|text| text.len()), Some(3), "one replaced octet");
}

#[test]
fn posix_expressions_keep_their_meaning() {
    let regexp =
        table("regexp", "/^[\\.]x[]a-]$/ one\n/a\\<b/ never\n/\\d/ never\n/\\.D\\D/!/q/ two\n").unwrap();
    assert_eq!(found(&regexp, b"\\x]").as_deref(), Some("one"));
    assert_eq!(found(&regexp, b".x-").as_deref(), Some("one"));
    assert_eq!(found(&regexp, b".dd").as_deref(), Some("two"));
    assert_eq!(found(&regexp, b".ddq"), None);
}

#[test]
fn catastrophic_backtracking_is_stopped() {
    let arena = Bump::new();
    let key = [&[b'a'; 50_000][..], b"!"].concat();
    let linear = table("regexp", "/^(a+)+$/ x").unwrap();
    assert_eq!(found(&linear, &key), None);
    // As in Postfix, a rule that is given up does not match; not so where it is given up again and again.
    let exploding = |rules: usize| {
        table("pcre", &format!("{}/!$/ end", "/^(a+)+$/ x\n!/^(?:a|aa)+$/ y\n".repeat(rules))).unwrap()
    };
    assert_eq!(found(&exploding(1), &key).as_deref(), Some("end"));
    assert_eq!(exploding(2).look_up(&arena, &key, Sharer::default()), Err(LookupError::Unavailable));
    let bounded = table("regexp", "/^(a*)*(a*)*\\1\\2b$/ x\n/!/ end").unwrap();
    assert_eq!(found(&bounded, &key[key.len() - 300..]).as_deref(), Some("end"));
}

#[test]
fn long_texts_get_enough_memory() {
    // More than the stack of compiled code has room for.
    let text = "ab".repeat(25_000);
    let pcre = table("pcre", "/^(a|b(?=a|$))*$/ $1").unwrap();
    assert_eq!(found(&pcre, text.as_bytes()).as_deref(), Some("b"));
    assert!(!pcre.rules[0].is_limit_said.load(Ordering::Relaxed));
}

#[test]
fn refuses_repetitions_that_overflow() {
    for (kind, pattern) in [
        ("pcre", "a{4099276460824344769}".to_owned()),
        ("pcre", format!("(?=b){}a{}", "(?:".repeat(5), "){65535}".repeat(5))),
        ("regexp", "a{32768}".to_owned()),
        ("regexp", format!("{}a{}", "(".repeat(5), "){32767}".repeat(5))),
        ("regexp", "(".repeat(100_000)),
    ] {
        let error = table(kind, &format!("/{pattern}/ x")).unwrap_err();
        assert!(error.contains("/x:1:") && error.contains("invalid pattern"), "{error}");
    }
    let table = table("pcre", "/^(a{2})(\\1\\1)(?!b)/ $2\n").unwrap();
    assert_eq!(found(&table, b"aaaaaa").as_deref(), Some("aaaa"));
}

#[test]
fn flags_have_their_meaning_in_postfix() {
    for (rule, key, is_match) in [
        ("/^a$/", &b"A"[..], true),
        ("/^a$/i", b"A", false),
        ("/a.b/", b"a\nb", true),
        ("/a.b/s", b"a\nb", false),
        ("/^b$/m", b"a\nb\nc", true),
        ("/^ a # b\\/x", b"a", false),
        ("/ a b #c/x", b"ab", true),
        ("/b/A", b"ab", false),
        ("/a|b/A", b"ba", true),
        ("/a$/", b"a\n", true),
        ("/a$/E", b"a\n", false),
        ("/[$]\\$$/E", b"$$", true),
        ("/a\\Q$\\E$/E", b"a$\n", false),
    ] {
        let table = table("pcre", &format!("{rule} x"));
        assert_eq!(table.ok().and_then(|table| found(&table, key)).is_some(), is_match, "{rule}");
    }
    let ungreedy = table("pcre", "/^(a+)(a*)/U $1").unwrap();
    assert_eq!(found(&ungreedy, b"aaa").as_deref(), Some("a"));
}

#[test]
fn bytes_outside_utf8_match_themselves() {
    let line = |pattern: &[u8]| [b"/", pattern, b"/ x\n"].concat();
    for (pattern, key) in [
        (&b"^\xe9$"[..], &b"\xe9"[..]),
        (b"^[\xe8-\xe9]+$", b"\xe8\xe9"),
        (b"^\\\xe9$", b"\xe9"),
        (b"^\\Qa.\xe9.\\E$", b"a.\xe9."),
        (b"^\xc3\xa9{2}$", b"\xc3\xa9\xa9"),
    ] {
        let (table, _) = read("pcre", &line(pattern)).unwrap();
        assert!(found(&table, key).is_some(), "{}", pattern.escape_ascii());
    }
    let (posix, _) = read("regexp", &line(b"^[\xe8-\xe9].$")).unwrap();
    assert!(found(&posix, b"\xe8\xff").is_some());
    assert!(read("pcre", b"/a\0b/ x\n").is_err_and(|error| error.contains("has a NUL byte")));
}

#[test]
fn reports_all_invalid_lines_together() {
    let text = "/(/ x\n/a/ ok\n/b/\nfoo\n/c/ $7\nendif\nif /d/\n";
    let error = table("pcre", text).unwrap_err();
    let lines: Vec<&str> = error.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["/x:1:", "/x:3:", "/x:4:", "/x:5:", "/x:6:", "/x:7:"], "{error}");
}

#[test]
fn skips_invalid_lines_on_request() {
    let spec = Spec::parse("regexp:x", Path::new("/"), 0);
    let mut report = Report::new(&spec, BadLines::Warn);
    let text = b"/(?:a)/ x\nif /(/\n/a/ $1\n/b/\nendif\n/./ rest\n";
    let table = PatternTable::parse(&spec, text, &mut report, &Lookups::default());
    let Findings { errors, notes, .. } = report.finish();
    assert_eq!(errors, []);
    assert_eq!(notes.len(), 5, "{notes:?}");
    assert!(notes[0].starts_with("warning: /x:1: regexp:x: invalid pattern"), "{notes:?}");
    assert!(
        notes[0].contains("(?: is Perl syntax") && notes[0].ends_with("; the rule is skipped"),
        "{notes:?}"
    );
    assert_eq!(found(&table, b"a").as_deref(), Some("rest"));
    assert_eq!(found(&table, b"b").as_deref(), Some(""));
}

#[test]
fn notes_perl_syntax() {
    let notes = |text: &[u8]| read("regexp", text).unwrap().1;
    assert!(notes(b"/\\d+/ x\n")[0].contains("\\d is the letter d here, which matches nothing while"));
    assert!(notes(b"/\\D/i x\n")[0].contains("\\D is the letter D here; only pcre"));
    assert!(notes(b"/a*?/ x\n")[0].contains("only pcre has lazy ones"));
    assert_eq!(notes(b"/^\\.[0-9]+\\w\\<a/ x\n"), Vec::<String>::new());
}

#[test]
fn errors_name_the_line() {
    for (text, wanted) in [
        ("x y", "/x:1: pcre:x: \"x y\" is not a pattern"),
        ("\n/(/ x", "/x:2: pcre:x: invalid pattern: at byte 1: missing closing parenthesis"),
        ("/a/", "/x:1: pcre:x: has no value"),
        ("/a/q x", "unknown flag 'q'"),
        ("/a/ $1", "the pattern has no group $1"),
        ("if /a/", "if without endif"),
        ("if /a/ x\nendif", "/x:1: pcre:x: text after the pattern of an if"),
        (" /a/ x", "/x:1: pcre:x: begins with a space"),
    ] {
        let error = table("pcre", text).unwrap_err();
        assert!(error.contains(wanted), "{error}");
    }
}

#[test]
fn values_are_built_from_groups() {
    for (kind, line, key, wanted) in [
        ("pcre", "/^(a)?(b)$/ x${1}y${2}z", "b", "xybz"),
        ("regexp", "/^(a)?(b)$/ x${1}y${2}z", "b", "xybz"),
        ("pcre", "/^(\\w+)@(\\w+)$/ ${2}0-$(1)-$$1", "Joe@Host", "Host0-Joe-$1"),
        ("regexp", "/^([a-z]+)@([a-z]+)$/ ${2}0-$(1)-$$1", "Joe@Host", "Host0-Joe-$1"),
        ("pcre", "/(((((((((((k)))))))))))/ $11", "k", "k"),
        ("regexp", "/^\\(a\\)\\(b\\)/x $2$1", "AB", "BA"),
        ("pcre", "/^(?<name>a)(?:b)(c)/ $2", "abc", "c"),
        ("pcre", "|^/(.*)$| $1", "/x", "x"),
        ("regexp", "%a\\%b% sign", "a%b", "sign"),
        // POSIX takes the longest of the leftmost matches, Perl the first alternative.
        ("pcre", "/^(a|ab)(c|bcd)?/ $1.$2", "abcd", "a.bcd"),
        ("regexp", "/(a|ab)(c|bcd)?$/ $1.$2", "abcd", "a.bcd"),
        ("pcre", "/(a|ab)/ $1", "ab", "a"),
        ("regexp", "/(a|ab)/ $1", "ab", "ab"),
    ] {
        let table = table(kind, line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(found(&table, key.as_bytes()).as_deref(), Some(wanted), "{kind} {line}");
    }
}

#[test]
fn conditions_nest() {
    let text = "if /a/\nif !/b/\n/c/ a without b\nendif\n/c/ a and b\nendif\nIF/d/\nENDIF\n/c/ neither\n";
    for kind in ["regexp", "pcre"] {
        let table = table(kind, text).unwrap();
        for (key, wanted) in [
            ("ac", Some("a without b")),
            ("abc", Some("a and b")),
            ("bc", Some("neither")),
            ("dc", Some("neither")),
            ("ab", None),
        ] {
            assert_eq!(found(&table, key.as_bytes()).as_deref(), wanted, "{kind} {key}");
        }
    }
}

#[test]
fn look_behind_is_bounded() {
    for (pattern, key, is_match) in [
        ("(?<=ab|c)d", "abd", true),
        ("(?<=ab|c)d", "ad", false),
        ("(?<!ab|c)d", "ad", true),
        ("a(?=b+c)", "abbc", true),
        ("a(?!b+c)", "abbc", false),
    ] {
        let table = table("pcre", &format!("/{pattern}/ x")).unwrap();
        assert_eq!(found(&table, key.as_bytes()).is_some(), is_match, "{pattern} {key}");
    }
    for pattern in ["(?<=a*)b", "(?<!a+)b", "(?<=\\1)(a)b*"] {
        if let Err(error) = table("pcre", &format!("\n/{pattern}/ x")) {
            assert!(error.starts_with("/x:2: pcre:x: invalid pattern: "), "{error}");
        } else {
            assert!(pattern.contains('\\'), "{pattern} has no bound");
        }
    }
    for pattern in ["(?=a)", "(?!a)", "(?<=a)", "(?:a)", "(?i)a"] {
        let error = table("regexp", &format!("/{pattern}/ x")).err().unwrap();
        assert!(error.contains("is Perl syntax, which POSIX does not have"), "{pattern}: {error}");
    }
}

/// What glibc makes of each (regcomp(3) in the C locale); case is ignored.
#[test]
fn posix_expressions_match_as_in_glibc() {
    for (pattern, key, is_match) in [
        ("^[[:digit:]]{2,3}$", "123", true),
        ("^[[:digit:]]{2,3}$", "1234", false),
        ("^a{,2}$", "aa", true),
        ("^a{,2}$", "aaa", false),
        ("^a{2,}$", "aaaa", true),
        ("^[]a]$", "]", true),
        ("^[^]a]$", "]", false),
        ("^[a-]$", "-", true),
        ("^[[.-.]a]$", "-", true),
        ("^[[=a=]b]$", "A", true),
        ("^[[:upper:]]$", "a", true),
        ("\\bword\\b", "a word.", true),
        ("\\bword\\b", "swords", false),
        ("\\<b", "a b", true),
        ("a\\>", "ab", false),
        ("^\\w\\W$", "a-", true),
        ("^(a)\\1$", "aa", true),
        ("^(a|b)\\1$", "ab", false),
        ("^()$", "", true),
        ("a||b", "", true),
        ("^a.c$", "a\nc", true),
        ("^\\.$", "a", false),
        ("a\\|b", "a|b", true),
    ] {
        let table =
            table("regexp", &format!("/{pattern}/ x")).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        assert_eq!(found(&table, key.as_bytes()).is_some(), is_match, "{pattern} {key:?}");
    }
    for (pattern, said) in [
        ("a{2,1}", "Invalid content of \\{\\}"),
        ("a{1", "Unmatched { or \\{"),
        ("a{x}", "Invalid content of \\{\\}"),
        ("*a", "Invalid preceding regular expression"),
        ("(a", "Unmatched ( or \\("),
        ("[a", "Unmatched [, [^, [:, [., or [="),
        ("[[:nope:]]", "Invalid character class name"),
        ("[[.ab.]]", "Invalid collation character"),
        ("[b-a]", "Invalid range end"),
        ("\\1(a)", "Invalid back reference"),
        ("a{32768}", "Regular expression too big"),
    ] {
        let error = table("regexp", &format!("/{pattern}/ x")).err().unwrap_or_default();
        assert!(error.contains(&format!("invalid pattern: {said}")), "{pattern}: {error}");
    }
}

/// A pattern whose meaning is the same in POSIX and in Perl.
fn common_pattern() -> impl Strategy<Value = String> {
    let leaf = prop_oneof!["[a-c]", Just(".".to_owned()), Just("[ab]".to_owned()), Just("[^a]".to_owned())];
    leaf.prop_recursive(4, 16, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
            (inner.clone(), inner.clone()).prop_map(|(one, other)| format!("({one}|{other})")),
            (inner, prop_oneof!["[*+?]", Just("{2}".to_owned()), Just("{1,2}".to_owned())])
                .prop_map(|(part, times)| format!("({part}){times}")),
        ]
    })
}

proptest! {
    #[test]
    fn posix_and_perl_agree_on_common_patterns(
        pattern in common_pattern(),
        start in prop_oneof![Just(""), Just("^")],
        end in prop_oneof![Just(""), Just("$")],
        keys in proptest::collection::vec("[a-dA-C]{0,8}", 8),
    ) {
        let line = format!("/{start}({pattern}){end}/ x\n!/a/ rest");
        let (posix, perl) = (table("regexp", &line).unwrap(), table("pcre", &line).unwrap());
        for key in keys {
            prop_assert_eq!(found(&posix, key.as_bytes()), found(&perl, key.as_bytes()), "{} {}", line, key);
        }
    }

    #[test]
    fn any_lines_are_a_table_or_are_refused(text in "(if |endif|!|/|[a(|)*^$\\\\\\[\\]{},1 \n]){0,40}", key in "[a(|)1]{0,8}") {
        for kind in ["regexp", "pcre"] {
            if let Ok((table, _)) = read(kind, text.as_bytes()) {
                let arena = Bump::new();
                let _ = table.look_up(&arena, key.as_bytes(), Sharer::default());
            }
        }
    }
}
