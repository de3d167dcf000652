//! Plays the cases in `cleanup/cases/*.case` with the cleanup passes: each whole, cut at every place, in pieces of several
//! sizes, and with tables that defer their answers. All of these must have the same result.
//! `cleanup/cases/README.md` describes the notation.

mod case;
#[path = "../dialogues/escape.rs"]
mod escape;
mod player;
mod settings;
mod table;

use std::path::Path;

use case::Case;

#[test]
fn content_and_envelope_leave_the_passes_as_the_cases_say() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cleanup/cases");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    assert!(!files.is_empty());
    let mut failures = Vec::new();
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        match Case::parse_all(&std::fs::read_to_string(file).unwrap()) {
            Ok(cases) => {
                for case in &cases {
                    if let Err((line, message)) = player::play(case) {
                        failures.push(format!("{name}:{line}: {}: {message}", case.title));
                    }
                }
            }
            Err((line, message)) => failures.push(format!("{name}:{line}: {message}")),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
