use std::path::Path;

use super::*;
use crate::config::{Configuration, IoChoice, Octets};

fn set(settings: &[&str]) -> Result<Configuration, String> {
    let set = settings.iter().map(|setting| (*setting).to_owned()).collect();
    Configuration::load(&Sources { set, ..Sources::default() }).map_err(|errors| errors.to_string())
}

/// A shell passes no quotes on, so a text needs none.
#[test]
fn values_of_set_are_toml_or_plain_text() {
    let configuration = set(&[
        "myhostname=mx.example.com",
        "mail_name=\"5\"",
        "smtpd_timeout = 5m",
        "message_size_limit=50MiB",
        "smtpd_recipient_limit=17",
        "smtpd_helo_required=yes",
        "disable_vrfy_command=true",
        "mynetworks=[\"10.0.0.0/8\"]",
        "smtpd_client_event_limit_exceptions=[2001:db8::]/32",
        "masquerade_domains=a.example, b.example",
        "masquerade_exceptions=",
        "engine.workers=3",
        "engine.listen=[::1]:25,127.0.0.1:25",
        "queue.directory=/var/queue",
    ])
    .unwrap();
    assert_eq!(configuration.domains.myhostname.0, "mx.example.com");
    assert_eq!(configuration.domains.mail_name, "5");
    assert_eq!(configuration.connections.smtpd_timeout.as_secs(), 300);
    assert_eq!(configuration.session.message_size_limit, Octets(50 << 20));
    assert_eq!(configuration.session.smtpd_recipient_limit, 17);
    assert!(configuration.session.smtpd_helo_required && configuration.session.disable_vrfy_command);
    assert_eq!(configuration.connections.mynetworks.to_string(), "10.0.0.0/8");
    assert_eq!(configuration.connections.smtpd_client_event_limit_exceptions.to_string(), "[2001:db8::]/32");
    assert_eq!(configuration.rewriting.masquerade_domains, ["a.example", "b.example"]);
    assert_eq!(configuration.rewriting.masquerade_exceptions, [""; 0]);
    assert_eq!(configuration.engine.workers, 3);
    assert_eq!(configuration.connections.listen.len(), 2);
    assert_eq!(configuration.queue.directory, Path::new("/var/queue"));
}

#[test]
fn the_last_setting_of_a_parameter_counts() {
    assert_eq!(set(&["mail_name=a", "mail_name=b"]).unwrap().domains.mail_name, "b");
    assert_eq!(set(&["mail_name=a=b"]).unwrap().domains.mail_name, "a=b");
}

#[test]
fn errors_name_the_argument() {
    for (setting, wanted) in [
        ("smtpd_timeout", "--set: \"smtpd_timeout\" has no =; write --set NAME=VALUE"),
        ("smtpd_timeout=x", "--set: smtpd_timeout: \"x\" is not a time; write seconds"),
        ("mail_name=5", "--set: mail_name: 5 is not a text; write it in double quotes"),
        ("workers=5", "--set: workers: unknown parameter; did you mean engine.workers?"),
        (
            "engine.smtpd_timeout=5",
            "--set: engine.smtpd_timeout: unknown parameter; did you mean smtpd_timeout?",
        ),
        ("postfix.workers=5", "--set: postfix.workers: unknown parameter"),
        ("=5", "--set: unknown parameter"),
    ] {
        let said = set(&[setting]).unwrap_err();
        assert!(said.starts_with(wanted), "{setting}: {said}");
    }
    let sources = Sources { io: Some("aio".to_owned()), listen: vec!["x".to_owned()], ..Sources::default() };
    let said = Configuration::load(&sources).unwrap_err().to_string();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("--listen: engine.listen: \"x\" is not an address with a port"), "{said}");
    assert!(lines[1].starts_with("--io: engine.io: \"aio\" is not a kernel interface"), "{said}");
}

#[test]
fn arguments_replace_the_file_and_set_replaces_other_arguments() {
    let path = std::env::temp_dir().join(format!("mailrace-sources-{}.toml", std::process::id()));
    std::fs::write(
        &path,
        "mail_name = \"file\"\n[engine]\nlisten = [\"127.0.0.1:1\"]\nio = \"ring\"\nlog_format = \"json\"\n",
    )
    .unwrap();
    let mut sources = Sources { file: Some(path.clone()), ..Sources::default() };
    let loaded = Configuration::load(&sources).unwrap();
    assert_eq!((loaded.engine.io, loaded.connections.listen[0].port()), (IoChoice::Ring, 1));
    assert_eq!(sources.log_format(), LogFormat::Json);
    sources.io = Some("epoll".to_owned());
    sources.listen = vec!["127.0.0.1:2".to_owned(), "127.0.0.1:3".to_owned()];
    let loaded = Configuration::load(&sources).unwrap();
    assert_eq!((loaded.engine.io, loaded.connections.listen.len()), (IoChoice::Epoll, 2));
    sources.set = vec!["engine.io=auto".to_owned(), "engine.log_format = text".to_owned()];
    assert_eq!(Configuration::load(&sources).unwrap().engine.io, IoChoice::Auto);
    assert_eq!(sources.log_format(), LogFormat::Text);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(Sources { file: Some(path), ..Sources::default() }.log_format(), LogFormat::default());
}

/// The log must be usable to say what is wrong with the rest.
#[test]
fn the_log_format_is_known_when_the_configuration_is_invalid() {
    let of = |settings: &[&str]| {
        let set = settings.iter().map(|setting| (*setting).to_owned()).collect();
        Sources { set, ..Sources::default() }.log_format()
    };
    assert_eq!(of(&["engine.log_format=json", "smtpd_timeout=x", "nonsense"]), LogFormat::Json);
    assert_eq!(of(&["engine.log_format=xml"]), LogFormat::default());
}
