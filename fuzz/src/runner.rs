//! Runs one target for its time: choose a sample, change it, run, keep what did something new.
//!
//! A panic ends the target and leaves its input in a file. A target that hangs ends the program, after
//! saying how to come to the same input again.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::Context;

use crate::{mutate::mutate, random::Random, targets::Target};

/// How to run.
pub(crate) struct Settings {
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    pub(crate) failures: PathBuf,
}

/// One input that takes longer than this hangs.
const HANG: Duration = Duration::from_secs(10);

/// Samples kept besides the seeds.
const MAX_KEPT: usize = 1024;

/// Runs the target and says whether it passed.
pub(crate) fn run(target: &Target, settings: &Settings) -> anyhow::Result<bool> {
    let mut samples = (target.seeds)();
    for (number, seed) in samples.iter().enumerate() {
        if catch_unwind(|| (target.run)(seed)).is_err() {
            println!("{}: FAILED on its own seed {number}", target.name);
            return Ok(false);
        }
    }
    let runs = Arc::new(AtomicU64::new(0));
    let _watch = watch(target.name, settings.seed, Arc::clone(&runs));
    let mut random = Random::new(settings.seed);
    let mut seen = HashSet::new();
    let seeds = samples.len();
    let start = Instant::now();
    let mut input = Vec::new();
    while start.elapsed() < settings.time {
        // The clock is read once for many inputs.
        for _ in 0..64 {
            let (of, other) = (random.below(samples.len()), random.below(samples.len()));
            input.clear();
            input.extend_from_slice(&samples[of]);
            mutate(&mut input, &samples[other], target.words, &mut random);
            runs.fetch_add(1, Relaxed);
            match catch_unwind(AssertUnwindSafe(|| (target.run)(&input))) {
                Ok(outcome) if seen.insert(outcome) && samples.len() < seeds + MAX_KEPT => {
                    samples.push(input.clone());
                }
                Ok(_) => {}
                Err(_) => {
                    let file = keep(target, &input, settings)?;
                    println!("{}: FAILED, input in {}", target.name, file.display());
                    return Ok(false);
                }
            }
        }
    }
    let (runs, outcomes) = (runs.load(Relaxed), seen.len());
    println!(
        "{}: ok, {runs} inputs in {:?}, {outcomes} different outcomes",
        target.name, settings.time
    );
    Ok(true)
}

fn keep(target: &Target, input: &[u8], settings: &Settings) -> anyhow::Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    input.hash(&mut hasher);
    let file = settings
        .failures
        .join(format!("{}-{:016x}", target.name, hasher.finish()));
    std::fs::create_dir_all(&settings.failures)
        .and_then(|()| std::fs::write(&file, input))
        .with_context(|| format!("cannot write {}", file.display()))?;
    Ok(file)
}

/// Watches that inputs go on being run, until what it returns is dropped.
fn watch(name: &'static str, seed: u64, runs: Arc<AtomicU64>) -> mpsc::Sender<()> {
    let (stop, stopped) = mpsc::channel();
    thread::spawn(move || {
        let mut before = u64::MAX;
        while stopped.recv_timeout(HANG) == Err(RecvTimeoutError::Timeout) {
            let now = runs.load(Relaxed);
            if now == before {
                println!("{name}: HANGS at input {now} of seed {seed}");
                process::exit(1);
            }
            before = now;
        }
    });
    stop
}
