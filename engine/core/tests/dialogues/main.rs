//! Plays the dialogues in `tests/session/*.case` with a session and the cleanup passes, each whole and cut into pieces,
//! and proves that the catalogue of replies is complete: every reply of a session is in it, and all in it are given.
//! `tests/session/README.md` describes the notation.

mod case;
mod escape;
mod player;
mod tables;

use std::collections::BTreeSet;
use std::path::Path;

use case::Case;
use mailrace_core::smtp::reply;

/// Sizes of the pieces in which a client's bytes arrive.
const PIECES: [usize; 5] = [usize::MAX, 1, 2, 3, 7];

#[test]
fn dialogues_match_and_cover_every_reply() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/session");
    let mut files: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "case"));
    files.sort();
    let (mut given, mut failures) = (BTreeSet::new(), Vec::new());
    for file in &files {
        let name = file.file_name().unwrap().to_string_lossy();
        let played = Case::parse(&std::fs::read_to_string(file).unwrap()).and_then(|case| {
            let pieces = if case.is_whole_only { &PIECES[..1] } else { &PIECES[..] };
            pieces.iter().try_for_each(|piece| player::play(&case, *piece, &mut given))
        });
        if let Err((line, message)) = played {
            failures.push(format!("tests/session/{name}:{line}: {message}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    let all = reply::SESSION.iter().chain(reply::CONTENT).map(|(name, _)| *name);
    let missing: Vec<&str> = all.filter(|name| !given.contains(name)).collect();
    assert!(missing.is_empty(), "replies that no dialogue gives: {}", missing.join(", "));
}
