//! Addresses: their words, their two spellings, lists of them, and the trivial rewrite (RFC 5321 §4.1.2,
//! RFC 5322 §3.4).

mod destination;
mod list;
mod path;
mod quote;
mod rewrite;
mod token;

pub use destination::{DOMAIN_SIZE_MAX, Destinations, DomainClass, Domains, Subdomains};
pub use list::{AddressList, Part};
pub(crate) use list::{plain_addresses, write_internal, write_tokens};
pub(crate) use path::word_size;
pub use path::{PathError, is_domain, literal_address, split_path};
pub use quote::{quote_onto, quoted, quoted_local_part, split_domain, unquoted};
pub use rewrite::{RewriteContext, RewriteRules, RewriteStep, Rewriting, rewrite, rewrite_by_steps};
pub(crate) use rewrite::{is_complete, respelled, rewrite_tokens};
pub use token::{Token, TokenKind, scan};
