//! Two nodes and a bad network: messages lost, doubled and reordered, flags seen at different times,
//! applying cut in pieces, crashes and reboots at every point. After each step the promise is checked
//! against what the two kernels hold, not against what the state machines believe.

use std::time::{Duration, Instant};

use hauberk_api::UnreachableNodes;

use super::*;

const ON: Want = Want::On(UnreachableNodes::Drop);

/// Apply of one phase, as far as it has come.
#[derive(Clone, Copy, Debug)]
struct Applying {
    phase: Phase,
    kernel: bool,
    disk: bool,
}

#[derive(Debug)]
struct Node {
    pair: Pair,
    epoch: u64,
    want: Want,
    kernel: Phase,
    disk: Phase,
    applying: Option<Applying>,
    session: bool,
}

impl Node {
    fn new(phase: Phase, epoch: u64, now: Instant) -> Self {
        let pair = Pair::new(phase, epoch, now);
        Self {
            pair,
            epoch,
            want: Want::Off,
            kernel: phase,
            disk: phase,
            applying: None,
            session: false,
        }
    }

    /// As the node itself decides: its flag, and the phase that it has on disk.
    fn lanes_up(&self) -> bool {
        self.want.is_on() || self.disk > Phase::Off
    }
}

/// A crash leaves the kernel's maps pinned; a reboot leaves only the disk.
#[derive(Clone, Copy, Debug)]
enum Restart {
    Crash,
    Reboot,
}

struct World {
    nodes: [Node; 2],
    wire: Vec<(usize, ControlMessage)>,
    now: Instant,
    log: Vec<String>,
}

impl World {
    fn new(phase: Phase) -> Self {
        let now = Instant::now();
        let mut world = Self {
            nodes: [1, 2].map(|epoch| Node::new(phase, epoch, now)),
            wire: Vec::new(),
            now,
            log: Vec::new(),
        };
        for side in 0..2 {
            world.nodes[side].want = if phase == Phase::Strict { ON } else { Want::Off };
            world.tell_start(side);
        }
        world
    }

    fn step(&mut self, side: usize, input: Input) {
        self.log.push(format!("{side}: {input:?}"));
        let node = &mut self.nodes[side];
        for action in node.pair.step(input, self.now) {
            self.log.push(format!("{side}:   {action:?}"));
            match action {
                Action::Apply(phase) if node.applying.is_none_or(|applying| applying.phase != phase) => {
                    node.applying = Some(Applying {
                        phase,
                        kernel: false,
                        disk: false,
                    });
                }
                Action::Apply(_) | Action::Connect => {}
                Action::Send(message) => self.wire.push((1 - side, message)),
            }
        }
        let deadline = self.nodes[side].pair.deadline();
        assert!(
            deadline > self.now,
            "a deadline that has passed makes the driver spin"
        );
        self.check();
    }

    fn check(&self) {
        for (one, other) in [(0, 1), (1, 0)] {
            let (from, to) = (self.nodes[one].kernel, self.nodes[other].kernel);
            assert!(
                !(from <= Phase::Ready && to == Phase::Strict),
                "{one} sends clear that {other} refuses: {}",
                self.story()
            );
            assert!(
                !(from >= Phase::Sending && to == Phase::Off),
                "{one} sends what {other} cannot open: {}",
                self.story()
            );
        }
    }

    fn story(&self) -> String {
        self.log[self.log.len().saturating_sub(120)..].join("\n")
    }

    fn set_flag(&mut self, side: usize, want: Want) {
        self.nodes[side].want = want;
        self.step(side, Input::Want(want));
    }

    fn apply_kernel(&mut self, side: usize) {
        if let Some(applying) = &mut self.nodes[side].applying {
            applying.kernel = true;
            self.nodes[side].kernel = applying.phase;
            self.log
                .push(format!("{side}: kernel {:?}", self.nodes[side].kernel));
            self.check();
            self.applied(side);
        }
    }

    fn apply_disk(&mut self, side: usize) {
        if let Some(applying) = &mut self.nodes[side].applying {
            applying.disk = true;
            self.nodes[side].disk = applying.phase;
            self.log.push(format!("{side}: disk {:?}", self.nodes[side].disk));
            self.applied(side);
        }
    }

    fn applied(&mut self, side: usize) {
        if let Some(Applying {
            phase,
            kernel: true,
            disk: true,
        }) = self.nodes[side].applying
        {
            self.nodes[side].applying = None;
            self.step(side, Input::Applied(phase));
        }
    }

    fn restart(&mut self, side: usize, how: Restart) {
        self.log.push(format!("{side}: {how:?}"));
        let node = &mut self.nodes[side];
        node.epoch += 2;
        node.applying = None;
        node.session = false;
        if matches!(how, Restart::Reboot) {
            node.kernel = node.disk;
        }
        node.pair = Pair::new(node.disk, node.epoch, self.now);
        self.tell_start(side);
    }

    fn tell_start(&mut self, side: usize) {
        let want = self.nodes[side].want;
        self.step(side, Input::Want(want));
        self.look(side);
    }

    /// Has a node see the peer's NodeTunnel and its session as they are now.
    fn look(&mut self, side: usize) {
        let keys = if self.nodes[1 - side].lanes_up() {
            PeerKeys::Up
        } else {
            PeerKeys::Down
        };
        self.step(side, Input::Peer(keys));
        let session = self.both_up();
        if session != self.nodes[side].session {
            self.nodes[side].session = session;
            self.step(side, if session { Input::Session } else { Input::NoSession });
        }
    }

    fn both_up(&self) -> bool {
        self.nodes.iter().all(Node::lanes_up)
    }

    fn deliver(&mut self, at: usize) {
        let (to, message) = self.wire.remove(at);
        if self.both_up() {
            self.step(to, Input::Message(message));
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        for side in 0..2 {
            self.step(side, Input::Tick);
        }
    }

    /// Lets everything work for this long.
    fn calm(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            for side in 0..2 {
                self.look(side);
                self.apply_kernel(side);
                self.apply_disk(side);
            }
            for _ in 0..self.wire.len() {
                self.deliver(0);
            }
            self.pass(Duration::from_millis(100));
        }
    }

    fn assert_both(&self, phase: Phase, when: &str) {
        let kernels = [self.nodes[0].kernel, self.nodes[1].kernel];
        assert_eq!(kernels, [phase; 2], "{when}: {}", self.story());
    }
}

/// SplitMix64: every run can be repeated by its seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % sides as u64) as usize
    }
}

fn misfortune(world: &mut World, dice: &mut Dice) {
    let side = dice.roll(2);
    match dice.roll(24) {
        0..=7 if !world.wire.is_empty() => world.deliver(dice.roll(world.wire.len())),
        8 if !world.wire.is_empty() => drop(world.wire.remove(dice.roll(world.wire.len()))),
        9 if !world.wire.is_empty() => world.wire.push(world.wire[dice.roll(world.wire.len())]),
        10..=13 => world.apply_kernel(side),
        14..=17 => world.apply_disk(side),
        18 | 19 => world.look(side),
        20 if dice.roll(3) == 0 => {
            let want = if world.nodes[side].want.is_on() {
                Want::Off
            } else {
                ON
            };
            world.set_flag(side, want);
        }
        21 if dice.roll(4) == 0 => {
            let how = if dice.roll(2) == 0 {
                Restart::Crash
            } else {
                Restart::Reboot
            };
            world.restart(side, how);
        }
        22 => world.pass(Duration::from_millis(200)),
        23 if dice.roll(3) == 0 => world.pass(Duration::from_millis(1_500)),
        _ => {}
    }
}

#[test]
fn no_misfortune_makes_a_node_send_what_its_peer_refuses_and_both_arrive_afterwards() {
    for seed in 0..4_000 {
        let mut dice = Dice(seed);
        let mut world = World::new([Phase::Off, Phase::Strict][dice.roll(2)]);
        for _ in 0..400 {
            misfortune(&mut world, &mut dice);
        }
        for side in 0..2 {
            world.set_flag(side, ON);
        }
        world.calm(Duration::from_secs(4));
        world.assert_both(Phase::Strict, "flag on for 4 s");
        for side in 0..2 {
            world.set_flag(side, Want::Off);
        }
        // The last words of a node that has gone Off may be lost; its peer then waits for its keys to go.
        world.calm(Duration::from_secs(4));
        world.assert_both(Phase::Off, "flag off for 4 s");
    }
}

#[test]
fn a_restart_at_any_point_of_a_flip_only_delays_it() {
    // One step of the orderly course is one of these eight moves; the restart comes after `at` of them.
    let orderly = |world: &mut World, at: usize| match at % 8 {
        0 | 4 => world.look(at / 4 % 2),
        1 | 5 => world.apply_kernel(at / 4 % 2),
        2 | 6 => world.apply_disk(at / 4 % 2),
        3 if !world.wire.is_empty() => world.deliver(0),
        7 => world.pass(Duration::from_millis(300)),
        _ => {}
    };
    for (start, want, end) in [
        (Phase::Off, ON, Phase::Strict),
        (Phase::Strict, Want::Off, Phase::Off),
    ] {
        for how in [Restart::Crash, Restart::Reboot] {
            for side in 0..2 {
                for at in 0..160 {
                    let mut world = World::new(start);
                    world.calm(Duration::from_secs(2));
                    world.set_flag(0, want);
                    for step in 0..160 {
                        if step == 24 {
                            world.set_flag(1, want);
                        }
                        if step == at {
                            world.restart(side, how);
                        }
                        orderly(&mut world, step);
                    }
                    world.calm(Duration::from_secs(6));
                    world.assert_both(end, "6 s after a restart");
                }
            }
        }
    }
}

#[test]
fn a_flip_between_two_nodes_that_see_the_flag_takes_a_few_messages_and_no_waiting() {
    let mut world = World::new(Phase::Off);
    world.calm(Duration::from_secs(1));
    world.set_flag(0, ON);
    world.set_flag(1, ON);
    world.calm(Duration::from_millis(1_100));
    world.assert_both(Phase::Strict, "1.1 s after the flag");
}

#[test]
fn a_node_ahead_of_its_peer_waits_in_clear_and_behind_its_peer_stays_encrypted() {
    let mut world = World::new(Phase::Off);
    world.set_flag(0, ON);
    world.calm(Duration::from_secs(6));
    assert!(world.nodes[0].kernel <= Phase::Ready);
    world.set_flag(1, ON);
    world.calm(Duration::from_secs(2));
    world.assert_both(Phase::Strict, "both flags on");
    world.set_flag(0, Want::Off);
    world.calm(Duration::from_secs(60));
    assert_eq!(world.nodes[0].kernel, Phase::Sending);
    assert!(world.nodes[1].kernel >= Phase::Sending);
}

#[test]
fn a_settled_pair_is_almost_silent() {
    let mut world = World::new(Phase::Strict);
    world.calm(Duration::from_secs(5));
    let sent = |world: &World| world.log.iter().filter(|line| line.contains("Send(")).count();
    let before = sent(&world);
    world.calm(Duration::from_secs(60));
    let messages = sent(&world) - before;
    assert!((6..=30).contains(&messages), "{messages} messages in a minute");
}

#[test]
fn a_node_that_was_away_while_its_peer_went_off_follows_it() {
    let mut now = Instant::now();
    let mut pair = Pair::new(Phase::Strict, 1, now);
    let mut inputs = vec![Input::Want(Want::Off), Input::Peer(PeerKeys::Down)];
    for _ in 0..80 {
        for input in std::mem::take(&mut inputs) {
            for action in pair.step(input, now) {
                if let Action::Apply(phase) = action {
                    inputs.push(Input::Applied(phase));
                }
            }
        }
        now += Duration::from_secs(1);
        inputs.push(Input::Tick);
        if pair.keyless_for(ABSENT_HOLD) {
            continue;
        }
        assert!(pair.phase() >= Phase::Sending, "not before it is sure");
    }
    assert_eq!(pair.phase(), Phase::Off);
}

#[test]
fn a_peer_that_never_answers_is_tried_less_often_and_often_again_once_its_keys_change() {
    let start = Instant::now();
    let mut pair = Pair::new(Phase::Strict, 999, start);
    let mut connects = Vec::new();
    let mut step = |input, second: u64| {
        let actions = pair.step(input, start + Duration::from_secs(second));
        if actions.contains(&Action::Connect) {
            connects.push(second);
        }
    };
    step(Input::Applied(Phase::Strict), 0);
    step(Input::Want(Want::On(UnreachableNodes::Drop)), 0);
    step(Input::Peer(PeerKeys::Up), 0);
    for second in 1..29 {
        step(Input::Tick, second);
    }
    step(Input::Peer(PeerKeys::Up), 29);
    for second in 30..50 {
        step(Input::Tick, second);
    }
    step(Input::Session, 50);
    step(Input::NoSession, 60);
    step(Input::Tick, 61);
    let often = |from| from..=from + 10;
    let expected = often(0).chain([16, 22, 28]).chain(often(34)).chain([60, 61]);
    assert_eq!(connects, expected.collect::<Vec<_>>());
}
