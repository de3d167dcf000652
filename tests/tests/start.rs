//! How it starts, and how it says that it cannot.

use mailrace_tests::{Client, Directory, Engine, program, run, skip_on_this_machine};

#[test]
fn an_invalid_configuration_is_refused_with_its_line() {
    let directory = Directory::new();
    let config = directory.write("mailrace.toml", "myhostname = \"mx.example.com\"\nsmtpd_timeot = \"5s\"\n");
    let config = config.to_str().unwrap();
    for command in ["serve", "check"] {
        let refused = run(directory.path(), &[command, "--config", config]);
        assert_eq!(refused.status.code(), Some(78), "{}", refused.errors);
        let wanted = "mailrace.toml:2: smtpd_timeot: unknown parameter; did you mean smtpd_timeout?";
        assert!(refused.errors.contains(wanted), "{}", refused.errors);
    }
    let checked = run(directory.path(), &["check"]);
    assert!(checked.status.success() && checked.output.ends_with("configuration OK\n"), "{}", checked.output);
}

/// --config, then MAILRACE_CONFIG, then the system's: the first that is named counts, and must exist.
#[test]
fn the_environment_names_a_configuration() {
    let directory = Directory::new();
    let named = directory.write("named.toml", "hopcount_limit = 7\n[queue]\ndirectory = \"q\"\n");
    let other = directory.write("other.toml", "hopcount_limit = 8\n");
    let missing = directory.path().join("missing.toml");
    let run = |arguments: &[&str], variable: &std::path::Path| {
        let output = std::process::Command::new(program())
            .args(arguments)
            .env("MAILRACE_CONFIG", variable)
            .current_dir(directory.path())
            .output()
            .unwrap();
        let text = |octets: Vec<u8>| String::from_utf8(octets).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let listing = "hopcount_limit = 7\n\n[queue]\ndirectory = \"q\"\n";
    assert_eq!(run(&["config", "--non-default"], &named), (Some(0), listing.to_owned(), String::new()));
    let other = other.to_str().unwrap();
    let (_, listed, _) =
        run(&["config", "--non-default", "--config", other, "--set", "mail_name=x"], &missing);
    assert_eq!(listed, "mail_name = \"x\"\nhopcount_limit = 8\n");
    let (status, listed, _) = run(&["config"], std::path::Path::new(""));
    assert!(status == Some(0) && listed.contains("\nhopcount_limit = 50\n"), "{listed}");
    let (status, _, errors) = run(&["queue", "list"], &named);
    assert!(status == Some(65) && errors.contains(directory.path().join("q").to_str().unwrap()), "{errors}");
    for arguments in [
        &["serve", "--listen", "127.0.0.1:0"][..],
        &["check"],
        &["config"],
        &["queue", "list"],
        &["rewrite", "a@b"],
        &["clean", "--recipient", "a@b", "/dev/null"],
    ] {
        let (status, _, errors) = run(arguments, &missing);
        assert!(
            status == Some(78) && errors.contains("missing.toml:1: cannot be read"),
            "{arguments:?} {errors}"
        );
    }
    let (status, _, errors) = run(&["sendmail", "a@b"], &missing);
    assert!(status == Some(75) && errors.contains("missing.toml:1: cannot be read"), "{errors}");
}

#[test]
fn an_address_in_use_is_refused() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &[]);
    let other = Directory::new();
    let address = engine.addresses[0].to_string();
    let refused = run(other.path(), &["serve", "--listen", &address]);
    assert_eq!(refused.status.code(), Some(69));
    assert!(refused.errors.contains(&format!("cannot listen on {address}")), "{}", refused.errors);
    engine.stop();
}

#[test]
fn a_queue_in_use_is_refused() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &[]);
    let refused = run(directory.path(), &["serve", "--listen", "127.0.0.1:0", "--queue", "mailrace-queue"]);
    assert_eq!(refused.status.code(), Some(69));
    assert!(refused.errors.contains("another engine uses this queue directory"), "{}", refused.errors);
    engine.stop();
}

#[test]
fn a_queue_directory_that_cannot_be_created_is_refused() {
    let directory = Directory::new();
    let file = directory.write("file", "");
    let refused = run(
        directory.path(),
        &["serve", "--listen", "127.0.0.1:0", "--queue", file.join("queue").to_str().unwrap()],
    );
    assert_eq!(refused.status.code(), Some(69));
    assert!(refused.errors.contains("cannot use the queue directory"), "{}", refused.errors);
}

#[test]
fn ipv4_and_ipv6_clients_are_served() {
    let directory = Directory::new();
    if std::net::TcpListener::bind("[::1]:0").is_err() {
        return skip_on_this_machine("it has no IPv6");
    }
    let arguments = ["--listen", "[::1]:0", "--set", "smtpd_peername_lookup=no"];
    let engine = Engine::start(&directory, &arguments);
    assert_eq!(engine.addresses.len(), 2);
    for (address, wanted) in engine.addresses.iter().zip(["(unknown [127.0.0.1])", "(unknown [IPv6:::1])"]) {
        let id = Client::introduced(*address).queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n");
        let content = engine.queue(&["cat", &id]).output;
        assert!(content.contains(wanted), "{content}");
    }
    engine.stop();
}

#[test]
fn workers_share_a_port() {
    let directory = Directory::new();
    let engine = Engine::start(&directory, &["--set", "engine.workers=3"]);
    let ids: std::collections::BTreeSet<String> = (0..30)
        .map(|_| engine.client().queue("a@example.org", "b@localhost", "Subject: x\r\n\r\n"))
        .collect();
    assert_eq!(ids.len(), 30);
    assert_eq!(directory.messages().len(), 30);
    assert_eq!(engine.queue(&["delete", "ALL"]).output, "30 deleted\n");
    engine.stop();
}
