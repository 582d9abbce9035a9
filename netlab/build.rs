//! Compiles `prog`, so that the lab can carry the object inside.

use std::path::Path;

fn main() -> Result<(), hauberk_toolchain::BuildError> {
    hauberk_toolchain::build(&Path::new(env!("CARGO_MANIFEST_DIR")).join("prog"), &["fabric"])
}
