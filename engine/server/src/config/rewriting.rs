//! Address rewriting: completion, canonical tables, masquerading.

use mailrace_core::address::{RewriteContext, RewriteRules, Rewriting};
use mailrace_core::cleanup::{Canonical, Classes, Masquerade};

use super::reader::parameters;
use super::value::{ExtensionTables, LocalClients, TableList};
use super::{Configuration, Tables};

parameters! {
    /// Completion and rewriting of addresses in envelopes and header sections.
    pub struct RewritingParameters titled "Address rewriting";

    /// Appends `myorigin` to addresses without a domain.
    append_at_myorigin: bool = true;
    /// Appends `mydomain` to domains without a dot.
    append_dot_mydomain: bool = false;
    /// Rewrites `site!user` to `user@site`.
    swap_bangpath: bool = true;
    /// Rewrites `user%domain` to `user@domain`.
    allow_percent_hack: bool = true;
    /// Characters that may separate a local-part from its address extension.
    recipient_delimiter: String = "";
    /// Clients whose header sections are rewritten like those of local mail: `permit_inet_interfaces`, `permit_mynetworks`.
    local_header_rewrite_clients: LocalClients = ["permit_inet_interfaces"];
    /// Domain to append to incomplete addresses in header sections from other clients; empty: no rewriting.
    remote_header_rewrite_domain: String = "";
    /// Tables that rewrite the addresses of `canonical_classes`.
    canonical_maps: TableList = [];
    /// Addresses that `canonical_maps` rewrites.
    canonical_classes: Classes = ["envelope_sender", "envelope_recipient", "header_sender", "header_recipient"];
    /// Tables that rewrite the addresses of `sender_canonical_classes`.
    sender_canonical_maps: TableList = [];
    /// Addresses that `sender_canonical_maps` rewrites.
    sender_canonical_classes: Classes = ["envelope_sender", "header_sender"];
    /// Tables that rewrite the addresses of `recipient_canonical_classes`.
    recipient_canonical_maps: TableList = [];
    /// Addresses that `recipient_canonical_maps` rewrites.
    recipient_canonical_classes: Classes = ["envelope_recipient", "header_recipient"];
    /// Domains whose subdomains are stripped; `!domain` excludes a domain and its subdomains.
    masquerade_domains: Vec<String> = [];
    /// Local-parts that are not masqueraded.
    masquerade_exceptions: Vec<String> = [];
    /// Addresses that `masquerade_domains` applies to.
    masquerade_classes: Classes = ["envelope_sender", "header_sender", "header_recipient"];
    /// Kinds of tables whose results keep the extension of the original address: `canonical`, `virtual`.
    propagate_unmatched_extensions: ExtensionTables = ["canonical", "virtual"];
}

impl RewritingParameters {
    /// Returns the canonical tables for all addresses, for senders and for recipients.
    pub(super) fn canonical(&self, tables: &Tables) -> [Canonical; 3] {
        [
            (&self.canonical_maps, self.canonical_classes),
            (&self.sender_canonical_maps, self.sender_canonical_classes),
            (&self.recipient_canonical_maps, self.recipient_canonical_classes),
        ]
        .map(|(maps, classes)| Canonical { maps: tables.of(maps), classes })
    }

    pub(super) fn masquerade(&self) -> Masquerade {
        let domains = self.masquerade_domains.iter().map(|domain| masquerade_domain(domain));
        let exceptions = self.masquerade_exceptions.iter();
        Masquerade {
            domains: domains.collect(),
            exceptions: exceptions.map(|name| name.to_ascii_lowercase().into_bytes()).collect(),
            classes: if self.masquerade_domains.is_empty() {
                Classes::default()
            } else {
                self.masquerade_classes
            },
        }
    }
}

impl Configuration {
    /// Returns the settings of address completion.
    #[must_use]
    pub fn address_rewriting(&self) -> Rewriting {
        let (domains, rewriting) = (&self.domains, &self.rewriting);
        let remote = rewriting.remote_header_rewrite_domain.clone().into_bytes();
        Rewriting {
            rules: RewriteRules {
                append_at_myorigin: rewriting.append_at_myorigin,
                append_dot_mydomain: rewriting.append_dot_mydomain,
                swap_bangpath: rewriting.swap_bangpath,
                allow_percent_hack: rewriting.allow_percent_hack,
            },
            local: RewriteContext {
                origin: domains.myorigin.clone().into_bytes(),
                domain: domains.mydomain.clone().into_bytes(),
            },
            remote: (!remote.is_empty()).then(|| RewriteContext { origin: remote.clone(), domain: remote }),
        }
    }
}

/// Returns whether the domain is excluded (`!`), and its name.
fn masquerade_domain(text: &str) -> (bool, Vec<u8>) {
    let domain = text.trim_start_matches('!');
    let is_excluded = (text.len() - domain.len()) % 2 == 1;
    (is_excluded, domain.to_ascii_lowercase().into_bytes())
}
