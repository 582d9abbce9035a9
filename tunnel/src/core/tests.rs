//! Two lanes over channels, without devices.
