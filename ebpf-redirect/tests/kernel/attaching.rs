//! Attaching first, staying first, through restarts and rivals, and leaving nothing behind.

use std::{
    fs,
    net::UdpSocket,
    path::{Path, PathBuf},
};

use aya::programs::{TcAttachType, loaded_programs};
use hauberk_ebpf_redirect::{
    AttachMode, Displaced, Hook, Redirect, RedirectError,
    abi::{ABI_VERSION, Config, Counter},
};

use crate::{
    rival::Rival,
    sandbox::{Sandbox, attach_mode, ifindex, options, run},
};

/// Whether the way that the environment asks for is TCX here.
fn tcx() -> bool {
    attach_mode() != AttachMode::Clsact
        && aya::programs::SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

/// Makes a device with an address and a neighbour, so that a datagram to 10.9.0.9 leaves by it.
fn uplink(s: &mut Sandbox) -> u32 {
    run("ip link add uplink type veth peer name other");
    // No discovery of its own shall be counted.
    fs::write("/proc/sys/net/ipv6/conf/uplink/disable_ipv6", "1").expect("a setting");
    run("ip link set other up");
    run("ip link set uplink up");
    run("ip addr add 10.9.0.1/24 dev uplink");
    run("ip neigh add 10.9.0.9 lladdr 02:00:00:00:00:09 dev uplink");
    let ifindex = ifindex("uplink");
    s.know(&[ifindex]);
    ifindex
}

fn link_pin(s: &Sandbox, ifindex: impl std::fmt::Display) -> PathBuf {
    s.pin_dir
        .join(format!("v{ABI_VERSION}/links/to_network-{ifindex}"))
}

/// Looks after the order, which must not fail; says what was mended.
fn mended(s: &mut Sandbox) -> Vec<Displaced> {
    let (mended, failed) = s.redirect.check_order();
    assert!(failed.is_empty(), "{failed:?}");
    mended
}

/// Sends a datagram, and says whether `to_network` saw it.
fn seen(s: &Sandbox) -> bool {
    let before = s.counted(Counter::NotCovered).packets;
    let socket = UdpSocket::bind("10.9.0.1:0").expect("a socket");
    socket.send_to(b"x", "10.9.0.9:9").expect("sent");
    s.counted(Counter::NotCovered).packets > before
}

#[test]
fn a_program_that_answers_ok_before_ours_is_noticed_and_put_behind() {
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    assert!(seen(&s));
    assert_eq!(mended(&mut s), []);
    let bpffs = s.pin_dir.parent().expect("the mount").to_owned();
    // More than once, since a program cannot stand twice in a chain.
    for _ in 0..3 {
        let _rival = Rival::first(&bpffs, "uplink", TcAttachType::Egress, tcx());
        assert!(!seen(&s), "the rival hides the guard");
        assert_eq!(
            mended(&mut s),
            [Displaced {
                hook: Hook::ToNetwork,
                ifindex: uplink
            }]
        );
        assert!(seen(&s), "the guard is first again");
        assert_eq!(mended(&mut s), []);
        assert_eq!(chain_length(uplink), 2, "the older of ours is gone");
    }
    s.redirect.detach(Hook::ToNetwork, uplink).expect("detached");
    assert!(!seen(&s));
}

#[test]
fn what_was_taken_off_by_force_is_put_back() {
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    if tcx() {
        fs::remove_file(link_pin(&s, uplink)).expect("the pin");
        // Unpinned links are released by the kernel a moment later.
        while chain_length(uplink) > 0 {
            std::thread::yield_now();
        }
    } else {
        run("tc filter del dev uplink egress");
    }
    assert!(!seen(&s));
    assert_eq!(mended(&mut s).len(), 1);
    assert!(seen(&s));
}

#[test]
fn attaching_twice_and_detaching_twice_are_no_errors() {
    let mut s = Sandbox::new();
    let device = s.device();
    for hook in Hook::ALL {
        s.redirect.attach(hook, device).expect("attached");
        s.redirect.attach(hook, device).expect("attached already");
    }
    assert_eq!(s.redirect.attached().len(), 4);
    for hook in Hook::ALL {
        s.redirect.detach(hook, device).expect("detached");
        s.redirect.detach(hook, device).expect("detached already");
    }
    assert!(s.redirect.attached().is_empty());
}

#[test]
fn a_missing_device_is_an_error_and_a_vanished_one_is_forgotten() {
    let mut s = Sandbox::new();
    let missing = s.redirect.attach(Hook::ToNetwork, 4711);
    assert!(
        matches!(missing, Err(RedirectError::NoDevice(4711))),
        "{missing:?}"
    );
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    run("ip link del uplink");
    assert_eq!(mended(&mut s), []);
    assert!(s.redirect.attached().is_empty());
    s.redirect
        .detach(Hook::ToNetwork, uplink)
        .expect("nothing to detach");
    s.reopen();
    assert!(s.redirect.attached().is_empty());
}

#[test]
fn a_device_that_cannot_be_mended_does_not_keep_the_next_from_it() {
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    let later = s.device();
    let later_name = device_name(later);
    let bpffs = s.pin_dir.parent().expect("the mount").to_owned();
    for ifindex in [uplink, later] {
        s.redirect.attach(Hook::ToNetwork, ifindex).expect("attached");
    }
    let _rivals = ["uplink", &later_name].map(|name| Rival::first(&bpffs, name, TcAttachType::Egress, tcx()));
    let hindrance = link_pin(&s, format!("{uplink}-new"));
    if tcx() {
        // Where the new link is pinned first.
        fs::create_dir(&hindrance).expect("a directory");
    } else {
        // A filter of our priority for one protocol only admits no other for all.
        run("tc filter del dev uplink egress");
        let program = Rival::program(&bpffs);
        let program = program.display();
        run(&format!(
            "tc filter add dev uplink egress protocol ip pref 1 bpf direct-action object-pinned {program}"
        ));
    }
    let (mended_first, failed) = s.redirect.check_order();
    let at = |ifindex| Displaced {
        hook: Hook::ToNetwork,
        ifindex,
    };
    assert_eq!(mended_first, [at(later)]);
    assert_eq!(failed.len(), 1, "{failed:?}");
    assert!(!seen(&s));
    if tcx() {
        fs::remove_dir(&hindrance).expect("removed");
    } else {
        run("tc filter del dev uplink egress");
    }
    assert_eq!(mended(&mut s), [at(uplink)], "it is not forgotten");
    assert!(seen(&s));
}

#[test]
fn a_link_that_cannot_be_taken_over_stays() {
    if !tcx() {
        return;
    }
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    // A second link of the same place: no program can stand twice in a chain, so that one of them is refused.
    let second = link_pin(&s, format!("0{uplink}"));
    let bpffs = s.pin_dir.parent().expect("the mount").to_owned();
    Rival::first(&bpffs, "uplink", TcAttachType::Egress, true).pin(&second);
    let refused = Redirect::open(options(&s.pin_dir));
    assert!(
        matches!(
            refused,
            Err(RedirectError::Attach {
                hook: Hook::ToNetwork,
                ..
            })
        ),
        "{:?}",
        refused.err()
    );
    assert!(second.exists() && link_pin(&s, uplink).exists());
    assert_eq!(chain_length(uplink), 2, "nothing was opened");
}

#[test]
fn a_device_made_anew_under_its_index_is_not_taken_for_attached() {
    let mut s = Sandbox::new();
    let gone = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, gone).expect("attached");
    run("ip link del uplink");
    run(&format!(
        "ip link add uplink index {gone} type veth peer name other"
    ));
    s.reopen();
    assert!(s.redirect.attached().is_empty());
    s.redirect.attach(Hook::ToNetwork, gone).expect("attached");
    assert_eq!(chain_length(gone), 1);
}

#[test]
fn what_could_not_be_detached_is_detached_the_next_time() {
    if !tcx() {
        return;
    }
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    // Something else stands where the pin was.
    let pin = link_pin(&s, uplink);
    let aside = s.pin_dir.join("aside");
    fs::rename(&pin, &aside).expect("moved away");
    fs::create_dir(&pin).expect("a directory");
    let refused = s.redirect.detach(Hook::ToNetwork, uplink);
    assert!(matches!(refused, Err(RedirectError::Pin { .. })), "{refused:?}");
    assert_eq!(s.redirect.attached(), [(Hook::ToNetwork, uplink)].into());
    assert!(seen(&s));
    fs::remove_dir(&pin).expect("removed");
    fs::rename(&aside, &pin).expect("moved back");
    s.redirect.detach(Hook::ToNetwork, uplink).expect("detached");
    assert!(!seen(&s));
    assert!(s.redirect.attached().is_empty());
}

#[test]
fn programs_run_on_while_the_process_is_gone_and_are_taken_over() {
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    s.flags(2);
    let pin_dir = s.pin_dir.clone();
    let before = s.counted(Counter::NotCovered).packets;
    // The value is dropped before the next one is made.
    let bpffs = s.release();
    let socket = UdpSocket::bind("10.9.0.1:0").expect("a socket");
    socket.send_to(b"x", "10.9.0.9:9").expect("sent");
    let mut s = bpffs.open(options(&pin_dir));
    assert_eq!(
        s.counted(Counter::NotCovered).packets,
        before + 1,
        "counted meanwhile"
    );
    assert_eq!(
        s.redirect.config().expect("CONFIG"),
        Config {
            abi_version: ABI_VERSION,
            flags: 2
        }
    );
    assert_eq!(s.redirect.attached(), [(Hook::ToNetwork, uplink)].into());
    assert!(seen(&s));
    assert_eq!(mended(&mut s), []);
    assert_eq!(chain_length(uplink), 1);
    s.redirect.detach(Hook::ToNetwork, uplink).expect("detached");
    assert_eq!(chain_length(uplink), 0);
}

#[test]
fn the_way_of_attaching_can_change_with_a_restart() {
    if !tcx() {
        return;
    }
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    for attach in [AttachMode::Clsact, AttachMode::Tcx, AttachMode::Clsact] {
        let pin_dir = s.pin_dir.clone();
        s = s.release().open(hauberk_ebpf_redirect::Options {
            attach,
            ..options(&pin_dir)
        });
        assert!(seen(&s));
        assert_eq!(s.redirect.attached().len(), 1);
        assert_eq!(mended(&mut s), []);
    }
    s.redirect.detach(Hook::ToNetwork, uplink).expect("detached");
    assert!(!seen(&s));
}

#[test]
fn pins_of_another_abi_version_are_refused() {
    let mut s = Sandbox::new();
    let pin = s.pin_dir.join(format!("v{ABI_VERSION}/maps/CONFIG"));
    let mut map = aya::maps::Array::<_, Config>::try_from(aya::maps::Map::Array(
        aya::maps::MapData::from_pin(&pin).expect("CONFIG"),
    ))
    .expect("an array");
    map.set(
        0,
        Config {
            abi_version: ABI_VERSION + 1,
            flags: 0,
        },
        0,
    )
    .expect("written");
    let refused = Redirect::open(options(&s.pin_dir));
    let Err(RedirectError::AbiVersion { found, expected, .. }) = refused else {
        panic!("not refused")
    };
    assert_eq!((found, expected), (ABI_VERSION + 1, ABI_VERSION));
    // Written again by this build, it is its own.
    s.redirect.set_config(Config::default()).expect("CONFIG");
    s.reopen();
}

#[test]
fn another_version_goes_on_until_it_is_retired() {
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    // What an older build left has another directory, and is otherwise the same.
    let pin_dir = s.pin_dir.clone();
    let bpffs = s.release();
    fs::rename(pin_dir.join(format!("v{ABI_VERSION}")), pin_dir.join("v0")).expect("renamed");
    let mut s = bpffs.open(options(&pin_dir));
    assert!(s.redirect.attached().is_empty());
    s.know(&[uplink]);
    s.redirect.attach(Hook::ToNetwork, uplink).expect("attached");
    assert_eq!(chain_length(uplink), 2);
    assert!(seen(&s), "the new one stands first");
    assert_eq!(s.redirect.retire_other_versions().expect("retired"), 1);
    assert_eq!(chain_length(uplink), 1);
    assert!(seen(&s));
    assert_eq!(s.redirect.retire_other_versions().expect("nothing to retire"), 0);
}

#[test]
fn removal_leaves_nothing() {
    let mut s = Sandbox::new();
    let uplink = uplink(&mut s);
    let other = ifindex("other");
    for hook in Hook::ALL {
        s.redirect.attach(hook, uplink).expect("attached");
        s.redirect.attach(hook, other).expect("attached");
    }
    let config = aya::maps::MapData::from_pin(s.pin_dir.join(format!("v{ABI_VERSION}/maps/CONFIG")));
    let map_id = config.expect("CONFIG").info().expect("its number").id();
    let pin_dir = s.pin_dir.clone();
    let _bpffs = s.release();
    Redirect::remove_all(&pin_dir).expect("removed");
    Redirect::remove_all(&pin_dir).expect("nothing to remove is no error");
    assert!(!pin_dir.exists());
    assert_eq!(chain_length(uplink), 0);
    assert!(
        !run("tc qdisc show").contains("clsact"),
        "{}",
        run("tc qdisc show")
    );
    // Programs and maps are freed by the kernel after a grace period.
    for _ in 0..1000 {
        let users = loaded_programs()
            .flatten()
            .filter(|p| {
                p.map_ids()
                    .ok()
                    .flatten()
                    .is_some_and(|ids| ids.contains(&map_id))
            })
            .count();
        if users == 0 {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    panic!("programs of ours are still loaded");
}

#[test]
fn a_directory_outside_bpffs_is_refused() {
    let _s = Sandbox::new();
    let refused = Redirect::open(options(Path::new("/tmp/hauberk-not-bpffs")));
    assert!(matches!(refused, Err(RedirectError::Requirement(_))));
    assert!(!Path::new("/tmp/hauberk-not-bpffs").exists());
}

/// How many programs stand on the egress of a device, whoever put them there.
fn chain_length(ifindex: u32) -> usize {
    let name = device_name(ifindex);
    if tcx() {
        aya::programs::SchedClassifier::query_tcx(&name, TcAttachType::Egress)
            .expect("the chain")
            .1
            .len()
    } else {
        run(&format!("tc filter show dev {name} egress"))
            .matches("handle 0x")
            .count()
    }
}

fn device_name(ifindex: u32) -> String {
    let name = nix::net::if_::if_indextoname(ifindex).expect("a device");
    name.into_string().expect("a name")
}
