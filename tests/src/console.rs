//! The serial console: a thread reads it, QEMU keeps all of it in a file, and whoever waits for a
//! line is woken by the thread. Lines are matched from the start of the boot, or from a mark.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rescue_schema::report::{Ready, StageLine};

use crate::verdict::{SHOWN_LINES, Verdict};

/// A line longer than this is cut: a guest that prints without end must not fill our memory.
const MAX_LINE: usize = 4096;

#[derive(Default)]
struct Seen {
    lines: Vec<String>,
    /// What stands after the last newline: where a prompt waits.
    open: String,
    ended: bool,
}

/// A console that is being read.
pub struct Console {
    seen: Arc<(Mutex<Seen>, Condvar)>,
    keyboard: Mutex<UnixStream>,
    log: PathBuf,
    scenario: String,
}

/// A place in the console output; what came before it is not matched.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark(usize);

/// One step of a dialogue: wait for this at the end of the output, then type that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// What is awaited, in an unfinished or a finished line.
    pub expect: &'static str,
    /// What is then typed, without the newline.
    pub send: String,
}

/// The dialogue of a login. What a wrong password leads to is awaited by the caller.
pub fn login(name: &str, password: &str) -> Vec<Step> {
    vec![Step { expect: "login: ", send: name.into() }, Step { expect: "assword: ", send: password.into() }]
}

impl Console {
    /// Starts to read `stream`. `log` is where QEMU keeps all of it.
    pub fn new(stream: UnixStream, log: &Path, scenario: &str) -> Result<Self> {
        let keyboard = stream.try_clone().context("duplicating the console's socket")?;
        let seen = Arc::new((Mutex::new(Seen::default()), Condvar::new()));
        let for_thread = Arc::clone(&seen);
        std::thread::Builder::new()
            .name("console".into())
            .spawn(move || read_all(stream, &for_thread))
            .context("starting the console's thread")?;
        Ok(Self { seen, keyboard: Mutex::new(keyboard), log: log.into(), scenario: scenario.into() })
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The place up to which lines have come so far.
    pub fn mark(&self) -> Mark {
        Mark(self.lock().lines.len())
    }

    /// Waits until `find` finds something in a line from `from` on, the unfinished one included.
    ///
    /// # Errors
    /// A [`Verdict`] after `limit`, or at once when the machine is gone.
    pub fn wait<T>(
        &self,
        what: &str,
        from: Mark,
        limit: Duration,
        find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        self.search(what, from, limit, true, find)
    }

    /// As [`Console::wait`]; `open` says whether the unfinished line counts, whose last word may be cut.
    fn search<T>(
        &self,
        what: &str,
        from: Mark,
        limit: Duration,
        open: bool,
        mut find: impl FnMut(&str) -> Option<T>,
    ) -> Result<T> {
        let end = Instant::now() + limit;
        let mut next = from.0;
        let mut seen = self.lock();
        loop {
            while let Some(line) = seen.lines.get(next) {
                if let Some(found) = find(line) {
                    return Ok(found);
                }
                next += 1;
            }
            if let Some(found) = find(&seen.open).filter(|_| open) {
                return Ok(found);
            }
            let left = end.saturating_duration_since(Instant::now());
            if seen.ended || left.is_zero() {
                let why = match seen.ended {
                    true => format!("awaited {what}, but the machine is gone"),
                    false => format!("awaited {what} for {} s", limit.as_secs()),
                };
                drop(seen);
                return Err(self.verdict(why).into());
            }
            seen = self.seen.1.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for a line that holds `text`, and returns it.
    ///
    /// # Errors
    /// As [`Console::wait`].
    pub fn line(&self, text: &str, from: Mark, limit: Duration) -> Result<String> {
        self.wait(&format!("{text:?}"), from, limit, |line| line.contains(text).then(|| line.to_string()))
    }

    /// Waits for the line that ends a boot.
    ///
    /// # Errors
    /// As [`Console::wait`].
    pub fn ready(&self, limit: Duration) -> Result<Ready> {
        self.search("the ready line", Mark::default(), limit, false, Ready::find)
    }

    /// Waits for the end of a stage.
    ///
    /// # Errors
    /// As [`Console::wait`].
    pub fn stage(&self, name: &str, limit: Duration) -> Result<StageLine> {
        self.search(&format!("the end of stage {name}"), Mark::default(), limit, false, |line| {
            StageLine::find(line).filter(|stage| stage.stage == name)
        })
    }

    /// Every stage that has ended so far.
    pub fn stages(&self) -> Vec<StageLine> {
        self.lock().lines.iter().filter_map(|line| StageLine::find(line)).collect()
    }

    /// Everything so far, as lines.
    pub fn lines(&self) -> Vec<String> {
        self.lock().lines.clone()
    }

    /// Types `text` and the return key.
    ///
    /// # Errors
    /// When the machine is gone.
    pub fn type_line(&self, text: &str) -> Result<()> {
        let mut keyboard = self.keyboard.lock().unwrap_or_else(PoisonError::into_inner);
        // One key at a time: a UART has a FIFO of 16 bytes and a getty may flush what came early.
        for byte in text.bytes().chain([b'\r']) {
            keyboard.write_all(&[byte]).context("typing on the serial console")?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Plays a dialogue from `from` on. Each step is matched after what the step before it typed.
    ///
    /// # Errors
    /// As [`Console::wait`].
    pub fn play(&self, steps: &[Step], from: Mark, limit: Duration) -> Result<()> {
        let mut from = from;
        for step in steps {
            self.wait(&format!("{:?}", step.expect), from, limit, |line| {
                line.contains(step.expect).then_some(())
            })?;
            from = self.mark();
            self.type_line(&step.send)?;
        }
        Ok(())
    }

    /// A failure as a person reads it.
    pub fn verdict(&self, awaited: String) -> Verdict {
        let seen = self.lock();
        let mut console: Vec<String> =
            seen.lines.iter().skip(seen.lines.len().saturating_sub(SHOWN_LINES)).cloned().collect();
        if !seen.open.is_empty() {
            console.push(seen.open.clone());
        }
        Verdict {
            awaited,
            last_stage: seen.lines.iter().rev().find_map(|l| StageLine::find(l)).map(|s| s.to_string()),
            console,
            log: self.log.clone(),
            scenario: self.scenario.clone(),
        }
    }
}

fn read_all(mut stream: UnixStream, seen: &(Mutex<Seen>, Condvar)) {
    let mut buffer = [0; 4096];
    let mut line: Vec<u8> = Vec::new();
    loop {
        let n = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        let mut state = seen.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &byte in &buffer[..n] {
            if byte == b'\n' {
                let text = readable(&line);
                state.lines.push(text);
                line.clear();
            } else if line.len() < MAX_LINE {
                line.push(byte);
            }
        }
        state.open = readable(&line);
        seen.1.notify_all();
    }
    seen.0.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
    seen.1.notify_all();
}

/// The text of a line without escape sequences (ECMA-48 CSI) and control characters: firmware and
/// boot loaders move the cursor about, and a failure report must not do that to its reader.
fn readable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '\x1b' {
            match chars.peek() {
                Some('[') => {
                    chars.next();
                    while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
                }
                Some(_) => drop(chars.next()),
                None => {}
            }
        } else if c == '\t' || !c.is_control() {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console() -> (UnixStream, Console) {
        let (guest, host) = UnixStream::pair().unwrap();
        (guest, Console::new(host, Path::new("/log"), "name").unwrap())
    }

    const SOON: Duration = Duration::from_secs(20);

    #[test]
    fn lines_prompts_and_stages_are_found() {
        let (mut guest, console) = console();
        guest.write_all(b"\x1b[2J[ 1.0] rescue: stage=mounts result=ok ms=3\r\nhost login: ").unwrap();
        assert_eq!(console.stage("mounts", SOON).unwrap().ms, 3);
        console.play(&login("root", "pw")[..1], Mark::default(), SOON).unwrap();
        let mut typed = [0; 5];
        guest.read_exact(&mut typed).unwrap();
        assert_eq!(&typed, b"root\r");
    }

    #[test]
    fn a_mark_hides_what_came_before() {
        let (mut guest, console) = console();
        guest.write_all(b"first\n").unwrap();
        console.line("first", Mark::default(), SOON).unwrap();
        let mark = console.mark();
        assert!(console.line("first", mark, Duration::from_millis(10)).is_err());
    }

    #[test]
    fn a_failure_says_what_was_awaited_and_where_to_look() {
        let (mut guest, console) = console();
        for n in 0..100 {
            writeln!(guest, "line {n}").unwrap();
        }
        writeln!(guest, "rescue: stage=net result=failed ms=9").unwrap();
        drop(guest);
        let text = console.ready(SOON).unwrap_err().to_string();
        assert!(text.contains("awaited the ready line, but the machine is gone"), "{text}");
        assert!(text.contains("last stage: rescue: stage=net result=failed ms=9"), "{text}");
        assert!(text.contains("line 99") && !text.contains("line 40\n"), "{text}");
        assert!(text.contains("/log") && text.contains("--only name"), "{text}");
    }

    #[test]
    fn escape_sequences_and_endless_lines_are_tamed() {
        assert_eq!(readable(b"\x1b[1;31mred\x1b[0m\x07 \xff"), "red \u{fffd}");
        let (mut guest, console) = console();
        guest.write_all(&vec![b'x'; 100_000]).unwrap();
        guest.write_all(b"\nend\n").unwrap();
        console.line("end", Mark::default(), SOON).unwrap();
        assert_eq!(console.lines()[0].len(), MAX_LINE);
    }
}
