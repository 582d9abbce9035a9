//! The bpf(2) calls that aya does not offer: running a program without a network, detaching a pinned link.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

// linux/bpf.h, enum bpf_cmd.
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_PROG_TEST_RUN: libc::c_long = 10;
const BPF_LINK_DETACH: libc::c_long = 34;

/// Room for what a program puts before the packet.
const HEADROOM: usize = 256;

/// What a program did with a packet that was not sent anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DryRun {
    /// The program's answer: -1 next, 2 drop, 7 redirect.
    pub code: i32,
    /// The packet as the program left it.
    pub packet: Vec<u8>,
}

/// `union bpf_attr` for `BPF_PROG_TEST_RUN`.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    prog_fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch_size: u32,
    pad: u32,
}

/// `union bpf_attr` for `BPF_OBJ_GET`.
#[repr(C)]
#[derive(Default)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// The head of `struct __sk_buff`, up to `ifindex`, all that the kernel takes of it here.
#[repr(C)]
#[derive(Default)]
struct SkBuffHead {
    len: u32,
    pkt_type: u32,
    mark: u32,
    queue_mapping: u32,
    protocol: u32,
    vlan_present: u32,
    vlan_tci: u32,
    vlan_proto: u32,
    priority: u32,
    ingress_ifindex: u32,
    ifindex: u32,
}

/// Runs a TC program on a packet at the device `ifindex` of this network namespace, to which it came by the device
/// `received_on`; 0 for one that the host itself made.
pub(crate) fn dry_run(
    program: BorrowedFd<'_>,
    packet: &[u8],
    ifindex: u32,
    received_on: u32,
) -> io::Result<DryRun> {
    let mut out = vec![0u8; packet.len() + HEADROOM];
    let context = SkBuffHead {
        ingress_ifindex: received_on,
        ifindex,
        ..SkBuffHead::default()
    };
    let mut attr = TestRun {
        prog_fd: program.as_raw_fd() as u32,
        data_size_in: packet.len() as u32,
        data_size_out: out.len() as u32,
        data_in: packet.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        repeat: 1,
        ctx_size_in: size_of::<SkBuffHead>() as u32,
        ctx_in: &raw const context as u64,
        ..TestRun::default()
    };
    // SAFETY: `attr` is laid out as the kernel's union for this command, and every address in it points to
    // memory of the stated size that outlives the call; only `out` and `attr` are written.
    unsafe { bpf(BPF_PROG_TEST_RUN, &mut attr) }?;
    out.truncate(attr.data_size_out as usize);
    Ok(DryRun {
        code: attr.retval as i32,
        packet: out,
    })
}

/// An opened link. Closing it does nothing to the attachment while a pin holds it.
pub(crate) struct Link(OwnedFd);

impl Link {
    pub(crate) fn open(pin: &Path) -> io::Result<Self> {
        let path = CString::new(pin.as_os_str().as_bytes())?;
        let mut attr = ObjGet {
            pathname: path.as_ptr() as u64,
            ..ObjGet::default()
        };
        // SAFETY: `attr` is laid out as the kernel's union for this command; the path is NUL-terminated and
        // outlives the call.
        let fd = unsafe { bpf(BPF_OBJ_GET, &mut attr) }?;
        // SAFETY: the kernel has just made this descriptor for us.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Takes the program off at once. (Unpinning alone does so some time later.)
    pub(crate) fn detach(self) -> io::Result<()> {
        let mut fd = self.0.as_raw_fd() as u32;
        // SAFETY: the command's part of the union is this one number.
        match unsafe { bpf(BPF_LINK_DETACH, &mut fd) } {
            Ok(_) => Ok(()),
            // The device is gone, and the attachment with it.
            Err(e) if e.raw_os_error() == Some(libc::ENOLINK) => Ok(()),
            Err(e) => Err(e),
        }
    }
}

/// # Safety
/// `attr` is laid out as the kernel's `union bpf_attr` for `command`, and what it points to is valid for it.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: by the caller; the size is that of `attr`.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}
