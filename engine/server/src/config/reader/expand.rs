//! The expansion of `$name` in values.

use crate::config::value::Refusal;

/// Maximum nesting depth of `$name`.
const DEPTH_MAX: usize = 16;
/// Maximum size of an expanded value, in bytes.
const SIZE_MAX: usize = 64 * 1024;
/// Maximum number of names that are expanded for one value. Nesting alone does not bound this number, since each value may
/// contain several names.
const NAMES_MAX: usize = 1000;

/// Replaces `$name`, `${name}` and `$(name)` in `text` by what `look_up` returns, which is expanded in turn, and `$$` by a
/// dollar sign.
pub(super) fn expand(text: &str, look_up: &dyn Fn(&str) -> Option<String>) -> Result<String, Refusal> {
    let mut output = String::new();
    let mut names_left = NAMES_MAX;
    append(text, look_up, DEPTH_MAX, &mut names_left, &mut output)?;
    Ok(output)
}

/// Iterates over the names in `text`, up to the first syntax error.
pub(super) fn names_in(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let (_, after) = rest.split_once('$')?;
            if let Some(after) = after.strip_prefix('$') {
                rest = after;
                continue;
            }
            let (name, after) = split_name(after).ok()?;
            rest = after;
            return Some(name);
        }
    })
}

fn append(
    text: &str,
    look_up: &dyn Fn(&str) -> Option<String>,
    depth: usize,
    names_left: &mut usize,
    output: &mut String,
) -> Result<(), Refusal> {
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        output.push_str(before);
        if let Some(after) = after.strip_prefix('$') {
            output.push('$');
            rest = after;
            continue;
        }
        let (name, after) = split_name(after)?;
        let Some(value) = look_up(name) else {
            let reason = format!("${name} names no parameter");
            return Err(Refusal::new(reason, "write the name of one, or $$ for a dollar"));
        };
        if depth == 0 {
            return Err(Refusal::new(format!("${name} refers to itself"), "write its value instead"));
        }
        let Some(left) = names_left.checked_sub(1) else {
            return Err(Refusal::new(format!("expands to more than {NAMES_MAX} $names"), "use fewer"));
        };
        *names_left = left;
        append(&value, look_up, depth - 1, names_left, output)?;
        rest = after;
    }
    output.push_str(rest);
    if output.len() > SIZE_MAX {
        return Err(Refusal::new(
            format!("is longer than {SIZE_MAX} bytes with all $names expanded"),
            "shorten it",
        ));
    }
    Ok(())
}

/// Splits `text` into the name at its start and the rest.
fn split_name(text: &str) -> Result<(&str, &str), Refusal> {
    let close = match text.as_bytes().first() {
        Some(b'{') => Some('}'),
        Some(b'(') => Some(')'),
        _ => None,
    };
    let inner = if close.is_some() { text.get(1..).unwrap_or_default() } else { text };
    let is_of_name = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    let size = inner.bytes().take_while(|octet| is_of_name(*octet)).count();
    let (name, after) = inner.split_at(size);
    let after = match close {
        None => Some(after),
        Some(close) => after.strip_prefix(close),
    };
    match after {
        Some(after) if !name.is_empty() => Ok((name, after)),
        _ => Err(Refusal::new(
            format!("${text} is not $name or ${{name}}"),
            "write the name of a parameter, without conditions, or $$ for a dollar",
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn expanded(text: &str) -> Result<String, Refusal> {
        expand(text, &|name| {
            let value = match name {
                "myhostname" => "mx.$mydomain",
                "mydomain" => "example.com",
                "loop" => "a $loop",
                "wide" => "$wider$wider$wider$wider$wider$wider$wider$wider",
                "wider" => "$widest$widest$widest$widest$widest$widest$widest$widest",
                "widest" => return Some("x".repeat(2000)),
                "many" => "$more$more$more$more$more$more$more$more$more$more",
                "more" => "$most$most$most$most$most$most$most$most$most$most",
                "most" => "$none$none$none$none$none$none$none$none$none$none",
                "none" => "",
                _ => return None,
            };
            Some(value.to_owned())
        })
    }

    #[test]
    fn nested_names_are_expanded() {
        assert_eq!(expanded("$myhostname ESMTP").unwrap(), "mx.example.com ESMTP");
        assert_eq!(expanded("a${mydomain}b$(mydomain)c").unwrap(), "aexample.combexample.comc");
        assert_eq!(expanded("$mydomain.").unwrap(), "example.com.");
        assert_eq!(expanded("5 $$ and $$$mydomain").unwrap(), "5 $ and $example.com");
        assert_eq!(expanded("plain").unwrap(), "plain");
        assert_eq!(names_in("a$b, $$c ${d}$(e)").collect::<Vec<_>>(), ["b", "d", "e"]);
    }

    #[test]
    fn invalid_names_are_refused() {
        for text in
            ["$", "$ x", "${mydomain", "${}", "$unknown", "${mydomain?{x}}", "$loop", "$wide", "$many"]
        {
            assert!(expanded(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_expanded_or_refused(text in ".{0,60}") {
            let _ = expanded(&text);
        }
    }
}
