use super::*;

/// What is printed for keys one after another, and whether each was found; the failure ends it.
fn printed(table: &str, keys: &[&str]) -> (String, Vec<bool>, Option<Failure>) {
    let lookups = Lookups::default();
    let maps = crate::tables::open(table, Path::new("/")).unwrap();
    let table = Table { maps, answers: lookups.answers() };
    let (mut output, mut found, mut failed) = (Vec::new(), Vec::new(), None);
    for key in keys {
        match table.print(key.as_bytes(), format!("{key}\t").as_bytes(), &mut output) {
            Ok(is_found) => found.push(is_found),
            Err(failure) => {
                failed = Some(failure);
                break;
            }
        }
    }
    (String::from_utf8(output).unwrap(), found, failed)
}

#[test]
fn prints_each_value_after_its_key() {
    let (output, found, failed) = printed("inline:{a=1, {b = two words}}", &["b", "x", "A", ""]);
    assert_eq!(output, "b\ttwo words\nA\t1\n");
    assert_eq!(found, [true, false, true, false]);
    assert!(failed.is_none());
}

#[test]
fn a_table_without_an_answer_is_a_temporary_failure() {
    let (output, found, failed) = printed("fail:x", &["a\n"]);
    let Failure { status, text } = failed.unwrap();
    assert_eq!((output.as_str(), found.len(), status), ("", 0, EXIT_TEMPORARY));
    assert_eq!(text, "the table cannot answer for \"a\\n\" now; try again later");
}
