//! `hauberk-wg IFNAME`: one lane in the foreground, set up by `wg set`; a drop-in for wireguard-go.
//!
//! Ends on SIGTERM, SIGINT, or when the interface is deleted.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc;

use anyhow::Context;
use clap::Parser;
use hauberk_tunnel::{Lane, LaneConfig, LaneEventKind, Offloads};

/// MTU of a WireGuard interface unless its user sets another: 1,500 less the most that the outer headers
/// take (IPv6 40, UDP 8, WireGuard 32).
const DEFAULT_MTU: u32 = 1_420;

/// A userspace WireGuard. It makes the interface IFNAME; set it up with `wg` and `ip`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Stay in the foreground; it always does.
    #[arg(short, long)]
    foreground: bool,
    /// Directory of the control socket IFNAME.sock, where `wg` looks for it.
    #[arg(long, value_name = "PATH", default_value = "/var/run/wireguard")]
    uapi_dir: PathBuf,
    /// CPU to run on.
    #[arg(long, value_name = "N")]
    cpu: Option<usize>,
    /// Leave an offload off, though the kernel has it; may be repeated.
    #[arg(long, value_name = "OFFLOAD")]
    without: Vec<Offload>,
    /// Name of the interface, at most 15 bytes.
    #[arg(value_name = "IFNAME")]
    interface: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Offload {
    /// Checksums of the interface; takes tso and uso with it.
    Checksum,
    /// TCP super-packets of the interface.
    Tso,
    /// UDP super-packets of the interface.
    Uso,
    /// Many datagrams per send (UDP_SEGMENT).
    UdpSegment,
    /// Many datagrams per receive (UDP_GRO).
    UdpGro,
}

/// What ends the program.
enum End {
    Signal,
    Failed(hauberk_tunnel::LaneError),
}

fn main() -> ExitCode {
    match run(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hauberk-wg: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> anyhow::Result<()> {
    let has = |offload| !arguments.without.contains(&offload);
    let offloads = Offloads {
        checksum: has(Offload::Checksum),
        tso: has(Offload::Tso),
        uso: has(Offload::Uso),
        udp_segment: has(Offload::UdpSegment),
        udp_gro: has(Offload::UdpGro),
    };
    let (ends, end) = mpsc::channel();
    let failed = ends.clone();
    ctrlc::set_handler(move || {
        // Nobody listens once the end has begun.
        let _ = ends.send(End::Signal);
    })
    .context("cannot handle SIGTERM")?;
    let config = LaneConfig {
        tun_name: arguments.interface,
        tun_mtu: Some(DEFAULT_MTU),
        offloads,
        uapi_dir: Some(arguments.uapi_dir),
        uapi_writable: true,
        cpu: arguments.cpu,
        ..LaneConfig::default()
    };
    let lane = Lane::start(config, move |event| {
        if let LaneEventKind::Failed(error) = event.kind {
            let _ = failed.send(End::Failed(error));
        }
    })?;
    let end = end.recv();
    lane.stop();
    match end {
        Ok(End::Failed(hauberk_tunnel::LaneError::InterfaceGone)) | Ok(End::Signal) | Err(_) => Ok(()),
        Ok(End::Failed(error)) => Err(error.into()),
    }
}
