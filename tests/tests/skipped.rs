//! That a skipped test shows without `--nocapture`.

use std::process::Command;

use mailrace_tests::skip;

#[test]
fn a_skipped_test_is_visible_when_output_is_captured() {
    let run = |ci: bool| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "one_that_is_skipped", "--ignored"]).env_remove("CI");
        if ci {
            command.env("CI", "true");
        }
        command.output().unwrap()
    };
    let plain = run(false);
    let errors = String::from_utf8(plain.stderr).unwrap();
    assert!(plain.status.success());
    assert!(errors.contains("SKIPPED: one_that_is_skipped: this machine lacks it\n"), "{errors}");
    // In CI, where all is installed, it fails.
    assert!(!run(true).status.success());
}

#[test]
#[ignore = "the test above runs it"]
fn one_that_is_skipped() {
    skip("this machine lacks it");
}
