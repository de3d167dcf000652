//! The extensions that a server offers in its reply to EHLO or LHLO.

use super::Reply;

/// The offered extensions that this client knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions {
    /// Commands may be sent without waiting for each reply (RFC 2920).
    pub pipelining: bool,
    /// Content may be sent with BDAT (RFC 3030).
    pub chunking: bool,
    /// BODY=BINARYMIME (RFC 3030).
    pub binary_mime: bool,
    /// BODY=8BITMIME (RFC 6152).
    pub eight_bit_mime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// RET, ENVID, NOTIFY and ORCPT (RFC 3461).
    pub dsn: bool,
    /// Replies carry enhanced status codes (RFC 2034).
    pub enhanced_status_codes: bool,
    /// TLS can be started (RFC 3207).
    pub starttls: bool,
    /// SIZE (RFC 1870), with the largest message that the server takes; 0 where it states no limit.
    pub size: Option<u64>,
}

impl Extensions {
    /// Reads the reply to EHLO: a line with the server's name, then one keyword per line, in any case.
    #[must_use]
    pub fn offered_by(reply: &Reply<'_>) -> Self {
        let mut offered = Self::default();
        for text in reply.texts().skip(1) {
            let mut words = text.split(u8::is_ascii_whitespace);
            let keyword = words.next().unwrap_or_default();
            if let Some(flag) = offered.flag(keyword) {
                *flag = true;
            } else if keyword.eq_ignore_ascii_case(b"SIZE") {
                offered.size = Some(words.next().and_then(decimal).unwrap_or(0));
            }
        }
        offered
    }

    fn flag(&mut self, keyword: &[u8]) -> Option<&mut bool> {
        let flags: [(&[u8], &mut bool); 8] = [
            (b"PIPELINING", &mut self.pipelining),
            (b"CHUNKING", &mut self.chunking),
            (b"BINARYMIME", &mut self.binary_mime),
            (b"8BITMIME", &mut self.eight_bit_mime),
            (b"SMTPUTF8", &mut self.smtputf8),
            (b"DSN", &mut self.dsn),
            (b"ENHANCEDSTATUSCODES", &mut self.enhanced_status_codes),
            (b"STARTTLS", &mut self.starttls),
        ];
        flags.into_iter().find(|(name, _)| keyword.eq_ignore_ascii_case(name)).map(|(_, flag)| flag)
    }
}

/// A number of at most 20 digits (RFC 1870 §4) that fits.
fn decimal(digits: &[u8]) -> Option<u64> {
    core::str::from_utf8(digits).ok().filter(|text| !text.starts_with('+'))?.parse().ok()
}
