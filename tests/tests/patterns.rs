//! Patterns of `pcre:` and `regexp:` tables against Postfix: each means what `postmap -q` says, or is refused where
//! Postfix skips it.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use bumpalo::Bump;
use mailrace::tables;
use mailrace_dev::program::command;
use mailrace_tests::{Directory, skip};

/// What a table of one rule has for keys: `None` where the rule cannot be used.
type Answers = Option<Vec<(Vec<u8>, Vec<u8>)>>;

/// Asks Postfix; `None`: there is no Postfix with this kind of table.
fn postfix(directory: &Path, kind: &str, keys: &[Vec<u8>]) -> Option<Answers> {
    let mut asked = command("postmap")
        .args(["-c", directory.to_str().unwrap(), "-q", "-"])
        .arg(format!("{kind}:{}", directory.join("table").display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .ok()?;
    let mut input = keys.join(&b'\n');
    input.push(b'\n');
    // One that is not installed reads nothing.
    let _ = asked.stdin.take().unwrap().write_all(&input);
    let output = asked.wait_with_output().unwrap();
    let warnings = String::from_utf8_lossy(&output.stderr).into_owned();
    if warnings.contains("unsupported dictionary type") {
        return None;
    }
    assert!(!warnings.contains("limit exceeded"), "{warnings}");
    // Of a text, or of a flag without a meaning.
    let is_harmless = |warning: &str| warning.contains("UTF-8 error") || warning.contains("obsolete");
    if warnings.lines().any(|warning| warning.contains("line 1:") && !is_harmless(warning)) {
        return Some(None);
    }
    let lines = output.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let answers = lines.map(|line| {
        let tab = line.iter().position(|byte| *byte == b'\t').unwrap();
        (line[..tab].to_vec(), line[tab + 1..].to_vec())
    });
    Some(Some(answers.collect()))
}

fn ours(directory: &Path, kind: &str, keys: &[Vec<u8>]) -> Answers {
    let maps = tables::open(&format!("{kind}:table"), directory).ok()?;
    let arena = Bump::new();
    let found = keys.iter().filter_map(|key| {
        let value = maps.find(&arena, key, mailrace_core::Sharer::default()).expect("no rule is given up");
        value.map(|value| (key.clone(), value.to_vec()))
    });
    Some(found.collect())
}

/// Compares both for one rule each.
fn compare(rules: impl Iterator<Item = (&'static str, Vec<u8>, Vec<Vec<u8>>)>, least: usize) {
    let directory = Directory::new();
    // Keys may be any bytes then.
    let _ = directory.write("main.cf", "compatibility_level = 3.6\nsmtputf8_enable = no\n");
    let (mut compared, mut skipped, mut differ) = (0, 0, Vec::new());
    for (kind, rule, keys) in rules {
        std::fs::write(directory.path().join("table"), [&rule[..], b"\n"].concat()).unwrap();
        let Some(wanted) = postfix(directory.path(), kind, &keys) else {
            skip("comparing patterns needs the packages postfix and postfix-pcre");
            return;
        };
        let got = ours(directory.path(), kind, &keys);
        compared += 1;
        skipped += usize::from(wanted.is_none());
        if got != wanted {
            differ.push(format!(
                "{kind}: {}\n  Postfix {}\n  here    {}",
                rule.escape_ascii(),
                shown(&wanted),
                shown(&got)
            ));
        }
    }
    assert!(differ.is_empty(), "{} of {compared} differ:\n{}", differ.len(), differ.join("\n"));
    assert!(compared >= least, "{compared} rules");
    println!("{compared} rules are the same, {skipped} of them refused");
}

fn shown(answers: &Answers) -> String {
    match answers {
        None => "refused".to_owned(),
        Some(answers) => {
            let answers = answers
                .iter()
                .map(|(key, value)| format!("{} -> {}", key.escape_ascii(), value.escape_ascii()));
            answers.collect::<Vec<_>>().join(", ")
        }
    }
}

/// Keys for every rule.
const KEYS: [&str; 29] = [
    "a", "b", "ab", "aab", "abab", "aaa", "abcd", "abb", "a b", "aa.b", "[a]", "a]b", "a{,3}", "a{1", "&",
    "?&=", "-a-", "_A_", "a\\b", "a.", "(a(b))", "Z9", "<a>", "é", "\u{c9}a", "^a$", "a|b", "d5", "x",
];

fn keys(own: &[&str]) -> Vec<Vec<u8>> {
    KEYS.iter().chain(own).map(|key| key.as_bytes().to_vec()).chain([b"\xe9\xff".to_vec()]).collect()
}

/// Rules of `pcre` tables, with further keys.
const PCRE: &[(&str, &[&str])] = &[
    // Signs that mean something to other engines.
    (r"/^Message-ID: \<[^@]+\>$/", &["Message-ID: <nohost>", "message-id: nohost"]),
    (r"/\<a\>/", &[]),
    (r"/^[?&&=]+$/", &[]),
    (r"/^[a&&b]+$/", &["a&b"]),
    (r"/^[!--]+$/", &["\"#", "+"]),
    (r"/^[a--c]$/", &[]),
    (r"/^[~~a]+$/", &["~a"]),
    (r"/^[[]a[]]$/", &[]),
    (r"/^[[(]a[])]$/", &[]),
    (r"/^[^][]+$/", &[]),
    (r"/^[a[]+$/", &["a["]),
    (r"/^[[:alpha:][]+$/", &["ab["]),
    (r"/^[[:^alpha:]]+$/", &["12"]),
    (r"/^[]a]+$/", &["a]"]),
    (r"/^[^]a]+$/", &[]),
    (r"/^[\]a]+$/", &["a]"]),
    (r"/^[\w-]+$/", &["a-b"]),
    (r"/^[\d-z]+$/", &["1-z"]),
    (r"/^[a-\d]+$/", &["a-1"]),
    (r"/^[[.a.]]$/", &[]),
    (r"/^[[=a=]]$/", &[]),
    (r"/^[z-a]$/", &[]),
    (r"/^[_-z]$/", &["`", "["]),
    (r"/^[A-z]$/i", &["_"]),
    (r"/[a/", &[]),
    (r"/[]/", &[]),
    (r"/^a{,3}$/", &["aa"]),
    (r"/^a{1$/", &[]),
    (r"/^a{$/", &["a{"]),
    (r"/^a{ 1,2 }$/", &["a{ 1,2 }"]),
    (r"/^a{2,}$/", &[]),
    (r"/^a{2,1}$/", &[]),
    (r"/^a{65536}$/", &[]),
    (r"/^a{300}$/", &[]),
    (r"/{/", &["{"]),
    (r"/}/", &["}"]),
    // What PCRE has and others have not.
    (r"/^\Qa.\E$/", &[]),
    (r"/^\Qa.b/", &["a.b"]),
    (r"/\E^a$/", &[]),
    (r"/^a\h+\N$/", &["a  b"]),
    (r"/^\H+$/", &[]),
    (r"/^a\Rb$/", &[]),
    (r"/^(a)\g{-1}\g1$/", &[]),
    (r"/^(a)\g{1}b$/", &[]),
    (r"/^(?<n>a)\k<n>b$/", &[]),
    (r"/^(?P<n>a)(?P=n)b$/", &[]),
    (r"/^(?'n'a)\k'n'b$/", &[]),
    (r"/^(?<n>a)(?<n>b)$/", &[]),
    (r"/^\103$/", &["C"]),
    (r"/^\x43\x{44}\o{105}$/", &["CDE"]),
    (r"/^\061$/", &["1"]),
    (r"/^\p{Lu}$/", &["A"]),
    (r"/^\p{L}\P{L}$/", &["a1"]),
    (r"/^\pL$/", &[]),
    (r"/^\p{Nope}$/", &[]),
    (r"/^(\((?:[^()]|(?1))*\))$/", &[]),
    (r"/^(\((?:[^()]++|(?R))*\))$/", &[]),
    (r"/^(?:(a)|b)(?(1)b|$)/", &[]),
    (r"/^(?|(a)|(b))\1/", &["bb"]),
    (r"/^(?>a*)ab/", &[]),
    (r"/^a*+b$/", &[]),
    (r"/^a+?b/", &[]),
    (r"/a\Kb$/", &[]),
    (r"/(?<=a)b/", &[]),
    (r"/(?<!a)b/", &["xb"]),
    (r"/(?<=a|bc)d/", &["bcd"]),
    (r"/(?<=a+)b/", &[]),
    (r"/^(?=.*b)a/", &[]),
    (r"/^(?!ab)a/", &[]),
    (r"/(?i)A/i", &["A"]),
    (r"/(?-i)A/", &["A"]),
    (r"/^(?i:a)B$/i", &["AB"]),
    (r"/(?x) a b #c/", &[]),
    (r"/(?#comment [)a/", &[]),
    (r"/^a(?#{)b/", &[]),
    (r"/(*UTF)^.$/", &[]),
    (r"/(*UTF)(*UCP)^é$/", &["É"]),
    (r"/(*ANYCRLF)^a$/", &[]),
    (r"/(*NOTEMPTY)x*/", &[]),
    (r"/(*NO_START_OPT)a(*COMMIT)b/", &[]),
    (r"/a(*SKIP)(*FAIL)|b/", &[]),
    (r"/(*ACCEPT)a/", &[]),
    (r"/^(*UTF)a/", &[]),
    (r"/(*LIMIT_MATCH=10)a/", &[]),
    (r"/\1(a)/", &[]),
    (r"/(a)\2/", &[]),
    (r"/^(a)?\1b/", &[]),
    (r"/^(a)?b\1/", &[]),
    (r"/()/", &[]),
    (r"/(|a)b/", &[]),
    (r"/a||x{9}/", &[]),
    (r"/^*a/", &[]),
    (r"/*a/", &[]),
    (r"/a**/", &[]),
    (r"/^+a/", &[]),
    (r"/(?:)/", &[]),
    (r"/(/", &[]),
    (r"/a)/", &[]),
    (r"/a^b/", &["a^b"]),
    (r"/a$b/", &["a$b"]),
    (r"/(a$)|b/", &[]),
    (r"/\$$/", &[]),
    (r"/\</", &["<"]),
    (r"/\_/", &[]),
    (r"/\y/", &[]),
    (r"/\cA/", &["\u{1}"]),
    (r"/\e/", &["\u{1b}"]),
    (r"/\z/", &[]),
    (r"/^a\Z/", &[]),
    (r"/\G\Aa/", &[]),
    (r"/\X/", &[]),
    (r"/\C/", &[]),
    (r"/\L/", &[]),
    (r"/^.$/", &[]),
    (r"/^..$/", &[]),
    (r"/^É$/", &[]),
    (r"/^\xe9\xff$/", &[]),
    (r"/[\x80-\xff]/", &[]),
    (r"/^\w+$/", &[]),
    (r"/\bb\b/", &[]),
    (r"/\Bb/", &[]),
    // Flags.
    (r"/A/i", &["A"]),
    (r"/ a b # x/x", &[]),
    (r"/a [ ] b/x", &[]),
    (r"/b/A", &[]),
    (r"/a|b/A", &[]),
    (r"/(a+)(a*)/U", &[]),
    (r"/(a+?)(a*)/U", &[]),
    (r"/a$/E", &[]),
    (r"/a/X", &[]),
    (r"/a.b/s", &[]),
    (r"/^a$/m", &[]),
    (r"/a/ii", &[]),
    (r"/a/q", &[]),
    // Delimiters and signs.
    (r"|a\|b|", &[]),
    (r"!/a/", &[]),
    (r"!!/a/", &[]),
    (r"! /a/", &[]),
    (r"(a(", &[]),
    (r"{a}", &[]),
    (r"/a", &[]),
    (r"a", &[]),
    (r"/a\/b/", &["a/b"]),
    (r"/a\\/", &["a\\"]),
];

/// Rules of `regexp` tables, with further keys.
const REGEXP: &[(&str, &[&str])] = &[
    // Perl's.
    (r"/(?i)^a/", &[]),
    (r"/^(?:a|b)/", &[]),
    (r"/(?=a)/", &[]),
    (r"/(?<n>a)/", &[]),
    (r"/\d/", &[]),
    (r"/\d/i", &["d"]),
    (r"/\D/", &[]),
    (r"/^a*?b/", &[]),
    (r"/^a+?b/", &[]),
    (r"/^a??b/", &[]),
    (r"/^a*+b/", &[]),
    (r"/^a{2}?b/", &[]),
    (r"/\Qa\E/", &[]),
    (r"/\x41/", &["x41"]),
    (r"/\A/", &["A"]),
    (r"/\pL/", &[]),
    (r"/\h/", &[]),
    (r"/a\nb/", &["anb", "aNb"]),
    (r"/\y/i", &["y"]),
    // Places.
    (r"/\<a/", &["ba"]),
    (r"/b\>/", &["ba"]),
    (r"/\bb\b/", &[]),
    (r"/\Bb/", &[]),
    (r"/\`a\'/", &[]),
    (r"/^a$/", &[]),
    (r"/^^a$$/", &[]),
    (r"/a^b/", &["a^b"]),
    (r"/a$b/", &["a$b"]),
    (r"/(^a|b$)/", &[]),
    (r"/^*a/", &["*a"]),
    (r"/^+/", &[]),
    (r"/$*/", &[]),
    (r"/\<*a/", &["*a"]),
    (r"/\w+\W\w/", &[]),
    (r"/\s\S/", &[]),
    // Repetitions.
    (r"/*a/", &[]),
    (r"/+a/", &[]),
    (r"/?a/", &[]),
    (r"/{1}/", &[]),
    (r"/a|*b/", &[]),
    (r"/(*a)/", &[]),
    (r"/a**/", &[]),
    (r"/^a{,3}$/", &["aaaa"]),
    (r"/^a{,}$/", &[]),
    (r"/^a{0}b$/", &[]),
    (r"/^a{2,}$/", &[]),
    (r"/a{1/", &[]),
    (r"/a{1,/", &[]),
    (r"/a{1a}/", &[]),
    (r"/a{2,1}/", &[]),
    (r"/a{}/", &[]),
    (r"/a{-1}/", &[]),
    (r"/a{255}/", &[]),
    (r"/a{256}/", &[]),
    (r"/a{32767}/", &[]),
    (r"/a{32768}/", &[]),
    (r"/a{1}{2}b/", &[]),
    (r"/a\{1\}/", &["a{1}"]),
    (r"/}/", &["}"]),
    // Groups.
    (r"/()/", &[]),
    (r"/(|a)b/", &[]),
    (r"/|a/", &[]),
    (r"/a||b/", &[]),
    (r"/^(a|)$/", &[]),
    (r"/(a/", &[]),
    (r"/a)/", &["a)"]),
    (r"/)(/", &[]),
    (r"/(a)\1/", &[]),
    (r"/^(a*)b\1$/", &["aba", "b"]),
    (r"/\1(a)/", &[]),
    (r"/(a\1)/", &[]),
    (r"/(a)(b)\2/", &[]),
    (r"/(a)|b\1/", &[]),
    (r"/^(a|ab)(c|bcd)(d*)$/", &[]),
    (r"/^(A)\1$/", &["aA"]),
    (r"/^(A)\1$/i", &["aA", "AA"]),
    (r"/(((a)))\3/", &[]),
    // Brackets.
    (r"/^[[]a[]]$/", &[]),
    (r"/^[^][]+$/", &[]),
    (r"/^[]a]+$/", &["]a"]),
    (r"/^[a&&b]+$/", &["a&b"]),
    (r"/^[a\]$/", &["\\"]),
    (r"/^[\.]$/", &["\\", "."]),
    (r"/^[\w]$/", &["w", "\\"]),
    (r"/^[a\]]$/", &["a]", "\\]"]),
    (r"/[a/", &[]),
    (r"/[]/", &[]),
    (r"/[^]/", &[]),
    (r"/[[:alpha:]]/", &[]),
    (r"/[[:foo:]]/", &[]),
    (r"/[[:alpha:/", &[]),
    (r"/[[:ALPHA:]]/", &[]),
    (r"/^[[:lower:]]$/", &["Q"]),
    (r"/^[[:lower:]]$/i", &["Q", "q"]),
    (r"/^[^[:upper:]]$/i", &["Q", "q"]),
    (r"/^[[:space:][:digit:]]$/", &["1", " "]),
    (r"/[[.a.]]/", &[]),
    (r"/[[.space.]]/", &[]),
    (r"/[[.-.]]/", &["-"]),
    (r"/[[=a=]]/", &[]),
    (r"/[[=ab=]]/", &[]),
    (r"/^[[.a.]-c]$/", &[]),
    (r"/[[=a=]-c]/", &[]),
    (r"/[[:alpha:]-z]/", &[]),
    (r"/^[[:alpha:]-]$/", &["-"]),
    (r"/^[a-]$/", &["-"]),
    (r"/^[-a]$/", &["-"]),
    (r"/^[--a]$/", &["5"]),
    (r"/^[%--]$/", &["+"]),
    (r"/[a-c-e]/", &[]),
    (r"/[b-a]/", &[]),
    (r"/[_-z]/", &[]),
    (r"/[_-z]/i", &["`"]),
    (r"/^[Z-a]$/", &[]),
    (r"/^[Z-a]$/i", &["["]),
    (r"/^[a-~]$/", &["_", "["]),
    (r"/^[^a]$/", &["A"]),
    (r"/^[^a]$/i", &["A"]),
    (r"/[a[.x.]b]/", &["x"]),
    (r"/[[a]/", &["["]),
    // Bytes.
    (r"/^.$/", &[]),
    (r"/^..$/", &[]),
    (r"/^É$/", &[]),
    (r"/^\é$/", &[]),
    (r"/^[é]$/", &[]),
    (r"/^[^a-z]+$/", &[]),
    // Basic ones.
    (r"/^a\{2\}b/x", &[]),
    (r"/^\(a\|b\)\1/x", &["bb"]),
    (r"/^a\+b\?$/x", &[]),
    (r"/*a/x", &["*a"]),
    (r"/^*a/x", &["*a"]),
    (r"/\(*a\)/x", &["*a"]),
    (r"/\(^a\)/x", &[]),
    (r"/a\|^b/x", &[]),
    (r"/a^b/x", &["a^b"]),
    (r"/a$b/x", &["a$b"]),
    (r"/\(a$\)/x", &[]),
    (r"/a$\|b/x", &[]),
    (r"/a**/x", &[]),
    (r"/a\{1\}*/x", &[]),
    (r"/a*\{1\}/x", &[]),
    (r"/a|b/x", &[]),
    (r"/a+/x", &["a+"]),
    (r"/(a)/x", &["(a)"]),
    (r"/a{2}/x", &["a{2}"]),
    (r"/\)/x", &[]),
    (r"/\(a/x", &[]),
    (r"/\{1\}/x", &[]),
    (r"/a\{1/x", &[]),
    // Flags, delimiters and signs.
    (r"/A/i", &["A"]),
    (r"/^a$/m", &[]),
    (r"/[^a]b/m", &[]),
    (r"/a/q", &[]),
    (r"/a/!/b/", &[]),
    (r"/a/i!/B/i", &[]),
    (r"/a/!/(/", &[]),
    (r"!/a/", &[]),
    (r"!!/a/", &[]),
    (r"|a\|b|", &[]),
    (r"/a\", &[]),
    (r"/a\\/", &[]),
];

#[test]
fn patterns_match_as_in_postfix() {
    let rules = |kind, rules: &'static [(&str, &[&str])]| {
        rules.iter().map(move |(rule, own)| (kind, format!("{rule} hit").into_bytes(), keys(own)))
    };
    compare(rules("pcre", PCRE).chain(rules("regexp", REGEXP)), 250);
}

#[test]
fn values_expand_the_same_groups_as_in_postfix() {
    const VALUES: [&str; 12] =
        ["1=[$1]", "${1}$(2)", "$$1", "$3", "$0", "$1st", "$", "x$ y", "${1", "$(1}", "${}", "1=$1-2=$2."];
    const PATTERNS: [&str; 10] = [
        "(a)(b)?",
        "(a|ab)(c|bcd)?",
        "^(a*)(ab)*b*",
        "(a|b)*(.)",
        "(a){2}(b)",
        "(.)(.)$",
        "^((a)|(b))*$",
        "(a?)+(b?)",
        "([^]]*)(])",
        "(b+|a)(b|)",
    ];
    let rules = ["pcre", "regexp"].into_iter().flat_map(|kind| {
        PATTERNS.into_iter().flat_map(move |pattern| {
            VALUES
                .into_iter()
                .map(move |value| (kind, format!("/{pattern}/ {value}").into_bytes(), keys(&[])))
        })
    });
    compare(rules, 200);
}

/// A SplitMix64 generator.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((u128::from(mixed ^ (mixed >> 31)) * end as u128) >> 64).unwrap()
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.below(of.len())]
    }

    fn pattern(&mut self, atoms: &[&str], depth: usize) -> String {
        let mut pattern = String::new();
        for _ in 0..=self.below(3) {
            match self.below(10) {
                0 | 1 if depth < 3 => pattern += &format!("({})", self.pattern(atoms, depth + 1)),
                2 if depth < 3 => {
                    let (one, other) = (self.pattern(atoms, depth + 1), self.pattern(atoms, depth + 1));
                    pattern += &format!("({one}|{other})");
                }
                _ => pattern += self.one(atoms),
            }
            if self.below(5) == 0 {
                pattern += self.one(&["*", "+", "?", "{1,2}", "{2}"]);
            }
        }
        pattern
    }
}

/// What patterns are generated from.
const OF_PCRE: &[&str] = &[
    "a",
    "b",
    "x",
    "1",
    "-",
    ".",
    r"\d",
    r"\w",
    r"\s",
    r"\.",
    "[ab]",
    "[^a]",
    "[a-c1]",
    "[[:alpha:]]",
    "[a&&b]",
    "[[]",
    "[^][]",
    r"\<",
    r"\>",
    r"\h",
    r"\x61",
    r"\103",
    "a{,2}",
    r"\Qa.\E",
    "(?i)",
    "(?-i)",
    r"\b",
    r"\B",
    "^",
    "$",
    "(?=a)",
    "(?!b)",
    "(?<=a)",
    "(?>a*)",
    r"\N",
    "a++",
    "b*?",
    "(?|(a)|(b))",
    r"[\w-]",
    "{",
    "}",
    r"\z",
    r"\A",
    " ",
    "é",
];

const OF_REGEXP: &[&str] = &[
    "a",
    "b",
    "x",
    "1",
    "-",
    ".",
    r"\.",
    "[ab]",
    "[^a]",
    "[a-c1]",
    "[[:alpha:]]",
    "[a&&b]",
    "[[]",
    "[^][]",
    "[]a]",
    r"\<",
    r"\>",
    r"\w",
    r"\W",
    r"\s",
    r"\b",
    r"\B",
    "^",
    "$",
    "a{2}",
    "a{,2}",
    "a{1,}",
    "(b|)",
    "()",
    r"\d",
    r"\{",
    "}",
    "a*?",
    "[[.a.]]",
    "[[=b=]]",
    r"[a\]",
    " ",
    "(a|ab)",
    "é",
    r"\`",
    r"\'",
    r"(a)\1",
];

#[test]
fn generated_patterns_match_as_in_postfix() {
    let mut random = Random(20261127);
    let rules = (0..300).map(|number| {
        let kind = if number % 2 == 0 { "pcre" } else { "regexp" };
        let atoms = if kind == "pcre" { OF_PCRE } else { OF_REGEXP };
        let pattern = random.pattern(atoms, 0);
        let flags = random.one(&["", "", "i", "m", if kind == "pcre" { "s" } else { "x" }]);
        let own: Vec<Vec<u8>> = (0..8)
            .map(|_| {
                let letters = ["a", "a", "b", "b", "c", "x", "1", "-", " ", "A", ".", "[", "]", "é", "{"];
                (0..=random.below(6)).map(|_| random.one(&letters)).collect::<String>().into_bytes()
            })
            .collect();
        (kind, format!("~{pattern}~{flags} hit").into_bytes(), own.into_iter().chain(keys(&[])).collect())
    });
    compare(rules, 300);
}
