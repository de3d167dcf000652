//! Header and body checks.

use mailrace_core::cleanup::Checks;

use super::Tables;
use super::reader::parameters;
use super::value::{CheckList, Octets};

parameters! {
    /// Tables whose values are actions on header fields and lines of bodies, as in header_checks(5).
    pub struct CheckParameters titled "Header and body checks";

    /// Tables for each field of the header section.
    header_checks: CheckList = [];
    /// Tables for MIME fields, those of parts included.
    mime_header_checks: CheckList = "$header_checks";
    /// Tables for the fields of attached messages.
    nested_header_checks: CheckList = "$header_checks";
    /// Tables for each line of bodies.
    body_checks: CheckList = [];
    /// Bytes of each body part that `body_checks` examines; 0: all.
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
