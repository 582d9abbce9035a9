//! Threads in other network namespaces, and the one socket option that std lacks.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Runs `test` on a thread in a new network namespace, which goes with it, with its loopback up.
pub fn in_own_namespace(test: impl FnOnce() + Send) {
    on_thread(|| {
        // SAFETY: no pointers; it changes the namespace of this thread alone.
        check("unshare", unsafe { libc::unshare(libc::CLONE_NEWNET) });
        let up = std::process::Command::new("ip")
            .args(["link", "set", "lo", "up"])
            .status();
        assert!(up.expect("ip is installed").success());
        test();
    });
}

/// Runs `work` on a thread in the namespace that `path` names.
pub fn in_namespace<T: Send>(path: &str, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(path).expect("the namespace is there");
    on_thread(|| {
        // SAFETY: the descriptor is open; it changes the namespace of this thread alone.
        check("setns", unsafe {
            libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET)
        });
        work()
    })
}

/// Has the kernel cut what the socket sends into datagrams of `size` bytes.
pub fn set_udp_segment(socket: &UdpSocket, size: libc::c_int) {
    let (pointer, length) = (
        std::ptr::from_ref(&size).cast(),
        size_of_val(&size) as libc::socklen_t,
    );
    // SAFETY: the pointer is to a live int of the length given.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_UDP,
            libc::UDP_SEGMENT,
            pointer,
            length,
        )
    };
    check("UDP_SEGMENT", result);
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| match scope.spawn(work).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

fn check(what: &str, result: libc::c_int) {
    assert_eq!(result, 0, "{what}: {} (needs root)", io::Error::last_os_error());
}
