//! Reading devices where a device that never answers can be left behind.
//!
//! A read that a dying disk does not answer holds its thread in the kernel, where not even SIGKILL ends it,
//! and a process with such a thread does not end either. So the devices are read by a process of their own:
//! a thread a device, each device with its own deadline, counted from when its turn came. When all have
//! answered or are overdue the verb goes on and exits; what still hangs is reparented to PID 1, which
//! reaps it whenever the disk lets go. One process for all is enough: threads in the kernel hold nothing that the
//! others need, and a process a device would cost a thousand of them.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use rescue_schema::report::{HealthReport, ProbeReport, ProbeResult};
use serde::{Deserialize, Serialize};

use crate::disk::source::Reader;
use crate::disk::tree::Protocol;
use crate::disk::{health, probe};
use crate::sys::block;

/// Devices that are read at the same moment. A healthy one takes milliseconds and some 200 KiB of memory.
const AT_ONCE: usize = 32;
/// A device that takes longer keeps no other waiting: the next one begins beside it.
const SLOW: Duration = Duration::from_millis(150);

/// What is to be done about one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Job {
    /// Look what is on it, and on its partitions: path and bytes of a sector.
    Probe(Vec<(String, u64)>),
    /// Look what is on it, and in the partitions of its table, as on an image: where the kernel shows none.
    Image(String),
    /// Ask how it is.
    Health(String, Protocol),
}

impl Job {
    fn paths(&self) -> Vec<&str> {
        match self {
            Self::Probe(devices) => devices.iter().map(|(path, _)| path.as_str()).collect(),
            Self::Image(path) | Self::Health(path, _) => vec![path],
        }
    }
}

/// What the worker says, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    Begun(usize),
    Probe(String, ProbeReport),
    Health(String, HealthReport),
    Done(usize),
}

/// What came of the jobs, by path.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) probes: HashMap<String, ProbeReport>,
    pub(super) health: HashMap<String, HealthReport>,
}

/// Has a worker do `jobs`, each within `limit`.
///
/// # Errors
/// When there can be no worker.
pub(super) fn run(jobs: &[Job], limit: Duration) -> anyhow::Result<Answers> {
    if jobs.is_empty() {
        return Ok(Answers::default());
    }
    let mut child = std::process::Command::new("/proc/self/exe")
        .arg0("rescue")
        .args(["disks", "--worker"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("starting the process that reads the disks")?;
    if let Some(mut stdin) = child.stdin.take() {
        let text = serde_json::to_vec(jobs)?;
        stdin.write_all(&text).context("handing the disks to the process that reads them")?;
    }
    let (sender, said) = mpsc::channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str::<Said>(&line) {
                    let _ = sender.send(said);
                }
            }
        });
    }
    let answers = collect(jobs.len(), &said, limit);
    let mut answers = answers;
    let _ = child.kill();
    for job in jobs {
        for path in job.paths() {
            match job {
                Job::Probe(_) | Job::Image(_) => {
                    answers.probes.entry(path.into()).or_insert_with(|| unreadable(late(limit)));
                }
                Job::Health(..) => {
                    answers.health.entry(path.into()).or_insert_with(|| health::unknown(late(limit)));
                }
            }
        }
    }
    Ok(answers)
}

fn late(limit: Duration) -> String {
    format!("no answer within {} s", limit.as_secs_f32())
}

pub(super) fn unreadable(why: String) -> ProbeReport {
    ProbeReport { result: ProbeResult::Unreadable, notes: vec![why], ..ProbeReport::default() }
}

/// Waits until each job is done or overdue. One that has not begun has its time still before it, and
/// begins as soon as those before it are slow; a worker that says nothing at all is given up too.
fn collect(jobs: usize, said: &mpsc::Receiver<Said>, limit: Duration) -> Answers {
    let mut answers = Answers::default();
    let mut begun: HashMap<usize, Instant> = HashMap::new();
    let (mut waiting, mut last) = (jobs, Instant::now());
    loop {
        let now = Instant::now();
        begun.retain(|_, since| now.duration_since(*since) < limit);
        if begun.is_empty() && (waiting == 0 || now.duration_since(last) >= limit) {
            return answers;
        }
        let since = begun.values().min().copied().unwrap_or(last);
        match said.recv_timeout((since + limit).saturating_duration_since(now)) {
            Ok(Said::Begun(job)) => {
                begun.insert(job, Instant::now());
                waiting = waiting.saturating_sub(1);
                last = Instant::now();
            }
            Ok(Said::Done(job)) => drop(begun.remove(&job)),
            Ok(Said::Probe(path, report)) => drop(answers.probes.insert(path, report)),
            Ok(Said::Health(path, report)) => drop(answers.health.insert(path, report)),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return answers,
        }
    }
}

/// The worker: jobs as JSON on stdin, answers on stdout.
pub(super) fn work() -> anyhow::Result<ExitCode> {
    let jobs: Vec<Job> = serde_json::from_reader(std::io::stdin().lock())?;
    let total = jobs.len();
    let queue: Arc<Mutex<VecDeque<(usize, Job)>>> =
        Arc::new(Mutex::new(jobs.into_iter().enumerate().collect()));
    let (sender, events) = mpsc::channel();
    let mut running: HashMap<usize, Instant> = HashMap::new();
    let (mut done, mut threads) = (0, 0);
    while done < total {
        // Threads that answer take the next job themselves; a new one is started for each that is slow.
        let slow = running.values().filter(|since| since.elapsed() >= SLOW).count();
        while threads < AT_ONCE + slow && threads < total {
            let (queue, sender) = (queue.clone(), sender.clone());
            let thread = std::thread::Builder::new().stack_size(256 << 10);
            if thread.spawn(move || thread_of(&queue, &sender)).is_err() {
                break;
            }
            threads += 1;
        }
        match events.recv_timeout(SLOW) {
            Ok((job, true)) => drop(running.insert(job, Instant::now())),
            Ok((job, false)) => {
                running.remove(&job);
                done += 1;
            }
            Err(_) => {}
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn thread_of(queue: &Mutex<VecDeque<(usize, Job)>>, events: &mpsc::Sender<(usize, bool)>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((number, job)) = next else { return };
        let _ = events.send((number, true));
        say(&Said::Begun(number));
        match job {
            Job::Probe(devices) => {
                for (path, sector) in devices {
                    let report = look(Path::new(&path), |source| probe::device(&Reader::new(source, sector)));
                    say(&Said::Probe(path, report));
                }
            }
            Job::Image(path) => {
                let report = look(Path::new(&path), super::probe::image);
                say(&Said::Probe(path, report));
            }
            Job::Health(path, protocol) => {
                let report = match block::open(Path::new(&path)) {
                    Ok((disk, _)) => health::ask(&disk, protocol),
                    Err(error) => health::unknown(format!("opening {path}: {error}")),
                };
                say(&Said::Health(path, report));
            }
        }
        say(&Said::Done(number));
        let _ = events.send((number, false));
    }
}

fn say(said: &Said) {
    // A line in one write, so that those of several threads do not mix.
    if let Ok(mut line) = serde_json::to_vec(said) {
        line.push(b'\n');
        let _ = std::io::stdout().lock().write_all(&line);
    }
}

/// What `probe` says of a device or a file, or why it cannot be looked at.
pub(super) fn look(path: &Path, probe: impl Fn(&(File, u64)) -> ProbeReport) -> ProbeReport {
    match block::open(path) {
        Ok(source) => probe(&source),
        Err(error) if error.raw_os_error() == Some(Errno::ENOMEDIUM as i32) => {
            ProbeReport { notes: vec!["empty: no medium in the drive".into()], ..ProbeReport::default() }
        }
        Err(error) => unreadable(format!("opening {}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_that_hangs_costs_its_own_time_and_no_more() {
        let limit = Duration::from_millis(120);
        let (sender, said) = mpsc::channel();
        sender.send(Said::Begun(0)).unwrap();
        sender.send(Said::Begun(1)).unwrap();
        sender.send(Said::Probe("/dev/b".into(), ProbeReport::default())).unwrap();
        sender.send(Said::Done(1)).unwrap();
        let begun = Instant::now();
        let answers = collect(2, &said, limit);
        assert!(begun.elapsed() >= limit, "{:?}", begun.elapsed());
        assert!(answers.probes.contains_key("/dev/b") && answers.probes.len() == 1);
        // All done: no waiting. Nothing said at all: given up after one limit.
        let (sender, said) = mpsc::channel();
        for message in [Said::Begun(0), Said::Done(0)] {
            sender.send(message).unwrap();
        }
        let begun = Instant::now();
        collect(1, &said, Duration::from_secs(60));
        assert!(begun.elapsed() < Duration::from_secs(30));
        collect(1, &said, limit);
    }
}
