mod every;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use mailrace_core::address::Subdomains;

use super::*;
use crate::tables::Lookups;

/// Reads `text` as the file /etc/mailrace/test.toml.
pub(crate) fn check(text: &str) -> Result<Configuration, String> {
    let mut document = Document::default();
    let path = Arc::new(PathBuf::from("/etc/mailrace/test.toml"));
    let machine = Machine { hostname: "host.example.org".to_owned() };
    document.read_text(text, &path).map_err(|errors| errors.to_string())?;
    Configuration::check(&document, &machine).map_err(|errors| errors.to_string())
}

#[test]
fn defaults_are_read() {
    let configuration = check("").unwrap();
    assert_eq!(configuration.domains.myhostname.0, "host.example.org");
    assert_eq!(configuration.domains.mydomain, "example.org");
    let mydestination = configuration.domains.mydestination.0.domains(Subdomains::Never, &Tables::default());
    for domain in ["host.example.org", "localhost.example.org", "localhost"] {
        assert!(mydestination.has_name(domain.as_bytes()), "{domain}");
    }
    assert_eq!(configuration.queue.directory, Path::new("mailrace-queue"));
    assert_eq!(configuration.notes, Vec::<String>::new());
    assert!(configuration.delivery_settings().is_none());
}

#[test]
fn domains_match_subdomains_as_the_parameter_says() {
    let subdomains = |text: &str| check(text).unwrap().domains.relay_subdomains();
    assert_eq!(subdomains(""), Subdomains::OfEach);
    assert_eq!(subdomains("parent_domain_matches_subdomains = []"), Subdomains::OfDotted);
    let configuration =
        check("relay_domains = [\"!a.example\", \"!texthash:x\", \"b\u{fc}cher.example\"]").unwrap();
    assert_eq!(
        configuration.named_tables.iter().map(|given| &given.names[..]).collect::<Vec<_>>(),
        [["texthash:x"]]
    );
    assert_eq!(configuration.notes, [""; 0]);
    for (text, note) in [
        (
            "relay_domains = [\".a.example\"]",
            "relay_domains: \".a.example\" matches nothing; write it without the dot, or take relay_domains out of \
             parent_domain_matches_subdomains",
        ),
        (
            "mydestination = [\".a.example\"]",
            "mydestination: \".a.example\" matches nothing; domains of this list match exactly",
        ),
    ] {
        assert_eq!(check(text).unwrap().notes, [format!("/etc/mailrace/test.toml:1: {note}")]);
    }
    let text = "relay_domains = [\".a.example\"]\nparent_domain_matches_subdomains = [\"mynetworks\"]";
    assert_eq!(check(text).unwrap().notes, [""; 0]);
    let errors = check("parent_domain_matches_subdomains = [\"relay_domain\"]").unwrap_err();
    assert!(
        errors.contains(
            "test.toml:1: parent_domain_matches_subdomains: \"relay_domain\" is not known; write some of"
        ),
        "{errors}"
    );
}

#[test]
fn a_domain_in_two_classes_is_reported() {
    let notes = |text: &str| {
        let configuration =
            check(&format!("mydestination = [\"a.example\", \"r.example\"]\n{text}")).unwrap();
        configuration.open_tables(&Lookups::default(), &Tables::default()).unwrap().notes
    };
    let line = |line, parameter, domain, other| {
        format!(
            "/etc/mailrace/test.toml:{line}: {parameter}: \"{domain}\" is in {other} too, which takes precedence; \
             list it in one of them only"
        )
    };
    let text = "virtual_alias_domains = [\"b.example\", \"A.example\", \"c.example\"]\n\
        virtual_mailbox_domains = [\"b.example\", \"d.example\", \"!a.example\"]\n\
        relay_domains = [\"r.example\", \"d.example\", \"example\"]";
    assert_eq!(
        notes(text),
        [
            line(2, "virtual_alias_domains", "a.example", "mydestination"),
            line(3, "virtual_mailbox_domains", "b.example", "virtual_alias_domains"),
            line(4, "relay_domains", "A.example", "virtual_alias_domains"),
            line(4, "relay_domains", "b.example", "virtual_alias_domains"),
            line(4, "relay_domains", "c.example", "virtual_alias_domains"),
            line(4, "relay_domains", "b.example", "virtual_mailbox_domains"),
            line(4, "relay_domains", "d.example", "virtual_mailbox_domains"),
        ]
    );
    assert_eq!(
        notes("virtual_alias_maps = [\"inline:{a.example=x}\"]"),
        [line(2, "virtual_alias_domains", "a.example", "mydestination").replacen(
            "/etc/mailrace/test.toml:2",
            "default",
            1
        )]
    );
    assert_eq!(notes("virtual_alias_domains = [\"b.example\"]\nrelay_domains = [\"c.example\"]"), [""; 0]);
}

#[test]
fn recipients_are_validated_as_configured() {
    let settings = |text: &str| {
        let configuration = check(text).unwrap();
        let tables = configuration.open_tables(&Lookups::default(), &Tables::default()).unwrap();
        configuration.worker_settings(1, &tables).smtp
    };
    let listed = settings("").listed_addresses;
    assert!(listed.smtpd_reject_unlisted_recipient && !listed.smtpd_reject_unlisted_sender);
    for class in [&listed.local, &listed.relay, &listed.virtual_mailbox] {
        assert!(class.maps.is_empty() && class.reject_code == 550);
    }
    assert_eq!(listed.unknown_virtual_alias_reject_code, 550);
    let smtp = settings(
        "virtual_mailbox_maps = [\"inline:{box.example=x}\"]\nrelay_recipient_maps = \"inline:{a@b=x}\"\n\
         unknown_relay_recipient_reject_code = 450\nsmtpd_sender_restrictions = \"reject_unlisted_sender\"",
    );
    assert!(!smtp.destinations.virtual_mailbox_domains.is_empty(), "$virtual_mailbox_maps");
    let listed = smtp.listed_addresses;
    assert!(
        !listed.virtual_mailbox.maps.is_empty()
            && !listed.relay.maps.is_empty()
            && listed.local.maps.is_empty()
    );
    assert_eq!((listed.relay.reject_code, listed.local.reject_code), (450, 550));
    assert!(listed.smtpd_reject_unlisted_sender);
    for (text, wanted) in [
        (
            "unknown_relay_recipient_reject_code = 250",
            "test.toml:1: unknown_relay_recipient_reject_code: 250 is out of range",
        ),
        ("smtpd_sender_restrictions = \"reject\"", "smtpd_sender_restrictions: \"reject\" is not supported"),
        (
            "smtpd_relay_restrictions = \"permit_mynetworks\"",
            "smtpd_relay_restrictions: other restrictions are not supported",
        ),
    ] {
        let errors = check(text).unwrap_err();
        assert!(errors.contains(wanted), "{text:?} gave {errors}");
    }
    check("smtpd_relay_restrictions = \"permit_mynetworks, reject_unauth_destination\"").unwrap();
}

#[test]
fn a_gateway_is_read() {
    let configuration = check(
        "myhostname = \"mx.example.com\"\nrelay_domains = [\"example.com\", \"example.net\"]\nmynetworks = []\n\
         message_size_limit = \"50MiB\"\nrecipient_delimiter = \"+\"\n\
         [engine]\nlisten = [\"127.0.0.1:25\", \"[::1]:25\"]\nworkers = 1\n[queue]\ndirectory = \"queue\"\n",
    )
    .unwrap();
    assert_eq!(configuration.session.message_size_limit, Octets(50 << 20));
    assert_eq!(configuration.connections.listen.len(), 2);
    assert_eq!(configuration.queue.directory, Path::new("/etc/mailrace/queue"));
    assert_eq!(configuration.notes, Vec::<String>::new());
}

#[test]
fn errors_have_line_and_remedy() {
    for (text, wanted) in [
        (
            "\nmyhostnam = \"a.example\"",
            "test.toml:2: myhostnam: unknown parameter; did you mean myhostname?",
        ),
        (
            "\nsmtpd_milters = \"inet:x:1\"",
            "test.toml:2: smtpd_milters: a Postfix parameter that Mailrace does not support yet; remove it",
        ),
        (
            "smtpd_milter = \"inet:x:1\"",
            "test.toml:1: smtpd_milter: unknown parameter; see docs/configuration.md for those that exist",
        ),
        (
            "inet_interfaces = \"all\"",
            "test.toml:1: inet_interfaces: a Postfix parameter that another setting replaces; set listen in the table [engine]",
        ),
        (
            "use_srv_lookup = \"smtp\"",
            "test.toml:1: use_srv_lookup: a Postfix parameter that Mailrace does not support yet",
        ),
        (
            "slow_destination_rate_delay = 1",
            "test.toml:1: slow_destination_rate_delay: a Postfix parameter that Mailrace does not support yet",
        ),
        (
            "smptd_recipient_limit = 5",
            "test.toml:1: smptd_recipient_limit: unknown parameter; did you mean smtpd_recipient_limit?",
        ),
        ("[engine]\ntransport_maps = []", "test.toml:2: engine.transport_maps: unknown parameter"),
        ("workers = 2", "test.toml:1: workers: unknown parameter; did you mean engine.workers?"),
        ("[engine]\nworkers = -1", "test.toml:2: engine.workers: -1 is not a number"),
        ("[queue]\nblock_size = \"2GiB\"", "test.toml:2: queue.block_size: 2147483648 is out of range"),
        (
            "mydestination = [\"hash:/etc/domains\"]",
            "test.toml:1: mydestination: \"hash:/etc/domains\" is not a domain",
        ),
        (
            "smtpd_recipient_limit = 5000",
            "test.toml:1: smtpd_recipient_limit: is more than fits into a batch",
        ),
        ("myhostname = \"a b\"", "is not a host name"),
        ("myhostname = \"mx.$mydomain\"", "test.toml:1: myhostname: $myhostname_parent refers to itself"),
        ("smtpd_timeout = ", "test.toml:1: not TOML"),
        ("[nonsense]\na = 1", "the tables are [engine] and [queue]"),
    ] {
        let errors = check(text).unwrap_err();
        assert!(errors.contains(wanted), "{text:?} gave {errors}");
    }
}

#[test]
fn a_listing_reads_as_the_same_configuration() {
    let text = "myhostname = \"mx.example.com\"\nrelay_domains = [\"a.example\", \"texthash:$x\"]\n\
        smtpd_helo_required = true\nmessage_size_limit = 5000\nundisclosed_recipients_header = \"To: \\\"a\\\\\\\"\\tb:;\"\n\
        \n[engine]\nworkers = 2\n\n[queue]\nsegment_size = \"32MiB\"\n";
    let document = |text: &str| {
        let mut document = Document::default();
        document.read_text(text, &Arc::new(PathBuf::from("/test.toml"))).unwrap();
        document
    };
    let listed = listing::listing(&document(text), FEATURES, false);
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(sorted(&listed), sorted(text));
    assert_eq!(listing::listing(&document(&listed), FEATURES, false), listed);
    assert_eq!(listing::listing(&Document::default(), FEATURES, false), "");
    let all = listing::listing(&document("[engine]\nworkers = 2"), FEATURES, true);
    assert_eq!(
        all.lines().filter(|line| line.contains(" = ")).count(),
        FEATURES.iter().map(|feature| feature.parameters.len()).sum::<usize>()
    );
    assert!(all.contains("\n[engine]\n") && all.contains("\nworkers = 2\n"), "{all}");
    assert_eq!(listing::listing(&document(&all), FEATURES, true), all);
    check(&all).unwrap();
}

#[test]
fn third_party_configurations_load() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/contract");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        eprintln!("skipped: {} does not exist", directory.display());
        return;
    };
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            let sources = Sources { file: Some(path.clone()), ..Sources::default() };
            Configuration::load(&sources).unwrap_or_else(|errors| panic!("{}: {errors}", path.display()));
        }
    }
}

#[test]
fn relative_table_names_are_resolved_where_they_are_written() {
    let bases = |document: &Document| {
        let machine = Machine { hostname: "host.example.org".to_owned() };
        let tables = Configuration::check(document, &machine).unwrap().named_tables;
        tables.into_iter().map(|list| (list.at.parameter, list.at.base)).collect::<Vec<_>>()
    };
    let mut document = Document::default();
    let text = "virtual_alias_maps = [\"texthash:x\"]\nheader_checks = [\"pcre:x\"]";
    document.read_text(text, &Arc::new(PathBuf::from("/etc/mailrace/test.toml"))).unwrap();
    document.set("--set", "canonical_maps", "texthash:x");
    let of_file = Path::new("/etc/mailrace");
    let expected = [
        ("canonical_maps", Path::new("")),
        ("virtual_alias_maps", of_file),
        ("virtual_alias_domains", of_file),
        ("header_checks", of_file),
        ("mime_header_checks", of_file),
        ("nested_header_checks", of_file),
    ];
    assert_eq!(bases(&document), expected.map(|(parameter, base)| (parameter, base.to_owned())));
}

#[test]
fn a_reload_keeps_parameters_that_are_read_only_at_startup() {
    let running =
        check("smtpd_timeout = 5\n[engine]\nworkers = 2\n[queue]\nsegment_size = \"32MiB\"").unwrap();
    let mut next = check("smtpd_timeout = 7\n[engine]\nworkers = 3\n").unwrap();
    assert!(next.keep_started(&running));
    assert_eq!((next.engine.workers, next.queue.segment_size), (2, Octets(32 << 20)));
    assert_eq!(next.connections.smtpd_timeout.as_secs(), 7);
    assert!(!next.keep_started(&running));
}
