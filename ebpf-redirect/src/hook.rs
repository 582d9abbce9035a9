//! Where the programs sit.

use std::fmt;

use aya::programs::TcAttachType;

/// A program and its place; ingress and egress in the docs are the kernel's, said from the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hook {
    /// What a pod sends: ingress of the pod's host-side interface.
    FromPod,
    /// What a pod receives: egress of the pod's host-side interface.
    ToPod,
    /// What a lane decrypted: ingress of the lane's TUN device.
    FromTunnel,
    /// What leaves the node: egress of an uplink or overlay device. The guard.
    ToNetwork,
}

impl Hook {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::FromPod, Self::ToPod, Self::FromTunnel, Self::ToNetwork];

    /// The program's name in the object, in pins and in the kernel's listings.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
            Self::FromTunnel => "from_tunnel",
            Self::ToNetwork => "to_network",
        }
    }

    /// The hook whose program has this name.
    pub fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|hook| hook.name() == name)
    }

    pub(crate) const fn attach_type(self) -> TcAttachType {
        match self {
            Self::FromPod | Self::FromTunnel => TcAttachType::Ingress,
            Self::ToPod | Self::ToNetwork => TcAttachType::Egress,
        }
    }
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
