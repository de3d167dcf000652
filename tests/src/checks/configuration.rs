//! Properties of configurations: each is refused with the place of the error, or is consistent.

use mailrace::config::{ConfigErrors, Configuration, Fault, Place, Sources, Tables};

/// Checks text as a configuration. A line `%%` ends the file; arguments of `--set` follow, one per line.
///
/// # Panics
/// A property does not hold.
pub fn check(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let (file, arguments) = text.split_once("%%\n").unwrap_or((&text, ""));
    let path = super::file("mailrace.toml", file.as_bytes());
    let set: Vec<String> = arguments.lines().map(str::to_owned).collect();
    let sources = Sources { file: Some(path), set, ..Sources::default() };
    let loaded = Configuration::load(&sources);
    match &loaded {
        Ok(configuration) => check_right(configuration),
        Err(errors) => check_wrong(errors, 1 + file.matches('\n').count()),
    }
    let again = Configuration::load(&sources);
    match (loaded, again) {
        (Ok(one), Ok(other)) => assert_eq!(one, other),
        (Err(one), Err(other)) => assert_eq!(one.to_string(), other.to_string()),
        (one, other) => panic!("{one:?} and then {other:?}"),
    }
}

/// Checks that a valid configuration is consistent.
fn check_right(configuration: &Configuration) {
    let Configuration { domains, connections, engine, queue, .. } = configuration;
    for workers in [1, 7] {
        if let Err(error) = configuration.spool_settings(workers).check() {
            panic!("{error} with {queue:?}");
        }
        let settings = configuration.worker_settings(workers, &Tables::default());
        assert!(settings.max_connections >= 1 && settings.smtp.line_length_limit >= 512);
        assert!(settings.smtp.smtpd_recipient_limit >= 1 && settings.smtp.smtpd_hard_error_limit >= 1);
        assert!(!settings.smtp.myhostname.is_empty() && settings.smtp.myhostname.len() <= 255);
        assert!(!settings.smtp.myhostname.iter().any(|octet| octet.is_ascii_control() || *octet == b' '));
        assert!(!settings.smtpd_timeout.is_zero());
    }
    assert!(!connections.listen.is_empty(), "somewhere is listened");
    assert!(engine.workers <= 1024 && queue.writes_in_flight >= 1);
    assert!(!domains.myhostname.0.is_empty());
}

/// Checks that each error has a place, a reason and a remedy.
fn check_wrong(ConfigErrors(errors): &ConfigErrors, lines: usize) {
    assert!(!errors.is_empty(), "what is wrong is said");
    for error in errors {
        match &error.place {
            Place::File { line, .. } => assert!((1..=lines).contains(line), "line {line} of {lines}"),
            Place::Argument(option) => assert_eq!(*option, "--set"),
            // The value refers to another parameter.
            Place::Default => assert!(!error.name.is_empty()),
        }
        match &error.fault {
            Fault::Syntax(message) => assert!(!message.is_empty()),
            Fault::Value { reason, remedy } => assert!(!reason.is_empty() && !remedy.is_empty(), "{error}"),
            Fault::UnknownName { .. } | Fault::Unsupported { .. } => {
                assert!(!error.name.is_empty() || lines > 0);
            }
            // The configuration itself is there.
            Fault::Unreadable(_) | Fault::Template(_) => assert_eq!(error.name, "bounce_template_file"),
            Fault::Table(error) => panic!("no table was opened: {error}"),
        }
    }
}
