use super::*;

const ALLOWANCE: Duration = Duration::from_millis(10);

fn at(seconds: u64) -> Instant {
    Instant::default().after(Duration::from_secs(seconds))
}

fn connect(accounts: &mut Accounts, slot: u32, client: &str) -> u32 {
    accounts.connect(slot, client.parse().unwrap(), true, ALLOWANCE, at(0))
}

#[test]
fn a_client_that_owes_waits_until_it_is_paid() {
    let mut accounts = Accounts::new(1);
    connect(&mut accounts, 0, "192.0.2.1");
    let mut charge =
        |milliseconds, now| accounts.charge(0, Duration::from_millis(milliseconds), ALLOWANCE, at(now));
    assert_eq!(charge(10, 0), None);
    let almost = |wait: Option<Duration>, seconds: u64| {
        let over = wait.unwrap().checked_sub(Duration::from_secs(seconds)).unwrap();
        assert!(over < Duration::from_millis(200), "{over:?} for what waiting costs");
    };
    almost(charge(5, 0), 30);
    almost(charge(0, 15), 15);
    assert_eq!(charge(0, 31), None);
    assert_eq!(charge(1000, 31), Some(WAIT_MAX));
    assert_eq!(charge(0, 31 + 601), None, "more than ten allowances are not remembered");
    assert_eq!(charge(10, 100_000), None, "credit beyond the allowance is not kept");
    assert!(charge(1, 100_000).is_some());
}

#[test]
fn an_accepted_message_settles() {
    let mut accounts = Accounts::new(1);
    connect(&mut accounts, 0, "192.0.2.1");
    assert!(accounts.charge(0, Duration::from_secs(5), ALLOWANCE, at(0)).is_some());
    assert!(accounts.is_unproven(0));
    accounts.settle(0, ALLOWANCE);
    assert!(!accounts.is_unproven(0));
    assert_eq!(accounts.charge(0, ALLOWANCE, ALLOWANCE, at(0)), None);
}

#[test]
fn connections_of_a_client_are_counted_together() {
    let mut accounts = Accounts::new(8);
    assert_eq!(connect(&mut accounts, 0, "192.0.2.1"), 1);
    assert_eq!(connect(&mut accounts, 1, "::ffff:192.0.2.1"), 2);
    assert_eq!(connect(&mut accounts, 2, "192.0.2.2"), 1);
    assert_eq!(connect(&mut accounts, 3, "2001:db8::1"), 1);
    assert_eq!(connect(&mut accounts, 4, "2001:db8::ffff:2"), 2);
    assert_eq!(connect(&mut accounts, 5, "2001:db8:0:1::1"), 1);
    accounts.disconnect(0);
    accounts.disconnect(7);
    assert_eq!(connect(&mut accounts, 6, "192.0.2.1"), 2);
}

fn hold(accounts: &mut Accounts, slot: u32, memory: u64) {
    accounts.hold(slot, memory, 0);
}

#[test]
fn the_table_is_bounded_and_debts_outlive_connections() {
    let mut accounts = Accounts::new(2);
    let client = |number: u32| IpAddr::from((0x0a00_0000 + number).to_be_bytes());
    let clients = u32::try_from(ACCOUNTS_MAX).unwrap();
    for number in 0..clients {
        accounts.connect(0, client(number), true, ALLOWANCE, at(0));
        assert!(accounts.charge(0, ALLOWANCE * 2, ALLOWANCE, at(0)).is_some());
        accounts.disconnect(0);
    }
    // A newcomer takes a place, and a client that comes back before its own is needed still owes.
    accounts.connect(0, client(1 << 20), true, ALLOWANCE, at(0));
    assert_eq!(accounts.charge(0, ALLOWANCE, ALLOWANCE, at(0)), None);
    accounts.connect(1, client(60_000), true, ALLOWANCE, at(0));
    assert!(accounts.charge(1, Duration::ZERO, ALLOWANCE, at(0)).is_some());
    assert_eq!((accounts.accounts.len(), accounts.by_client.len()), (ACCOUNTS_MAX, ACCOUNTS_MAX));
    assert_eq!(accounts.networks.len(), accounts.by_network.len());
}

#[test]
fn the_network_with_most_accounts_makes_room_for_newcomers() {
    let mut accounts = Accounts::new(1);
    let mut visit = |client: u128| {
        accounts.connect(0, IpAddr::from(client.to_be_bytes()), true, ALLOWANCE, at(0));
        accounts.disconnect(0);
    };
    const SITE: u128 = 0x2001_0db8 << 96;
    let others = |number: u128| (0x2001_0db9 << 96) + (number << 80);
    // 1,000 sites of one client each, and one that has more than the table holds.
    (0..1000).for_each(|number| visit(others(number)));
    (0..200_000).for_each(|number| visit(SITE + ((number % 0x1_0000) << 64) + ((number >> 16) << 80)));
    let known = (0..1000).filter(|number| accounts.by_client.contains_key(&others(*number))).count();
    assert!(known > 900, "{known}");
}

#[test]
fn the_greediest_client_of_the_greediest_network_exceeds_its_share() {
    let mut accounts = Accounts::new(8);
    for (slot, client) in
        ["192.0.2.1", "192.0.2.2", "192.0.2.2", "198.51.100.1", "2001:db8::1"].iter().enumerate()
    {
        connect(&mut accounts, u32::try_from(slot).unwrap(), client);
    }
    for (slot, memory) in [(0, 10), (1, 400), (2, 400), (3, 100), (4, 90)] {
        hold(&mut accounts, slot, memory);
    }
    accounts.set_targets(1000, 0);
    assert!((0..5).all(|slot| !accounts.exceeds_memory(slot)), "there is no shortage");
    accounts.set_targets(600, 0);
    let exceed: Vec<u32> = (0..5).filter(|slot| accounts.exceeds_memory(*slot)).collect();
    assert_eq!(exceed, [1, 2], "not the one of the same network that holds little");
    accounts.disconnect(1);
    accounts.set_targets(600, 0);
    assert!((0..5).all(|slot| !accounts.exceeds_memory(slot)));
    (0..5).for_each(|slot| accounts.disconnect(slot));
    assert_eq!(accounts.memory(), 0);
}

#[test]
fn connections_through_a_proxy_are_clients_of_their_own() {
    let mut accounts = Accounts::new(8);
    for slot in 0..4 {
        accounts.connect(slot, "127.0.0.1".parse().unwrap(), false, ALLOWANCE, at(0));
        hold(&mut accounts, slot, if slot == 2 { 500 } else { 50 });
        assert!(!accounts.has(slot) && accounts.slots(slot) == (1, 1));
    }
    accounts.set_targets(400, 0);
    let exceed: Vec<u32> = (0..4).filter(|slot| accounts.exceeds_memory(*slot)).collect();
    assert_eq!(exceed, [2]);
    (0..4).for_each(|slot| accounts.disconnect(slot));
    assert_eq!((accounts.accounts.len(), accounts.networks.len()), (0, 0));
}
