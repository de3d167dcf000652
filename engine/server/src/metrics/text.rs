//! The text formats of metrics, and which one a scraper is given.

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus's text format 0.0.4, which everything reads.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl Format {
    /// Returns the format that suits the fields `Accept` of a request best (RFC 9110 §12.5.1). A scraper that accepts neither
    /// gets Prometheus's, too.
    pub(crate) fn preferred(accept: &[&str]) -> Self {
        let open = Preference::of(accept, "application/openmetrics-text", "1.0.0");
        let plain = Preference::of(accept, "text/plain", "0.0.4");
        let is_open = open.quality > 0 && (open > plain || open == plain && open.exactness >= NAMED);
        if is_open { Self::OpenMetrics } else { Self::Prometheus }
    }

    /// Its media type.
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }

    /// Returns all metrics as text.
    pub(crate) fn text(self, registry: &Registry) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, registry);
        match self {
            Self::Prometheus => to_prometheus(&text),
            Self::OpenMetrics => text,
        }
    }
}

/// How much a scraper wants a format. More quality counts first, then a range that names the format more exactly.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Preference {
    /// In thousandths.
    quality: u16,
    exactness: u8,
}

/// The exactness of a range that names the media type.
const NAMED: u8 = 3;

impl Preference {
    /// Of all ranges that match a media type and its version, the most exact one decides.
    fn of(accept: &[&str], media_type: &str, version: &str) -> Self {
        let mut is_any = false;
        let ranges =
            accept.iter().flat_map(|field| field.split(',')).filter(|range| !range.trim().is_empty());
        let matching = ranges
            .inspect(|_| is_any = true)
            .filter_map(|range| Self::from_range(range, media_type, version));
        let best = matching.max_by_key(|preference| preference.exactness);
        // No field means that everything is as good.
        best.unwrap_or(Self { quality: if is_any { 0 } else { 1000 }, exactness: 0 })
    }

    fn from_range(range: &str, media_type: &str, version: &str) -> Option<Self> {
        let mut parts = range.split(';').map(str::trim);
        let named = parts.next()?.to_ascii_lowercase();
        let (kind, _) = media_type.split_once('/')?;
        let mut exactness = match named.split_once('/')? {
            ("*", "*") => 1,
            (named, "*") if named == kind => 2,
            _ if named == media_type => NAMED,
            _ => return None,
        };
        let mut quality = 1000;
        for (name, value) in parts.filter_map(|parameter| parameter.split_once('=')) {
            let value = value.trim().trim_matches('"');
            match name.trim().to_ascii_lowercase().as_str() {
                "q" => quality = thousandths(value).unwrap_or(0),
                "version" if value == version => exactness += 1,
                "version" => return None,
                _ => {}
            }
        }
        Some(Self { quality, exactness })
    }
}

/// Reads a quality: 0 to 1 with at most three decimals.
fn thousandths(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if decimals.len() > 3
        || ![whole, decimals].iter().all(|part| part.bytes().all(|byte| byte.is_ascii_digit()))
    {
        return None;
    }
    let decimals: u16 = format!("{decimals:0<3}").parse().ok()?;
    let value = whole.parse::<u16>().ok()?.checked_mul(1000)?.checked_add(decimals)?;
    (value <= 1000).then_some(value)
}

/// Converts OpenMetrics to Prometheus's format: there the metadata of counters and infos have the names of their samples,
/// an info is a gauge, and neither units nor the end are marked.
fn to_prometheus(text: &str) -> String {
    let mut kinds = std::collections::HashMap::new();
    for line in text.lines() {
        if let Some((name, kind)) = line.strip_prefix("# TYPE ").and_then(|rest| rest.split_once(' ')) {
            kinds.insert(name, kind);
        }
    }
    let suffix = |name: &str| match kinds.get(name) {
        Some(&"counter") => "_total",
        Some(&"info") => "_info",
        _ => "",
    };
    let mut converted = String::with_capacity(text.len());
    for line in text.lines() {
        let metadata = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match metadata {
            None if line == "# EOF" => continue,
            None => converted.push_str(line),
            Some(("UNIT", _)) => continue,
            Some((keyword, rest)) => {
                let (name, value) = rest.split_once(' ').unwrap_or((rest, ""));
                let value = match (keyword, value) {
                    ("TYPE", "info" | "stateset") => "gauge".to_owned(),
                    ("TYPE", "unknown") => "untyped".to_owned(),
                    // Only OpenMetrics escapes quotes here.
                    ("HELP", value) => value.replace("\\\"", "\""),
                    (_, value) => value.to_owned(),
                };
                for piece in ["# ", keyword, " ", name, suffix(name), " ", &value] {
                    converted.push_str(piece);
                }
            }
        }
        converted.push('\n');
    }
    converted
}

#[cfg(test)]
mod tests;
