//! Control messages between the two nodes of a pair.

use keyd::control_message::{ControlMessage, ControlMessageError, SIZE};

use super::Target;

pub(crate) const CONTROL: Target = Target {
    name: "control-message",
    about: "what two nodes tell each other of their pair's phase",
    seeds: || {
        let mut message = [0; SIZE];
        message[..6].copy_from_slice(b"HBKC\x01\x02");
        message[15] = 1;
        message[23] = 1;
        vec![message.to_vec()]
    },
    words: &[],
    run: |input| match ControlMessage::decode(input) {
        Ok(message) => {
            assert_eq!(message.encode(), *input, "every byte has a meaning");
            u64::from(message.phase.number()) << 2
                | u64::from(message.wants_on) << 1
                | u64::from(message.asks)
        }
        Err(ControlMessageError::Size(_)) => 0x100,
        Err(ControlMessageError::Magic) => 0x101,
        Err(ControlMessageError::Version(_)) => 0x102,
        Err(ControlMessageError::Range(field)) => 0x103 + field.len() as u64,
    },
};
