//! The order of servers, and which of them a limit leaves.

use std::net::IpAddr;

use super::{AddressPreference, Candidate, HostSettings};

/// Puts addresses into the order in which they are tried, as many as the limit leaves.
pub(super) fn arrange(candidates: &mut Vec<Candidate<'_>>, settings: &HostSettings, random: u64) {
    if settings.is_random {
        shuffle(candidates, random);
    }
    let is_second = |address: IpAddr| match settings.preference {
        AddressPreference::Any => false,
        AddressPreference::Ipv4 => address.is_ipv6(),
        AddressPreference::Ipv6 => address.is_ipv4(),
    };
    candidates.sort_by_key(|candidate| (candidate.preference, is_second(candidate.address)));
    if settings.address_limit == 0 {
        return;
    }
    if settings.is_balanced {
        balance(candidates, settings.address_limit);
    }
    candidates.truncate(settings.address_limit);
}

/// Leaves `limit` addresses in their order, half of them of each family if both have enough.
///
/// Where a domain has many servers of one family that is unreachable, the limit would leave none of the other.
fn balance(candidates: &mut Vec<Candidate<'_>>, limit: usize) {
    let is_ipv4 = |candidate: &Candidate<'_>| candidate.address.is_ipv4();
    let ipv4_count = candidates.iter().filter(|candidate| is_ipv4(candidate)).count();
    let ipv6_count = candidates.len() - ipv4_count;
    if ipv4_count == 0 || ipv6_count == 0 || candidates.len() <= limit {
        return;
    }
    let mut ipv4_left = if ipv6_count <= limit / 2 {
        limit - ipv6_count
    } else if ipv4_count <= limit / 2 {
        ipv4_count
    } else {
        // An odd limit leaves one more of the family that comes first.
        (limit + usize::from(candidates.first().is_some_and(is_ipv4))) / 2
    };
    let mut ipv6_left = limit - ipv4_left;
    candidates.retain(|candidate| {
        let left = if is_ipv4(candidate) { &mut ipv4_left } else { &mut ipv6_left };
        let is_kept = *left > 0;
        *left = left.saturating_sub(1);
        is_kept
    });
}

/// Shuffles (Fisher-Yates), with numbers that SplitMix64 makes of `random`.
fn shuffle(candidates: &mut [Candidate<'_>], random: u64) {
    let mut state = random;
    for last in (1..candidates.len()).rev() {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = state;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        // The upper half of the product is as good as evenly distributed for lists as short as these.
        let other = usize::try_from((u128::from(bits) * (last as u128 + 1)) >> 64).unwrap_or(last);
        candidates.swap(last, other);
    }
}
