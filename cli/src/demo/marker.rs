//! The bytes by which the demo's own payload is recognised on the fabric when it crosses in clear.

/// Sixteen bytes, so that a payload made of whole markers has one at every multiple of sixteen.
pub const MARKER: [u8; 16] = *b"HAUBERK-DEMO-CLR";

/// A payload of whole markers.
pub fn payload<const N: usize>() -> [u8; N] {
    std::array::from_fn(|i| MARKER[i % MARKER.len()])
}

/// The marker as `ping -p` wants it: hexadecimal digits.
pub fn as_ping_pattern() -> String {
    MARKER.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_what_ping_takes() {
        assert_eq!(as_ping_pattern().len(), 32);
        assert!(as_ping_pattern().starts_with("48415542"));
    }

    #[test]
    fn a_payload_starts_with_a_marker() {
        assert_eq!(payload::<48>()[32..], MARKER);
    }
}
