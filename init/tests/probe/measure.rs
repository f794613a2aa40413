//! The same images with `rescue probe`, `blkid -p` and `wipefs -n`, in one run:
//! `cargo test -p init --test probe measure -- --ignored --nocapture`.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::images::make;
use super::recipes::RECIPES;

/// Files that are looked at, one process each.
const FILES: usize = 200;

fn run(command: &[&str], files: &[PathBuf]) -> Duration {
    let begun = Instant::now();
    for file in files {
        let mut child = Command::new(command[0]);
        child.args(&command[1..]).arg(file).stdout(Stdio::null()).stderr(Stdio::null());
        child.status().unwrap();
    }
    begun.elapsed()
}

/// Reads and bytes of a file, as strace(1) sees them.
fn reads(command: &[&str], files: &[PathBuf]) -> Option<(u64, u64)> {
    let (mut count, mut sum) = (0, 0);
    for file in files {
        let output = Command::new("strace")
            .args(["-P", file.to_str()?, "-e", "trace=read,pread64"])
            .args(command)
            .arg(file)
            .output()
            .ok()?;
        let told = String::from_utf8_lossy(&output.stderr);
        let results = told.lines().filter_map(|line| line.rsplit_once(" = ")?.1.parse::<u64>().ok());
        for bytes in results {
            count += 1;
            sum += bytes;
        }
    }
    Some((count, sum))
}

#[test]
#[ignore = "a measurement"]
fn beside_blkid_and_wipefs() {
    let files: Vec<PathBuf> = RECIPES.iter().cycle().take(FILES).map(make).collect();
    let rescue = env!("CARGO_BIN_EXE_rescue");
    let commands: [&[&str]; 3] = [
        &[rescue, "probe", "--json"],
        &["/usr/sbin/blkid", "-p", "-o", "export"],
        &["/usr/sbin/wipefs", "-n"],
    ];
    let mut best = [Duration::MAX; 3];
    let mut start = Duration::MAX;
    for _ in 0..3 {
        start = start.min(run(&["/bin/true"], &files));
        for (best, command) in best.iter_mut().zip(commands) {
            *best = (*best).min(run(command, &files));
        }
    }
    println!("{FILES} images, a process each; starting processes alone takes {start:?}");
    for (best, command) in best.iter().zip(commands) {
        println!("{:?}: {best:?}, {:?} reads and bytes", command[0], reads(command, &files));
    }
    println!("time, rescue to blkid: {:.2}", best[0].as_secs_f64() / best[1].as_secs_f64());
}
