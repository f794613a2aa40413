//! Every parser of foreign bytes, on every seed of the fuzzer and on thousands of changed ones: none
//! panics, none takes long. What the fuzzer found becomes a seed, and stays found.

#![allow(clippy::cast_possible_truncation)]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

#[path = "../fuzz/src/targets.rs"]
mod targets;
use targets::{TARGETS, Target};

/// Changed copies of each seed.
const CHANGED: u64 = 1000;
/// What one input may take, on a loaded machine and without optimisation. A parser whose time grows
/// with the square of its input takes longer.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest input that a change makes, in bytes.
const LONGEST: usize = 64 << 10;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus")
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = corpus().join(target);
    names(&folder)
        .into_iter()
        .map(|name| (name.clone(), std::fs::read(folder.join(&name)).unwrap()))
        .collect()
}

/// xorshift64: the same changes in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `limit`, and 0 where that is 0.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }

    /// A piece of `bytes`: from, to.
    fn piece(&mut self, bytes: &[u8]) -> (usize, usize) {
        let from = self.below(bytes.len());
        (from, from + self.below((bytes.len() - from).min(64) + 1))
    }
}

/// Numbers that arithmetic goes wrong with.
const EXTREMES: [u64; 10] =
    [0, 1, u64::MAX, u64::MAX - 1, i64::MAX as u64, 1 << 63, u32::MAX as u64, 1 << 31, u16::MAX as u64, 0x80];

/// One to four changes.
fn change(seed: &[u8], others: &[(String, Vec<u8>)], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(4) {
        let at = random.below(bytes.len());
        match random.below(9) {
            0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[at] = random.next() as u8,
            2 => bytes.truncate(at),
            3 => {
                let (from, to) = random.piece(&bytes);
                bytes.drain(from..to);
            }
            4 => {
                let (from, to) = random.piece(&bytes);
                let copy = bytes[from..to].repeat(1 + random.below(8));
                bytes.splice(at..at, copy);
            }
            5 => {
                let other = &others[random.below(others.len())].1;
                let (from, to) = random.piece(other);
                bytes.splice(at..at, other[from..to].iter().copied());
            }
            6 => {
                let number = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                let mut number = number[..1 << random.below(4)].to_vec();
                if random.below(2) == 0 {
                    number.reverse();
                }
                let end = (at + number.len()).min(bytes.len());
                bytes.splice(at..end, number);
            }
            7 => {
                let number = EXTREMES[random.below(EXTREMES.len())].to_string();
                let digits = bytes[at..].iter().take_while(|b| b.is_ascii_digit()).count();
                bytes.splice(at..at + digits, number.into_bytes());
            }
            _ => {
                let other = &others[random.below(others.len())].1;
                bytes.truncate(at);
                bytes.extend_from_slice(&other[random.below(other.len())..]);
            }
        }
        bytes.truncate(LONGEST);
    }
    bytes
}

/// Runs a target on one input; what is wrong with it, if anything is.
fn run(target: Target, input: &[u8]) -> Result<(), String> {
    let begun = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| (target.1)(input)));
    let taken = begun.elapsed();
    let text = |e: Box<dyn std::any::Any + Send>| {
        let said = e.downcast_ref::<String>().cloned();
        said.or_else(|| e.downcast_ref::<&str>().map(|s| s.to_string())).unwrap_or_default()
    };
    result.map_err(|e| format!("panic: {}", text(e)))?;
    if taken > LIMIT { Err(format!("took {} ms", taken.as_millis())) } else { Ok(()) }
}

/// Keeps an input for whoever looks into it.
fn keep(target: Target, input: &[u8]) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{}.input", target.0));
    std::fs::write(&path, input).unwrap();
    path
}

/// All inputs of a target; the first that is wrong ends it.
fn replay(target: Target, current: &Mutex<Vec<u8>>) -> Result<(), String> {
    let seeds = seeds(target.0);
    for (name, seed) in &seeds {
        let check = |what: &str, input: &[u8]| {
            current.lock().unwrap().clone_from(&input.to_vec());
            run(target, input).map_err(|why| {
                format!("{} {name} {what}: {why}; the input is {}", target.0, keep(target, input).display())
            })
        };
        check("as it is", seed)?;
        for length in 0..seed.len().min(256) {
            check("cut short", &seed[..length])?;
        }
        let mut random = Random(
            0x9e37_79b9_7f4a_7c15
                ^ name.bytes().fold(1, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b))),
        );
        for number in 0..CHANGED {
            check(&format!("change {number}"), &change(seed, &seeds, &mut random))?;
        }
    }
    Ok(())
}

/// In a thread, so that an input that never ends is named and does not hang the tests.
fn watched(target: Target) -> Result<(), String> {
    let current = Arc::new(Mutex::new(Vec::new()));
    let (sender, receiver) = mpsc::channel();
    let shared = current.clone();
    std::thread::spawn(move || sender.send(replay(target, &shared)));
    let mut before = Vec::new();
    loop {
        match receiver.recv_timeout(LIMIT * 3) {
            Ok(result) => return result,
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(format!("{}: its thread died", target.0));
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let now = current.lock().unwrap().clone();
                if now == before {
                    let path = keep(target, &now);
                    return Err(format!("{} does not end; the input is {}", target.0, path.display()));
                }
                before = now;
            }
        }
    }
}

#[test]
fn nothing_that_is_read_panics_or_hangs() {
    // Each panic is told once, with its input, by the assertion.
    std::panic::set_hook(Box::new(|_| {}));
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let threads: Vec<_> = TARGETS.iter().map(|target| scope.spawn(|| watched(*target))).collect();
        threads.into_iter().filter_map(|t| t.join().unwrap().err()).collect()
    });
    let _ = std::panic::take_hook();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_target_has_seeds_and_every_seed_a_target() {
    let mut rows: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    rows.sort_unstable();
    assert_eq!(names(&corpus()), rows);
    for row in rows {
        let seeds = seeds(row);
        assert!(!seeds.is_empty(), "{row}");
        assert!(seeds.iter().all(|(_, bytes)| bytes.len() <= LONGEST), "{row}");
    }
}

#[test]
fn the_replay_sees() {
    let panics: Target = ("panics", |data| assert!(data.len() < 3, "long"));
    assert_eq!(run(panics, b"ab"), Ok(()));
    assert_eq!(run(panics, b"abc"), Err("panic: long".into()));
    let seeds = vec![(String::new(), b"seed 123".to_vec())];
    let mut random = Random(1);
    let changed: Vec<Vec<u8>> = (0..200).map(|_| change(&seeds[0].1, &seeds, &mut random)).collect();
    assert!(changed.iter().filter(|c| **c != seeds[0].1).count() > 150);
    assert!(changed.iter().any(Vec::is_empty) && changed.iter().any(|c| c.len() > 16));
}
