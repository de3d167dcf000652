//! Header and body checks.

use mailrace_core::cleanup::Checks;

use super::Tables;
use super::reader::parameters;
use super::value::{CheckList, Octets};

parameters! {
    /// Tables of actions on header fields and body lines, as described in header_checks(5).
    pub struct CheckParameters titled "Header and body checks";

    /// Tables that are applied to each field of the message header section.
    header_checks: CheckList = [];
    /// Tables that are applied to MIME header fields, including those of body parts.
    mime_header_checks: CheckList = "$header_checks";
    /// Tables that are applied to the header fields of attached messages.
    nested_header_checks: CheckList = "$header_checks";
    /// Tables that are applied to each body line.
    body_checks: CheckList = [];
    /// Number of bytes of each body part that `body_checks` examines; 0: all.
    body_checks_size_limit: Octets = 51200;
}

impl CheckParameters {
    pub(super) fn checks(&self, tables: &Tables) -> Checks {
        Checks {
            header: tables.of(&self.header_checks.0),
            mime_header: tables.of(&self.mime_header_checks.0),
            nested_header: tables.of(&self.nested_header_checks.0),
            body: tables.of(&self.body_checks.0),
            body_size_limit: self.body_checks_size_limit.in_memory(),
        }
    }
}
