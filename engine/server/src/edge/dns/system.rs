//! The system's view of names: `/etc/resolv.conf` and `/etc/hosts`, read again when they change.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::system_conf::parse_resolv_conf;

use super::lookup::{QUERIES_MAX, fully_qualified};

/// Where the system's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemFiles {
    /// resolv.conf(5).
    pub resolv_conf: PathBuf,
    /// hosts(5).
    pub hosts: PathBuf,
    /// Port of the name servers.
    pub port: u16,
    /// How often the files are looked at, at most.
    pub check_period: Duration,
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self {
            resolv_conf: "/etc/resolv.conf".into(),
            hosts: "/etc/hosts".into(),
            port: 53,
            check_period: Duration::from_secs(1),
        }
    }
}

/// Maximum size of each of the files, in bytes. What is larger counts as missing.
const FILE_SIZE_MAX: u64 = 16 << 20;

/// Maximum number of responses in the cache, of which most are a few hundred bytes.
const CACHE_SIZE: u64 = 4096;

/// Maximum time that a response is kept, whatever its TTL.
const CACHE_TIME_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// What the files say. Nothing waits but for the disk.
pub(super) struct System {
    files: SystemFiles,
    checked: Cell<Option<Instant>>,
    resolv_conf: RefCell<Read<ResolvConf>>,
    hosts: RefCell<Read<HashMap<String, Vec<IpAddr>>>>,
}

/// A file's content, and the file that it came from.
struct Read<T> {
    stamp: Option<Stamp>,
    content: Rc<T>,
}

/// Modification time, size and inode.
type Stamp = (SystemTime, u64, u64);

#[derive(Default)]
struct ResolvConf {
    /// `None`: the resolver refuses the configuration.
    resolver: Option<TokioResolver>,
    search: Rc<Search>,
}

/// Where names are searched.
#[derive(Default)]
pub(super) struct Search {
    /// The domains, in this order.
    pub(super) domains: Vec<Name>,
    /// A name with as many dots is looked up as it is first.
    pub(super) ndots: usize,
}

impl System {
    pub(super) fn new(files: SystemFiles) -> Self {
        let resolv_conf = read_resolv_conf(&files);
        let hosts = read_hosts(&files.hosts);
        Self {
            files,
            checked: Cell::new(Some(Instant::now())),
            resolv_conf: RefCell::new(resolv_conf),
            hosts: RefCell::new(hosts),
        }
    }

    /// The resolver for the name servers in use; `None`: with these, none can be made.
    pub(super) fn resolver(&self) -> Option<TokioResolver> {
        self.refresh();
        self.resolv_conf.borrow().content.resolver.clone()
    }

    pub(super) fn search(&self) -> Rc<Search> {
        self.refresh();
        Rc::clone(&self.resolv_conf.borrow().content.search)
    }

    /// The addresses of a host in /etc/hosts.
    pub(super) fn host(&self, name: &str) -> Option<Vec<IpAddr>> {
        self.refresh();
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.hosts.borrow().content.get(&name).cloned()
    }

    /// Reads the files that have changed.
    fn refresh(&self) {
        let is_fresh = |checked: Instant| checked.elapsed() < self.files.check_period;
        if self.checked.get().is_some_and(is_fresh) {
            return;
        }
        self.checked.set(Some(Instant::now()));
        if stamp(&self.files.resolv_conf) != self.resolv_conf.borrow().stamp {
            // The cache goes with the resolver: other servers may have other answers.
            *self.resolv_conf.borrow_mut() = read_resolv_conf(&self.files);
        }
        if stamp(&self.files.hosts) != self.hosts.borrow().stamp {
            *self.hosts.borrow_mut() = read_hosts(&self.files.hosts);
        }
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

fn read_resolv_conf(files: &SystemFiles) -> Read<ResolvConf> {
    // A change after this is noticed later.
    let stamp = stamp(&files.resolv_conf);
    let text = crate::files::read(&files.resolv_conf, FILE_SIZE_MAX).unwrap_or_default();
    let parsed = parse_resolv_conf(text);
    // As resolv.conf(5) says of a file without name servers.
    let (mut config, mut options) = parsed.unwrap_or_else(|_| {
        let local = NameServerConfig::udp_and_tcp(Ipv4Addr::LOCALHOST.into());
        (ResolverConfig::from_name_servers(vec![local]), ResolverOpts::default())
    });
    for server in &mut config.name_servers {
        server.connections.iter_mut().for_each(|connection| connection.port = files.port);
    }
    options.cache_size = CACHE_SIZE;
    options.positive_max_ttl = Some(CACHE_TIME_MAX);
    options.negative_max_ttl = Some(CACHE_TIME_MAX);
    // `host` looks into /etc/hosts where that is wanted.
    options.use_hosts_file = ResolveHosts::Never;
    options.max_active_requests = QUERIES_MAX;
    // Without a list, it is the domain of this host's name.
    let domains = if config.search.is_empty() { config.domain.as_slice() } else { &config.search };
    let search = Rc::new(Search { domains: domains.to_vec(), ndots: options.ndots });
    let builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let resolver = builder.with_options(options).build().ok();
    Read { stamp, content: Rc::new(ResolvConf { resolver, search }) }
}

fn read_hosts(path: &Path) -> Read<HashMap<String, Vec<IpAddr>>> {
    let stamp = stamp(path);
    // Without the file no host is in it.
    let text = crate::files::read(path, FILE_SIZE_MAX).unwrap_or_default();
    let mut hosts: HashMap<String, Vec<IpAddr>> = HashMap::new();
    for line in String::from_utf8_lossy(&text).lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_ascii_whitespace();
        let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>) else { continue };
        for name in words {
            let addresses = hosts.entry(name.to_ascii_lowercase()).or_default();
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    Read { stamp, content: Rc::new(hosts) }
}

/// Returns the names under which a host is looked up, in this order, as res_search(3) does. None if it can be no host.
pub(super) fn searched_names(
    name: &str,
    search: &Search,
    appends_domain: bool,
    searches_domains: bool,
) -> Vec<Name> {
    let Some(absolute) = fully_qualified(name) else { return vec![] };
    if name.ends_with('.') {
        return vec![absolute];
    }
    let dots = name.bytes().filter(|byte| *byte == b'.').count();
    let count = match (dots, appends_domain, searches_domains) {
        (0, true, false) => 1,
        (0, true, true) | (1.., _, true) => usize::MAX,
        _ => 0,
    };
    let relative = |absolute: &Name| {
        let mut relative = absolute.clone();
        relative.set_fqdn(false);
        relative
    };
    let domains = search.domains.iter().take(count);
    let mut names: Vec<Name> =
        domains.filter_map(|domain| relative(&absolute).append_domain(domain).ok()).collect();
    names.iter_mut().for_each(|name| name.set_fqdn(true));
    let place = if dots >= search.ndots { 0 } else { names.len() };
    names.insert(place, absolute);
    names
}
