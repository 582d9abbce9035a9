//! One filter of a clsact qdisc, parsed from the kernel's listing.

// linux/rtnetlink.h and linux/pkt_cls.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_BPF_ID: u16 = 11;
/// NLA_F_NESTED and NLA_F_NET_BYTEORDER are no part of the type.
const ATTRIBUTE_TYPE: u16 = 0x3fff;

/// Bytes of `struct tcmsg`.
pub(crate) const TCMSG_LEN: usize = 20;

/// A filter on a hook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    pub(crate) priority: u16,
    pub(crate) handle: u32,
    /// The program it runs; `None` for a filter that is no BPF program.
    pub(crate) program_id: Option<u32>,
}

impl Filter {
    /// Reads a `RTM_NEWTFILTER` message's payload. `None` for the entry that stands for a whole priority.
    pub(crate) fn parse(payload: &[u8]) -> Option<Self> {
        let message = payload.get(..TCMSG_LEN)?;
        let handle = u32_at(message, 8)?;
        let priority = (u32_at(message, 16)? >> 16) as u16;
        if handle == 0 {
            return None;
        }
        let attributes = payload.get(TCMSG_LEN..)?;
        let kind = attribute(attributes, TCA_KIND)?;
        let program_id = if kind.starts_with(b"bpf\0") {
            attribute(attributes, TCA_OPTIONS)
                .and_then(|options| attribute(options, TCA_BPF_ID))
                .and_then(|id| u32_at(id, 0))
        } else {
            None
        };
        Some(Self {
            priority,
            handle,
            program_id,
        })
    }
}

/// The kind of a qdisc, from a `RTM_NEWQDISC` message's payload.
pub(crate) fn qdisc_kind(payload: &[u8]) -> Option<&[u8]> {
    attribute(payload.get(TCMSG_LEN..)?, TCA_KIND)
}

/// The device of any traffic control message.
pub(crate) fn device(payload: &[u8]) -> Option<u32> {
    u32_at(payload, 4)
}

/// The payload of the first attribute of a type.
fn attribute(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    while attributes.len() >= 4 {
        let length = u16::from_ne_bytes([attributes[0], attributes[1]]) as usize;
        let kind = u16::from_ne_bytes([attributes[2], attributes[3]]) & ATTRIBUTE_TYPE;
        let payload = attributes.get(4..length)?;
        if kind == wanted {
            return Some(payload);
        }
        // Attributes are aligned to 4 bytes; the last may end without padding.
        attributes = attributes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    None
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(
        bytes.get(offset..offset + 4)?.try_into().ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute_bytes(kind: u16, payload: &[u8]) -> Vec<u8> {
        let mut bytes = ((payload.len() + 4) as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn listing(handle: u32) -> Vec<u8> {
        let mut bytes = vec![0; TCMSG_LEN];
        bytes[8..12].copy_from_slice(&handle.to_ne_bytes());
        bytes[16..20].copy_from_slice(&(7u32 << 16).to_ne_bytes());
        bytes.extend(attribute_bytes(TCA_KIND, b"bpf\0"));
        bytes.extend(attribute_bytes(
            TCA_OPTIONS | 0x8000,
            &attribute_bytes(TCA_BPF_ID, &42u32.to_ne_bytes()),
        ));
        bytes
    }

    #[test]
    fn a_bpf_filter_is_read_with_its_program() {
        let expected = Filter {
            priority: 7,
            handle: 2,
            program_id: Some(42),
        };
        assert_eq!(Filter::parse(&listing(2)), Some(expected));
    }

    #[test]
    fn the_entry_of_a_priority_and_cut_off_messages_are_no_filters() {
        assert_eq!(Filter::parse(&listing(0)), None);
        let whole = listing(2);
        for length in 0..TCMSG_LEN + 8 {
            assert_eq!(Filter::parse(&whole[..length]), None);
        }
    }
}
