//! A steady UDP flow between two pods: numbered datagrams one way, their arrival watched at the other end.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use hauberk_netlab::Netns;

use super::{error::DemoError, marker, pulse::Pulse};

/// Bytes of one datagram: markers, of which the last eight bytes are overwritten by its number.
const DATAGRAM: usize = 256;
/// Pause between datagrams.
const PACE: Duration = Duration::from_millis(5);
/// How long the receiver waits before it looks whether it should end.
const GLANCE: Duration = Duration::from_millis(50);

/// The running flow; ends when dropped.
#[derive(Debug)]
pub struct UdpFlow {
    pulse: Arc<Pulse>,
    stop: Arc<AtomicBool>,
    sent: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl UdpFlow {
    /// Sends from the namespace `sender` to `address` in the namespace `receiver`.
    pub fn start(sender: &Netns, receiver: &Netns, address: IpAddr) -> Result<Self, DemoError> {
        let inbox = receiver.run(|| UdpSocket::bind((address, 0)))??;
        inbox.set_read_timeout(Some(GLANCE))?;
        let target = inbox.local_addr()?;
        // Not connected: an ICMP error on the way must not become an error of the socket.
        let outbox = sender.run(|| UdpSocket::bind((unspecified(address), 0)))??;

        let pulse = Arc::new(Pulse::new(Instant::now()));
        let stop = Arc::new(AtomicBool::new(false));
        let sent = Arc::new(AtomicU64::new(0));
        let send = {
            let (stop, sent) = (stop.clone(), sent.clone());
            std::thread::spawn(move || {
                let mut datagram = marker::payload::<DATAGRAM>();
                while !stop.load(Ordering::Relaxed) {
                    let number = sent.fetch_add(1, Ordering::Relaxed);
                    datagram[DATAGRAM - 8..].copy_from_slice(&number.to_be_bytes());
                    // What cannot be sent shows as a gap at the receiver, like what is lost.
                    let _ = outbox.send_to(&datagram, target);
                    std::thread::sleep(PACE);
                }
            })
        };
        let receive = {
            let (pulse, stop) = (pulse.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut datagram = [0; DATAGRAM];
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(DATAGRAM) = inbox.recv(&mut datagram) {
                        pulse.beat(Instant::now());
                    }
                }
            })
        };
        Ok(Self {
            pulse,
            stop,
            sent,
            threads: vec![send, receive],
        })
    }

    /// When a datagram arrived.
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Datagrams sent so far.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// The address of the same family that stands for any.
pub fn unspecified(address: IpAddr) -> IpAddr {
    if address.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    }
}

impl Drop for UdpFlow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // A panic has been printed.
            let _ = thread.join();
        }
    }
}
