//! Address lookups: the parts of an address that are searched, their order, and the use of the result (Postfix's
//! canonical(5) and virtual(5)).

use bumpalo::Bump;
use bumpalo::collections::Vec as ArenaVec;

use super::{Asker, LookupError, Maps};
use crate::address::{
    AddressList, Destinations, Rewriting, quoted, quoted_local_part, rewrite, split_domain, unquoted,
    write_tokens,
};

/// Arguments of an address lookup besides its tables.
#[derive(Clone, Copy, Debug)]
pub struct AddressLookup<'q, 'a> {
    /// Arena for keys and results.
    pub arena: &'a Bump,
    /// Completion of results.
    pub rewriting: &'a Rewriting,
    /// Domains whose mailboxes are searched without their domain.
    pub destinations: &'a Destinations,
    /// Characters, the first of which in a mailbox starts its extension; empty: no extensions.
    pub recipient_delimiter: &'a [u8],
    /// Party on whose behalf tables are searched.
    pub asker: Asker<'q>,
}

/// A value, and the extension that its key did not have, delimiter included.
pub type Value<'a> = (&'a [u8], &'a [u8]);

/// Spelling of the keys that are searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// Quoted where needed.
    External,
    /// Quoted where needed, then without quotes.
    ExternalFirst,
}

/// Treatment of an extension that the matched key does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extension {
    /// Appended to each result (`propagate_unmatched_extensions`).
    Propagate,
    /// Dropped.
    Drop,
}

impl<'a> AddressLookup<'_, 'a> {
    /// Returns the addresses that the tables have for `address`, in internal form like `address`, or `None` if they have
    /// none.
    ///
    /// # Errors
    /// [`LookupError`]; also if a value contains no address.
    pub fn map(
        &self,
        maps: &'a Maps,
        address: &'a [u8],
        extension: Extension,
    ) -> Result<Option<ArenaVec<'a, &'a [u8]>>, LookupError> {
        let Some((mut value, unmatched)) = self.find(maps, address, KeyForm::External)? else {
            return Ok(None);
        };
        if value.starts_with(b"@") {
            // A result `@domain` replaces only the domain.
            let (mailbox, _) = split_domain(address);
            let kept = mailbox.len() - unmatched.len().min(mailbox.len());
            let mut moved = ArenaVec::with_capacity_in(kept + value.len(), self.arena);
            moved.extend_from_slice_copy(mailbox.get(..kept).unwrap_or_default());
            moved.extend_from_slice_copy(value);
            value = quoted(self.arena, moved.into_bump_slice());
        }
        let added = if extension == Extension::Propagate { unmatched } else { b"" };
        let list = AddressList::parse(self.arena, value, usize::MAX);
        let mut results = ArenaVec::new_in(self.arena);
        for tokens in list.addresses() {
            let mut external = ArenaVec::new_in(self.arena);
            write_tokens(tokens, &mut external);
            let external = external.into_bump_slice();
            let complete = rewrite(self.arena, &self.rewriting.rules, &self.rewriting.local, external);
            results.push(self.with_extension(unquoted(self.arena, complete), added));
        }
        if results.is_empty() { Err(LookupError::Unavailable) } else { Ok(Some(results)) }
    }

    /// Returns the value for an address in internal form.
    ///
    /// Searches these keys, each in all tables before the next: `user+extension@domain`, `user@domain`, for our own domains
    /// `user+extension` and `user`, and `@domain`.
    ///
    /// # Errors
    /// [`LookupError`].
    pub fn find(
        &self,
        maps: &'a Maps,
        address: &'a [u8],
        form: KeyForm,
    ) -> Result<Option<Value<'a>>, LookupError> {
        let ask_first =
            |find: &dyn Fn(&[u8]) -> Found<'a>, external: &'a [u8], key: &'a [u8]| match find(external)? {
                None if form == KeyForm::ExternalFirst && external != key => find(key),
                found => Ok(found),
            };
        let ask_part = |external: &'a [u8], key: &'a [u8]| {
            ask_first(&|key| maps.find_part(self.arena, key, self.asker), external, key)
        };
        let whole =
            ask_first(&|key| maps.find(self.arena, key, self.asker), quoted(self.arena, address), address)?;
        if let Some(value) = whole {
            return Ok(Some((value, b"")));
        }
        let (mailbox, domain) = split_domain(address);
        let (user, extension) = split_extension(mailbox, self.recipient_delimiter);
        if !extension.is_empty()
            && let key = self.joined(user, domain)
            && let Some(value) = ask_part(quoted(self.arena, key), key)?
        {
            return Ok(Some((value, extension)));
        }
        let Some(domain) = domain else { return Ok(None) };
        if domain.eq_ignore_ascii_case(&self.rewriting.local.origin) || self.destinations.is_local(domain) {
            if let Some(value) = ask_part(quoted_local_part(self.arena, mailbox), mailbox)? {
                return Ok(Some((value, b"")));
            }
            if !extension.is_empty()
                && let Some(value) = ask_part(quoted_local_part(self.arena, user), user)?
            {
                return Ok(Some((value, extension)));
            }
        }
        let at_domain = address.get(mailbox.len()..).unwrap_or_default();
        Ok(maps.find_part(self.arena, at_domain, self.asker)?.map(|value| (value, &b""[..])))
    }

    fn joined(&self, user: &'a [u8], domain: Option<&[u8]>) -> &'a [u8] {
        let Some(domain) = domain else { return user };
        let mut out = ArenaVec::with_capacity_in(user.len() + 1 + domain.len(), self.arena);
        out.extend_from_slice_copy(user);
        out.push(b'@');
        out.extend_from_slice_copy(domain);
        out.into_bump_slice()
    }

    fn with_extension(&self, address: &'a [u8], extension: &[u8]) -> &'a [u8] {
        if extension.is_empty() {
            return address;
        }
        let (mailbox, _) = split_domain(address);
        let mut out = ArenaVec::with_capacity_in(address.len() + extension.len(), self.arena);
        out.extend_from_slice_copy(mailbox);
        out.extend_from_slice_copy(extension);
        out.extend_from_slice_copy(address.get(mailbox.len()..).unwrap_or_default());
        out.into_bump_slice()
    }
}

type Found<'a> = Result<Option<&'a [u8]>, LookupError>;

/// Splits a mailbox into the mailbox without extension, and the extension with its delimiter. Mailboxes of the mail system
/// have no extension.
#[must_use]
pub fn split_extension<'a>(mailbox: &'a [u8], delimiter: &[u8]) -> (&'a [u8], &'a [u8]) {
    let none = (mailbox, &b""[..]);
    if delimiter.is_empty() || is_of_mail_system(mailbox) {
        return none;
    }
    // Mailing list addresses `owner-name` and `name-request` are not split if the hyphen is a delimiter.
    let starts_with =
        |name: &[u8]| mailbox.get(..name.len()).is_some_and(|front| front.eq_ignore_ascii_case(name));
    let ends_with = |name: &[u8]| {
        let start = mailbox.len().checked_sub(name.len()).filter(|start| *start > 0);
        start.and_then(|start| mailbox.get(start..)).is_some_and(|end| end.eq_ignore_ascii_case(name))
    };
    if delimiter.contains(&b'-') && (starts_with(b"owner-") || ends_with(b"-request")) {
        return none;
    }
    match mailbox.iter().position(|octet| delimiter.contains(octet)) {
        Some(place) if place > 0 => mailbox.split_at_checked(place).unwrap_or(none),
        _ => none,
    }
}

/// Whether a mailbox is of the mail system itself: `postmaster`, and the senders of bounces and of notices about them.
pub(crate) fn is_of_mail_system(mailbox: &[u8]) -> bool {
    [&b"postmaster"[..], b"mailer-daemon", b"double-bounce"]
        .iter()
        .any(|name| mailbox.eq_ignore_ascii_case(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_are_split_from_mailboxes() {
        for (mailbox, delimiter, user, extension) in [
            ("joe+a", "+", "joe", "+a"),
            ("joe+a-b", "-+", "joe", "+a-b"),
            ("joe+", "+", "joe", "+"),
            ("+a", "+", "+a", ""),
            ("joe+a", "", "joe+a", ""),
            ("joe", "+", "joe", ""),
            ("Owner-list", "-", "Owner-list", ""),
            ("list-request", "-", "list-request", ""),
            ("-request", "-", "-request", ""),
            ("Postmaster", "mt", "Postmaster", ""),
        ] {
            let split = split_extension(mailbox.as_bytes(), delimiter.as_bytes());
            assert_eq!(split, (user.as_bytes(), extension.as_bytes()), "{mailbox} {delimiter}");
        }
    }
}
