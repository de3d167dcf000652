//! The fields of an envelope.

use std::net::IpAddr;

/// What MAIL and RCPT said, and who.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// Microseconds of the Unix epoch.
    pub arrival: Option<u64>,
    /// Address of the client.
    pub client_address: Option<IpAddr>,
    /// Port of the client.
    pub client_port: Option<u16>,
    /// Verified name of the client.
    pub client_name: Option<Vec<u8>>,
    /// Argument of EHLO or HELO.
    pub helo: Option<Vec<u8>>,
    /// `S`, `E` or `L`.
    pub protocol: Option<u8>,
    /// Reverse-path.
    pub sender: Option<Vec<u8>>,
    /// BODY=: `7`, `8` or `B`.
    pub body: Option<u8>,
    /// Whether SMTPUTF8 was given.
    pub smtputf8: bool,
    /// RET=: `F` or `H`.
    pub ret: Option<u8>,
    /// ENVID=, decoded.
    pub envelope_id: Option<Vec<u8>>,
    /// SIZE=.
    pub declared_size: Option<u64>,
    /// Number of the user who submitted it on this machine.
    pub user_id: Option<u32>,
    /// Recipients, in their order.
    pub recipients: Vec<Recipient>,
    /// Recipients that others have replaced.
    pub expanded: Vec<Recipient>,
}

/// One recipient.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recipient {
    /// Forward-path after rewriting.
    pub address: Vec<u8>,
    /// As first given, if that differs.
    pub original: Option<Vec<u8>>,
    /// Sum of NOTIFY=.
    pub notify: Option<u8>,
    /// ORCPT=, decoded.
    pub dsn_original: Option<Vec<u8>>,
}

impl Envelope {
    /// Reads fields; none if they are not what the format says.
    #[must_use]
    pub fn read(mut octets: &[u8]) -> Option<Self> {
        let mut envelope = Self::default();
        while let Some((tag, rest)) = octets.split_first() {
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (value, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
            octets = rest;
            envelope.take(*tag, value)?;
        }
        Some(envelope)
    }

    fn take(&mut self, tag: u8, value: &[u8]) -> Option<()> {
        let text = || Some(value.to_vec());
        let one = || match value {
            [octet] => Some(Some(*octet)),
            _ => None,
        };
        match tag {
            1 => self.arrival = Some(u64::from_le_bytes(value.try_into().ok()?)),
            2 => {
                let address = <[u8; 4]>::try_from(value).map(IpAddr::from);
                self.client_address =
                    Some(address.or_else(|_| <[u8; 16]>::try_from(value).map(IpAddr::from)).ok()?);
            }
            3 => self.client_port = Some(u16::from_le_bytes(value.try_into().ok()?)),
            4 => self.client_name = text(),
            5 => self.helo = text(),
            6 => self.protocol = one()?,
            7 => self.sender = text(),
            8 => self.body = one()?,
            9 => self.smtputf8 = true,
            10 => self.ret = one()?,
            11 => self.envelope_id = text(),
            12 => self.declared_size = Some(u64::from_le_bytes(value.try_into().ok()?)),
            15 => self.user_id = Some(u32::from_le_bytes(value.try_into().ok()?)),
            16 => self.recipients.push(Recipient { address: value.to_vec(), ..Recipient::default() }),
            17 => self.recipients.last_mut()?.original = text(),
            18 => self.recipients.last_mut()?.notify = one()?,
            19 => self.recipients.last_mut()?.dsn_original = text(),
            24 => {
                let [recipient] = Self::read(value)?.recipients.try_into().ok()?;
                self.expanded.push(recipient);
            }
            _ => {}
        }
        Some(())
    }
}
