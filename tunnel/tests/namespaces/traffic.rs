//! Streams and datagrams through the tunnel, every byte of which is looked at.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::namespace::Namespace;
use crate::own::set_udp_segment;

/// No single step of a test takes longer.
const LIMIT: Duration = Duration::from_secs(30);
/// A prime, so that no segment's length divides it.
const PERIOD: usize = 65_521;

fn pattern() -> Vec<u8> {
    (0..PERIOD).map(|n| (n * 31 + n / 253) as u8).collect()
}

/// Sends `bytes` bytes from one namespace to an address in the other.
pub fn tcp(from: &Namespace, into: &Namespace, to: IpAddr, bytes: u64) {
    let listener = listen(into);
    let to = SocketAddr::new(to, listener.local_addr().expect("is bound").port());
    let mut client = connect(from, to);
    let (server, _) = listener.accept().expect("it has connected");
    thread::scope(|scope| {
        scope.spawn(move || {
            let pattern = pattern();
            let mut left = bytes;
            while left > 0 {
                let length = left.min(pattern.len() as u64);
                client
                    .write_all(&pattern[..length as usize])
                    .expect("the stream takes it in time");
                left -= length;
            }
        });
        assert_eq!(read_all(server, &AtomicU64::new(0)), bytes);
    });
}

/// Sends until some time after `change` was made in the middle; bytes must flow after it.
pub fn tcp_across(from: &Namespace, into: &Namespace, to: IpAddr, change: impl FnOnce()) {
    let listener = listen(into);
    let to = SocketAddr::new(to, listener.local_addr().expect("is bound").port());
    let mut client = connect(from, to);
    let (server, _) = listener.accept().expect("it has connected");
    let (count, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            let pattern = pattern();
            while !stop.load(Ordering::Relaxed) {
                client.write_all(&pattern).expect("the stream takes it in time");
            }
            drop(client);
        });
        scope.spawn(|| read_all(server, &count));
        thread::sleep(Duration::from_secs(1));
        change();
        // What was under way arrives meanwhile.
        thread::sleep(Duration::from_secs(1));
        let before = count.load(Ordering::Relaxed);
        thread::sleep(Duration::from_secs(2));
        let after = count.load(Ordering::Relaxed);
        stop.store(true, Ordering::Relaxed);
        assert!(
            before > 1 << 20 && after > before + (1 << 20),
            "{before} bytes, then {after}"
        );
    });
}

/// Sends datagrams in small bursts, each waited for, alone or in super-packets; nearly all must arrive, and none
/// changed.
pub fn udp(from: &Namespace, into: &Namespace, to: IpAddr, segmented: bool) {
    const SIZE: usize = 1_100;
    const TOGETHER: u64 = 20;
    const ROUNDS: u64 = 100;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let receiver = into.enter(|| UdpSocket::bind(any).expect("binds"));
    let to = SocketAddr::new(to, receiver.local_addr().expect("is bound").port());
    let local: SocketAddr = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }
        .parse()
        .expect("an address");
    let sender = from.enter(|| UdpSocket::bind(local).expect("binds"));
    let pattern = pattern();
    let expected = &pattern[..SIZE];
    let count = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            receiver
                .set_read_timeout(Some(Duration::from_secs(1)))
                .expect("is set");
            let mut buffer = [0; 2_048];
            while count.load(Ordering::Relaxed) < TOGETHER * ROUNDS {
                let Ok((length, _)) = receiver.recv_from(&mut buffer) else {
                    break;
                };
                assert_eq!(&buffer[..length], expected);
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        let many = expected.repeat(TOGETHER as usize);
        if segmented {
            set_udp_segment(&sender, SIZE as i32);
        }
        for round in 1..=ROUNDS {
            for message in many.chunks(if segmented { many.len() } else { SIZE }) {
                sender.send_to(message, to).expect("the TUN takes it");
            }
            // A busy machine lets the receiver's buffer run over otherwise.
            for _ in 0..100 {
                if count.load(Ordering::Relaxed) >= round * TOGETHER {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let received = count.into_inner();
    assert!(
        received * 100 >= ROUNDS * TOGETHER * 99,
        "only {received} of {} arrived",
        ROUNDS * TOGETHER
    );
}

fn listen(namespace: &Namespace) -> TcpListener {
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    namespace.enter(|| TcpListener::bind(any).expect("listens"))
}

fn connect(namespace: &Namespace, to: SocketAddr) -> TcpStream {
    let stream = namespace.enter(|| TcpStream::connect_timeout(&to, LIMIT).expect("connects"));
    stream.set_write_timeout(Some(LIMIT)).expect("is set");
    stream
}

/// Reads to the end and compares; returns how much it was.
fn read_all(mut stream: TcpStream, count: &AtomicU64) -> u64 {
    stream.set_read_timeout(Some(LIMIT)).expect("is set");
    let pattern = pattern().repeat(2);
    let mut buffer = vec![0; PERIOD];
    let mut total = 0;
    loop {
        let length = match stream.read(&mut buffer) {
            Ok(0) => return total,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("after {total} bytes: {error}"),
        };
        let at = (total % PERIOD as u64) as usize;
        assert!(
            buffer[..length] == pattern[at..at + length],
            "corrupt after {total} bytes"
        );
        total += length as u64;
        count.store(total, Ordering::Relaxed);
    }
}
