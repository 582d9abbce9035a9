//! Someone else's program: answers 0, "ok", after which no later program of the chain runs.
#![allow(unsafe_code)]

use std::{
    ffi::CString,
    io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use aya::programs::{
    SchedClassifier, TcAttachType,
    links::{FdLink, LinkOrder},
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions},
};

// linux/bpf.h
const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_OBJ_PIN: libc::c_long = 6;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
/// `r0 = 0; exit`
const ACCEPT: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095];

/// The head of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// `union bpf_attr` for `BPF_OBJ_PIN`.
#[repr(C)]
struct ObjPin {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// Stays attached as long as the value lives.
pub struct Rival(SchedClassifierLink);

impl Rival {
    /// Puts it before all that stands on the hook.
    pub fn first(bpffs: &Path, device: &str, place: TcAttachType, tcx: bool) -> Self {
        let pin = Self::program(bpffs);
        let mut program = SchedClassifier::from_pin(&pin).expect("the rival");
        let options = if tcx {
            TcAttachOptions::TcxOrder(LinkOrder::first())
        } else {
            TcAttachOptions::Netlink(NlOptions {
                priority: 1,
                ..NlOptions::default()
            })
        };
        let id = program
            .attach_with_options(device, place, options)
            .expect("the rival attaches");
        Self(program.take_link(id).expect("its link"))
    }

    /// Loads it only; answers its pin.
    pub fn program(bpffs: &Path) -> PathBuf {
        let pin = bpffs.join("rival");
        // It may be there from before; a program may stand on many hooks.
        let _ = std::fs::remove_file(&pin);
        load(&pin).expect("the rival loads");
        pin
    }

    /// Stays as long as the pin is there. TCX only.
    pub fn pin(self, pin: &Path) {
        let link = FdLink::try_from(self.0).expect("a link of TCX");
        link.pin(pin).expect("pinned");
    }
}

fn load(pin: &Path) -> io::Result<()> {
    let mut attr = ProgLoad {
        prog_type: BPF_PROG_TYPE_SCHED_CLS,
        insn_cnt: ACCEPT.len() as u32,
        insns: ACCEPT.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
    };
    let fd = bpf(BPF_PROG_LOAD, &mut attr)?;
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attr = ObjPin {
        pathname: path.as_ptr() as u64,
        bpf_fd: fd as u32,
        file_flags: 0,
    };
    let pinned = bpf(BPF_OBJ_PIN, &mut attr);
    // SAFETY: the descriptor is ours and not used again; the pin holds the program.
    unsafe { libc::close(fd) };
    pinned.map(|_| ())
}

fn bpf<T>(command: libc::c_long, attr: &mut T) -> io::Result<i32> {
    // SAFETY: `attr` is laid out for the command by the two callers above; all it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result as i32)
    }
}
