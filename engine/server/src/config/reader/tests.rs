use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::tests::check;
use crate::config::{Configuration, Octets, Sources};

use super::*;

/// Returns the error messages of a configuration, without the path of the file.
fn errors(text: &str) -> Vec<String> {
    let errors = check(text).unwrap_err();
    errors.lines().map(|line| line.trim_start_matches("/etc/mailrace/test.toml:").to_owned()).collect()
}

/// A directory that is removed at the end of its test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mailrace-reader-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str, content: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn load(file: &Path) -> Result<Configuration, String> {
    let sources = Sources { file: Some(file.to_owned()), ..Sources::default() };
    Configuration::load(&sources).map_err(|errors| errors.to_string())
}

#[test]
fn defaults_follow_the_parameters_that_they_name() {
    let configuration = check(
        "myhostname = \"mx.example.com\"\nmynetworks = [\"10.0.0.0/8\"]\nheader_checks = [\"pcre:a\", \"pcre:b\"]\n\
         virtual_alias_maps = \"texthash:v\"",
    )
    .unwrap();
    assert_eq!(configuration.domains.mydomain, "example.com");
    assert_eq!(configuration.domains.myorigin, "mx.example.com");
    let exceptions = &configuration.connections.smtpd_client_event_limit_exceptions;
    assert_eq!(exceptions, &configuration.connections.mynetworks);
    assert_eq!(exceptions.to_string(), "10.0.0.0/8");
    for list in [&configuration.checks.mime_header_checks, &configuration.checks.nested_header_checks] {
        assert_eq!(list.0.names, ["pcre:a", "pcre:b"]);
        assert!(list.0.has_actions);
    }
    let domains = configuration.named_tables.iter().find(|list| list.at.parameter == "virtual_alias_domains");
    assert_eq!(domains.unwrap().names, ["texthash:v"]);
}

#[test]
fn a_host_name_without_a_domain_is_in_localdomain() {
    let configuration = check("myhostname = \"mx\"").unwrap();
    assert_eq!(configuration.domains.mydomain, "localdomain");
    let configuration = check("myhostname = \"mx.$mydomain\"\nmydomain = \"example.net\"").unwrap();
    assert_eq!(configuration.domains.myhostname.0, "mx.example.net");
}

#[test]
fn names_expand_inside_of_lists_and_to_several_items() {
    let configuration = check(
        "masquerade_domains = [\"a.example\", \"$masquerade_exceptions\", \"x.${mydomain}\", \"$$\"]\n\
         masquerade_exceptions = [\"root\", \"daemon\"]\nmydomain = \"example.com\"",
    )
    .unwrap();
    assert_eq!(
        configuration.rewriting.masquerade_domains,
        ["a.example", "root", "daemon", "x.example.com", "$"]
    );
    let configuration =
        check("mail_name = \"$smtpd_recipient_limit $smtpd_helo_required $mynetworks\"").unwrap();
    assert_eq!(configuration.domains.mail_name, "1000 no 127.0.0.0/8, [::1]/128");
}

#[test]
fn a_dollar_is_literal_in_tables_of_the_file() {
    let configuration =
        check("[queue]\ndirectory = \"/var/$x\"\n[engine]\ncongestion_control = \"$y\"").unwrap();
    assert_eq!(configuration.queue.directory, Path::new("/var/$x"));
    assert_eq!(configuration.connections.congestion_control, "$y");
}

#[test]
fn invalid_names_in_values_have_a_remedy() {
    for (line, wanted) in [
        (
            "mail_name = \"$nothing\"",
            "$nothing names no parameter; write the name of one, or $$ for a dollar",
        ),
        (
            "mail_name = \"$workers\"",
            "$workers names no parameter; write the name of one, or $$ for a dollar",
        ),
        ("mail_name = \"$mail_name\"", "$mail_name refers to itself; write its value instead"),
        (
            "mail_name = \"${mydomain?x}\"",
            "${mydomain?x} is not $name or ${name}; write the name of a parameter, without conditions, or $$ for a dollar",
        ),
        (
            "mail_name = \"a $\"",
            "$ is not $name or ${name}; write the name of a parameter, without conditions, or $$ for a dollar",
        ),
    ] {
        assert_eq!(errors(line), [format!("1: mail_name: {wanted}")], "{line}");
    }
}

#[test]
fn all_errors_are_reported_in_the_order_of_the_lines() {
    let text = "smtpd_timeout = \"x\"\nunknown_thing = 1\nline_length_limit = 1\n[engine]\nworkers = -2\nlog_memory = 1\n\
                [queue]\nblock_size = 1\nsomething = 2\n";
    let starts: Vec<String> = errors(text)
        .iter()
        .map(|error| {
            error.split_inclusive(": ").take(2).collect::<String>().trim_end_matches(": ").to_owned()
        })
        .collect();
    assert_eq!(
        starts,
        [
            "1: smtpd_timeout",
            "2: unknown_thing",
            "3: line_length_limit",
            "5: engine.workers",
            "6: engine.log_memory",
            "8: queue.block_size",
            "9: queue.something",
        ]
    );
}

#[test]
fn a_value_that_others_inherit_is_refused_once() {
    assert_eq!(errors("mynetworks = [\"x\"]").len(), 1);
    assert_eq!(errors("header_checks = [\"x\"]").len(), 1);
    // What the second parameter adds is its own error.
    let both = errors("header_checks = [\"x\"]\nmime_header_checks = \"$header_checks y\"");
    assert_eq!(both.len(), 1, "{both:?}");
    let both = errors("header_checks = [\"pcre:x\"]\nmime_header_checks = \"$header_checks y\"");
    assert!(both.len() == 1 && both[0].starts_with("2: mime_header_checks: \"y\" "), "{both:?}");
}

#[test]
fn a_default_that_a_value_makes_invalid_has_the_place_of_the_value() {
    let errors = errors("\nmydomain = \"\"\n");
    assert_eq!(errors.len(), 1, "{errors:?}");
    assert!(errors[0].starts_with("2: mydestination: \"localhost.\" is not a domain; "), "{errors:?}");
}

#[test]
fn a_refused_value_is_the_only_error_about_what_comes_from_it() {
    for (text, wanted) in [
        ("myhostname = 1.5", "1: myhostname: a number with a fraction"),
        ("header_checks = [\"$\", \"a\"]", "1: header_checks: $ is not $name"),
    ] {
        let errors = errors(text);
        assert!(errors.len() == 1 && errors[0].starts_with(wanted), "{errors:?}");
    }
}

#[test]
fn parameters_of_postfix_are_told_from_typing_errors() {
    for (line, wanted) in [
        ("relocated_maps = []", "a Postfix parameter that Mailrace does not support yet; remove it"),
        (
            "mynetworks_style = \"host\"",
            "a Postfix parameter that another setting replaces; write the networks in mynetworks",
        ),
        (
            "queue_directory = \"/var/spool/postfix\"",
            "a Postfix parameter that another setting replaces; set directory in the table [queue]",
        ),
        (
            "mail_owner = \"postfix\"",
            "a Postfix parameter that another setting replaces; run mailrace as the owner of the queue",
        ),
        ("lmtp_delivery_slot_cost = 1", "a Postfix parameter that Mailrace does not support yet; remove it"),
        ("mynetwork = []", "unknown parameter; did you mean mynetworks?"),
        ("directory = \"x\"", "unknown parameter; did you mean queue.directory?"),
        ("zzzzzzzz = 1", "unknown parameter; see docs/configuration.md for those that exist"),
        ("smtpd = { a = 1 }", "unknown table; the tables are [engine] and [queue]"),
    ] {
        let parameter = line.split(' ').next().unwrap();
        assert_eq!(errors(line), [format!("1: {parameter}: {wanted}")], "{line}");
    }
    assert_eq!(
        errors("[engine]\nsmtpd_timeout = 5"),
        ["2: engine.smtpd_timeout: unknown parameter; did you mean smtpd_timeout?"]
    );
    assert_eq!(
        errors("[queue]\nworkers = 5"),
        ["2: queue.workers: unknown parameter; did you mean engine.workers?"]
    );
}

#[test]
fn every_replaced_parameter_of_postfix_is_in_its_list() {
    for (name, _) in INSTEAD {
        assert!(is_of_postfix(name), "{name}");
    }
}

#[test]
fn syntax_errors_have_their_line() {
    for (text, line) in [
        ("a = 1\nb = \n", 2),
        ("a = 1\na = 2\n", 2),
        ("[engine]\nworkers = 1\n[engine]\n", 3),
        ("a = 'x\n", 1),
        ("\n\nmyhostname = mx.example.com\n", 3),
    ] {
        let errors = errors(text);
        assert!(errors[0].starts_with(&format!("{line}: not TOML: ")), "{text:?}: {errors:?}");
        assert!(errors[0].ends_with("; write NAME = VALUE, with text in double quotes"), "{errors:?}");
    }
}

#[test]
fn line_ends_of_windows_are_line_ends() {
    let configuration = check("mail_name = \"x\"\r\n\r\n[engine]\r\nworkers = 2\r\n").unwrap();
    assert_eq!((configuration.domains.mail_name.as_str(), configuration.engine.workers), ("x", 2));
    assert_eq!(errors("\r\n\r\nsmtpd_timeout = -1\r\n")[0].split(':').next(), Some("3"));
}

#[test]
fn numbers_may_have_another_base_and_separators() {
    let configuration = check("smtpd_recipient_limit = 1_000\nmessage_size_limit = 0x10").unwrap();
    assert_eq!(configuration.session.smtpd_recipient_limit, 1000);
    assert_eq!(configuration.session.message_size_limit, Octets(16));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let scratch = Scratch::new("unreadable");
    let missing = scratch.0.join("missing.toml");
    let said = load(&missing).unwrap_err();
    assert!(said.starts_with(&format!("{}:1: cannot be read (", missing.display())), "{said}");
    assert!(said.ends_with("); check the path and its permissions"), "{said}");
    assert!(load(&scratch.0).unwrap_err().contains("cannot be read"), "a directory");
    let latin = scratch.file("latin.toml", b"mail_name = \"\xe9\"\n");
    assert!(load(&latin).unwrap_err().contains("cannot be read"));
    let mut large = b"mail_name = \"x\"\n".to_vec();
    large.resize(1024 * 1024, b'\n');
    let large = scratch.file("large.toml", &large);
    assert_eq!(load(&large).unwrap().domains.mail_name, "x");
    let too_large = scratch.file("too-large.toml", &vec![b'\n'; 1024 * 1024 + 1]);
    assert!(load(&too_large).unwrap_err().contains("cannot be read"));
}

#[test]
fn relative_paths_start_at_the_directory_of_the_file() {
    let scratch = Scratch::new("relative");
    let file = scratch.file("mailrace.toml", b"[queue]\ndirectory = \"q/../queue\"\n");
    assert_eq!(load(&file).unwrap().queue.directory, scratch.0.join("q/../queue"));
    let sources = Sources { file: Some(file), queue: Some("other".into()), ..Sources::default() };
    assert_eq!(Configuration::load(&sources).unwrap().queue.directory, Path::new("other"));
}

#[test]
fn a_base_is_that_of_the_parameter_that_a_value_names() {
    let mut document = Document::default();
    document.read_text("canonical_maps = \"texthash:c\"", &Arc::new(PathBuf::from("/etc/m/x.toml"))).unwrap();
    document.set("--set", "virtual_alias_maps", "$canonical_maps");
    let machine = Machine { hostname: "h.example".to_owned() };
    let configuration = Configuration::check(&document, &machine).unwrap();
    assert_eq!(configuration.aliases.virtual_alias_maps.at.base, Path::new("/etc/m"));
}
