//! This node's generation of keys: resumed from the key file or made, and its lanes in their seats.

use std::net::SocketAddr;
use std::path::Path;

use hauberk_abi::MAX_SLOTS;
use hauberk_api::{LaneSpec, PublicKey};
use hauberk_tunnel::x25519::StaticSecret;
use hauberk_tunnel::{LaneError, x25519};

use crate::compute::LocalGeneration;
use crate::kernel::Kernel;
use crate::keyfile::{KeyFile, KeyFileError};
use crate::lanes::{LaneSeat, Lanes};

/// Two generations share the slots, so that the next can come up beside this one.
const SLOTS_PER_GENERATION: u32 = MAX_SLOTS / 2;

/// Why a generation does not come up.
#[derive(Debug, thiserror::Error)]
pub enum GenerationError {
    /// A lane.
    #[error("lane {lane} of generation {generation} does not start")]
    Lane {
        /// The lane's place.
        lane: usize,
        /// The generation.
        generation: u64,
        /// Why.
        #[source]
        source: LaneError,
    },
}

/// Makes the keys of a new generation and stores them. Its number is noted by now: none is used for two sets of
/// keys.
pub fn make(
    state_dir: &Path,
    generation: u64,
    lanes: usize,
    listen_port: u16,
) -> Result<KeyFile, KeyFileError> {
    let range = if generation.is_multiple_of(2) {
        0
    } else {
        lanes as u16
    };
    let keys = KeyFile::generate(generation, listen_port.saturating_add(range), lanes)?;
    keys.store(state_dir)?;
    Ok(keys)
}

/// Starts the lanes of `keys` that do not run, and says what there is to publish.
pub fn seat(
    keys: &KeyFile,
    lanes: &mut Lanes,
    kernel: &Kernel,
    control: &[SocketAddr],
) -> Result<LocalGeneration, GenerationError> {
    let slot_base = slot_base(keys.generation);
    let mut specs = Vec::with_capacity(keys.private_keys.len());
    for (place, key) in keys.private_keys.iter().enumerate() {
        let private_key = StaticSecret::from(**key);
        let public_key = PublicKey::from_bytes(x25519::PublicKey::from(&private_key).to_bytes());
        let port = keys.first_port.saturating_add(place as u16);
        let seat = LaneSeat {
            slot: slot_base + place as u32,
            private_key,
            port,
        };
        lanes
            .start(&seat, control, || kernel.gauge(seat.slot))
            .map_err(|source| GenerationError::Lane {
                lane: place,
                generation: keys.generation,
                source,
            })?;
        specs.push(LaneSpec { public_key, port });
    }
    Ok(LocalGeneration {
        id: keys.generation,
        slot_base,
        lanes: specs,
        ..LocalGeneration::default()
    })
}

fn slot_base(generation: u64) -> u32 {
    if generation.is_multiple_of(2) {
        0
    } else {
        SLOTS_PER_GENERATION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generations_that_follow_each_other_share_no_slot() {
        assert_ne!(slot_base(1), slot_base(2));
        assert!(slot_base(1) + SLOTS_PER_GENERATION <= MAX_SLOTS);
    }
}
