//! Properties of lookup tables: each is refused with the line of the error, or answers each key consistently; a pattern
//! table gives the same answers as its patterns one by one.

use std::collections::HashMap;

use bumpalo::Bump;
use mailrace::tables::{self, TableErrors};
use mailrace_core::Sharer;
use mailrace_core::lookup::{LookupError, Maps};

/// Maximum number of keys per input.
const KEYS_MAX: usize = 16;
/// Maximum number of rules that are checked one by one.
const RULES_MAX: usize = 12;
/// Separator before the keys at the end of an input, one per line.
const KEYS: &[u8] = b"\n%%\n";

/// Checks a table: a line with its type, its text, `%%`, and keys.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    let Some(end) = octets.iter().position(|octet| *octet == b'\n') else { return };
    let (kind, rest) = (&octets[..end], &octets[end + 1..]);
    let keys_at = rest.windows(KEYS.len()).rposition(|window| window == KEYS);
    let (text, keys) = match keys_at {
        Some(at) => (&rest[..at + 1], &rest[at + KEYS.len()..]),
        None => (rest, &b""[..]),
    };
    let keys: Vec<&[u8]> = keys.split(|octet| *octet == b'\n').take(KEYS_MAX).collect();
    match kind {
        b"texthash" | b"hash" | b"btree" | b"cidr" | b"lmdb" | b"cdb" | b"regexp" | b"pcre" => {
            let kind = std::str::from_utf8(kind).expect("one of the types above");
            check_file(kind, text, &keys);
        }
        b"inline" | b"static" | b"fail" | b"unionmap" | b"pipemap" | b"randmap" => {
            check_name(
                &String::from_utf8_lossy(&octets[..end + 1 + text.len()]).replacen('\n', ":", 1),
                &keys,
            );
        }
        _ => {}
    }
}

/// A table without a file.
fn check_name(name: &str, keys: &[&[u8]]) {
    // Members are tables too; none may open a file or a connection of this machine.
    let is_alone =
        ["/", ".", "tcp", "socketmap", "sqlite", "pgsql", "ldap"].iter().all(|word| !name.contains(word));
    if !is_alone {
        return;
    }
    match tables::open(name.trim_end(), std::path::Path::new("/nowhere")) {
        Ok(maps) if name.contains("randmap") => keys.iter().for_each(|key| drop(find(&maps, key))),
        Ok(maps) => check_answers(&maps, keys),
        Err(error) => check_error(&error, None),
    }
}

/// A table in a file.
fn check_file(kind: &str, text: &[u8], keys: &[&[u8]]) {
    let maps = match open(kind, text) {
        Ok(maps) => maps,
        Err(error) => {
            let is_text = !matches!(kind, "lmdb" | "cdb");
            return check_error(
                &error,
                is_text.then(|| 1 + text.iter().filter(|octet| **octet == b'\n').count()),
            );
        }
    };
    check_answers(&maps, keys);
    match kind {
        "texthash" | "hash" | "btree" => check_entries(&maps, text),
        "regexp" | "pcre" => check_rules(kind, &maps, text, keys),
        _ => {}
    }
}

fn open(kind: &str, text: &[u8]) -> Result<Maps, TableErrors> {
    let suffix = if matches!(kind, "lmdb" | "cdb") { format!(".{kind}") } else { String::new() };
    let path = super::file(&format!("table{suffix}"), text);
    let path = path.to_str().expect("the temporary directory has a plain name").to_owned();
    tables::open(
        &format!("{kind}:{}", path.strip_suffix(&suffix).unwrap_or(&path)),
        std::path::Path::new("/"),
    )
}

fn check_error(errors: &TableErrors, lines: Option<usize>) {
    assert!(!errors.0.is_empty(), "something is wrong");
    for error in &errors.0 {
        assert!(!error.reason.is_empty() && !error.remedy.is_empty(), "{error}");
        match (&error.line, lines) {
            (Some((_, line)), Some(lines)) => {
                assert!((1..=lines).contains(line), "line {line} of {lines}: {error}")
            }
            (Some((_, line)), None) => panic!("line {line} of a table without lines: {error}"),
            (None, _) => {}
        }
    }
}

type Found = Result<Option<Vec<u8>>, LookupError>;

fn find(maps: &Maps, key: &[u8]) -> Found {
    let arena = Bump::new();
    maps.find(&arena, key, Sharer::default()).map(|value| value.map(<[u8]>::to_vec))
}

/// Checks that every key has an answer, and the same answer the second time.
fn check_answers(maps: &Maps, keys: &[&[u8]]) {
    for key in keys {
        let answer = find(maps, key);
        assert!(!matches!(answer, Err(LookupError::Pending(_))), "nobody is asked");
        assert_eq!(find(maps, key), answer, "{}", key.escape_ascii());
        let arena = Bump::new();
        let part = maps.find_part(&arena, key, Sharer::default()).map(|value| value.map(<[u8]>::to_vec));
        assert!(part == answer || part == Ok(None), "{}", key.escape_ascii());
    }
}

/// Checks that the first entry of a key counts, without regard to case, if each line is a word followed by words.
fn check_entries(maps: &Maps, text: &[u8]) {
    let mut entries = HashMap::new();
    for line in text.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
        let is_plain = line.iter().all(|octet| matches!(octet, b' ' | b'!' | b'$'..=b'[' | b']'..=b'~'));
        let Some(blank) = line.iter().position(|octet| *octet == b' ').filter(|blank| is_plain && *blank > 0)
        else {
            return;
        };
        let (key, value) = (line[..blank].to_ascii_lowercase(), line[blank..].trim_ascii());
        entries.entry(key).or_insert(value);
    }
    for (key, value) in entries {
        assert_eq!(find(maps, &key), Ok(Some(value.to_vec())), "{}", key.escape_ascii());
        assert_eq!(find(maps, &key.to_ascii_uppercase()), Ok(Some(value.to_vec())), "{}", key.escape_ascii());
    }
}

/// Checks that the prefilters of a pattern table do not change its answers: compares it with each rule alone, negated, which
/// prevents prefilters.
fn check_rules(kind: &str, maps: &Maps, text: &[u8], keys: &[&[u8]]) {
    let mut rules = Vec::new();
    for line in text.split(|octet| *octet == b'\n').filter(|line| !line.is_empty()) {
        // Checks only tables with one rule per line and values without groups; other tests cover the rest.
        let Some(blank) = line.iter().rposition(|octet| matches!(octet, b' ' | b'\t')) else { return };
        let (rule, value) = (&line[..blank], &line[blank + 1..]);
        let is_plain =
            rule.starts_with(b"/") && !rule.contains(&b'\r') && !value.is_empty() && !value.contains(&b'$');
        // White space at the end is not part of a value.
        if !is_plain
            || value.iter().any(u8::is_ascii_control)
            || rule.contains(&0)
            || rules.len() == RULES_MAX
        {
            return;
        }
        rules.push((rule, value));
    }
    let mut alone = Vec::new();
    for (rule, value) in rules {
        // The pattern must end at the last slash; otherwise the value had several words.
        let Some(slash) = rule.iter().rposition(|octet| *octet == b'/').filter(|slash| *slash > 0) else {
            return;
        };
        if !rule[slash..].iter().all(u8::is_ascii_graphic) || has_delimiter(&rule[1..slash]) {
            return;
        }
        let Ok(negated) = open(kind, &[b"!", rule, b" no"].concat()) else {
            panic!("{} is right, and wrong with a ! in front", rule.escape_ascii());
        };
        let Ok(itself) = open(kind, &[rule, b" yes"].concat()) else {
            panic!("{} is right, and wrong alone", rule.escape_ascii());
        };
        alone.push((negated, itself, value));
    }
    for key in keys.iter().filter(|key| !key.is_empty()) {
        let mut expected: Found = Ok(None);
        for (negated, itself, value) in &alone {
            match (find(negated, key), find(itself, key)) {
                (Ok(Some(_)), Ok(None)) => continue,
                (Ok(None), Ok(Some(_))) => expected = Ok(Some(value.to_vec())),
                // Both searches exceeded a limit: a later rule may count, or there is no answer.
                (Ok(None), Ok(None)) => return,
                (negated, itself) => {
                    panic!("{negated:?} and {itself:?} for {} in {}", key.escape_ascii(), text.escape_ascii())
                }
            }
            break;
        }
        assert_eq!(find(maps, key), expected, "{} in {}", key.escape_ascii(), text.escape_ascii());
    }
}

/// Returns whether the pattern contains an unescaped slash.
fn has_delimiter(pattern: &[u8]) -> bool {
    let mut octets = pattern.iter();
    while let Some(octet) = octets.next() {
        match octet {
            b'\\' => drop(octets.next()),
            b'/' => return true,
            _ => {}
        }
    }
    false
}
