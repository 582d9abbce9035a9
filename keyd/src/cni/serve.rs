//! keyd's side of the plugin's socket: takes questions, hands them to the node's task, and waits for its word.
//!
//! Only root may ask: the socket has mode 0600, and who connects is looked at as well. A client that goes away
//! takes its question with it.

use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::{mpsc, watch};

use super::ask::{Answer, MAX_BYTES, Question, Request};
use crate::serve::{ServeError, bind_unix};

/// Requests that wait for the node's task; more wait in their connections.
const QUEUE: usize = 64;
/// A client has so long to say what it wants.
const SPEAK: Duration = Duration::from_secs(5);

/// A request, and where its state is told.
#[derive(Debug)]
pub struct Asked {
    /// What is asked.
    pub request: Request,
    /// The answer so far; any but [`Answer::NotYet`] is the last. Closed when the client is gone.
    pub standing: watch::Sender<Answer>,
}

/// Starts listening.
pub fn start(path: &Path) -> Result<mpsc::Receiver<Asked>, ServeError> {
    let listener = bind_unix(path)?;
    let (asked, requests) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        while !asked.is_closed() {
            match listener.accept().await {
                Ok((stream, _)) => drop(tokio::spawn(converse(stream, asked.clone()))),
                // Out of descriptors; others give theirs back.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    });
    Ok(requests)
}

async fn converse(mut stream: UnixStream, asked: mpsc::Sender<Asked>) {
    let own = nix::unistd::geteuid().as_raw();
    let is_root = stream
        .peer_cred()
        .is_ok_and(|peer| [0, own].contains(&peer.uid()));
    let answer = match is_root {
        true => answer(&mut stream, asked).await,
        false => refused("only root may ask"),
    };
    let mut line = serde_json::to_vec(&answer).expect("an answer has text keys only");
    line.push(b'\n');
    // Who does not listen any more asks again.
    let _ = stream.write_all(&line).await;
}

async fn answer(stream: &mut UnixStream, asked: mpsc::Sender<Asked>) -> Answer {
    let (reading, _) = stream.split();
    let mut reader = BufReader::new(reading).take(MAX_BYTES);
    let mut line = Vec::new();
    match tokio::time::timeout(SPEAK, reader.read_until(b'\n', &mut line)).await {
        Ok(Ok(_)) if line.ends_with(b"\n") => {}
        _ => return refused("the question has no end"),
    }
    let question: Question = match serde_json::from_slice(&line) {
        Ok(question) => question,
        Err(error) => return refused(&format!("the question is not understood: {error}")),
    };
    let (standing, mut told) = watch::channel(Answer::NotYet {
        reason: "keyd is busy".to_owned(),
    });
    let request = question.request;
    let patience = tokio::time::sleep(Duration::from_millis(question.patience_ms));
    let settled = async {
        if asked.send(Asked { request, standing }).await.is_ok() {
            // It ends without a last word where keyd stops.
            let _ = told
                .wait_for(|answer| !matches!(answer, Answer::NotYet { .. }))
                .await;
        }
    };
    let mut nothing = Vec::new();
    tokio::select! {
        () = settled => {}
        () = patience => {}
        // The plugin says nothing more: what ends is its process.
        _ = reader.read_until(b'\n', &mut nothing) => {}
    }
    told.borrow().clone()
}

fn refused(reason: &str) -> Answer {
    Answer::Refused {
        reason: reason.to_owned(),
    }
}
