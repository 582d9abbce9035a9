//! `node-tcp`: two nodes, and for each system a tunnel between them.
//!
//! `plain` goes by the nodes' own addresses. Every other system, `hauberk-wg` among them, is started the same way,
//! as `PROGRAM -f IFNAME` on both nodes, and configured by `wg set`; its tunnel has MTU 1420 and addresses of its own.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    net::Ipv4Addr,
    os::unix::{fs::OpenOptionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use hauberk_netlab::{CommandPlacement, Lab, LabSpec, Node, NodeSpec, Process, Wiring};

use super::{BenchError, Placement, Route, Stage, last_line};
use crate::{
    args::{Case, Peer},
    program,
    report::{HAUBERK, PLAIN},
};

/// Where every WireGuard program puts the socket through which `wg` configures it
/// (<https://www.wireguard.com/xplatform/>).
const UAPI_DIR: &str = "/var/run/wireguard";
/// How long a program may take until it can be configured.
const START: Duration = Duration::from_secs(5);
/// What wg-quick sets at 1500, too: room for IPv6, UDP and WireGuard's headers.
const TUNNEL_MTU: &str = "1420";
/// UDP port of the first system's tunnel; the next has the next.
const FIRST_PORT: u16 = 51820;

/// Builds the nodes and starts every system's program on both.
pub(super) fn set(peers: &[Peer], placement: Placement) -> Result<Stage, BenchError> {
    let nodes = ["a", "b"]
        .map(|name| NodeSpec::new(name, Wiring::Routed, &[]))
        .into();
    let lab = Lab::new(LabSpec::new("bench", nodes))?;
    let ours = program::own("hauberk-wg")?.display().to_string();
    let ours = Peer {
        name: HAUBERK.to_owned(),
        command: vec![ours],
    };

    let mut routes = vec![route(&lab, PLAIN, lab.node("b").v4(), None)];
    let mut programs = Vec::new();
    for (number, system) in (0..).zip(std::iter::once(&ours).chain(peers)) {
        let tunnel = Tunnel {
            lab: &lab,
            system,
            number,
        };
        let log = tunnel.start(placement, &mut programs)?;
        routes.push(route(&lab, &system.name, tunnel.address(Side::B), Some(log)));
    }
    Ok(Stage {
        routes,
        _programs: programs,
        _mesh: None,
        _labs: vec![lab],
    })
}

fn route(lab: &Lab, system: &str, address: Ipv4Addr, log: Option<PathBuf>) -> Route {
    Route {
        system: system.to_owned(),
        case: Case::NodeTcp,
        client: lab.node("a").netns().clone(),
        server: lab.node("b").netns().clone(),
        address: address.into(),
        log,
    }
}

/// A WireGuard program; once it has ended, its socket is removed.
#[derive(Debug)]
pub(super) struct Program {
    process: Process,
    socket: Socket,
}

#[derive(Debug)]
struct Socket(PathBuf);

impl Drop for Socket {
    fn drop(&mut self) {
        // Those that end in order have removed it themselves.
        let _ = fs::remove_file(&self.0);
    }
}

/// One end of a tunnel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    A,
    B,
}

impl Side {
    const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    const fn node(self) -> &'static str {
        match self {
            Self::A => "a",
            Self::B => "b",
        }
    }
}

/// The tunnel of one system.
#[derive(Debug, Clone, Copy)]
struct Tunnel<'a> {
    lab: &'a Lab,
    system: &'a Peer,
    /// From 0, different for each system.
    number: u8,
}

impl Tunnel<'_> {
    /// Starts and configures both ends; returns the file with what the program on node a says.
    fn start(&self, placement: Placement, programs: &mut Vec<Program>) -> Result<PathBuf, BenchError> {
        let keys = [Side::A, Side::B].map(|side| self.key_pair(side));
        let [a, b] = keys;
        let (a, b) = (a?, b?);
        for (side, core, own, peer) in [
            (Side::A, placement.core_a(), &a, &b),
            (Side::B, placement.core_b(), &b, &a),
        ] {
            programs.push(self.start_program(side, core)?);
            self.configure(side, &own.private, &peer.public)?;
        }
        Ok(self.file(Side::A, "log"))
    }

    fn start_program(&self, side: Side, core: Option<usize>) -> Result<Program, BenchError> {
        let what = || format!("{} (`{}`)", self.system.name, self.system.command.join(" "));
        let log = self.file(side, "log");
        let failed = |why: String| BenchError::Setup { what: what(), why };
        let output = File::create(&log).map_err(|error| failed(error.to_string()))?;
        let errors = output.try_clone().map_err(|error| failed(error.to_string()))?;

        let mut command = self.node(side).command(&self.system.command[0]);
        command
            .args(&self.system.command[1..])
            .args(["-f", &self.interface(side)]);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        if let Some(core) = core {
            command.on_cpu(core);
        }
        let socket = Path::new(UAPI_DIR).join(format!("{}.sock", self.interface(side)));
        let mut program = Program {
            process: Process::spawn(&mut command).map_err(|error| failed(error.to_string()))?,
            socket: Socket(socket),
        };
        let began = Instant::now();
        // The file alone may be what a program of the same name has left, or be bound and not yet listening.
        while UnixStream::connect(&program.socket.0).is_err() {
            if !program.process.is_running() || began.elapsed() > START {
                let said = last_line(&log).unwrap_or_else(|| "it said nothing".to_owned());
                return Err(failed(format!("did not come up: {said}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(program)
    }

    fn configure(&self, side: Side, private: &Path, peer: &str) -> Result<(), BenchError> {
        let interface = self.interface(side);
        let endpoint = format!("{}:{}", self.node(side.other()).v4(), self.port());
        let mut wg = self.node(side).command("wg");
        wg.args([
            "set",
            &interface,
            "listen-port",
            &self.port().to_string(),
            "private-key",
        ])
        .arg(private);
        wg.args(["peer", peer, "endpoint", &endpoint, "allowed-ips"]);
        wg.arg(format!("{}/32", self.address(side.other())));
        let ip = |args: &[&str]| {
            let mut ip = self.node(side).command("ip");
            ip.args(args);
            ip
        };
        let address = format!("{}/24", self.address(side));
        run(wg)?;
        run(ip(&["address", "add", &address, "dev", &interface]))?;
        run(ip(&["link", "set", &interface, "mtu", TUNNEL_MTU, "up"]))?;
        Ok(())
    }

    fn key_pair(&self, side: Side) -> Result<KeyPair, BenchError> {
        let private = run_with("wg", &["genkey"], Stdio::null())?;
        let path = self.file(side, "key");
        let failed = |error: std::io::Error| BenchError::Setup {
            what: format!("cannot keep a key in {}", path.display()),
            why: error.to_string(),
        };
        OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(private.as_bytes()))
            .map_err(failed)?;
        let stdin = File::open(&path).map_err(failed)?;
        let public = run_with("wg", &["pubkey"], stdin.into())?;
        Ok(KeyPair {
            private: path,
            public: public.trim().to_owned(),
        })
    }

    fn node(&self, side: Side) -> &Node {
        self.lab.node(side.node())
    }

    /// Unique on the machine: the directory of sockets is shared by all namespaces. At most 15 bytes.
    fn interface(&self, side: Side) -> String {
        format!("hb{:x}{}{}", std::process::id(), self.number, side.node())
    }

    fn address(&self, side: Side) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, self.number, if side == Side::A { 1 } else { 2 })
    }

    fn port(&self) -> u16 {
        FIRST_PORT + u16::from(self.number)
    }

    /// A file on the lab's tmpfs.
    fn file(&self, side: Side, what: &str) -> PathBuf {
        self.lab.dir().join(format!("{}.{what}", self.interface(side)))
    }
}

#[derive(Debug)]
struct KeyPair {
    /// The file with the private key.
    private: PathBuf,
    public: String,
}

fn run(mut command: Command) -> Result<String, BenchError> {
    let failed = |command: &Command, why: String| {
        let what = std::iter::once(command.get_program()).chain(command.get_args());
        let what: Vec<_> = what.map(|word| word.to_string_lossy()).collect();
        BenchError::Setup {
            what: what.join(" "),
            why,
        }
    };
    match command.output() {
        Err(error) => Err(failed(&command, error.to_string())),
        Ok(output) if output.status.success() => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        Ok(output) => Err(failed(
            &command,
            String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        )),
    }
}

fn run_with(program: &str, args: &[&str], stdin: Stdio) -> Result<String, BenchError> {
    let mut command = Command::new(program);
    command.args(args).stdin(stdin);
    run(command)
}
