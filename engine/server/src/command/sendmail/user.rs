//! Who calls `sendmail`, by the user database.

use std::os::unix::ffi::OsStringExt;

use nix::unistd::{Uid, User};

/// The calling user.
#[derive(Clone, Debug)]
pub(super) struct Caller {
    pub(super) user_id: u32,
    /// Of the user database; `None` if the number is not in it.
    entry: Option<User>,
}

impl Caller {
    pub(super) fn of_process() -> Self {
        let uid = Uid::current();
        // If the database does not answer, the user has no name.
        Self { user_id: uid.as_raw(), entry: User::from_uid(uid).ok().flatten() }
    }

    /// The login name.
    pub(super) fn login(&self) -> Option<&str> {
        self.entry.as_ref().map(|user| user.name.as_str())
    }

    /// The user's name: `NAME` of the environment, else of the user database; empty if it has none.
    pub(super) fn full_name(&self) -> Vec<u8> {
        if let Some(name) = std::env::var_os("NAME") {
            return name.into_vec();
        }
        let entry = self.entry.as_ref();
        entry.map_or_else(Vec::new, |user| name_in(user.gecos.to_bytes(), user.name.as_bytes()))
    }
}

/// The name in a GECOS field: up to the first separator, `&` standing for the login name with a capital.
fn name_in(gecos: &[u8], login: &[u8]) -> Vec<u8> {
    let name = gecos.split(|octet| matches!(octet, b',' | b';' | b'%')).next().unwrap_or_default();
    let mut full_name = Vec::with_capacity(name.len() + login.len());
    for octet in name {
        match (octet, login.split_first()) {
            (b'&', Some((first, rest))) => {
                full_name.push(first.to_ascii_uppercase());
                full_name.extend_from_slice(rest);
            }
            (b'&', None) => {}
            _ => full_name.push(*octet),
        }
    }
    full_name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extracts_the_name_from_gecos() {
        for (gecos, wanted) in
            [("Joe Doe,Room 1,,", "Joe Doe"), ("& Doe", "Joe Doe"), ("", ""), ("J; x", "J"), ("root", "root")]
        {
            assert_eq!(name_in(gecos.as_bytes(), b"joe"), wanted.as_bytes(), "{gecos}");
        }
    }
}
