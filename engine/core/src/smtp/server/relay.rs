//! Decides to which recipients remote clients may send.
//!
//! An address can name a destination other than by its domain: `a%b@here`, `b!a@here`, `"a@b"@here` all mean
//! `a@b` to some software that receives mail from us. Each spelling is therefore resolved like Postfix's resolver does it,
//! and such routing that is left at a domain that we relay to is refused too (`allow_untrusted_routing = no`).

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::Settings;
use crate::address::{
    Destinations, DomainClass, Token, TokenKind, is_domain, quote_onto, quoted, rewrite, rewrite_tokens,
    scan, split_domain, unquoted, write_internal,
};
use crate::lookup::{Asker, LookupError};

/// Whether a remote client may send to `address` (internal form). `asker`: on whose behalf tables are queried.
///
/// # Errors
/// [`LookupError`] of a table of domains.
pub fn is_destination_permitted<'q>(
    settings: &Settings,
    address: &[u8],
    asker: impl Into<Asker<'q>>,
) -> Result<bool, LookupError> {
    let asker = asker.into();
    let destinations = &settings.destinations;
    resolve(settings, address, |target| {
        let is_mailbox = !target.local.is_empty() && !is_routed(target.local);
        Ok(is_mailbox && target.class(destinations, asker)? != DomainClass::Default)
    })
}

/// Whether `address` (internal form) leads to something that can be a domain, and cannot be taken for an option of a
/// command (`allow_min_user`). `is_utf8`: a domain beyond ASCII too (SMTPUTF8).
pub(super) fn has_destination(settings: &Settings, address: &[u8], is_utf8: bool) -> bool {
    let is_proper = |local: &[u8], domain: &[u8]| {
        is_domain(domain)
            && (is_utf8 || domain.is_ascii())
            && (settings.allow_min_user || !local.starts_with(b"-"))
    };
    match usual(address) {
        // The owner of the domain does not matter here.
        Some((local, domain)) => is_proper(local, domain),
        None => resolve(settings, address, |target| is_proper(target.local, target.domain)),
    }
}

/// An address after its routing was resolved.
pub(super) struct Target<'a> {
    /// In internal form.
    pub(super) local: &'a [u8],
    pub(super) domain: &'a [u8],
    /// The domain is this host.
    is_local: bool,
}

impl Target<'_> {
    /// The class of its domain.
    pub(super) fn class(
        &self,
        destinations: &Destinations,
        asker: Asker<'_>,
    ) -> Result<DomainClass, LookupError> {
        if self.is_local {
            Ok(DomainClass::Local)
        } else {
            destinations.class_beyond_local(self.domain, asker)
        }
    }
}

/// Local-part and domain of the usual address, which is complete and has nothing to take apart.
fn usual(address: &[u8]) -> Option<(&[u8], &[u8])> {
    let (local, domain) = split_domain(address);
    let domain = domain?;
    let is_complete = memchr::memchr(b'.', domain).is_some() && !domain.ends_with(b".");
    (!local.is_empty() && !is_routed(local) && is_complete).then_some((local, domain))
}

/// Takes an address apart until its domain is not ours, or nothing is left to take apart.
pub(super) fn resolve<Answer>(
    settings: &Settings,
    address: &[u8],
    judge: impl FnOnce(&Target<'_>) -> Answer,
) -> Answer {
    let destinations = &settings.destinations;
    if let Some((local, domain)) = usual(address) {
        return judge(&Target { local, domain, is_local: destinations.is_local(domain) });
    }
    let arena = Bump::new();
    let (rules, context) = (&settings.rewriting.rules, &settings.rewriting.local);
    // First it is rewritten as the passes will do it.
    let complete = unquoted(&arena, rewrite(&arena, rules, context, quoted(&arena, address)));
    let mut tokens = ArenaVec::with_capacity_in(16, &arena);
    scan(&arena, quoted(&arena, complete), usize::MAX, &mut tokens);
    let mut ours: Option<&[u8]> = None;
    let mut domain: Option<&[u8]> = None;
    let internal = |tokens: &[Token<'_>]| {
        let mut out = ArenaVec::new_in(&arena);
        write_internal(tokens, &mut out);
        out.into_bump_slice() as &[u8]
    };
    // Each round shortens it.
    for _ in 0..complete.len() + 100 {
        if let [.., before, last] = tokens.as_slice()
            && last.is_operator(b'.')
            && !before.is_operator(b'.')
            && !before.is_operator(b'@')
        {
            tokens.pop();
        }
        if let Some(at) = tokens.iter().rposition(|token| token.is_operator(b'@')) {
            let behind = internal(tokens.get(at + 1..).unwrap_or_default());
            tokens.truncate(at);
            if !behind.is_empty() && !destinations.is_local(behind) {
                domain = Some(behind);
                break;
            }
            ours = Some(behind);
        }
        let is_route = |token: &Token<'_>| {
            token.is_operator(b'@')
                || rules.swap_bangpath && token.is_operator(b'!')
                || rules.allow_percent_hack && token.is_operator(b'%')
        };
        if tokens.iter().any(is_route) {
            rewrite_tokens(&arena, rules, context, &mut tokens, &mut |_, _| {});
        } else if let [Token { kind: TokenKind::Quoted, text, .. }] = tokens.as_slice()
            && let Some(opened) = opened(&arena, settings, text)
        {
            tokens.clear();
            scan(&arena, opened, usize::MAX, &mut tokens);
            rewrite_tokens(&arena, rules, context, &mut tokens, &mut |_, _| {});
        } else {
            break;
        }
    }
    judge(&Target {
        local: internal(&tokens),
        domain: domain.or(ours).unwrap_or(&settings.myhostname),
        is_local: domain.is_none(),
    })
}

/// A quoted local-part with routing in it, as the address that it means.
fn opened<'a>(arena: &'a Bump, settings: &Settings, text: &[u8]) -> Option<&'a [u8]> {
    let rules = &settings.rewriting.rules;
    let mut opened = ArenaVec::with_capacity_in(text.len() + 2, arena);
    opened.extend_from_slice_copy(text);
    if memchr::memrchr(b'@', text).is_none() {
        if rules.allow_percent_hack
            && let Some(percent) = memchr::memrchr(b'%', text)
        {
            *opened.get_mut(percent)? = b'@';
        } else if rules.swap_bangpath && memchr::memchr(b'!', text).is_some() {
            return Some(opened.into_bump_slice());
        } else {
            return None;
        }
    }
    let mut out = ArenaVec::with_capacity_in(text.len() + 2, arena);
    quote_onto(&opened, &mut out);
    Some(out.into_bump_slice())
}

fn is_routed(local: &[u8]) -> bool {
    memchr::memchr3(b'@', b'!', b'%', local).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sharer;
    use crate::address::{RewriteContext, Rewriting};
    use alloc::sync::Arc;
    use alloc::vec;
    use proptest::prelude::*;

    fn settings() -> Settings {
        let origin = b"here.example".to_vec();
        let local = RewriteContext { origin, domain: vec![] };
        Settings {
            rewriting: Arc::new(Rewriting { local, ..Rewriting::default() }),
            destinations: Arc::new(Destinations {
                mydestination: ["here.example", "localhost"].into_iter().collect(),
                relay_domains: ["example.com"].into_iter().collect(),
                own_addresses: [[127, 0, 0, 1].into()].into(),
                ..Destinations::default()
            }),
            ..Settings::default()
        }
    }

    #[test]
    fn accepts_only_own_domains_in_any_spelling() {
        for (address, is_permitted) in [
            ("user@here.example", true),
            ("user@localhost", true),
            ("user@example.com", true),
            ("user@[127.0.0.1]", true),
            ("user", true),
            ("user%example.com", true),
            ("user@example.com@here.example", true),
            ("user%example.com@here.example", true),
            ("here.example!user", true),
            ("user@evil.example", false),
            ("user%evil.example", false),
            ("evil.example!user", false),
            ("user%evil.example@here.example", false),
            ("user%evil.example@example.com", false),
            ("user@evil.example@example.com", false),
            ("user@evil.example@here.example", false),
            ("user@example.com@evil.example", false),
            ("evil.example!user@example.com", false),
            ("evil.example!here.example!user@here.example", false),
            ("here.example!evil.example!user@here.example", false),
            ("user%evil.example%here.example@here.example", false),
            ("user%evil.example@[127.0.0.1]", false),
            ("user@[192.0.2.1]", false),
            ("user@2130706433", false),
            ("user@example.com.evil.example", false),
            ("user@sub.example.com", false),
            ("@example.com", false),
            ("@here.example", false),
        ] {
            let answer = is_destination_permitted(&settings(), address.as_bytes(), Sharer::default());
            assert_eq!(answer, Ok(is_permitted), "{address}");
        }
    }

    /// What we do not take for routing, the next system may.
    #[test]
    fn refuses_unresolved_routing_even_at_own_domains() {
        let mut settings = settings();
        let rewriting = Arc::make_mut(&mut settings.rewriting);
        rewriting.rules.allow_percent_hack = false;
        rewriting.rules.swap_bangpath = false;
        for (address, is_permitted) in [
            ("user%evil.example@here.example", false),
            ("user%evil.example@localhost", false),
            ("user%evil.example@[127.0.0.1]", false),
            ("user%evil.example@example.com", false),
            ("user%100@here.example", false),
            ("evil.example!user@here.example", false),
            ("evil.example!user", false),
            ("user%evil.example", false),
            ("user@evil.example@here.example", false),
            ("user@example.com@here.example", true),
            ("user@here.example", true),
        ] {
            let answer = is_destination_permitted(&settings, address.as_bytes(), Sharer::default());
            assert_eq!(answer, Ok(is_permitted), "{address}");
        }
    }

    proptest! {
        #[test]
        fn no_spelling_reaches_a_foreign_domain(
            parts in prop::collection::vec(
                prop::sample::select(&["user", "here.example", "example.com", "localhost", "[127.0.0.1]"][..]), 0..4),
            signs in prop::collection::vec(prop::sample::select(&["@", "!", "%"][..]), 5),
            place in 0usize..4,
        ) {
            let mut parts = parts;
            parts.insert(place.min(parts.len()), "evil.example");
            // The foreign domain as the mailbox's own name is no destination.
            prop_assume!(parts.len() > 1);
            let mut address = alloc::string::String::new();
            for (index, part) in parts.iter().enumerate() {
                if index > 0 {
                    address.push_str(signs[index % signs.len()]);
                }
                address.push_str(part);
            }
            let is_permitted = is_destination_permitted(&settings(), address.as_bytes(), Sharer::default()) == Ok(true);
            // Permitted only where `evil.example` stands as the user of a domain of ours.
            if is_permitted {
                let users = ["evil.example@", "!evil.example", "evil.example%"];
                prop_assert!(users.iter().any(|user| address.contains(user)), "{}", address);
            }
        }
    }
}
