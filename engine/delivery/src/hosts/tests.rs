use proptest::prelude::*;

use super::*;

fn settings() -> HostSettings {
    HostSettings { address_limit: 5, is_balanced: true, ..HostSettings::default() }
}

fn host(name: &str, addresses: &[&str]) -> Host {
    let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    Host { name: name.into(), addresses: Ok(addresses) }
}

fn lost(name: &str, miss: Miss) -> Host {
    Host { name: name.into(), addresses: Err(miss) }
}

fn exchangers(hosts: impl IntoIterator<Item = (u16, Host)>) -> Found {
    Found::Exchangers(hosts.into_iter().map(|(preference, host)| Exchanger { preference, host }).collect())
}

/// `NAME ADDRESS` of each server, `*` after the best ones; or `STATUS TEXT`.
fn told(servers: &Servers) -> Vec<String> {
    match &servers.result {
        Ok(servers) => servers
            .iter()
            .map(|server| {
                let Endpoint::Inet(address) = &server.endpoint else { panic!("{server:?}") };
                format!("{} {}{}", server.name, address.ip(), if server.is_best { "*" } else { "" })
            })
            .collect(),
        Err(Cause { status, text, .. }) => {
            let text = String::from_utf8_lossy(text);
            vec![format!("{}.{}.{} {text}", status.class, status.subject, status.detail)]
        }
    }
}

fn found(found: &Found, settings: &HostSettings) -> Vec<String> {
    told(&servers("example.com", 25, found, settings, 0))
}

#[test]
fn servers_come_by_preference() {
    let records = exchangers([
        (20, host("c", &["192.0.2.3"])),
        (5, host("a", &["192.0.2.1", "2001:db8::1"])),
        (10, lost("b", Miss::no_name("b", "A"))),
    ]);
    assert_eq!(found(&records, &settings()), ["a 192.0.2.1*", "a 2001:db8::1*", "c 192.0.2.3"]);
}

#[test]
fn the_port_is_that_of_the_next_hop() {
    let servers = servers("a", 2525, &Found::Host(host("a", &["192.0.2.1"])), &settings(), 0);
    let [server] = &servers.result.unwrap()[..] else { panic!("one server") };
    assert_eq!(server.endpoint, Endpoint::Inet("192.0.2.1:2525".parse().unwrap()));
}

#[test]
fn a_family_comes_first_within_its_preference() {
    let records = exchangers([
        (10, host("a", &["192.0.2.1", "2001:db8::1"])),
        (20, host("b", &["2001:db8::2", "192.0.2.2"])),
    ]);
    let with = |preference| found(&records, &HostSettings { preference, ..settings() });
    assert_eq!(
        with(AddressPreference::Ipv6),
        ["a 2001:db8::1*", "a 192.0.2.1*", "b 2001:db8::2", "b 192.0.2.2"]
    );
    assert_eq!(
        with(AddressPreference::Ipv4),
        ["a 192.0.2.1*", "a 2001:db8::1*", "b 192.0.2.2", "b 2001:db8::2"]
    );
}

#[test]
fn the_limit_leaves_servers_of_both_families() {
    let many = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "2001:db8::5", "192.0.2.1"];
    let records = exchangers([(10, host("a", &many))]);
    let with = |is_balanced| found(&records, &HostSettings { address_limit: 3, is_balanced, ..settings() });
    assert_eq!(with(true), ["a 2001:db8::1*", "a 2001:db8::2*", "a 192.0.2.1*"]);
    assert_eq!(with(false), ["a 2001:db8::1*", "a 2001:db8::2*", "a 2001:db8::3*"]);
    assert_eq!(found(&records, &HostSettings { address_limit: 0, ..settings() }).len(), 6);
}

#[test]
fn an_odd_limit_leaves_one_more_of_the_family_that_comes_first() {
    let many = ["192.0.2.1", "2001:db8::1", "192.0.2.2", "2001:db8::2"];
    let records = exchangers([(10, host("a", &many))]);
    let with = |preference| found(&records, &HostSettings { address_limit: 3, preference, ..settings() });
    assert_eq!(with(AddressPreference::Any), ["a 192.0.2.1*", "a 2001:db8::1*", "a 192.0.2.2*"]);
    assert_eq!(with(AddressPreference::Ipv6), ["a 2001:db8::1*", "a 2001:db8::2*", "a 192.0.2.1*"]);
}

#[test]
fn servers_that_are_not_preferred_to_this_host_are_cut() {
    let own = HostSettings { own: ["192.0.2.2".parse().unwrap()].into(), ..settings() };
    let records = exchangers([
        (10, host("a", &["192.0.2.1"])),
        (20, host("x", &["192.0.2.9"])),
        (20, host("me", &["192.0.2.2"])),
        (30, host("c", &["192.0.2.3"])),
    ]);
    let servers = servers("example.com", 25, &records, &own, 0);
    assert_eq!((told(&servers), servers.has_self), (vec!["a 192.0.2.1*".to_owned()], true));
}

#[test]
fn mail_loops_back_where_this_host_is_the_best() {
    let own = HostSettings { own: ["192.0.2.2".parse().unwrap()].into(), ..settings() };
    let looping = ["5.4.6 mail for example.com loops back to myself"];
    let me = || host("me", &["192.0.2.2"]);
    assert_eq!(found(&exchangers([(10, me()), (20, host("b", &["192.0.2.3"]))]), &own), looping);
    assert_eq!(found(&Found::Host(host("example.com", &["192.0.2.3", "192.0.2.2"])), &own), looping);
    // A better host that only lacks its address may be there later.
    let primary = lost("a", Miss::no_name("a", "A"));
    assert_eq!(
        found(&exchangers([(5, primary), (10, me())]), &own),
        ["4.4.4 unable to find primary relay for example.com"]
    );
    // At other ports something else may listen.
    let elsewhere = servers("example.com", 26, &exchangers([(10, me())]), &own, 0);
    assert_eq!((told(&elsewhere), elsewhere.has_self), (vec!["me 192.0.2.2*".to_owned()], false));
}

#[test]
fn failed_lookups_have_the_status_and_text_of_postfix() {
    let of_mx = |miss| found(&Found::Failed(miss), &settings());
    assert_eq!(of_mx(Miss::null_mx("x")), ["5.1.0 Domain x does not accept mail (nullMX)"]);
    let not_found = "Host or domain name not found. Name service error for name=x";
    assert_eq!(
        of_mx(Miss::temporary("x", "MX")),
        [format!("4.4.3 {not_found} type=MX: Host not found, try again")]
    );
    assert_eq!(
        of_mx(Miss::refused("x", "MX")),
        [format!("5.4.3 {not_found} type=MX: Non-recoverable error")]
    );
    assert_eq!(
        of_mx(Miss::invalid_record("x", "MX")),
        ["5.4.4 Name service error for name=x type=MX: Malformed or unexpected name server reply"]
    );
    let of_host = |miss| found(&Found::Host(lost("x", miss)), &settings());
    assert_eq!(of_host(Miss::no_name("x", "A")), [format!("5.4.4 {not_found} type=A: Host not found")]);
    assert_eq!(
        of_host(Miss::no_record("x", "AAAA")),
        [format!("5.4.4 {not_found} type=AAAA: Host found but no data record of requested type")]
    );
    assert_eq!(
        of_host(Miss::invalid_name("-x")),
        ["5.4.4 Name service error for -x: invalid host or domain name"]
    );
    assert_eq!(
        of_host(Miss::unknown_host("x")),
        ["5.4.4 unable to look up host x: Name or service not known"]
    );
}

#[test]
fn a_temporary_failure_makes_later_ones_temporary() {
    let (missing, late) = (Miss::no_name("b", "A"), Miss::temporary("a", "A"));
    let records = exchangers([(10, lost("a", late.clone())), (20, lost("b", missing.clone()))]);
    let text = &missing.text;
    assert_eq!(found(&records, &settings()), [format!("4.4.4 {text}")]);
    let records = exchangers([(20, lost("b", missing.clone()))]);
    assert_eq!(found(&records, &settings()), [format!("5.4.4 {text}")]);
    let deferring = HostSettings { defers_without_address: true, ..settings() };
    assert_eq!(found(&records, &deferring), [format!("4.4.4 {text}")]);
    let records = exchangers([(10, lost("b", missing)), (20, lost("a", late.clone()))]);
    assert_eq!(found(&records, &settings()), [format!("4.4.3 {}", late.text)]);
}

#[test]
fn addresses_of_families_that_are_not_in_use_are_none() {
    let with = |protocols| HostSettings { protocols, ..settings() };
    let both = Found::Host(host("a", &["192.0.2.1", "2001:db8::1"]));
    assert_eq!(found(&both, &with(Protocols::Ipv4)), ["a 192.0.2.1*"]);
    assert_eq!(found(&both, &with(Protocols::Ipv6)), ["a 2001:db8::1*"]);
    let old = Found::Host(host("a", &["192.0.2.1"]));
    assert_eq!(found(&old, &with(Protocols::Ipv6)), ["5.4.4 a: host not found"]);
}

#[test]
fn of_two_failures_the_temporary_one_counts_and_then_the_last() {
    let (none, late) = (Miss::no_name("a", "A"), Miss::temporary("a", "AAAA"));
    assert_eq!(none.clone().or(late.clone()), late);
    assert_eq!(late.clone().or(none.clone()), late);
    let last = Miss::no_record("a", "AAAA");
    assert_eq!(none.clone().or(last.clone()), last);
    let invalid = Miss::invalid_record("a", "A");
    assert_eq!(invalid.clone().or(none), invalid);
    assert_eq!(invalid.or(late.clone()), late);
}

#[test]
fn a_domain_is_looked_up_as_a_host_when_it_has_no_mx_record() {
    assert!(Miss::no_record("a", "MX").leads_to_host(false));
    assert!(!Miss::temporary("a", "MX").leads_to_host(false));
    assert!(Miss::temporary("a", "MX").leads_to_host(true));
    assert!(!Miss::null_mx("a").leads_to_host(true));
}

#[test]
fn chance_gives_every_order() {
    let records = exchangers([
        (10, host("a", &["192.0.2.1"])),
        (10, host("b", &["192.0.2.2"])),
        (10, host("c", &["192.0.2.3"])),
    ]);
    let random = HostSettings { is_random: true, ..settings() };
    let mut counts = std::collections::BTreeMap::new();
    for seed in 0..6000 {
        *counts.entry(told(&servers("example.com", 25, &records, &random, seed))).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (800..1200).contains(count)), "{counts:?}");
}

fn addresses() -> impl Strategy<Value = Vec<IpAddr>> {
    let address = prop_oneof![
        (1..40u8).prop_map(|host| IpAddr::from([192, 0, 2, host])),
        (1..40u16).prop_map(|host| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host])),
    ];
    proptest::collection::vec(address, 0..6)
}

fn any_settings() -> impl Strategy<Value = HostSettings> {
    let preference = prop_oneof![
        Just(AddressPreference::Any),
        Just(AddressPreference::Ipv4),
        Just(AddressPreference::Ipv6)
    ];
    let protocols = prop_oneof![Just(Protocols::All), Just(Protocols::Ipv4), Just(Protocols::Ipv6)];
    let choices = (0..8usize, any::<bool>(), preference, any::<bool>(), protocols, addresses());
    choices.prop_map(|(address_limit, is_random, preference, is_balanced, protocols, own)| HostSettings {
        address_limit,
        is_random,
        preference,
        is_balanced,
        protocols,
        own: own.into(),
        ..HostSettings::default()
    })
}

proptest! {
    #[test]
    fn whatever_is_found_the_servers_keep_its_order_and_the_limits(
        hosts in proptest::collection::vec((0..4u16, addresses()), 1..6),
        settings in any_settings(),
        random: u64,
    ) {
        let named = hosts.iter().enumerate().map(|(number, (preference, addresses))| {
            (*preference, Host { name: number.to_string().into(), addresses: Ok(addresses.clone()) })
        });
        let answer = servers("example.com", 25, &exchangers(named), &settings, random);
        let Ok(servers) = &answer.result else { return Ok(()) };
        prop_assert!(!servers.is_empty());
        prop_assert!(settings.address_limit == 0 || servers.len() <= settings.address_limit);
        let parts = servers.iter().map(|server| {
            let Endpoint::Inet(address) = &server.endpoint else { panic!("{server:?}") };
            (hosts[server.name.parse::<usize>().unwrap()].0, address.ip(), server.is_best)
        });
        let parts: Vec<_> = parts.collect();
        prop_assert!(parts.is_sorted_by_key(|(preference, ..)| *preference), "{parts:?}");
        let protocols = settings.protocols;
        let has = |addresses: &[IpAddr], is_own: bool| {
            let mut usable = addresses.iter().filter(|address| protocols.has(**address));
            usable.any(|address| !is_own || settings.own.contains(address))
        };
        let best_with = |is_own| {
            hosts.iter().filter(|(_, addresses)| has(addresses, is_own)).map(|(preference, _)| *preference).min()
        };
        for (preference, address, is_best) in &parts {
            prop_assert!(protocols.has(*address) && !settings.own.contains(address));
            prop_assert_eq!(*is_best, Some(*preference) == best_with(false));
        }
        let cut = best_with(true);
        prop_assert_eq!(answer.has_self, cut.is_some());
        let left = hosts.iter().filter(|(preference, _)| cut.is_none_or(|cut| *preference < cut));
        let left: Vec<IpAddr> =
            left.flat_map(|(_, addresses)| addresses).copied().filter(|address| protocols.has(*address)).collect();
        let chosen: Vec<IpAddr> = parts.iter().map(|(_, address, _)| *address).collect();
        let most = if settings.address_limit == 0 { usize::MAX } else { settings.address_limit };
        prop_assert_eq!(chosen.len(), left.len().min(most));
        // With room for two, both families that are left are represented.
        if settings.is_balanced && most > 1 {
            let families =
                |addresses: &[IpAddr]| (addresses.iter().any(IpAddr::is_ipv4), addresses.iter().any(IpAddr::is_ipv6));
            prop_assert_eq!(families(&chosen), families(&left));
        }
    }
}
