//! The socket `<directory>/<interface>.sock` and the connections of `wg` to it, none of which ever waits.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{MAX_REQUEST, Request, UapiError};
use crate::lane::LaneError;

/// Most connections at a time; `wg` opens one.
const MAX_CONNECTIONS: usize = 16;

/// A request, or why there is none; to be answered with the text of an answer and an errno.
pub(crate) type Asked = Result<Request, UapiError>;

/// The socket and its connections. Dropping it removes the socket's file.
#[derive(Debug)]
pub(crate) struct Server {
    listener: UnixListener,
    path: PathBuf,
    connections: Vec<Connection>,
}

impl Server {
    /// Listens, in place of a socket that an earlier process left. Only root may connect.
    pub(crate) fn listen(directory: &Path, interface: &str) -> Result<Self, LaneError> {
        let path = directory.join(format!("{interface}.sock"));
        let failed = |source| LaneError::Uapi {
            path: path.clone(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        if UnixStream::connect(&path).is_ok() {
            return Err(failed(ErrorKind::AddrInUse.into()));
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        let listener = UnixListener::bind(&path).map_err(failed)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            listener,
            path,
            connections: Vec::new(),
        })
    }

    /// What is to be waited for: each descriptor, and whether for room to write instead of something to read.
    pub(crate) fn interests(&self) -> impl Iterator<Item = (RawFd, bool)> + '_ {
        let connections = self
            .connections
            .iter()
            .map(|c| (c.stream.as_raw_fd(), !c.output.is_empty()));
        std::iter::once((self.listener.as_raw_fd(), false)).chain(connections)
    }

    /// Accepts, reads, answers and writes as far as that goes without waiting.
    pub(crate) fn serve(&mut self, mut answer: impl FnMut(Asked) -> (Zeroizing<String>, i32)) {
        while self.connections.len() < MAX_CONNECTIONS {
            let Ok((stream, _)) = self.listener.accept() else {
                break;
            };
            if stream.set_nonblocking(true).is_ok() {
                let input = Zeroizing::default();
                self.connections.push(Connection {
                    stream,
                    input,
                    output: Zeroizing::default(),
                    sent: 0,
                });
            }
        }
        self.connections
            .retain_mut(|connection| connection.serve(&mut answer).is_ok());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The file may be gone already, and a lane that stops has nobody left to tell.
        let _ = fs::remove_file(&self.path);
    }
}

#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    input: Zeroizing<Vec<u8>>,
    output: Zeroizing<Vec<u8>>,
    sent: usize,
}

impl Connection {
    /// An error, or the other side's end, ends the connection.
    fn serve(&mut self, answer: &mut impl FnMut(Asked) -> (Zeroizing<String>, i32)) -> io::Result<()> {
        self.write()?;
        let mut chunk = Zeroizing::new([0; 4096]);
        while self.output.is_empty() {
            let before = self.input.len();
            match self.stream.read(&mut *chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(length) => self.input.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            if self.input.len() > MAX_REQUEST {
                return Err(ErrorKind::InvalidData.into());
            }
            // Only what is new is searched, with one byte before it.
            let from = before.saturating_sub(1);
            if let Some(at) = self.input[from..].windows(2).position(|pair| pair == b"\n\n") {
                let rest = Zeroizing::new(self.input.split_off(from + at + 2));
                let request = std::mem::replace(&mut self.input, rest);
                let asked = match std::str::from_utf8(&request) {
                    Ok(text) => Request::parse(text),
                    Err(_) => Err(UapiError::NoOperation),
                };
                let (text, errno) = answer(asked);
                self.output.extend_from_slice(text.as_bytes());
                self.output
                    .extend_from_slice(format!("errno={errno}\n\n").as_bytes());
                self.write()?;
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while self.sent < self.output.len() {
            match self.stream.write(&self.output[self.sent..]) {
                Ok(length) => self.sent += length,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        self.output = Zeroizing::default();
        self.sent = 0;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_in_pieces_is_answered_once_it_is_whole() {
        let directory = tempfile::tempdir().expect("a directory");
        let mut server = Server::listen(directory.path(), "wg-test").expect("listens");
        let mut client = UnixStream::connect(directory.path().join("wg-test.sock")).expect("connects");
        let mut asked = 0;
        let mut serve = |server: &mut Server| {
            server.serve(|request| {
                assert!(matches!(request, Ok(Request::Get)));
                asked += 1;
                (Zeroizing::new("listen_port=1\n".to_owned()), 0)
            });
        };
        client.write_all(b"get=").expect("writes");
        serve(&mut server);
        client.write_all(b"1\n\n").expect("writes");
        serve(&mut server);
        let mut text = [0; 64];
        let length = client.read(&mut text).expect("reads");
        assert_eq!(&text[..length], b"listen_port=1\nerrno=0\n\n");
        assert_eq!(asked, 1);
    }

    #[test]
    fn a_socket_left_behind_is_replaced_and_one_in_use_is_not() {
        let directory = tempfile::tempdir().expect("a directory");
        drop(UnixListener::bind(directory.path().join("a.sock")).expect("binds"));
        let server = Server::listen(directory.path(), "a").expect("replaces the stale socket");
        assert!(matches!(
            Server::listen(directory.path(), "a"),
            Err(LaneError::Uapi { .. })
        ));
        drop(server);
        assert!(!directory.path().join("a.sock").exists());
    }
}
