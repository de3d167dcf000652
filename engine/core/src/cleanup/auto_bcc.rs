//! Pass that adds recipients of blind copies: by reverse-path, by recipient, and for all mail.

use super::Passes;
use crate::lookup::{KeyForm, LookupError, Maps};

/// Looks up who receives a copy of mail for `address`. Drops the extension of `address`.
pub(super) fn auto_bcc<'a>(
    surroundings: &Passes<'_, 'a>,
    maps: &'a Maps,
    address: &'a [u8],
) -> Result<Option<&'a [u8]>, LookupError> {
    if maps.is_empty() || address.is_empty() {
        return Ok(None);
    }
    let found = surroundings.lookup().find(maps, address, KeyForm::ExternalFirst)?;
    Ok(found.map(|(copy, _)| copy))
}
