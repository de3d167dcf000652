//! Writes the reference of all parameters as Markdown, the generated part of docs/configuration.md.

use std::fmt::Write;

use super::listing::toml_of;
use super::reader::{Bounds, Declaration, Feature, default_of};

/// Returns one table of parameters per feature.
pub(super) fn reference(features: &[Feature]) -> String {
    let mut text = String::new();
    for feature in features {
        let _ = writeln!(text, "### {}\n\n{}\n", feature.title, feature.about.trim());
        text.push_str("| name | type | default | range | meaning |\n|---|---|---|---|---|\n");
        for declaration in feature.parameters {
            let _ = writeln!(text, "{}", row(declaration));
        }
        text.push('\n');
    }
    text
}

fn row(declaration: &Declaration) -> String {
    let name = declaration.section.qualify(declaration.name);
    let default = toml_of(&default_of(declaration)).unwrap_or_default();
    let range = declaration.bounds.map(|bounds| range(bounds, declaration.kind)).unwrap_or_default();
    format!(
        "| `{name}` | {} | `{default}` | {range} | {} |",
        declaration.kind,
        declaration.documentation.trim()
    )
}

fn range(Bounds { least, most, other }: Bounds, kind: &str) -> String {
    let quantity = |number: u64| match kind {
        "size" => size(number),
        "time" => format!("{} s", grouped(number)),
        _ => grouped(number),
    };
    let other = other.map(|other| format!("{other}, or ")).unwrap_or_default();
    format!("{other}{} to {}", quantity(least), quantity(most))
}

/// Formats a number of bytes with the largest unit that divides it.
fn size(bytes: u64) -> String {
    let units = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let unit = units.into_iter().find(|(_, factor)| bytes > 0 && bytes.is_multiple_of(*factor));
    unit.map_or_else(|| grouped(bytes), |(name, factor)| format!("{} {name}", bytes / factor))
}

/// Formats a number with a comma between groups of three digits.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::FEATURES;

    /// Lines of docs/configuration.md that enclose the reference.
    const BEGIN: &str = "<!-- Generated from the declarations in engine/server/src/config. -->\n\n";
    const END: &str = "<!-- End of the generated part. -->\n";
    /// Environment variable. If it is set, the test writes the reference instead of comparing it.
    const UPDATE: &str = "MAILRACE_UPDATE_REFERENCE";

    #[test]
    fn the_documentation_contains_the_generated_reference() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
        let document = std::fs::read_to_string(&path).unwrap();
        let (before, rest) = document.split_once(BEGIN).expect("the reference begins");
        let (found, after) = rest.split_once(END).expect("the reference ends");
        let made = reference(FEATURES);
        if std::env::var_os(UPDATE).is_some() {
            std::fs::write(&path, format!("{before}{BEGIN}{made}{END}{after}")).unwrap();
            return;
        }
        let differing = made.lines().find(|line| !found.lines().any(|found| found == *line));
        assert!(
            found == made,
            "docs/configuration.md is out of date ({}); run: {UPDATE}=1 cargo test -p mailrace --lib config::reference",
            differing.unwrap_or("extra lines at the end"),
        );
    }

    #[test]
    fn every_parameter_is_documented_and_named_once() {
        let declarations: Vec<_> = FEATURES.iter().flat_map(|feature| feature.parameters).collect();
        for declaration in &declarations {
            let text = declaration.documentation.trim();
            assert!(text.ends_with('.') || text.ends_with(')'), "{}: {text}", declaration.name);
            assert!(!text.contains(['|', '\n']), "{}: {text}", declaration.name);
            let namesakes = declarations.iter().filter(|other| other.name == declaration.name);
            assert_eq!(namesakes.count(), 1, "{}", declaration.name);
        }
    }

    #[test]
    fn ranges_are_easy_to_read() {
        let bounds = |least, most, other| Bounds { least, most, other };
        assert_eq!(range(bounds(1, 1_000_000, None), "number"), "1 to 1,000,000");
        assert_eq!(range(bounds(1, 86_400, None), "time"), "1 s to 86,400 s");
        assert_eq!(range(bounds(65_536, 1 << 30, Some(0)), "size"), "0, or 64 KiB to 1 GiB");
        assert_eq!(range(bounds(1000, 1 << 30, None), "size"), "1,000 to 1 GiB");
    }
}
