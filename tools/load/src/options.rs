//! The command line.

use std::io::Write as _;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Parser, ValueEnum};
use mailrace_quantity::{size, time};

use crate::hostile::Kind;

/// Sends mail to an SMTP server in a closed loop from one thread, and reports the rate.
///
/// Each connection sends one message after the other, the next after the reply to the last. It uses PIPELINING and CHUNKING
/// if they are requested and the server offers them; if a server refuses EHLO, it sends HELO.
///
/// Times are written as 500ms, 5s, 2m or 1h; without a unit they are in seconds. Sizes are in bytes, with the optional units
/// K, M and G (powers of 1024).
///
/// It always terminates and prints its report. Exit status: 0 for success; 1 if a message or a recipient was not accepted,
/// messages were not sent, or the server could not be reached; 2 for an invalid command line.
#[derive(Clone, Debug, Parser)]
#[command(name = "mailrace-load", version)]
pub(crate) struct Options {
    /// The server, ADDR:PORT
    #[arg(value_name = "ADDR:PORT", value_parser = address, required_unless_present = "to")]
    server: Option<SocketAddr>,
    /// The server, ADDR:PORT (the same as without the option's name)
    #[arg(long, value_name = "ADDR:PORT", value_parser = address, conflicts_with = "server")]
    to: Option<SocketAddr>,
    /// Number of simultaneous connections
    #[arg(short, long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub(crate) connections: u32,
    /// Total number of messages to send [default: 10000; no limit with --duration]
    #[arg(short, long, value_name = "N")]
    pub(crate) messages: Option<u64>,
    /// Start no message later than TIME after the start (of counting, with --warmup): 500ms, 5s, 2m, 1h; seconds without a
    /// unit. Messages in progress may finish within --timeout
    #[arg(short, long, value_name = "TIME", value_parser = time)]
    pub(crate) duration: Option<Duration>,
    /// Number of messages per connection before QUIT; 0: no limit
    #[arg(short, long, value_name = "N", default_value_t = 1)]
    pub(crate) per_connection: u64,
    /// Send MAIL, RCPT and DATA at once, together with the end of the previous message (RFC 2920), if the server offers
    /// PIPELINING
    #[arg(long)]
    pub(crate) pipelining: bool,
    /// Bytes of content (header section and body, CRLF line ends); units K, M, G
    #[arg(short, long, value_name = "BYTES", default_value = "4096", value_parser = size)]
    pub(crate) size: usize,
    /// Take these sizes in turn instead, in bytes, with units K, M, G, such as 1K,4K,4K,64K
    #[arg(long, value_name = "LIST", value_delimiter = ',', value_parser = size, conflicts_with = "size")]
    pub(crate) sizes: Vec<usize>,
    /// Number of recipients of each message
    #[arg(short, long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) recipients: u32,
    #[arg(
        long, value_name = "ADDRESS", default_value = "sender@example.org", value_parser = one_line,
        help = literal("Reverse-path; {n} becomes the message's number")
    )]
    pub(crate) sender: String,
    #[arg(
        long, value_name = "ADDRESS", default_value = "recipient{n}@example.com", value_parser = one_line,
        help = literal("Forward-path; {n} becomes the recipient's number, counted over all messages")
    )]
    pub(crate) recipient: String,
    /// Send content with BDAT instead of DATA (RFC 3030), where the server offers CHUNKING
    #[arg(long)]
    pub(crate) bdat: bool,
    /// Name to send in EHLO
    #[arg(long, value_name = "NAME", default_value = "load.example.org", value_parser = one_line)]
    pub(crate) helo: String,
    /// Send content at this rate on each connection (slow clients), in bytes per second; units K, M, G
    #[arg(long, value_name = "BYTES", value_parser = size)]
    pub(crate) rate: Option<usize>,
    /// Number of slow clients: short for --connections N --messages N, and --rate 64K unless it is given
    #[arg(long, value_name = "N", conflicts_with_all = ["messages", "idle"], value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub(crate) slow: Option<u32>,
    /// Send no mail: open N connections, send EHLO, and keep them open until --duration has passed or a signal arrives
    #[arg(long, value_name = "N", conflicts_with_all = ["messages", "warmup"], value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub(crate) idle: Option<u32>,
    /// Run N misbehaving clients of all kinds in turn, 40 per address of 127.66.0.0/16, until --duration has passed or a
    /// signal arrives: they send single bytes, floods, incorrect sizes and resets, never read, and reconnect one second
    /// after they were disconnected
    #[arg(long, value_name = "N", conflicts_with_all = ["messages", "warmup", "idle", "slow"], value_parser = clap::value_parser!(u32).range(1..=65_000))]
    pub(crate) hostile: Option<u32>,
    /// Run only these kinds of misbehaving clients
    #[arg(long, value_name = "LIST", value_delimiter = ',', requires = "hostile")]
    pub(crate) kinds: Vec<Kind>,
    /// Connect from these addresses of this machine in turn, so that the server sees that many clients; on loopback all of
    /// 127.0.0.0/8 works without configuration (Linux 6.11 or newer)
    #[arg(long, value_name = "ADDR[/BITS]", value_parser = network, conflicts_with = "hostile")]
    pub(crate) source: Option<Network>,
    /// Number of messages sent before counting starts
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) warmup: u64,
    /// Maximum wait for a connection, for a reply, and for the server to read what was sent, after which the connection is
    /// closed. 500ms, 5s, 2m, 1h; seconds without a unit
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = time)]
    pub(crate) timeout: Duration,
    /// Give up when for TIME every connection was refused, or lost before a message was accepted on it. 500ms, 5s, 2m, 1h;
    /// seconds without a unit
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = time)]
    pub(crate) patience: Duration,
    /// Run only on the processor with this number
    #[arg(long, value_name = "CPU", value_parser = clap::value_parser!(u16).range(..1024))]
    pub(crate) cpu: Option<u16>,
    /// Print the result as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Returns a help text in which clap keeps `{n}`, which it would otherwise replace by a line end.
fn literal(text: &str) -> String {
    text.replace("{n}", &format!("{{{KEEPER}n}}"))
}

/// Returns the help text for display.
fn shown(help: &str) -> String {
    help.replace(KEEPER, "")
}

impl Options {
    /// Reads the command line, or ends the process with a usage message.
    pub(crate) fn from_command_line() -> Self {
        match Self::try_parse() {
            Ok(options) => options.resolved(),
            Err(error) if error.kind() == ErrorKind::DisplayHelp => {
                let _ = write!(std::io::stdout(), "{}", shown(&error.to_string()));
                std::process::exit(0)
            }
            Err(error) => error.exit(),
        }
    }

    /// Spells short forms out.
    fn resolved(mut self) -> Self {
        if let Some(count) = self.slow {
            self.connections = count;
            self.messages = Some(u64::from(count));
            self.rate = self.rate.or(Some(SLOW_RATE));
        }
        if let Some(count) = self.idle {
            self.connections = count;
        }
        if self.kinds.is_empty() {
            self.kinds = Kind::value_variants().to_vec();
        }
        if self.sizes.is_empty() {
            self.sizes = vec![self.size];
        }
        if self.messages.is_none() && self.duration.is_none() && self.idle.is_none() {
            self.messages = Some(MESSAGES_DEFAULT);
        }
        self
    }

    /// Returns the address to connect to.
    pub(crate) fn server(&self) -> Option<SocketAddr> {
        self.server.or(self.to)
    }
}

/// Addresses with a common prefix, in sequence.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    /// First address, with IPv4 mapped to IPv6.
    first: u128,
    /// Mask of the bits that differ.
    rest: u128,
    next: u128,
}

impl Network {
    /// Returns the next address; after the last one, the first one again.
    pub(crate) fn next_address(&mut self) -> IpAddr {
        let address = self.first | (self.next & self.rest);
        self.next = self.next.wrapping_add(1);
        Ipv6Addr::from(address).to_canonical()
    }
}

fn network(text: &str) -> Result<Network, String> {
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|error| format!("{error} (expected ADDR[/BITS])"))?;
    let (mapped, size) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), 32),
        IpAddr::V6(address) => (address, 128),
    };
    let shared = bits.map_or(Ok(size), str::parse::<u32>).ok().filter(|bits| *bits <= size);
    let shared = shared.ok_or_else(|| format!("0 to {size} bits can be shared"))?;
    let rest = 1u128.checked_shl(size - shared).map_or(u128::MAX, |end| end - 1);
    Ok(Network { first: mapped.to_bits() & !rest, rest, next: 0 })
}

/// An argument of an SMTP command.
fn one_line(text: &str) -> Result<String, String> {
    if text.contains(['\r', '\n']) {
        Err("must not contain a line end".to_owned())
    } else {
        Ok(text.to_owned())
    }
}

fn address(text: &str) -> Result<SocketAddr, String> {
    let mut found = text.to_socket_addrs().map_err(|error| format!("{error} (expected ADDR:PORT)"))?;
    found.next().ok_or_else(|| "this name has no address".to_owned())
}

/// Separates the characters of `{n}` in help texts, and is removed for display (U+2060, word joiner).
const KEEPER: char = '\u{2060}';
const MESSAGES_DEFAULT: u64 = 10_000;
const SLOW_RATE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    fn parse(arguments: &str) -> Result<Options, clap::Error> {
        Options::try_parse_from(std::iter::once("mailrace-load").chain(arguments.split_whitespace()))
            .map(Options::resolved)
    }

    #[test]
    fn the_server_is_an_argument_or_an_option() {
        let plain = parse("127.0.0.1:25").unwrap();
        let named = parse("--to 127.0.0.1:25").unwrap();
        assert_eq!(plain.server(), named.server());
        assert_eq!(plain.messages, Some(MESSAGES_DEFAULT));
        assert!(parse("").is_err());
        assert!(parse("127.0.0.1:25 --to 127.0.0.1:25").is_err());
        assert!(parse("127.0.0.1").is_err());
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse("127.0.0.1:25 -s 50MiB").unwrap().sizes, [50 << 20]);
        assert_eq!(parse("127.0.0.1:25 --sizes 1K,300").unwrap().sizes, [1024, 300]);
        assert!(parse("127.0.0.1:25 -s 0").is_err());
        assert!(parse("127.0.0.1:25 -s 5X").is_err());
        assert!(parse("127.0.0.1:25 -s 99999999999G").is_err());
    }

    #[test]
    fn times_have_units() {
        for (text, time) in
            [("5", 5.0), ("5s", 5.0), ("0.3", 0.3), ("300ms", 0.3), ("2m", 120.0), ("1h", 3600.0)]
        {
            let options =
                parse(&format!("127.0.0.1:25 --duration {text} --timeout {text} --patience {text}")).unwrap();
            let time = Duration::from_secs_f64(time);
            assert_eq!(
                (options.duration, options.timeout, options.patience),
                (Some(time), time, time),
                "{text}"
            );
        }
        assert!(parse("127.0.0.1:25 --duration 5x").is_err());
    }

    /// Every option that takes a quantity names its unit, and no placeholder is lost in print.
    #[test]
    fn the_help_explains_units_and_placeholders() {
        let mut command = Options::command();
        for help in [command.render_help().to_string(), command.render_long_help().to_string()] {
            let help = shown(&help);
            assert!(help.contains("{n} becomes the message's number"), "{help}");
            assert!(help.contains("{n} becomes the recipient's number"), "{help}");
        }
        for argument in command.get_arguments() {
            let help = argument.get_help().map(ToString::to_string).unwrap_or_default().to_lowercase();
            let names = argument.get_value_names().unwrap_or_default();
            let unit = match names.first().map(clap::builder::Str::as_str) {
                Some("TIME") => "seconds without a unit",
                Some("BYTES") => "bytes",
                Some("N") if argument.get_id() != "idle" && argument.get_id() != "hostile" => "number of",
                _ => continue,
            };
            assert!(help.contains(unit), "{}: {help}", argument.get_id());
        }
    }

    #[test]
    fn slow_is_a_short_form() {
        let options = parse("127.0.0.1:25 --slow 200 --size 50M").unwrap();
        assert_eq!((options.connections, options.messages), (200, Some(200)));
        assert_eq!(options.rate, Some(SLOW_RATE));
    }

    #[test]
    fn a_network_yields_its_addresses_in_turn() {
        let addresses = |text: &str| {
            let mut network = network(text).unwrap();
            (0..3).map(|_| network.next_address().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(addresses("192.0.2.7"), ["192.0.2.7"; 3]);
        assert_eq!(addresses("192.0.2.7/31"), ["192.0.2.6", "192.0.2.7", "192.0.2.6"]);
        assert_eq!(addresses("10.9.8.7/0"), ["0.0.0.0", "0.0.0.1", "0.0.0.2"]);
        assert_eq!(addresses("2001:db8::5/64"), ["2001:db8::", "2001:db8::1", "2001:db8::2"]);
        assert_eq!(addresses("2001:db8::5/0"), ["::", "::1", "::2"]);
        for wrong in ["192.0.2.7/33", "192.0.2/24", "192.0.2.7/", "192.0.2.7/-1", "::1/129", ""] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
