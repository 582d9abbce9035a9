//! `hauberk demo`: three nodes on this machine, and how their pods' traffic becomes ciphertext.
//!
//! Steps: `clear` - `flip-on` - `speed` - `missing-key` - `crash` - `flip-off`. Every one is judged by what crosses
//! the fabric between the nodes, counted by an eBPF program there, not by what the daemons say. Afterwards nothing of
//! the demo is left on the machine, and that is checked too.

use std::{
    io::Write,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use hauberk_netlab::{clean_up_on_signals, sweep};
use indicatif::{ProgressBar, ProgressStyle};
use owo_colors::OwoColorize;

use crate::args::Output;

mod clear;
mod comeback;
mod crash;
mod error;
mod flip_off;
mod flip_on;
mod leftovers;
mod marker;
mod missing_key;
mod picture;
mod probe;
mod pulse;
mod report;
mod speed;
mod stage;
mod tcp_flow;
mod udp_flow;

use error::DemoError;
use leftovers::{Footprint, Traces};
use picture::{Scene, Talks};
use report::{Findings, Report, Step};
use stage::Stage;

/// How many steps there are.
const STEPS: usize = 6;
/// The port to which packets go that nobody shall answer (RFC 863).
const DISCARD: u16 = 9;
/// How long packets may be under way on this machine.
const SETTLE: Duration = Duration::from_millis(100);
/// How often a flow has to move until it counts as back: one packet could be a straggler.
const MOVES: u64 = 5;

/// Runs every step and prints what held. The exit code says whether all did.
pub fn run(output: Output) -> anyhow::Result<ExitCode> {
    clean_up_on_signals()?;
    sweep()?;
    let mut show = Show::new(output);
    let played = play(&mut show);
    show.progress.finish_and_clear();
    if let Err(error) = played {
        // Without a stage there is nothing to report.
        if show.steps.is_empty() {
            return Err(error.into());
        }
        show.broken_off(&error);
    }
    let report = Report::new(show.steps, STEPS);
    match output {
        Output::Json => writeln!(anstream::stdout(), "{}", serde_json::to_string(&report)?)?,
        Output::Table if report.ok => writeln!(anstream::stdout(), "\n{}", "every step held".green())?,
        Output::Table => writeln!(anstream::stdout(), "\n{}", "not every step held".red())?,
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn play(show: &mut Show) -> Result<(), DemoError> {
    let began = Instant::now();
    show.doing("clear", "setting up three nodes with two pods each");
    let keyd = keyd()?;
    let mut stage = Stage::set(&keyd)?;
    let before = Footprint::take(&stage.lab)?;

    show.doing("clear", "flag off");
    let (step, crossed) = clear::run(&stage)?;
    show.done(
        step,
        Some(Scene {
            what: "flag off",
            crossed,
        }),
    )?;

    show.doing("speed", "speed without encryption");
    let plain = speed::gbps(stage.pod("a2"), stage.pod("b2"))?;
    show.doing("flip-on", "flag on, node b sees it 5 s late");
    let (step, crossed) = flip_on::run(&stage)?;
    show.done(
        step,
        Some(Scene {
            what: "flag on",
            crossed,
        }),
    )?;

    let traces = Traces::note(&stage.lab);
    show.doing("speed", "speed with encryption");
    let encrypted = speed::gbps(stage.pod("a2"), stage.pod("b2"))?;
    show.done(speed_step(plain, encrypted), None)?;

    show.doing("missing-key", "node b's key is taken away");
    let (step, crossed) = missing_key::run(&stage)?;
    show.done(
        step,
        Some(Scene {
            what: "key of b missing",
            crossed,
        }),
    )?;

    show.doing("crash", "kill -9 of node b's keyd");
    let (step, crossed) = crash::run(&mut stage)?;
    show.done(
        step,
        Some(Scene {
            what: "keyd of b dead",
            crossed,
        }),
    )?;

    show.doing("flip-off", "bulk traffic, then the flag off");
    let (mut findings, summary, crossed) = flip_off::run(&stage, &before)?;
    let mut talks = Talks {
        tcp_messages: stage.tcp.pulse().count(),
        tcp_broken: stage.tcp.pulse().broken().is_some(),
        udp_sent: stage.udp.sent(),
        udp_arrived: stage.udp.pulse().count(),
        plain_gbps: plain,
        encrypted_gbps: encrypted,
        took: Duration::ZERO,
    };
    findings.expect(
        traces.programs() > 0,
        "no pinned program was found, so their end cannot be checked",
    );
    drop(stage);
    let left = traces.remaining();
    findings.expect(
        left.is_empty(),
        format!("left on the machine: {}", left.join(", ")),
    );
    findings.figure("left_on_machine", left);
    show.done(
        findings.into_step("flip-off", summary),
        Some(Scene {
            what: "flag off again",
            crossed,
        }),
    )?;

    talks.took = began.elapsed();
    show.picture(&talks)
}

fn speed_step(plain: f64, encrypted: f64) -> Step {
    let mut findings = Findings::default();
    findings.expect(plain > 0.0 && encrypted > 0.0, "iperf3 moved nothing");
    findings.figure("plain_gbps", flip_off::round(plain));
    findings.figure("encrypted_gbps", flip_off::round(encrypted));
    let ratio = encrypted / plain;
    findings.figure("ratio", flip_off::round(ratio));
    let summary = format!(
        "pod to pod, one TCP stream: {plain:.1} Gb/s plain, {encrypted:.1} Gb/s encrypted ({ratio:.2} of it)"
    );
    findings.into_step("speed", summary)
}

/// Notes how the two long flows fared since their stalls were last forgotten; returns the longest of each.
fn stalls(stage: &Stage, findings: &mut Findings, limit: Duration) -> [Duration; 2] {
    let now = Instant::now();
    let flows = [
        ("TCP", "tcp_stall_seconds", stage.tcp.pulse()),
        ("UDP", "udp_stall_seconds", stage.udp.pulse()),
    ];
    flows.map(|(name, figure, pulse)| {
        let stall = pulse.longest_stall(now);
        if let Some(why) = pulse.broken() {
            findings.expect(false, format!("{name} broke: {why}"));
        }
        findings.expect(
            stall <= limit,
            format!("{name} stood still for {:.2} s", stall.as_secs_f64()),
        );
        findings.seconds(figure, stall.as_secs_f64());
        stall
    })
}

fn keyd() -> Result<PathBuf, DemoError> {
    let keyd = std::env::current_exe()?.with_file_name("keyd");
    if keyd.is_file() {
        Ok(keyd)
    } else {
        Err(DemoError::NoKeyd(keyd))
    }
}

/// What has been shown so far, and how.
struct Show {
    output: Output,
    progress: ProgressBar,
    /// What is under way, to be named when it breaks off.
    step: &'static str,
    steps: Vec<Step>,
    scenes: Vec<Scene>,
}

impl Show {
    fn new(output: Output) -> Self {
        // On standard error, and only when that is a terminal.
        let style = ProgressStyle::with_template("{spinner} {msg} ({elapsed})");
        let progress =
            ProgressBar::new_spinner().with_style(style.expect("the template is a constant that parses"));
        progress.enable_steady_tick(Duration::from_millis(100));
        Self {
            output,
            progress,
            step: "clear",
            steps: Vec::new(),
            scenes: Vec::new(),
        }
    }

    fn doing(&mut self, step: &'static str, what: &'static str) {
        self.step = step;
        self.progress.reset_elapsed();
        self.progress.set_message(format!("{step}: {what}"));
    }

    fn done(&mut self, step: Step, scene: Option<Scene>) -> Result<(), DemoError> {
        if self.output == Output::Table {
            let line = line(&step);
            self.progress.suspend(|| writeln!(anstream::stdout(), "{line}"))?;
        }
        self.steps.push(step);
        self.scenes.extend(scene);
        Ok(())
    }

    fn broken_off(&mut self, error: &DemoError) {
        let mut findings = Findings::default();
        findings.expect(false, crate::one_line(&error.to_string()));
        // The reader of the output may be what has gone.
        let _ = self.done(findings.into_step(self.step, String::new()), None);
    }

    fn picture(&self, talks: &Talks) -> Result<(), DemoError> {
        if self.output == Output::Table {
            let picture = picture::draw(&self.scenes, talks);
            self.progress
                .suspend(|| write!(anstream::stdout(), "\n{picture}"))?;
        }
        Ok(())
    }
}

fn line(step: &Step) -> String {
    let mark = if step.ok {
        "✓".green().to_string()
    } else {
        "✗".red().to_string()
    };
    format!("{mark} {:<12} {}", step.name.bold(), step.detail)
}
