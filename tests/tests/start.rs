//! How it starts, and how it says that it cannot.

use mailrace_tests::{Client, Directory, Engine, run, skip_on_this_machine};

#[test]
fn a_wrong_configuration_is_refused_with_its_line() {
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
    assert!(checked.status.success() && checked.output == "the configuration is right\n");
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
fn a_queue_directory_that_cannot_be_made_is_refused() {
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
