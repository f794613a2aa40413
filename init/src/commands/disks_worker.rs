//! Reading devices where a device that never answers can be left behind.
//!
//! A read that a dying disk does not answer holds its thread in the kernel, where not even SIGKILL ends it,
//! and a process with such a thread does not end either. So the devices are read by a process of their own:
//! a thread a disk, each device with its own deadline, counted from when its turn came. When all have
//! answered or are overdue the verb goes on and exits; what still hangs is reparented to PID 1, which
//! reaps it whenever the disk lets go. One process for all is enough: threads in the kernel hold nothing that the
//! others need, and a process a device would cost a thousand of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io::{BufRead, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, ExitCode, Stdio};
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
use crate::sys::lines::{Lines, Next};

/// Devices that are read at the same moment. A healthy one takes milliseconds and some 200 KiB of memory.
const AT_ONCE: usize = 32;
/// A device that takes longer keeps no other waiting: the next one begins beside it.
const SLOW: Duration = Duration::from_millis(150);

/// What is to be done about one device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Job {
    /// Look what is on it, and on its partitions.
    Probe(Vec<Place>),
    /// Look what is on it, and in the partitions of its table, as on an image: where the kernel shows none.
    Image(Place),
    /// Ask how it is.
    Health(String, Protocol),
}

/// A device to look at.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Place {
    pub(super) path: String,
    /// Bytes of a sector.
    pub(super) sector: u64,
    /// Whether it is a partition, or built on others.
    pub(super) built: bool,
}

impl Place {
    /// A device or an image of which nothing is known.
    pub(super) fn of(path: &str) -> Self {
        Self { path: path.into(), sector: 512, built: false }
    }

    fn reader<'a>(&self, source: &'a (File, u64)) -> Reader<'a> {
        let sector = block::sector_size(&source.0).unwrap_or(self.sector);
        if self.built { Reader::built(source, sector) } else { Reader::new(source, sector) }
    }
}

impl Job {
    pub(super) fn paths(&self) -> Vec<&str> {
        match self {
            Self::Probe(devices) => devices.iter().map(|place| place.path.as_str()).collect(),
            Self::Image(Place { path, .. }) | Self::Health(path, _) => vec![path],
        }
    }
}

/// What the worker says, a line each.
#[derive(Debug, Serialize, Deserialize)]
enum Said {
    /// A job is [`SLOW`]: only then is it of interest when it began.
    Slow(usize),
    /// What is on one device of a job: its next one has its own time.
    Probe(usize, String, ProbeReport),
    Health(String, HealthReport),
    Done(usize),
}

/// What came of the jobs, by path.
#[derive(Debug, Default)]
pub(super) struct Answers {
    pub(super) probes: HashMap<String, ProbeReport>,
    pub(super) health: HashMap<String, HealthReport>,
}

/// The process that reads, and the pipes to it.
struct Worker {
    child: Child,
    asked: ChildStdin,
    said: Lines<ChildStdout>,
}

/// One that has answered all that it was asked is asked again: a verb that puts devices together looks several times.
static WORKER: Mutex<Option<Worker>> = Mutex::new(None);

fn kept() -> Option<Worker> {
    WORKER.lock().unwrap_or_else(PoisonError::into_inner).take()
}

impl Worker {
    fn start() -> anyhow::Result<Self> {
        let mut child = std::process::Command::new("/proc/self/exe")
            .arg0("rescue")
            .args(["disks", "--worker"])
            // A heap for each of its threads is memory and system calls for nothing: they wait for disks.
            .env("GLIBC_TUNABLES", "glibc.malloc.arena_max=1:glibc.malloc.top_pad=1048576")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("starting the process that reads the disks")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (asked, said) = pipes.context("no pipe to the process that reads the disks")?;
        Ok(Self { child, asked, said: Lines::new(said) })
    }

    fn ask(&mut self, jobs: &[Job]) -> anyhow::Result<()> {
        let mut line = serde_json::to_vec(jobs)?;
        line.push(b'\n');
        self.asked.write_all(&line).context("handing the disks to the process that reads them")
    }
}

/// Ends the worker, where one is left over: what goes on for long needs none.
pub(super) fn dismiss() {
    if let Some(mut worker) = kept() {
        let _ = worker.child.kill();
        let _ = worker.child.wait();
    }
}

/// Has a worker do `jobs`, each within `limit`.
///
/// # Errors
/// When there can be no worker.
pub(super) fn run(jobs: &[Job], limit: Duration) -> anyhow::Result<Answers> {
    if jobs.is_empty() {
        return Ok(Answers::default());
    }
    let again = kept().and_then(|mut worker| worker.ask(jobs).is_ok().then_some(worker));
    let mut worker = match again {
        Some(worker) => worker,
        None => {
            let mut worker = Worker::start()?;
            worker.ask(jobs)?;
            worker
        }
    };
    let next = &mut |limit| match worker.said.next(limit) {
        // A line that is none says nothing.
        Next::Line(line) => Ok(serde_json::from_slice(&line).ok()),
        Next::Late => Ok(None),
        Next::End => Err(Ended),
    };
    let (mut answers, all) = collect(jobs.len(), limit, &Instant::now, next);
    if all {
        *WORKER.lock().unwrap_or_else(PoisonError::into_inner) = Some(worker);
    } else {
        let _ = worker.child.kill();
    }
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

/// The worker is no more.
struct Ended;

/// What comes of listening to the worker for a while.
type Heard = Result<Option<Said>, Ended>;

/// Waits until each job is done or overdue, and says whether all are done. One that has not begun has its time still
/// before it, and begins as soon as those before it are slow; a worker that says nothing at all is given up too.
fn collect(
    jobs: usize,
    limit: Duration,
    clock: &dyn Fn() -> Instant,
    next: &mut dyn FnMut(Duration) -> Heard,
) -> (Answers, bool) {
    let mut answers = Answers::default();
    let mut open: HashSet<usize> = (0..jobs).collect();
    let mut slow: HashMap<usize, Instant> = HashMap::new();
    let (mut last, mut all) = (clock(), true);
    loop {
        let now = clock();
        let overdue = slow.extract_if(|_, since| now.duration_since(*since) >= limit);
        for (job, _) in overdue {
            open.remove(&job);
            all = false;
        }
        if open.is_empty() {
            return (answers, all);
        }
        if slow.is_empty() && now.duration_since(last) >= limit {
            return (answers, false);
        }
        let since = slow.values().min().copied().unwrap_or(last);
        match next((since + limit).saturating_duration_since(now)) {
            Ok(Some(Said::Slow(job))) => {
                last = clock();
                slow.insert(job, last.checked_sub(SLOW).unwrap_or(last));
            }
            Ok(Some(Said::Done(job))) => {
                last = clock();
                open.remove(&job);
                slow.remove(&job);
            }
            Ok(Some(Said::Probe(job, path, report))) => {
                last = clock();
                slow.entry(job).and_modify(|since| *since = last);
                answers.probes.insert(path, report);
            }
            Ok(Some(Said::Health(path, report))) => drop(answers.health.insert(path, report)),
            Ok(None) => {}
            Err(Ended) => return (answers, false),
        }
    }
}

/// The worker: lists of jobs on stdin, a line of JSON each; what comes of them on stdout. Ends with its stdin.
pub(super) fn work() -> anyhow::Result<ExitCode> {
    for line in std::io::stdin().lock().lines() {
        let jobs: Vec<Job> = serde_json::from_str(&line?)?;
        match <[Job; 1]>::try_from(jobs) {
            // Nobody else has to be begun beside it.
            Ok([only]) => one(0, only),
            Err(jobs) => all(jobs),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn all(jobs: Vec<Job>) {
    let total = jobs.len();
    let queue: Arc<Mutex<VecDeque<(usize, Job)>>> =
        Arc::new(Mutex::new(jobs.into_iter().enumerate().collect()));
    let (sender, events) = mpsc::channel();
    let mut running: HashMap<usize, Instant> = HashMap::new();
    let mut told: HashSet<usize> = HashSet::new();
    let (mut done, mut threads) = (0, 0);
    while done < total {
        let slow: Vec<usize> =
            running.iter().filter(|(_, since)| since.elapsed() >= SLOW).map(|(job, _)| *job).collect();
        slow.iter().filter(|job| told.insert(**job)).for_each(|job| say(&[Said::Slow(*job)]));
        // Threads that answer take the next job themselves; a new one is started for each that is slow.
        while threads < AT_ONCE + slow.len() && threads < total {
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
}

fn thread_of(queue: &Mutex<VecDeque<(usize, Job)>>, events: &mpsc::Sender<(usize, bool)>) {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some((number, job)) = next else { return };
        let _ = events.send((number, true));
        one(number, job);
        let _ = events.send((number, false));
    }
}

fn one(number: usize, job: Job) {
    let last = match job {
        Job::Probe(mut devices) => {
            let last = devices.pop();
            let probed = |place: Place| {
                let report = look(Path::new(&place.path), |source| probe::device(&place.reader(source)));
                Said::Probe(number, place.path, report)
            };
            // Each at once: the next may hang.
            devices.into_iter().for_each(|device| say(&[probed(device)]));
            last.map(probed)
        }
        Job::Image(place) => {
            let report = look(Path::new(&place.path), |source| probe::image(&place.reader(source)));
            Some(Said::Probe(number, place.path, report))
        }
        Job::Health(path, protocol) => {
            let report = match block::open(Path::new(&path)) {
                Ok((disk, _)) => health::ask(&disk, protocol),
                Err(error) => health::unknown(format!("opening {path}: {error}")),
            };
            Some(Said::Health(path, report))
        }
    };
    say(&last.into_iter().chain([Said::Done(number)]).collect::<Vec<_>>());
}

/// In one write, so that the lines of several threads do not mix, and who listens wakes once.
fn say(said: &[Said]) {
    let lines = said.iter().filter_map(|said| serde_json::to_vec(said).ok());
    let text: Vec<u8> = lines.flat_map(|line| line.into_iter().chain([b'\n'])).collect();
    let _ = std::io::stdout().lock().write_all(&text);
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

    /// Listens to one that says each of these after a while, then nothing.
    fn heard(said: Vec<(u64, Said)>, jobs: usize, limit: u64) -> (Answers, bool, u64) {
        let start = Instant::now();
        let now = std::cell::Cell::new(start);
        let mut said: VecDeque<_> = said.into();
        let mut next = |limit: Duration| match said.front().map(|(after, _)| Duration::from_secs(*after)) {
            Some(after) if after <= limit => {
                now.set(now.get() + after);
                Ok(said.pop_front().map(|(_, said)| said))
            }
            _ => {
                now.set(now.get() + limit);
                said.iter_mut().take(1).for_each(|(after, _)| *after -= limit.as_secs());
                Ok(None)
            }
        };
        let (answers, all) = collect(jobs, Duration::from_secs(limit), &|| now.get(), &mut next);
        (answers, all, (now.get() - start).as_secs())
    }

    fn probed(job: usize, path: &str) -> Said {
        Said::Probe(job, path.into(), ProbeReport::default())
    }

    #[test]
    fn a_job_that_hangs_costs_its_own_time_and_no_more() {
        let said = vec![(1, Said::Slow(0)), (0, Said::Slow(1)), (3, probed(1, "/dev/b")), (0, Said::Done(1))];
        let (answers, all, seconds) = heard(said, 2, 15);
        assert!(!all && (15..=16).contains(&seconds), "{seconds}");
        assert!(answers.probes.contains_key("/dev/b") && answers.probes.len() == 1);
    }

    #[test]
    fn each_device_of_a_job_has_its_own_time() {
        let partitions = (1..=9).map(|n| (14, probed(0, &format!("/dev/a{n}"))));
        let said = [(1, Said::Slow(0))].into_iter().chain(partitions).chain([(0, Said::Done(0))]);
        let (answers, all, _) = heard(said.collect(), 1, 15);
        assert!(all && answers.probes.len() == 9, "{answers:?}");
    }

    #[test]
    fn what_is_done_is_not_waited_for() {
        let said = vec![(1, Said::Done(1)), (0, Said::Slow(0)), (1, Said::Done(0))];
        assert!(matches!(heard(said, 2, 60), (_, true, 2)));
        // Nothing said at all: given up after one limit.
        assert!(matches!(heard(Vec::new(), 1, 7), (_, false, 7)));
    }
}
