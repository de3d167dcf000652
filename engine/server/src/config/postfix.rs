//! Owns the parameters with Postfix's names, meanings and defaults that are in force, in Postfix's order of use.

use std::time::Duration;

use mailrace_core::address::Subdomains;
use mailrace_core::smtp::BareNewline;

use super::document::Section;
use super::network::Networks;
use super::reader::settings;
use super::value::Octets;

settings! {
    /// Postfix's parameters: the session, who may send where, the first cleanup passes.
    pub struct Parameters in Section::Top, comes with None;

    /// This host's name: greeting, EHLO reply, Received, Message-Id.
    myhostname: String = "\"$system_hostname\"";
    /// The domain that this host is in.
    mydomain: String = "\"$myhostname_parent\"";
    /// The domain that addresses without one get.
    myorigin: String = "\"$myhostname\"";
    /// The software's name, in greeting and Received.
    mail_name: String = "\"Mailrace\"";

    /// Domains whose mail ends here.
    mydestination: Vec<String> = "\"$myhostname, localhost.$mydomain, localhost\"";
    /// Lists in which a domain stands for its subdomains too; in others only one that begins with a dot does.
    parent_domain_matches_subdomains: Vec<String> = "[\"debug_peer_list\", \"fast_flush_domains\", \"mynetworks\", \"permit_mx_backup_networks\", \"qmqpd_authorized_clients\", \"relay_domains\", \"smtpd_access_maps\"]";
    /// Domains whose mail is passed on for anybody.
    relay_domains: Vec<String> = "[]";
    /// Clients that may send anywhere.
    mynetworks: Networks = "[\"127.0.0.0/8\", \"[::1]/128\"]";

    /// Connections of one client at once, for each worker; 0: no limit.
    smtpd_client_connection_count_limit: u32 = "50" in 0 ..= 1_000_000;
    /// Clients that limits of one client do not bind; nor do they bind this machine's own addresses.
    smtpd_client_event_limit_exceptions: Networks = "\"$mynetworks\"";

    /// Octets of content; 0: no limit.
    message_size_limit: Octets = "10240000";
    /// Octets of a command line, and of one content record.
    line_length_limit: u32 = "2048" in 512 ..= 65_536;
    /// Recipients of a message.
    smtpd_recipient_limit: u32 = "1000" in 1 ..= 1_000_000;
    /// So many recipients more are refused before each counts as an error.
    smtpd_recipient_overshoot_limit: u32 = "1000" in 1 ..= 1_000_000;
    /// From so many errors on, replies are delayed.
    smtpd_soft_error_limit: u32 = "10" in 1 ..= 1_000_000;
    /// After so many errors the session ends.
    smtpd_hard_error_limit: u32 = "20" in 1 ..= 1_000_000;
    /// The delay of a reply after errors.
    smtpd_error_sleep_time: Duration = "\"1s\"" in 0 ..= 600;
    /// From so many commands without mail on, each counts as an error.
    smtpd_junk_command_limit: u32 = "100" in 1 ..= 1_000_000;
    /// How long a client may be silent.
    smtpd_timeout: Duration = "\"300s\"" in 1 ..= 86_400;
    /// Clients have the names that /etc/hosts gives them; the DNS is not asked in this release.
    smtpd_peername_lookup: bool = "true";
    /// MAIL needs HELO or EHLO before it.
    smtpd_helo_required: bool = "false";
    /// VRFY is refused.
    disable_vrfy_command: bool = "false";
    /// Paths without brackets and the like are refused.
    strict_rfc821_envelopes: bool = "false";
    /// Local-parts may begin with a hyphen, as options of commands do.
    allow_min_user: bool = "false";
    /// What a line that ends in LF alone means, to clients that mynetworks does not hold.
    smtpd_forbid_bare_newline: BareNewline = "\"normalize\"";
    /// Commands sent before they may be are refused.
    smtpd_forbid_unauth_pipelining: bool = "true";
    /// Octets that stay free on the queue's file system; 0: 1.5 times message_size_limit.
    queue_minfree: Octets = "0";

    /// So many Received fields are too many.
    hopcount_limit: u32 = "50" in 1 ..= 100_000;
    /// Octets of a header field, folded lines included.
    header_size_limit: Octets = "102400" in 1024 ..= 16_777_216;
    /// Fields that do not enter the queue.
    message_drop_headers: Vec<String> = "[\"bcc\", \"content-length\", \"resent-bcc\", \"return-path\"]";
    /// Missing fields are added to strangers' mail too.
    always_add_missing_headers: bool = "false";
    /// Added to a message that names no recipient.
    undisclosed_recipients_header: String = "\"\"";
    /// The domain that addresses without one get in strangers' header sections; empty: they are left alone.
    remote_header_rewrite_domain: String = "\"\"";
    /// Addresses without domain get myorigin.
    append_at_myorigin: bool = "true";
    /// Clients whose header sections are completed as ours are: permit_inet_interfaces, permit_mynetworks.
    local_header_rewrite_clients: Vec<String> = "[\"permit_inet_interfaces\"]";
}

impl Parameters {
    /// Which entries of the list of domains `parameter` stand for subdomains. `mydestination` and
    /// `virtual_alias_domains` match exactly, as in Postfix.
    pub(super) fn subdomains(&self, parameter: &str) -> Subdomains {
        match parameter {
            "relay_domains" if self.parent_domain_matches_subdomains.iter().any(|list| list == parameter) => {
                Subdomains::OfEach
            }
            "relay_domains" => Subdomains::OfDotted,
            _ => Subdomains::Never,
        }
    }
}
