//! What the fabric counted.

/// Packets and bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets; a super-packet counts its segments.
    pub packets: u64,
    /// Bytes from the IP header on, as they would be on the wire of a super-packet as one.
    pub bytes: u64,
}

/// IP's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

/// What IP carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP and ICMPv6
    Icmp,
    /// Anything else, and fragments after the first
    Other,
}

/// Counts by IP's version and protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub(crate) cells: [[Count; 4]; 2],
}

impl Tally {
    /// The count of one kind of packets.
    pub fn of(&self, family: Family, protocol: Protocol) -> Count {
        self.cells[family as usize][protocol as usize]
    }

    /// Packets of all kinds.
    pub fn packets(&self) -> u64 {
        self.cells.iter().flatten().map(|c| c.packets).sum()
    }

    /// Bytes of all kinds.
    pub fn bytes(&self) -> u64 {
        self.cells.iter().flatten().map(|c| c.bytes).sum()
    }

    fn zip(&mut self, other: &Self, with: impl Fn(&mut u64, u64)) {
        for (cell, other) in self.cells.iter_mut().flatten().zip(other.cells.iter().flatten()) {
            with(&mut cell.packets, other.packets);
            with(&mut cell.bytes, other.bytes);
        }
    }
}

/// What crossed the fabric.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FabricCounts {
    /// All of IPv4 and IPv6.
    pub all: Tally,
    /// With a covered source or destination in clear.
    pub covered: Tally,
    /// With the marker in clear.
    pub marker: Tally,
    /// Outer fragments.
    pub fragments: Tally,
    /// Lost on purpose.
    pub lost: Tally,
    /// Duplicated on purpose (each counted once more than it was sent).
    pub duplicated: Tally,
    /// Held back on purpose, so that later ones overtook them.
    pub reordered: Tally,
}

impl FabricCounts {
    pub(crate) fn add(&mut self, other: &Self) {
        self.zip(other, |a, b| *a += b);
    }

    /// `earlier` must be an earlier count of the same.
    pub(crate) fn subtract(&mut self, earlier: &Self) {
        self.zip(earlier, |a, b| *a -= b);
    }

    fn zip(&mut self, other: &Self, with: impl Fn(&mut u64, u64) + Copy) {
        let Self {
            all,
            covered,
            marker,
            fragments,
            lost,
            duplicated,
            reordered,
        } = self;
        all.zip(&other.all, with);
        covered.zip(&other.covered, with);
        marker.zip(&other.marker, with);
        fragments.zip(&other.fragments, with);
        lost.zip(&other.lost, with);
        duplicated.zip(&other.duplicated, with);
        reordered.zip(&other.reordered, with);
    }
}
