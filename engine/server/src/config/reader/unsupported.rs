//! Postfix parameters that this release does not have, so that messages can distinguish them from mistyped names.

/// All parameters that `postconf -d` of Postfix 3.7 lists and those that 3.8 to 3.10 added, sorted, without the parameters
/// per transport.
const NAMES: &str = include_str!("postfix_names.txt");

/// Suffixes of the parameters per transport (`smtp_destination_rate_delay`).
const OF_TRANSPORTS: [&str; 17] = [
    "_delivery_slot_cost",
    "_delivery_slot_discount",
    "_delivery_slot_loan",
    "_destination_concurrency_failed_cohort_limit",
    "_destination_concurrency_limit",
    "_destination_concurrency_negative_feedback",
    "_destination_concurrency_positive_feedback",
    "_destination_rate_delay",
    "_destination_recipient_limit",
    "_extra_recipient_limit",
    "_initial_destination_concurrency",
    "_minimum_delivery_slots",
    "_recipient_limit",
    "_recipient_refill_delay",
    "_recipient_refill_limit",
    "_time_limit",
    "_transport_rate_delay",
];

/// Returns whether `name` is a Postfix parameter.
pub(super) fn is_of_postfix(name: &str) -> bool {
    NAMES.lines().any(|known| known == name)
}

/// Returns whether `name` could be a parameter of a Postfix transport. Transports may have any name.
pub(super) fn is_of_a_transport(name: &str) -> bool {
    let is_transport = |transport: &str| {
        !transport.is_empty()
            && transport.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_.".contains(&octet))
    };
    OF_TRANSPORTS.iter().any(|end| name.strip_suffix(end).is_some_and(is_transport))
}

/// Returns whether `name` is a parameter of a transport that every Postfix has, so that it is not taken for a mistyped one.
pub(super) fn is_of_a_usual_transport(name: &str) -> bool {
    let is_usual = |transport: &str| USUAL_TRANSPORTS.contains(&transport);
    OF_TRANSPORTS.iter().any(|end| name.strip_suffix(end).is_some_and(is_usual))
}

/// The transports in the `master.cf` that Postfix installs.
const USUAL_TRANSPORTS: [&str; 8] =
    ["discard", "error", "lmtp", "local", "relay", "retry", "smtp", "virtual"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_of_postfix_are_known() {
        assert!(NAMES.lines().is_sorted());
        for name in [
            "smtpd_milters",
            "transport_maps",
            "use_srv_lookup",
            "smtpd_hide_client_session",
            "2bounce_notice_recipient",
        ] {
            assert!(is_of_postfix(name), "{name}");
        }
        for (name, is_usual) in [
            ("lmtp_destination_recipient_limit", true),
            ("local_destination_concurrency_limit", true),
            ("defualt_destination_recipient_limit", false),
            ("smtp_rate", false),
        ] {
            assert_eq!(is_of_a_usual_transport(name), is_usual, "{name}");
        }
        for name in ["", "smtpd_milter", "Transport_maps", "smtp_destination_rate_delay"] {
            assert!(!is_of_postfix(name), "{name}");
        }
        for name in ["smtp_destination_rate_delay", "slow-lane_time_limit"] {
            assert!(is_of_a_transport(name), "{name}");
        }
        for name in ["_time_limit", "a b_time_limit", "smtp_rate"] {
            assert!(!is_of_a_transport(name), "{name}");
        }
    }
}
