use std::path::Path;

use super::*;

fn findings(bad_lines: BadLines, fill: impl FnOnce(&mut Report<'_>)) -> (Vec<String>, Vec<String>) {
    let spec = Spec::parse("texthash:x", Path::new("/"), 0);
    let mut report = Report::new(&spec, bad_lines);
    fill(&mut report);
    let Findings { errors, notes, .. } = report.finish();
    (errors.iter().map(ToString::to_string).collect(), notes)
}

fn refuse(report: &mut Report<'_>, lines: std::ops::RangeInclusive<usize>) {
    lines.for_each(|line| report.refuse(line, "is bad", "mend it", "it is skipped"));
}

/// Otherwise the bad lines of a table with a hundred notes would be skipped without a word.
#[test]
fn a_bad_line_refuses_a_table_with_many_notes() {
    let (errors, notes) = findings(BadLines::Refuse, |report| {
        (1..=150).for_each(|line| report.note(line, "duplicate key"));
        refuse(report, 151..=151);
    });
    assert_eq!(errors, ["/x:151: texthash:x: is bad; mend it"]);
    assert_eq!(notes.len(), 101);
    assert_eq!(notes[0], "/x:1: texthash:x: duplicate key");
    assert_eq!(notes[100], "texthash:x: 50 further lines of that kind");
}

#[test]
fn a_hundred_bad_lines_are_named_and_the_others_counted() {
    let (errors, notes) = findings(BadLines::Refuse, |report| refuse(report, 1..=102));
    assert_eq!(errors.len(), 101);
    assert_eq!(errors[99], "/x:100: texthash:x: is bad; mend it");
    assert_eq!(errors[100], "texthash:x: 2 further lines cannot be used; correct these first");
    assert_eq!(notes, [""; 0]);
    let (errors, notes) = findings(BadLines::Warn, |report| refuse(report, 1..=102));
    assert_eq!(errors, [""; 0]);
    assert_eq!(notes.len(), 101);
    assert_eq!(notes[0], "warning: /x:1: texthash:x: is bad; it is skipped");
    assert_eq!(notes[100], "texthash:x: 2 further lines of that kind");
}

#[test]
fn a_text_without_a_last_line_end_is_noted() {
    for (text, wanted) in [(&b"a b\n"[..], None), (b"", None), (b"a b", Some(1)), (b"a b\nc d", Some(2))] {
        let (_, notes) = findings(BadLines::Refuse, |report| report.see_end(text));
        let place = wanted.map(|line| format!("/x:{line}: texthash:x: the last line has no line end"));
        assert_eq!(notes.len(), usize::from(wanted.is_some()), "{}", text.escape_ascii());
        assert!(notes.iter().all(|note| note.starts_with(place.as_deref().unwrap())), "{notes:?}");
    }
}
