//! What fuzzing started from and what it found, through the checks of all fuzz targets.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::path::{Path, PathBuf};

use mailrace_tests::checks::TARGETS;

/// The files in `fuzz/KIND/TARGET`, by name.
fn inputs(kind: &str, target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz").join(kind).join(target);
    let entries = std::fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort_unstable();
    paths
}

fn check_all(kind: &str) -> usize {
    let mut count = 0;
    for (target, check) in TARGETS {
        for path in inputs(kind, target) {
            let octets = std::fs::read(&path).unwrap();
            // Says which one it is, should the check panic.
            eprintln!("{}", path.display());
            check(&octets);
            count += 1;
        }
    }
    count
}

#[test]
fn earlier_findings_stay_fixed() {
    check_all("regressions");
}

#[test]
fn all_checks_pass_their_seeds() {
    for (target, check) in TARGETS {
        assert!(inputs("seeds", target).len() >= 12, "{target} has few seeds");
        check(b"");
    }
    assert!(check_all("seeds") > 0);
}

/// Each target is built, and each check has a target.
#[test]
fn every_check_has_a_fuzz_target() {
    let mut names: Vec<String> =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/targets"))
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
    names.sort_unstable();
    assert_eq!(names, TARGETS.iter().map(|(name, _)| *name).collect::<Vec<_>>());
}
