//! The resolver against a name server that the tests play.

mod server;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, channel};

use mailrace_delivery::Cause;
use mailrace_io::Endpoint;

use super::system::{Search, searched_names};
use super::*;
use server::NameServer;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A resolver that asks a name server, with files of its own.
struct Bench {
    server: NameServer,
    directory: PathBuf,
    dns: Dns,
    answers: Receiver<(u64, Servers)>,
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

const HOSTS: &str =
    "127.0.0.1 localhost\n192.0.2.77 mail.test Relay.Test # a comment\n2001:db8::77 mail.test\n";

impl Bench {
    fn new(zone: &str) -> Self {
        Self::with(zone, |_| {})
    }

    fn with(zone: &str, change: impl FnOnce(&mut DnsSettings)) -> Self {
        let server = NameServer::start("127.0.0.1:0", zone);
        let name = format!("mailrace-dns-{}-{}", std::process::id(), server.address().port());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir(&directory).unwrap();
        let system = SystemFiles {
            resolv_conf: directory.join("resolv.conf"),
            hosts: directory.join("hosts"),
            port: server.address().port(),
            check_period: Duration::ZERO,
        };
        std::fs::write(&system.resolv_conf, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n").unwrap();
        std::fs::write(&system.hosts, HOSTS).unwrap();
        let mut settings = DnsSettings {
            hosts: HostSettings::default(),
            host_lookup: HostLookup { dns: true, native: true },
            is_disabled: false,
            appends_domain: false,
            searches_domains: false,
            system,
        };
        change(&mut settings);
        let (sender, answers) = channel();
        let answer = move |serial, servers| drop(sender.send((serial, servers)));
        Self { server, directory, dns: Dns::start(settings, answer).unwrap(), answers }
    }

    /// The servers of a domain.
    fn mx(&self, host: &str) -> Vec<String> {
        self.ask(host, true)
    }

    /// The servers of a host.
    fn host(&self, host: &str) -> Vec<String> {
        self.ask(host, false)
    }

    fn ask(&self, host: &str, wants_mx: bool) -> Vec<String> {
        self.dns.ask(7, NextHopName { host: host.into(), port: 25, wants_mx }).unwrap();
        let (serial, servers) = self.answers.recv_timeout(PATIENCE).unwrap();
        assert_eq!(serial, 7);
        match servers.result {
            Ok(servers) => servers
                .iter()
                .map(|server| {
                    let Endpoint::Inet(address) = &server.endpoint else { panic!("{server:?}") };
                    format!("{} {}", server.name, address.ip())
                })
                .collect(),
            Err(Cause { status, text, .. }) => {
                let text = String::from_utf8_lossy(&text);
                vec![format!("{}.{}.{} {text}", status.class, status.subject, status.detail)]
            }
        }
    }
}

const NOT_FOUND: &str = "Host or domain name not found. Name service error for";

#[test]
fn servers_come_by_preference_with_both_families() {
    let bench = Bench::new(
        "example.com MX 20 b.example.com\nexample.com MX 10 a.example.com\n\
         a.example.com A 192.0.2.1\na.example.com AAAA 2001:db8::1\nb.example.com A 192.0.2.2\n",
    );
    let expected = ["a.example.com 192.0.2.1", "a.example.com 2001:db8::1", "b.example.com 192.0.2.2"];
    assert_eq!(bench.mx("example.com"), expected);
    assert_eq!(bench.mx("EXAMPLE.com."), expected);
}

#[test]
fn one_family_is_asked_for_where_the_other_is_not_in_use() {
    let bench = Bench::with("a.test A 192.0.2.1\na.test AAAA 2001:db8::1\n", |settings| {
        settings.hosts.protocols = hosts::Protocols::Ipv4;
    });
    assert_eq!(bench.host("a.test"), ["a.test 192.0.2.1"]);
    assert_eq!(bench.server.questions(), ["a.test A"]);
}

#[test]
fn a_domain_without_mx_records_is_its_own_host() {
    let bench = Bench::new("alias.test CNAME real.test\nreal.test A 192.0.2.1\n");
    assert_eq!(bench.mx("real.test"), ["real.test 192.0.2.1"]);
    assert_eq!(bench.mx("alias.test"), ["alias.test 192.0.2.1"]);
}

#[test]
fn aliases_are_followed_to_mx_records_and_to_addresses() {
    let bench = Bench::new(
        "alias.test CNAME real.test\nreal.test MX 5 mx.real.test\nmx.real.test CNAME host.test\n\
         host.test A 192.0.2.1\n",
    );
    assert_eq!(bench.mx("alias.test"), ["mx.real.test 192.0.2.1"]);
}

#[test]
fn a_null_mx_record_accepts_no_mail() {
    let bench = Bench::new("none.test MX 0 .\nnone.test A 192.0.2.1\n");
    assert_eq!(bench.mx("none.test"), ["5.1.0 Domain none.test does not accept mail (nullMX)"]);
}

#[test]
fn what_does_not_exist_is_returned() {
    let bench = Bench::new("here.test TXT x\nlost.test MX 10 gone.test\n");
    assert_eq!(
        bench.mx("gone.test"),
        [format!("5.4.4 {NOT_FOUND} name=gone.test type=AAAA: Host not found")]
    );
    let no_data = "Host found but no data record of requested type";
    assert_eq!(bench.mx("here.test"), [format!("5.4.4 {NOT_FOUND} name=here.test type=AAAA: {no_data}")]);
    assert_eq!(
        bench.mx("lost.test"),
        [format!("5.4.4 {NOT_FOUND} name=gone.test type=AAAA: Host not found")]
    );
    for name in ["-x.test", "a..test", "a b.test", "1.2.3"] {
        let expected = format!("5.4.4 Name service error for {name}: invalid host or domain name");
        assert_eq!(bench.mx(name), [expected]);
    }
}

#[test]
fn trouble_of_servers_is_temporary() {
    let bench = Bench::new(
        "broken.test MX SERVFAIL\nbroken.test A 192.0.2.1\nrefused.test MX REFUSED\nodd.test MX FORMERR\n",
    );
    for name in ["broken.test", "refused.test"] {
        let expected = format!("4.4.3 {NOT_FOUND} name={name} type=MX: Host not found, try again");
        assert_eq!(bench.mx(name), [expected]);
    }
    let expected = format!("5.4.3 {NOT_FOUND} name=odd.test type=MX: Non-recoverable error");
    assert_eq!(bench.mx("odd.test"), [expected]);
}

#[test]
fn a_server_that_is_silent_is_given_up() {
    let bench = Bench::new(
        "silent.test MX 1 mx.test\nsilent.test MX 2 other.test\nmx.test * TIMEOUT\nother.test A 192.0.2.1\nmute.test * TIMEOUT\n",
    );
    // As long as there is another host, that is enough.
    assert_eq!(bench.mx("silent.test"), ["other.test 192.0.2.1"]);
    let expected = format!("4.4.3 {NOT_FOUND} name=mute.test type=MX: Host not found, try again");
    assert_eq!(bench.mx("mute.test"), [expected]);
}

#[test]
fn a_lookup_error_of_mx_records_can_be_ignored() {
    let bench = Bench::with("broken.test MX SERVFAIL\nbroken.test A 192.0.2.1\n", |settings| {
        settings.hosts.ignores_mx_lookup_error = true;
    });
    assert_eq!(bench.mx("broken.test"), ["broken.test 192.0.2.1"]);
}

#[test]
fn records_that_name_no_host_are_left_out() {
    let bench = Bench::new(
        "half.test MX 1 -bad.test\nhalf.test MX 2 good.test\ngood.test A 192.0.2.1\nbad.test MX 1 -bad.test\n\
         number.test MX 1 192.0.2.9\n",
    );
    assert_eq!(bench.mx("half.test"), ["good.test 192.0.2.1"]);
    let expected =
        "5.4.4 Name service error for name=bad.test type=MX: Malformed or unexpected name server reply";
    assert_eq!(bench.mx("bad.test"), [expected]);
    assert_eq!(bench.mx("number.test"), ["192.0.2.9 192.0.2.9"]);
}

#[test]
fn answers_are_kept_for_their_time_to_live() {
    let bench = Bench::new("long.test A 192.0.2.1\nshort.test A 192.0.2.2 ttl=0\n");
    for _ in 0..3 {
        assert_eq!(bench.host("long.test"), ["long.test 192.0.2.1"]);
        assert_eq!(bench.host("short.test"), ["short.test 192.0.2.2"]);
        assert!(bench.host("gone.test")[0].starts_with("5.4.4"));
    }
    let questions = bench.server.questions();
    let count = |question: &str| questions.iter().filter(|asked| *asked == question).count();
    assert_eq!((count("long.test A"), count("short.test A"), count("gone.test A")), (1, 3, 1));
}

#[test]
fn other_name_servers_are_asked_once_the_file_names_them() {
    let bench = Bench::new("a.test A 192.0.2.1\n");
    assert_eq!(bench.host("a.test"), ["a.test 192.0.2.1"]);
    let port = bench.server.address().port();
    let other = NameServer::start(&format!("127.0.0.2:{port}"), "a.test A 192.0.2.2\n");
    let draft = bench.directory.join("draft");
    std::fs::write(&draft, "nameserver 127.0.0.2\n").unwrap();
    std::fs::rename(&draft, bench.directory.join("resolv.conf")).unwrap();
    assert_eq!(bench.host("a.test"), ["a.test 192.0.2.2"]);
    assert_eq!(other.questions().len(), 2);
}

#[test]
fn a_host_that_is_given_is_looked_for_in_the_hosts_file_first() {
    let bench = Bench::new("mail.test A 192.0.2.1\nby.test MX 1 mail.test\nonly.test MX 1 relay.test\n");
    let expected = ["mail.test 192.0.2.77", "mail.test 2001:db8::77"];
    assert_eq!(bench.host("mail.test"), expected);
    assert_eq!(bench.host("MAIL.test"), expected.map(|server| server.replace("mail", "MAIL")));
    assert!(bench.server.questions().is_empty());
    // What a record names is looked for there last.
    assert_eq!(bench.mx("by.test"), ["mail.test 192.0.2.1"]);
    assert_eq!(bench.mx("only.test"), ["relay.test 192.0.2.77"]);
    let draft = bench.directory.join("draft");
    std::fs::write(&draft, "192.0.2.78 mail.test\n").unwrap();
    std::fs::rename(&draft, bench.directory.join("hosts")).unwrap();
    assert_eq!(bench.host("mail.test"), ["mail.test 192.0.2.78"]);
}

#[test]
fn the_hosts_file_counts_only_where_native_lookups_are_wanted() {
    let dns = HostLookup { dns: true, native: false };
    let bench = Bench::with("mail.test A 192.0.2.1\n", |settings| settings.host_lookup = dns);
    assert_eq!(bench.host("mail.test"), ["mail.test 192.0.2.1"]);
    assert!(bench.host("relay.test")[0].starts_with("5.4.4"));
}

#[test]
fn native_lookups_go_to_the_hosts_file_and_then_to_the_dns() {
    let native = HostLookup { dns: false, native: true };
    let bench =
        Bench::with("by.test MX 1 mail.test\nmail.test A 192.0.2.1\nother.test A 192.0.2.2\n", |settings| {
            settings.host_lookup = native;
        });
    assert_eq!(bench.mx("by.test"), ["mail.test 192.0.2.77", "mail.test 2001:db8::77"]);
    assert_eq!(bench.host("other.test"), ["other.test 192.0.2.2"]);
    assert_eq!(
        bench.host("gone.test"),
        ["5.4.4 unable to look up host gone.test: Name or service not known"]
    );
}

#[test]
fn no_mx_records_are_looked_up_where_dns_lookups_are_disabled() {
    let bench = Bench::with("a.test MX 1 b.test\nb.test A 192.0.2.2\na.test A 192.0.2.1\n", |settings| {
        settings.is_disabled = true;
    });
    assert_eq!(bench.mx("a.test"), ["a.test 192.0.2.1"]);
    assert_eq!(bench.mx("mail.test").len(), 2);
    assert!(!bench.server.questions().contains(&"a.test MX".to_owned()));
}

#[test]
fn addresses_need_no_lookup() {
    let bench = Bench::new("");
    assert_eq!(bench.host("192.0.2.5"), ["192.0.2.5 192.0.2.5"]);
    assert_eq!(bench.mx("2001:db8::5"), ["2001:db8::5 2001:db8::5"]);
    assert!(bench.server.questions().is_empty());
}

#[test]
fn domains_beyond_ascii_are_looked_up_by_their_a_labels() {
    let bench = Bench::new("xn--bcher-kva.test MX 1 a.test\na.test A 192.0.2.1\n");
    assert_eq!(bench.mx("b\u{fc}cher.test"), ["a.test 192.0.2.1"]);
    let expected = "5.4.4 Name service error for \u{fffd}.test: invalid host or domain name";
    assert_eq!(bench.mx("\u{fffd}.test"), [expected]);
}

#[test]
fn host_names_are_searched_in_domains_where_that_is_wanted() {
    let domains = ["a.test", "b.test"].map(|name| name.parse().unwrap()).into();
    let search = Search { domains, ndots: 1 };
    let names = |name: &str, appends_domain, searches_domains| -> Vec<String> {
        let names = searched_names(name, &search, appends_domain, searches_domains);
        names.iter().map(ToString::to_string).collect()
    };
    assert_eq!(names("x", false, false), ["x."]);
    assert_eq!(names("x", true, false), ["x.a.test.", "x."]);
    assert_eq!(names("x", true, true), ["x.a.test.", "x.b.test.", "x."]);
    assert_eq!(names("x.y", true, false), ["x.y."]);
    assert_eq!(names("x.y", false, true), ["x.y.", "x.y.a.test.", "x.y.b.test."]);
    assert_eq!(names("x.", true, true), ["x."]);
    assert!(names("-", true, true).is_empty());
}

#[test]
fn questions_that_are_too_many_come_back() {
    let bench = Bench::new("*.mute * TIMEOUT\n");
    let question =
        |serial: u64| NextHopName { host: format!("h{serial}.mute").into(), port: 25, wants_mx: true };
    let refused =
        (0..5000).find_map(|serial| bench.dns.ask(serial, question(serial)).err().map(|back| (serial, back)));
    let (serial, back) = refused.unwrap();
    assert_eq!(back, NotTaken(question(serial)));
    assert!(
        (QUESTIONS_MAX..=QUESTIONS_MAX + UNDER_WAY_MAX + 1).contains(&usize::try_from(serial).unwrap()),
        "{serial}"
    );
}

#[test]
fn lookups_are_counted() {
    let bench = Bench::new("a.test A 192.0.2.1\nb.test * SERVFAIL\n");
    for name in ["a.test", "a.test", "b.test", "c.test"] {
        bench.host(name);
    }
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register_collector(bench.dns.metrics());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    for line in [
        "next_hop_lookups_total{result=\"found\"} 2",
        "next_hop_lookups_total{result=\"deferred\"} 1",
        "next_hop_lookups_total{result=\"failed\"} 1",
        "next_hop_lookup_seconds_count 4",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} is not in\n{text}");
    }
}
