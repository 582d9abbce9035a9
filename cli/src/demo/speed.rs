//! What iperf3 gets between two pods, plain and encrypted.

use hauberk_netlab::{Pod, iperf};

use super::error::DemoError;

const SECONDS: u32 = 3;

/// One TCP stream over IPv4, in 10⁹ bits of payload a second, as the receiver counts them.
pub fn gbps(from: &Pod, to: &Pod) -> Result<f64, DemoError> {
    let (client, server) = (from.command("iperf3"), to.command("iperf3"));
    Ok(iperf::stream(client, server, to.v4().into(), SECONDS)?.gbps)
}
