use mailrace_core::address::Subdomains;
use proptest::prelude::*;

use super::*;
use crate::config::tests::check;

fn text(text: &str) -> Raw {
    Raw::Text(text.to_owned())
}

#[test]
fn sizes_have_units() {
    for (given, octets) in [
        ("50MiB", 52_428_800),
        ("1GiB", 1 << 30),
        ("10MB", 10_000_000),
        ("512KiB", 524_288),
        ("10240000", 10_240_000),
        ("7 kb", 7_000),
        ("0", 0),
    ] {
        assert_eq!(Octets::read(&text(given)), Ok(Octets(octets)), "{given}");
    }
    assert_eq!(Octets::read(&Raw::Integer(5)), Ok(Octets(5)));
}

#[test]
fn rejects_invalid_sizes() {
    for given in ["", "MiB", "-1", "1.5GiB", "1 X", "99999999999999999999", "99999999999TiB", "1MiB2"] {
        assert!(Octets::read(&text(given)).is_err(), "{given}");
    }
    assert!(Octets::read(&Raw::Integer(-1)).is_err());
    assert!(Octets::read(&Raw::Boolean(true)).is_err());
}

#[test]
fn times_have_units_and_default_to_seconds() {
    for (given, milliseconds) in
        [("6s", 6_000), ("300s", 300_000), ("5m", 300_000), ("1h", 3_600_000), ("250ms", 250), ("7", 7_000)]
    {
        assert_eq!(Duration::read(&text(given)), Ok(Duration::from_millis(milliseconds)), "{given}");
    }
    assert_eq!(Duration::read(&Raw::Integer(2)), Ok(Duration::from_secs(2)));
    for given in ["", "s", "1y", "-1s", "1.5h"] {
        assert!(Duration::read(&text(given)).is_err(), "{given}");
    }
}

#[test]
fn lists_are_arrays_or_one_text() {
    let wanted = vec!["a".to_owned(), "b".to_owned(), "c".to_owned()];
    assert_eq!(Vec::<String>::read(&Raw::List(wanted.clone())), Ok(wanted.clone()));
    assert_eq!(Vec::<String>::read(&text(" a, b\tc,")), Ok(wanted));
    assert_eq!(Vec::<String>::read(&text("")), Ok(vec![]));
}

#[test]
fn yes_and_no_are_booleans_as_in_postfix() {
    assert_eq!(bool::read(&text("yes")), Ok(true));
    assert_eq!(bool::read(&text("No")), Ok(false));
    assert_eq!(bool::read(&Raw::Boolean(true)), Ok(true));
    assert!(bool::read(&text("1")).is_err());
    assert!(bool::read(&Raw::Integer(1)).is_err());
}

#[test]
fn each_kind_of_value_says_what_is_expected() {
    const SIZES: &str = "write bytes as a number, or a text such as \"50MiB\" (KiB MiB GiB TiB, kB MB GB TB)";
    const TIMES: &str = "write seconds as a number, or a text such as \"300s\" (ms s m h d w)";
    for (line, wanted) in [
        ("mail_name = 5", "5 is not a text; write it in double quotes".to_owned()),
        ("mail_name = [\"a\"]", "a list is not a text; write it in double quotes".to_owned()),
        ("mail_name = \"a\\u0007\"", "has a control character; remove it".to_owned()),
        ("smtpd_helo_required = \"on\"", "\"on\" is not yes or no; write true or false".to_owned()),
        ("smtpd_helo_required = 1", "1 is not yes or no; write true or false".to_owned()),
        ("message_size_limit = true", format!("true is not a size; {SIZES}")),
        ("message_size_limit = 1.5", format!("a number with a fraction is not a size; {SIZES}")),
        ("message_size_limit = \"50 XiB\"", format!("\"50 XiB\" is not a size; {SIZES}")),
        ("message_size_limit = 99999999999999999999", format!("an integer beyond 64 bits is not a size; {SIZES}")),
        ("smtpd_timeout = -1", format!("-1 is not a time; {TIMES}")),
        ("smtpd_timeout = 1979-05-27", format!("a date is not a time; {TIMES}")),
        ("smtpd_timeout = \"5 minutes\"", format!("\"5 minutes\" is not a time; {TIMES}")),
        ("smtpd_timeout = \"25h\"", "90000 is out of range; write 1 to 86400".to_owned()),
        ("line_length_limit = \"512B\"", "\"512B\" is not a number; write a whole number, 0 or more".to_owned()),
        ("line_length_limit = 4294967296", "4294967296 is too large; write at most 4294967295".to_owned()),
        ("line_length_limit = 511", "511 is out of range; write 512 to 65536".to_owned()),
        ("masquerade_domains = 5", "5 is not a list; write [\"one\", \"two\"]".to_owned()),
        (
            "masquerade_domains = [[\"a\"]]",
            "a list of other values than texts is not a list; write [\"one\", \"two\"]".to_owned(),
        ),
        ("mynetworks = [\"10.0.0.1/8\"]", "\"10.0.0.1/8\" has host bits that are not zero; write 10.0.0.0/8 if that network is meant".to_owned()),
        ("mynetworks = \"!10.0.0.0/8 ::1\"", "\"::1\" is not a network; write the IPv6 address in brackets: [::1]".to_owned()),
        ("mynetworks = [\"10.0.0.0/33\"]", "\"10.0.0.0/33\" has a bad prefix length; write /0 to /32".to_owned()),
        ("mynetworks = [\"[::]/129\"]", "\"[::]/129\" has a bad prefix length; write /0 to /128".to_owned()),
        ("canonical_maps = [\"virtual\"]", "\"virtual\" does not name a lookup table; write type:name, such as \"texthash:virtual\"".to_owned()),
        ("canonical_maps = \"hash:\"", "\"hash:\" does not name a lookup table; write type:name, such as \"texthash:virtual\"".to_owned()),
        ("header_checks = [\":x\"]", "\":x\" does not name a lookup table; write type:name, such as \"texthash:virtual\"".to_owned()),
        ("relay_domains = [\"a b\", \"!c..d\"]", "\"a b\", \"!c..d\" are not domains; write domains such as \"example.com\", or tables such as \"texthash:domains\"".to_owned()),
        ("mydestination = \"/etc/x\"", "\"/etc/x\" is not a domain; write domains such as \"example.com\"; tables and files are not read here".to_owned()),
        ("smtpd_forbid_bare_newline = \"maybe\"", "\"maybe\" is not a mode for bare newlines; write \"normalize\", \"reject\", true (as normalize) or false".to_owned()),
        ("message_strip_characters = \"\\\\q\"", "\"\\\\q\" has an unknown escape sequence; write \\\\0 for NUL, \\\\\\\\ for a backslash".to_owned()),
    ] {
        let parameter = line.split(' ').next().unwrap();
        let expected = format!("/etc/mailrace/test.toml:1: {parameter}: {wanted}");
        assert_eq!(check(line).unwrap_err(), expected, "{line}");
    }
}

#[test]
fn each_kind_of_value_in_a_table_says_what_is_expected() {
    for (line, wanted) in [
        ("workers = 65536", "65536 is too large; write at most 65535"),
        ("workers = 1025", "1025 is out of range; write 0 to 1024"),
        ("workers = \"\"", "\"\" is not a number; write a whole number, 0 or more"),
        ("io = \"uring\"", "\"uring\" is not a kernel interface; write \"auto\", \"ring\" or \"epoll\""),
        ("log_format = true", "true is not a log format; write \"text\" or \"json\""),
        (
            "table_errors = \"ignore\"",
            "\"ignore\" is not what to do with a table; write \"refuse\" or \"warn\"",
        ),
        ("listen = []", "names no address; write [\"127.0.0.1:2525\"] or another"),
        (
            "listen = [\"127.0.0.1:25\", \"localhost:25\"]",
            "\"localhost:25\" is not an address with a port; write \"127.0.0.1:2525\", \"0.0.0.0:25\" or \"[::1]:2525\"",
        ),
        (
            "listen = [\"::1:25\"]",
            "\"::1:25\" is not an address with a port; write \"127.0.0.1:2525\", \"0.0.0.0:25\" or \"[::1]:2525\"",
        ),
        (
            "metrics_listen = false",
            "false is not an address with a port; write \"127.0.0.1:9925\", or \"\" for none",
        ),
        (
            "memory_limit = \"8EiB\"",
            "\"8EiB\" is not a size; write bytes as a number, or a text such as \"50MiB\" (KiB MiB GiB TiB, kB MB GB TB)",
        ),
    ] {
        let parameter = line.split(' ').next().unwrap();
        let expected = format!("/etc/mailrace/test.toml:2: engine.{parameter}: {wanted}");
        assert_eq!(check(&format!("[engine]\n{line}")).unwrap_err(), expected, "{line}");
    }
    for (line, wanted) in [
        ("directory = \"\"", "directory: \"\" is not a path; write it in double quotes"),
        ("directory = \"a\\u0000b\"", "directory: has a NUL character; write a path without it"),
        ("backend = \"postfix\"", "backend: the backend \"postfix\" is not supported yet; write \"spool\""),
        ("backend = \"files\"", "backend: \"files\" is not a queue backend; write \"spool\""),
    ] {
        let expected = format!("/etc/mailrace/test.toml:2: queue.{wanted}");
        assert_eq!(check(&format!("[queue]\n{line}")).unwrap_err(), expected, "{line}");
    }
}

#[test]
fn choices_are_read() {
    use mailrace_core::smtp::BareNewline;

    for (value, mode) in [
        ("true", BareNewline::Normalize),
        ("\"YES\"", BareNewline::Normalize),
        ("\"Normalize\"", BareNewline::Normalize),
        ("\"reject\"", BareNewline::Reject),
        ("false", BareNewline::Accept),
        ("\"no\"", BareNewline::Accept),
    ] {
        let configuration = check(&format!("smtpd_forbid_bare_newline = {value}")).unwrap();
        assert_eq!(configuration.session.smtpd_forbid_bare_newline, mode, "{value}");
    }
    for (value, choice) in [("auto", IoChoice::Auto), ("ring", IoChoice::Ring), ("epoll", IoChoice::Epoll)] {
        let configuration = check(&format!("[engine]\nio = \"{value}\"")).unwrap();
        assert_eq!(configuration.engine.io, choice, "{value}");
    }
}

#[test]
fn characters_have_the_escapes_of_c() {
    for (given, wanted) in [
        ("", &b""[..]),
        ("ab", b"ab"),
        ("\\a\\b\\f\\n\\r\\t\\v", b"\x07\x08\x0c\n\r\t\x0b"),
        ("\\0", b"\0"),
        ("\\12", b"\n"),
        ("\\0128", b"\n8"),
        ("\\377", b"\xff"),
        ("\\\\\\\"", b"\\\""),
        ("\u{e9}", b"\xc3\xa9"),
    ] {
        assert_eq!(Characters::read(&text(given)), Ok(Characters(wanted.to_vec())), "{given}");
    }
    for given in ["\\", "a\\", "\\400", "\\8", "\\x41", "\\z"] {
        assert!(Characters::read(&text(given)).is_err(), "{given}");
    }
}

#[test]
fn host_names_have_labels_of_bounded_length() {
    let label = "a".repeat(63);
    let longest = [&*label, &label, &label, &label].join(".");
    for name in [
        "mx",
        "mx.example.com",
        "b\u{fc}cher.example",
        "a_b.example",
        "[192.0.2.1]",
        "[IPv6:2001:db8::1]",
        &longest,
    ] {
        assert_eq!(HostName::read(&text(name)), Ok(HostName(name.to_owned())), "{name}");
    }
    for name in [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "a b",
        "a/b",
        "a:b",
        &"a".repeat(64),
        &format!("{longest}.a"),
        "[",
        "[]",
        "[a b]",
        "[192.0.2.1",
        "[a]b]",
    ] {
        let refusal = HostName::read(&text(name)).unwrap_err();
        assert_eq!(refusal.reason, format!("{name:?} is not a host name"));
        assert_eq!(refusal.remedy, "write a fully qualified name such as \"mx.example.com\"");
    }
}

#[test]
fn a_domain_list_is_searched_in_order_and_exclusions_count() {
    let domains = |items: &[&str]| {
        let list =
            DomainList::read(&Raw::List(items.iter().map(|item| (*item).to_owned()).collect())).unwrap();
        list.domains(Subdomains::OfEach, &crate::config::Tables::default())
    };
    for (items, name, is_in) in [
        (&["!a.example", "example"][..], "a.example", false),
        (&["!a.example", "example"], "x.a.example", false),
        (&["!a.example", "example"], "b.example", true),
        (&["example", "!a.example"], "a.example", true),
        (&["!!example"], "example", true),
        (&["EXAMPLE"], "example", true),
        (&["example"], "notexample", false),
        (&[], "example", false),
    ] {
        assert_eq!(domains(items).has_name(name.as_bytes()), is_in, "{items:?} {name}");
    }
}

#[test]
fn words_that_other_programs_use_are_accepted_without_effect() {
    for line in [
        "propagate_unmatched_extensions = \"canonical, virtual, alias, forward, include, generic\"",
        "parent_domain_matches_subdomains = \"debug_peer_list, relay_domains, smtpd_access_maps\"",
        "smtputf8_autodetect_classes = \"sendmail, verify, bounce\"",
        "local_header_rewrite_clients = \"permit_mynetworks\"",
        "masquerade_classes = \"\"",
    ] {
        let configuration = check(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert_eq!(configuration.notes, [""; 0], "{line}");
    }
    let of = |value: &str| ExtensionTables::read(&text(value)).unwrap();
    assert_eq!(of("alias"), ExtensionTables { canonical: false, virtual_alias: false });
    assert_eq!(of("virtual"), ExtensionTables { canonical: false, virtual_alias: true });
    assert_eq!(MailSources::read(&text("smtpd")), Ok(MailSources { sendmail: false }));
    assert_eq!(MailSources::read(&text("all")), Ok(MailSources { sendmail: true }));
}

proptest! {
    #[test]
    fn a_size_is_its_number_times_its_unit(number: u32, unit in 0..SIZE_UNITS.len(), is_upper: bool, blank in " {0,2}") {
        let (name, factor) = SIZE_UNITS[unit];
        let name = if is_upper { name.to_ascii_uppercase() } else { name.to_ascii_lowercase() };
        let read = Octets::read(&text(&format!("{blank}{number}{blank}{name}{blank}")));
        prop_assert_eq!(read.ok(), u64::from(number).checked_mul(factor).map(Octets));
    }

    #[test]
    fn a_time_is_its_number_times_its_unit(number: u32, unit in 0..TIME_UNITS.len()) {
        let (name, factor) = TIME_UNITS[unit];
        let read = Duration::read(&text(&format!("{number}{name}")));
        prop_assert_eq!(read, Ok(Duration::from_millis(u64::from(number) * factor)));
    }

    #[test]
    fn a_size_beyond_64_bits_is_refused(number in (1u64 << 34)..) {
        let given = text(&format!("{number}GiB"));
        prop_assert!(Octets::read(&given).is_err());
    }

    #[test]
    fn any_text_is_a_value_or_is_refused(given in ".{0,40}") {
        let raw = text(&given);
        let _ = (Octets::read(&raw), Duration::read(&raw), Characters::read(&raw), HostName::read(&raw));
        let _ = (DomainList::read(&raw), TableList::read(&raw), Vec::<SocketAddr>::read(&raw));
    }
}
