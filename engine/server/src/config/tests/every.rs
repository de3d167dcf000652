//! What holds for every parameter that is declared, whichever it is.

use proptest::prelude::*;

use super::*;
use crate::config::reader::Declaration;

fn declarations() -> Vec<&'static Declaration> {
    FEATURES.iter().flat_map(|feature| feature.parameters).collect()
}

/// A file that sets only this parameter, and the line on which it does.
fn file_with(declaration: &Declaration, value: &str) -> (String, usize) {
    let assignment = format!("{} = {value}\n", declaration.name);
    match declaration.section.table() {
        None => (format!("# A comment.\n\n{assignment}"), 3),
        Some(table) => (format!("[{table}]\n{assignment}"), 2),
    }
}

/// The start of each message about this parameter.
fn place(declaration: &Declaration, line: usize) -> String {
    let name = declaration.section.qualify(declaration.name);
    format!("/etc/mailrace/test.toml:{line}: {name}: ")
}

#[test]
fn a_value_of_no_type_is_refused_with_its_line_and_a_remedy() {
    for declaration in declarations() {
        for value in ["1.5", "1979-05-27", "{ a = 1 }", "[[1]]", "[{ a = 1 }]", "nan"] {
            let (text, line) = file_with(declaration, value);
            let errors = check(&text).expect_err(&text);
            let [error] = errors.lines().collect::<Vec<_>>()[..] else { panic!("{text}: {errors}") };
            assert!(error.starts_with(&place(declaration, line)), "{text}: {error}");
            assert!(error.contains("; "), "{text}: {error} has no remedy");
        }
    }
}

#[test]
fn numbers_beyond_a_range_are_refused_and_its_ends_are_not() {
    let mut checked = 0;
    for declaration in declarations() {
        let Some(bounds) = declaration.bounds else { continue };
        let is_out = |quantity: u64| {
            let (text, line) = file_with(declaration, &quantity.to_string());
            let said = check(&text).err().unwrap_or_default();
            let start = format!("{}{quantity} is out of range; ", place(declaration, line));
            said.lines().any(|error| error.starts_with(&start))
        };
        for quantity in [bounds.least, bounds.most].into_iter().chain(bounds.other) {
            assert!(!is_out(quantity), "{} = {quantity}", declaration.name);
        }
        for quantity in [bounds.least.checked_sub(1), bounds.most.checked_add(1)].into_iter().flatten() {
            if bounds.other != Some(quantity) {
                assert!(is_out(quantity), "{} = {quantity}", declaration.name);
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "{checked} ends of ranges");
}

#[test]
fn a_default_that_is_written_is_the_default() {
    let listed = |text: &str| {
        let mut document = Document::default();
        document.read_text(text, &Arc::new(PathBuf::from("/test.toml"))).unwrap();
        listing::listing(&document, FEATURES, true)
    };
    let defaults = listed("");
    for declaration in declarations() {
        let line = defaults.lines().find(|line| line.starts_with(&format!("{} = ", declaration.name)));
        let value = line.and_then(|line| line.split_once(" = ")).expect("all are listed").1;
        let (text, _) = file_with(declaration, value);
        check(&text).unwrap_or_else(|errors| panic!("{text}: {errors}"));
        assert_eq!(listed(&text), defaults, "{text}");
    }
}

proptest! {
    /// Defaults that a value makes invalid are reported at its line, too.
    #[test]
    fn any_value_is_taken_or_refused_where_it_is(
        index in any::<prop::sample::Index>(), text in "(\\$|\\$\\{|\\}|[a-z]{1,4}|[0-9]{1,3}|[:/!,;=@.\\[\\] é-]){0,8}",
        is_list in any::<bool>(),
    ) {
        let declarations = declarations();
        let declaration = index.get(&declarations);
        let value = if is_list { format!("[{text:?}, \"a\"]") } else { format!("{text:?}") };
        let (file, line) = file_with(declaration, &value);
        if let Err(errors) = check(&file) {
            for error in errors.lines() {
                let is_placed = error.starts_with(&format!("/etc/mailrace/test.toml:{line}: "));
                prop_assert!(is_placed && error.contains("; "), "{}{}", file, error);
            }
        }
    }
}
