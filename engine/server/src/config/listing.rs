//! Writes a configuration as TOML that loads as the same configuration.

use std::fmt::Write;

use super::reader::{Document, Feature, Raw, Section, default_of};
use super::transport_limits::limit_of;

/// Returns the parameters that `document` sets as TOML, or with `has_defaults` all of `features`. Does not expand `$name` in
/// values.
pub(super) fn listing(document: &Document, features: &[Feature], has_defaults: bool) -> String {
    let mut text = String::new();
    for section in Section::ALL {
        let mut lines = String::new();
        let declarations = features.iter().flat_map(|feature| feature.parameters);
        for declaration in declarations.filter(|declaration| declaration.section == section) {
            let given = document.get(section, declaration.name).map(|given| given.raw.clone());
            let raw = given.or_else(|| has_defaults.then(|| default_of(declaration)));
            if let Some(value) = raw.and_then(|raw| toml_of(&raw)) {
                let _ = writeln!(lines, "{} = {value}", declaration.name);
            }
        }
        if section == Section::Top {
            for (_, name, given) in document.iter().filter(|(section, ..)| *section == Section::Top) {
                if let Some(value) = limit_of(name).and_then(|_| toml_of(&given.raw)) {
                    let _ = writeln!(lines, "{name} = {value}");
                }
            }
        }
        if let Some(table) = section.table().filter(|_| !lines.is_empty()) {
            let _ = writeln!(text, "{}[{table}]", if text.is_empty() { "" } else { "\n" });
        }
        text.push_str(&lines);
    }
    text
}

/// Returns a value as TOML, or `None` if no parameter takes it.
pub(super) fn toml_of(raw: &Raw) -> Option<String> {
    Some(match raw {
        Raw::Text(text) => quoted(text),
        Raw::Integer(number) => number.to_string(),
        Raw::Boolean(value) => value.to_string(),
        Raw::List(items) => {
            format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", "))
        }
        Raw::Other(_) => return None,
    })
}

/// Returns `text` as a basic string of TOML.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            letter if letter.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(letter));
            }
            letter => out.push(letter),
        }
    }
    out + "\""
}
