//! Ports, each painted once: what is painted first stays.
//!
//! Rules are asked in an order and the first that matches decides, so a rule paints what no earlier one did. It takes as
//! long as there are ranges, whatever lies between them.

use std::collections::BTreeMap;

use crate::ports::{PortRange, Ports, Protocol};

/// A column of ports for each protocol that has some, and one field for all other protocols.
#[derive(Clone, Debug)]
pub(crate) struct Painting<C> {
    columns: [BTreeMap<u16, (u16, C)>; Column::ALL.len()],
}

/// What ports are painted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// TCP's ports.
    Tcp,
    /// UDP's.
    Udp,
    /// SCTP's.
    Sctp,
    /// All protocols without ports; it has port 0 only.
    Other,
}

impl Column {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Tcp, Self::Udp, Self::Sctp, Self::Other];

    /// That of a protocol.
    pub fn of(protocol: Protocol) -> Self {
        match protocol {
            Protocol::Tcp => Self::Tcp,
            Protocol::Udp => Self::Udp,
            Protocol::Sctp => Self::Sctp,
            Protocol::Other(_) => Self::Other,
        }
    }

    fn last_port(self) -> u16 {
        match self {
            Self::Tcp | Self::Udp | Self::Sctp => u16::MAX,
            Self::Other => 0,
        }
    }
}

impl<C: Copy + PartialEq> Painting<C> {
    pub(crate) fn new() -> Self {
        Self {
            columns: Default::default(),
        }
    }

    /// Paints what of everything is blank.
    pub(crate) fn fill_all(&mut self, colour: C) {
        for column in Column::ALL {
            self.fill(column, 0, column.last_port(), colour);
        }
    }

    /// Paints what of a rule's ports is blank; `ranges` are those that its entries stand for.
    pub(crate) fn fill_ports(&mut self, ports: &Ports, ranges: impl Iterator<Item = PortRange>, colour: C) {
        match ports {
            Ports::All => self.fill_all(colour),
            Ports::Any(_) => {
                for range in ranges {
                    self.fill(Column::of(range.protocol), range.first, range.last, colour);
                }
            }
        }
    }

    /// Paints what of a range, both ends included, is blank.
    pub(crate) fn fill(&mut self, column: Column, first: u16, last: u16, colour: C) {
        let painted = &mut self.columns[column as usize];
        // In 32 bits, so that there is a port after the last.
        let mut blank = u32::from(first);
        let before = painted.range(..=first).next_back();
        if let Some((_, (end, _))) = before
            && *end >= first
        {
            blank = u32::from(*end) + 1;
        }
        let mut gaps = Vec::new();
        for (start, (end, _)) in painted.range(first..=last) {
            if u32::from(*start) > blank {
                gaps.push((blank as u16, start - 1));
            }
            blank = blank.max(u32::from(*end) + 1);
        }
        if blank <= u32::from(last) {
            gaps.push((blank as u16, last));
        }
        painted.extend(gaps.into_iter().map(|(from, to)| (from, (to, colour))));
    }

    /// What is painted: column, first port, last port, colour; neighbours of one colour are one.
    pub(crate) fn strips(&self) -> Vec<(Column, u16, u16, C)> {
        let mut strips: Vec<(Column, u16, u16, C)> = Vec::new();
        for (column, painted) in Column::ALL.into_iter().zip(&self.columns) {
            for (first, (last, colour)) in painted {
                match strips.last_mut() {
                    Some((of, _, end, same))
                        if *of == column && same == colour && u32::from(*end) + 1 == u32::from(*first) =>
                    {
                        *end = *last;
                    }
                    _ => strips.push((column, *first, *last, *colour)),
                }
            }
        }
        strips
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_port_has_the_colour_that_it_was_given_first(
            fills in prop::collection::vec((0..40_u16, 0..12_u16, 0..3_u8), 0..12),
            at_the_end in any::<bool>(),
        ) {
            let offset = if at_the_end { u16::MAX - 51 } else { 0 };
            let mut painting = Painting::new();
            let mut naive = vec![None; 1 << 16];
            for (first, length, colour) in fills {
                let (first, last) = (offset + first, offset + first + length);
                painting.fill(Column::Tcp, first, last, colour);
                for port in first..=last {
                    naive[usize::from(port)].get_or_insert(colour);
                }
            }
            let mut found = vec![None; 1 << 16];
            let strips = painting.strips();
            for (column, first, last, colour) in &strips {
                prop_assert_eq!(*column, Column::Tcp);
                for port in *first..=*last {
                    prop_assert_eq!(found[usize::from(port)].replace(*colour), None);
                }
            }
            prop_assert_eq!(found, naive);
            for pair in strips.windows(2) {
                prop_assert!(pair[0].2 + 1 < pair[1].1 || pair[0].3 != pair[1].3, "one strip in two");
            }
        }
    }

    #[test]
    fn all_of_every_protocol_can_be_painted() {
        let mut painting = Painting::new();
        painting.fill(Column::Udp, 53, 53, 'a');
        painting.fill_all('b');
        assert_eq!(
            painting.strips(),
            [
                (Column::Tcp, 0, u16::MAX, 'b'),
                (Column::Udp, 0, 52, 'b'),
                (Column::Udp, 53, 53, 'a'),
                (Column::Udp, 54, u16::MAX, 'b'),
                (Column::Sctp, 0, u16::MAX, 'b'),
                (Column::Other, 0, 0, 'b'),
            ]
        );
    }
}
