//! The command line refuses invalid options before anything is built or started.
#![expect(clippy::unwrap_used, reason = "a test that fails")]

use std::process::Command;

fn refusal(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_mailrace-bench")).args(arguments).output().unwrap();
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn refuses_to_omit_an_unknown_server() {
    let (status, text) = refusal(&["compare", "--without", "posfix"]);
    assert_eq!(status, Some(2), "{text}");
    for name in ["posfix", "canned", "canned-durable", "mailrace", "mailrace-epoll", "postfix"] {
        assert!(text.contains(name), "{text}");
    }
}

#[test]
fn refuses_to_omit_all_servers() {
    let without = ["canned", "canned-durable", "mailrace", "mailrace-epoll", "postfix"];
    let arguments: Vec<&str> =
        ["compare"].into_iter().chain(without.into_iter().flat_map(|name| ["--without", name])).collect();
    assert_eq!(refusal(&arguments), (Some(1), "mailrace-bench: no server is left to measure\n".to_owned()));
}

#[test]
fn times_have_units() {
    for text in ["1y", "-1s", "s"] {
        let (status, text) = refusal(&["compare", &format!("--seconds={text}")]);
        assert_eq!(status, Some(2), "{text}");
        assert!(text.contains("such as 500ms, 5s"), "{text}");
    }
}
