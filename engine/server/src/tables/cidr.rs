//! Tables of networks (Postfix's cidr_table(5)): the first that holds the address counts.

use std::net::IpAddr;

use bumpalo::Bump;
use mailrace_core::Sharer;
use mailrace_core::lookup::{LookupError, LookupTable};

use super::report::Report;
use super::source::{QUOTED_MAX, logical_lines, split_entry};

/// A table of networks.
#[derive(Debug)]
pub(super) struct CidrTable {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    network: Network,
    /// `!`: what is not in the network.
    is_negated: bool,
    /// Nested ifs around it; a lookup skips to `end` where a condition does not hold.
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Value(Box<[u8]>),
    /// `if`: the rules up to this index count only where it matches.
    Until(usize),
}

#[derive(Clone, Copy, Debug)]
struct Network {
    address: u128,
    mask: u128,
    is_ipv4: bool,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            // Digits only: `+8` is none.
            Some((_, prefix)) if !prefix.bytes().all(|byte| byte.is_ascii_digit()) => return None,
            Some((address, prefix)) => (address, Some(prefix.parse::<u32>().ok()?)),
            None => (text, None),
        };
        let address = address.strip_prefix('[').and_then(|inner| inner.strip_suffix(']')).unwrap_or(address);
        let (address, bits, is_ipv4) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32, true),
            IpAddr::V6(address) => (u128::from(address), 128, false),
        };
        let prefix = prefix.unwrap_or(bits);
        if prefix > bits {
            return None;
        }
        let all = if bits == 32 { u128::from(u32::MAX) } else { u128::MAX };
        let mask = if prefix == 0 { 0 } else { all & (u128::MAX << (bits - prefix)) };
        (address & !mask == 0).then_some(Self { address, mask, is_ipv4 })
    }

    fn contains(self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(address) => self.is_ipv4 && u128::from(u32::from(address)) & self.mask == self.address,
            IpAddr::V6(address) => !self.is_ipv4 && u128::from(address) & self.mask == self.address,
        }
    }
}

impl CidrTable {
    /// The table in `text`; what is wrong with its lines goes into `report`.
    pub(super) fn parse(text: &[u8], report: &mut Report<'_>) -> Self {
        const SKIPPED: &str = "the line is skipped";
        let mut rules: Vec<Rule> = Vec::new();
        let mut open: Vec<(usize, usize)> = Vec::new();
        for (number, line) in logical_lines(text) {
            if line.first().is_some_and(u8::is_ascii_whitespace) {
                report.refuse(number, "begins with a space", "remove the space, or the line", SKIPPED);
                continue;
            }
            let (word, rest) = split_pattern(line.trim_ascii());
            if word.eq_ignore_ascii_case(b"endif") {
                if !rest.is_empty() {
                    report.refuse(number, "text after endif", "remove it", "the text is ignored");
                }
                let Some((start, _)) = open.pop() else {
                    report.refuse(number, "endif without if", "remove it", SKIPPED);
                    continue;
                };
                let end = rules.len();
                if let Some(Rule { outcome: Outcome::Until(until), .. }) = rules.get_mut(start) {
                    *until = end;
                }
                continue;
            }
            let is_if = word.eq_ignore_ascii_case(b"if");
            let (pattern, value) = if is_if { split_pattern(rest) } else { (word, rest) };
            let signs = pattern.iter().take_while(|byte| matches!(byte, b'!' | b' ' | b'\t')).count();
            let (signs, name) = pattern.split_at_checked(signs).unwrap_or_default();
            let is_negated = signs.iter().filter(|byte| **byte == b'!').count() % 2 == 1;
            let name = String::from_utf8_lossy(name.get(..QUOTED_MAX).unwrap_or(name));
            let Some(network) = Network::parse(&name) else {
                let remedy = "write an address, or network/prefix whose host part is zero";
                report.refuse(number, format!("{name:?} is not a network"), remedy, SKIPPED);
                continue;
            };
            let outcome = if is_if {
                if !value.is_empty() {
                    let remedy = "remove it; the lines after an if begin without a space";
                    report.refuse(number, "text after the network of an if", remedy, "the text is ignored");
                }
                open.push((rules.len(), number));
                Outcome::Until(usize::MAX)
            } else if value.is_empty() {
                report.refuse(number, "has no value", "write the network, a space and the value", SKIPPED);
                continue;
            } else {
                report.see_value(number, value, false);
                Outcome::Value(value.into())
            };
            rules.push(Rule { network, is_negated, outcome });
        }
        for (_, number) in open {
            report.refuse(number, "if without endif", "add endif", "it ends with the table");
        }
        report.see_end(text);
        Self { rules }
    }
}

/// A network with the signs in front of it, and what follows.
fn split_pattern(line: &[u8]) -> (&[u8], &[u8]) {
    let signs = line.iter().take_while(|byte| matches!(byte, b'!' | b' ' | b'\t')).count();
    let (pattern, rest) = split_entry(line.get(signs..).unwrap_or_default());
    (line.get(..signs + pattern.len()).unwrap_or(line), rest)
}

impl LookupTable for CidrTable {
    fn look_up<'a>(
        &'a self,
        _arena: &'a Bump,
        key: &[u8],
        _: Sharer,
    ) -> Result<Option<&'a [u8]>, LookupError> {
        let Some(address) = std::str::from_utf8(key).ok().and_then(|text| text.parse().ok()) else {
            return Ok(None);
        };
        let mut index = 0;
        while let Some(rule) = self.rules.get(index) {
            let is_match = rule.network.contains(address) != rule.is_negated;
            match &rule.outcome {
                Outcome::Value(value) if is_match => return Ok(Some(value)),
                Outcome::Until(end) if !is_match => index = *end,
                _ => index += 1,
            }
        }
        Ok(None)
    }

    fn is_asked_for_parts(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests;
