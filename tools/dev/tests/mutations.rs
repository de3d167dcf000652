//! The planted bugs can be planted; whether they are found is `mailrace-dev mutate`'s to say (docs/simulation.md).

use std::collections::BTreeSet;

use mailrace_dev::mutation::{all, root};

#[test]
fn each_text_occurs_once_and_is_changed() {
    let stale: Vec<String> =
        all().filter_map(|mutation| mutation.apply(&root()).err()).map(|error| error.to_string()).collect();
    assert!(stale.is_empty(), "{}", stale.join("\n"));
    for mutation in all() {
        assert_ne!(mutation.before, mutation.after, "{}", mutation.name);
    }
    let names: BTreeSet<&str> = all().map(|mutation| mutation.name).collect();
    assert_eq!(names.len(), all().count(), "two bugs have one name");
}
