//! The four programs of Hauberk's packet path, for the TC hooks of Linux 6.1 and newer.
//!
//! Each has one file, named as its hook. A stage that cannot go on answers a `DropReason`; only
//! [`verdict::finish`] turns results into the kernel's codes, so that no exit is accidental: what is allowed
//! answers "next" (a program behind ours has its say), what is refused is counted and dropped.
//! No helper or kfunc newer than 6.1 is used.
#![no_std]
#![no_main]
// For one instruction in `lane`; the build opens it on stable compilers too.
#![feature(asm_experimental_arch)]

mod clock;
mod connection;
mod count;
mod covered;
mod flow;
mod fragment;
mod from_pod;
mod from_tunnel;
mod lane;
mod maps;
mod neighbour;
mod packet;
mod policy;
mod related;
mod skb;
mod to_network;
mod to_pod;
mod verdict;

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    // Unreachable: the verifier would refuse a program in which it could be reached.
    loop {}
}

// The helpers used are for GPL-compatible programs only; the kernel reads this section.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
