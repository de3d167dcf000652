//! The list of licences is that of Cargo.lock.

use std::path::Path;

#[test]
fn the_list_of_licences_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/licences.md");
    let listed = std::fs::read_to_string(path).unwrap();
    assert!(listed == mailrace_dev::licences::list().unwrap(), "write it anew with `mailrace-dev licences`");
}
