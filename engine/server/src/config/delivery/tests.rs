use std::time::Duration;

use mailrace_core::smtp::client::Protocol;
use mailrace_delivery::bounce::Templates;

use crate::config::tests::check;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn mail_is_delivered_if_a_parameter_says_where() {
    for (text, delivers) in [
        ("", false),
        ("relayhost = \"\"\nsmtp_fallback_relay = \"[192.0.2.1]\"", false),
        ("default_transport = \"smtp\"\nlocal_transport = \"lmtp:x\"", false),
        ("relayhost = \"[192.0.2.1]\"", true),
        ("transport_maps = \"inline:{a=b}\"", true),
        ("relay_transport = \"relay:[192.0.2.1]\"", true),
        ("default_transport = \"relay\"", true),
        ("virtual_transport = \"lmtp:unix:/run/lmtp\"", true),
        ("sender_dependent_relayhost_maps = \"inline:{a=b}\"", true),
        ("sender_dependent_default_transport_maps = \"inline:{a=b}\"", true),
        ("[engine]\ndelivery = \"yes\"", true),
        ("relayhost = \"[192.0.2.1]\"\n[engine]\ndelivery = false", false),
    ] {
        assert_eq!(check(text).unwrap().delivery_settings().is_some(), delivers, "{text}");
    }
}

#[test]
fn a_transport_has_its_own_limits_or_the_defaults() {
    let settings = |text: &str| {
        let text = format!("{text}\n[engine]\ndelivery = true");
        check(&text).unwrap().delivery_settings().unwrap().manager.transports
    };
    let plain = settings("");
    assert_eq!(plain.len(), 3);
    for transport in &plain {
        assert_eq!((transport.recipient_limit, transport.process_limit), (50, 1000));
        let window = transport.window;
        assert_eq!((window.initial, window.limit, window.failed_cohort_limit), (5, 20, 1));
        assert_eq!((transport.rate_delay, transport.is_deferred), (Duration::ZERO, false));
    }
    let [smtp, relay, lmtp] = &settings(
        "smtp_destination_recipient_limit = 1\nsmtp_destination_concurrency_limit = \"2\"\n\
         smtp_initial_destination_concurrency = 3\nsmtp_destination_concurrency_failed_cohort_limit = 4\n\
         smtp_destination_rate_delay = \"5s\"\ndefault_destination_rate_delay = \"1s\"\n\
         local_destination_recipient_limit = 7\nlmtp_destination_recipient_limit = \"$default_process_limit\"\n\
         defer_transports = \"relay, uucp\"",
    )[..] else {
        panic!("three transports")
    };
    assert_eq!((smtp.recipient_limit, smtp.rate_delay, smtp.is_deferred), (1, 5 * SECOND, false));
    assert_eq!((smtp.window.initial, smtp.window.limit, smtp.window.failed_cohort_limit), (3, 2, 4));
    assert_eq!((relay.recipient_limit, relay.rate_delay, relay.is_deferred), (50, SECOND, true));
    assert_eq!((lmtp.recipient_limit, lmtp.rate_delay), (1000, SECOND));
}

#[test]
fn limits_of_transports_are_checked_and_listed() {
    for (text, wanted) in [
        (
            "smtp_destination_recipient_limit = \"x\"",
            "test.toml:1: smtp_destination_recipient_limit: \"x\" is not a number",
        ),
        (
            "\nsmtp_initial_destination_concurrency = 0",
            "test.toml:2: smtp_initial_destination_concurrency: 0 is out of range; write 1 to 100000",
        ),
        (
            "slow_destination_rate_delay = 1",
            "slow_destination_rate_delay: a Postfix parameter that Mailrace does not",
        ),
    ] {
        let errors = check(text).unwrap_err();
        assert!(errors.contains(wanted), "{text:?} gave {errors}");
    }
}

#[test]
fn times_have_the_units_of_postfix() {
    let settings = check(
        "relayhost = \"a.example\"\nmaximal_queue_lifetime = 2\nbounce_queue_lifetime = \"0\"\n\
         delay_warning_time = \"4\"\nminimal_backoff_time = 2",
    );
    let manager = settings.unwrap().delivery_settings().unwrap().manager;
    assert_eq!(manager.retry.maximal_queue_lifetime, 172_800 * SECOND);
    assert_eq!(manager.retry.bounce_queue_lifetime, Duration::ZERO);
    assert_eq!(manager.delay_warning_time, 14_400 * SECOND);
    assert_eq!(manager.retry.minimal_backoff_time, 2 * SECOND);
    let settings = check("relayhost = \"a.example\"\ndelay_warning_time = \"3s\"").unwrap();
    let manager = settings.delivery_settings().unwrap().manager;
    assert_eq!(manager.delay_warning_time, 3 * SECOND);
    assert_eq!(manager.retry.bounce_queue_lifetime, 432_000 * SECOND);
}

#[test]
fn each_protocol_has_its_client() {
    let settings = check(
        "relayhost = \"[A.example]\"\nsmtp_connection_cache_on_demand = \"no\"\nlmtp_lhlo_name = \"l.example\"\n\
         lmtp_data_done_timeout = \"7s\"\nlmtp_mx_session_limit = 1\nsmtp_fallback_relay = \"b.example\"",
    );
    let settings = settings.unwrap().delivery_settings().unwrap();
    let [smtp, relay, lmtp] = &settings.transports[..] else { panic!("three transports") };
    assert_eq!(
        [smtp, relay, lmtp].map(|client| client.protocol),
        [Protocol::Smtp, Protocol::Smtp, Protocol::Lmtp]
    );
    assert_eq!((&*smtp.helo_name, &*lmtp.helo_name), (&b"host.example.org"[..], &b"l.example"[..]));
    assert_eq!((smtp.connection_cache_time, lmtp.connection_cache_time), (Duration::ZERO, 2 * SECOND));
    assert_eq!((smtp.timeouts.data_done, lmtp.timeouts.data_done), (600 * SECOND, 7 * SECOND));
    assert_eq!((smtp.session_limit, lmtp.session_limit, smtp.address_limit), (2, 1, 5));
    assert_eq!(lmtp.timeouts.connect, 120 * SECOND);
    assert_eq!((&*settings.relayhost, &*settings.fallback_relay), ("[a.example]", "b.example"));
    assert_eq!(&*settings.own_name, "host.example.org");
}

#[test]
fn reports_are_as_configured() {
    let settings = check(
        "relayhost = \"a.example\"\nsoft_bounce = \"yes\"\nbounce_size_limit = 4000\nnotify_classes = \"2bounce, delay, policy\"\n\
         2bounce_notice_recipient = \"alice\"\ndouble_bounce_sender = \"twice\"",
    );
    let settings = settings.unwrap().delivery_settings().unwrap();
    let notices = settings.manager.notices;
    assert!(settings.manager.soft_bounce);
    assert!(!notices.copies_failures && notices.reports_double_bounces && notices.copies_delays);
    assert_eq!(&*notices.double_bounce_notice_recipient, b"alice");
    assert_eq!(&*notices.bounce_notice_recipient, b"postmaster");
    assert_eq!(&*notices.double_bounce_sender, b"twice@host.example.org");
    assert_eq!(settings.reports.bounce_size_limit, 4000);
    assert_eq!(
        (&*settings.reports.host_name, &*settings.reports.mail_name),
        (&b"host.example.org"[..], &b"Mailrace"[..])
    );
    let errors = check("notify_classes = \"bounces\"").unwrap_err();
    assert!(errors.contains("test.toml:1: notify_classes: \"bounces\" is not known"), "{errors}");
}

#[test]
fn a_file_of_templates_is_read_with_the_configuration() {
    let directory = std::env::temp_dir().join(format!("mailrace-templates-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let file = directory.join("bounce.cf");
    let text =
        format!("relayhost = \"a.example\"\nmaximal_queue_lifetime = 3\nbounce_template_file = {file:?}");
    let of_reports = |text: &str| check(text).unwrap().delivery_settings().unwrap().reports;
    std::fs::write(
        &file,
        "failure_template = <<EOF\nSubject: Alas\n\n$maximal_queue_lifetime_days days at $myhostname\nEOF\n",
    )
    .unwrap();
    assert_ne!(of_reports(&text).templates, of_reports("relayhost = \"a.example\"").templates);
    let expected = "failure_template = <<EOF\nSubject: Alas\n\n3 days at host.example.org\nEOF\n";
    let parameter = |name: &str| match name {
        "myhostname" => Some(b"host.example.org".to_vec()),
        "delay_warning_time" => Some(b"0h".to_vec()),
        "maximal_queue_lifetime" => Some(b"3d".to_vec()),
        _ => None,
    };
    let mut templates = Templates::built_in(&parameter).unwrap();
    templates.read("expected", expected.as_bytes(), &parameter).unwrap();
    assert_eq!(of_reports(&text).templates, templates);
    std::fs::write(&file, "\nnonsense\n").unwrap();
    let errors = check(&text).unwrap_err();
    let wanted = format!("test.toml:3: bounce_template_file: {}:2: ", file.display());
    assert!(errors.contains(&wanted), "{errors}");
    std::fs::remove_file(&file).unwrap();
    let errors = check(&text).unwrap_err();
    assert!(errors.contains("test.toml:3: bounce_template_file: cannot be read ("), "{errors}");
    std::fs::remove_dir(&directory).unwrap();
}

#[test]
fn what_has_no_effect_is_noted() {
    let notes = check("home_mailbox = \"Maildir/\"").unwrap().notes;
    let place = "/etc/mailrace/test.toml:1";
    assert_eq!(
        notes,
        [format!("{place}: home_mailbox: has no effect, because there is no local delivery yet")]
    );
    for parameter in ["alias_maps", "mailbox_transport", "luser_relay"] {
        let errors = check(&format!("{parameter} = \"x\"")).unwrap_err();
        assert!(errors.contains("a Postfix parameter that Mailrace does not support yet"), "{errors}");
    }
}

#[test]
fn delivery_stays_as_it_was_started() {
    let running = check("relayhost = \"a.example\"\nsmtp_helo_name = \"a.example\"").unwrap();
    let mut next =
        check("relayhost = \"b.example\"\nsmtp_helo_name = \"b.example\"\nsoft_bounce = true").unwrap();
    assert!(next.keep_delivery(&running));
    assert_eq!(next.delivery.smtp_helo_name.0, "a.example");
    assert!(!next.notices.soft_bounce);
    assert_eq!(next.routing.relayhost.0, "b.example", "routes follow a reload");
    assert!(!next.keep_delivery(&running));
}
