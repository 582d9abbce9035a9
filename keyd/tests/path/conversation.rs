//! A TCP connection between two pods that never stops talking, and remembers how long it had to wait.

use std::io::{Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hauberk_netlab::Lab;

/// Between two questions.
const PACE: Duration = Duration::from_millis(5);
/// Larger than a segment, so that super-packets are among them.
const QUESTION: usize = 4000;

/// Asks and hears its own words back, over one connection, until it is dropped.
pub struct Conversation {
    state: Arc<State>,
    stream: TcpStream,
    asking: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    answers: AtomicU64,
    longest_ms: AtomicU64,
    waiting_since: Mutex<Option<Instant>>,
    broken: Mutex<Option<String>>,
}

impl Conversation {
    /// Connects pod `from` to pod `to` at `address`, which must be the latter's.
    pub fn start(lab: &Lab, from: &str, to: &str, address: IpAddr) -> Self {
        let listener = lab
            .pod(to)
            .netns()
            .run(|| TcpListener::bind(SocketAddr::new(address, 0)));
        let listener = listener
            .expect("the pod is there")
            .expect("the pod has the address");
        let server = listener.local_addr().expect("a bound socket");
        // Not waited for: it hears of the end only if the network still works.
        std::thread::spawn(move || {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            let mut buffer = vec![0; 65536];
            while let Ok(length @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
        });
        let stream = lab.pod(from).netns().run(|| TcpStream::connect(server));
        let stream = stream.expect("the pod is there").expect("the pods can talk");
        let state = Arc::new(State::default());
        let (asked, mut own) = (state.clone(), stream.try_clone().expect("a socket can be cloned"));
        let ask = std::thread::spawn(move || {
            let question = vec![0x5a; QUESTION];
            let mut answer = vec![0; QUESTION];
            while !asked.stop.load(Ordering::Relaxed) {
                let begin = Instant::now();
                *asked.waiting_since.lock().expect("no thread panics with it") = Some(begin);
                let heard = own
                    .write_all(&question)
                    .and_then(|()| own.read_exact(&mut answer));
                if let Err(error) = heard {
                    *asked.broken.lock().expect("no thread panics with it") = Some(error.to_string());
                    return;
                }
                *asked.waiting_since.lock().expect("no thread panics with it") = None;
                asked
                    .longest_ms
                    .fetch_max(begin.elapsed().as_millis() as u64, Ordering::Relaxed);
                asked.answers.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(PACE);
            }
        });
        Self {
            state,
            stream,
            asking: Some(ask),
        }
    }

    /// How many answers came so far.
    pub fn answers(&self) -> u64 {
        self.state.answers.load(Ordering::Relaxed)
    }

    /// The longest wait for an answer since this was last asked, one that still lasts included.
    pub fn longest_wait(&self) -> Duration {
        let now = self
            .state
            .waiting_since
            .lock()
            .expect("no thread panics with it")
            .map(|since| since.elapsed());
        let done = Duration::from_millis(self.state.longest_ms.swap(0, Ordering::Relaxed));
        done.max(now.unwrap_or_default())
    }

    /// The connection is as it was, and an answer comes within `patience`; says after how long.
    #[track_caller]
    pub fn goes_on(&self, patience: Duration) -> Duration {
        let (begin, before) = (Instant::now(), self.answers());
        while self.answers() == before {
            let broken = self
                .state
                .broken
                .lock()
                .expect("no thread panics with it")
                .clone();
            assert!(
                broken.is_none(),
                "the connection broke: {}",
                broken.unwrap_or_default()
            );
            assert!(begin.elapsed() < patience, "no answer for {patience:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        begin.elapsed()
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        let _ = self.stream.shutdown(Shutdown::Both);
        if let Some(asking) = self.asking.take() {
            let _ = asking.join();
        }
    }
}
