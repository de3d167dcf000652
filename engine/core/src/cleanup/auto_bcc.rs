//! The pass that adds recipients of copies: by the reverse-path, by each recipient, and always.

use super::Passes;
use crate::lookup::{KeyForm, LookupError, Maps};

/// Who gets a copy by a table; the extension of `address` is not kept.
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
