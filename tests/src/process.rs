//! Programs of the host: run to their end within a limit, with all that they say.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// How a program ended and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// Its exit status; 128 plus the signal's number when a signal ended it.
    pub status: i32,
    /// Standard output; bytes that are not UTF-8 are replaced.
    pub stdout: String,
    /// Standard error, likewise.
    pub stderr: String,
}

impl Output {
    /// Standard output without the white space around it, when the status is 0.
    ///
    /// # Errors
    /// The status and what it said, when it is not.
    pub fn ok(self) -> Result<String> {
        match self.status {
            0 => Ok(self.stdout.trim().to_string()),
            _ => bail!(
                "exit status {}\nstdout: {}\nstderr: {}",
                self.status,
                self.stdout.trim(),
                self.stderr.trim()
            ),
        }
    }
}

/// Runs `command` with `input` as its standard input, and ends it after `limit`.
///
/// # Errors
/// When it cannot be started, or had to be ended.
pub fn run(command: &mut Command, input: &[u8], limit: Duration) -> Result<Output> {
    let shown = show(command);
    command.env("PATH", path_with_sbin());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("starting {shown}"))?;
    let stdin = child.stdin.take();
    let stdout = child.stdout.take();
    let stderr = child.stderr.take();
    std::thread::scope(|scope| {
        // Fails when the program does not want to read all of it, which is its own affair.
        scope.spawn(move || stdin.map(|mut pipe| pipe.write_all(input)));
        let stdout = scope.spawn(move || slurp(stdout));
        let stderr = scope.spawn(move || slurp(stderr));
        let status = wait(&mut child, limit);
        let text = |reader: std::thread::ScopedJoinHandle<'_, Vec<u8>>| {
            String::from_utf8_lossy(&reader.join().unwrap_or_default()).into_owned()
        };
        let (stdout, stderr) = (text(stdout), text(stderr));
        match status {
            Some(status) => Ok(Output { status, stdout, stderr }),
            None => bail!("{shown}: no end within {} s; it said: {stdout}{stderr}", limit.as_secs()),
        }
    })
}

/// As [`run`] without input; fails unless the status is 0.
///
/// # Errors
/// As [`run`], and for any other status.
pub fn check(command: &mut Command, limit: Duration) -> Result<String> {
    let shown = show(command);
    run(command, b"", limit)?.ok().with_context(|| format!("running {shown}"))
}

/// PATH with the folders of system programs: an ordinary user's has no sbin, and the file system
/// tools work without privilege all the same.
pub fn path_with_sbin() -> String {
    let path = std::env::var("PATH").unwrap_or_default();
    let sbin = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
    let more = sbin.into_iter().filter(|dir| !path.split(':').any(|have| have == *dir));
    path.split(':').chain(more).collect::<Vec<_>>().join(":")
}

/// The command as one would type it.
pub fn show(command: &Command) -> String {
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| quote(&arg.to_string_lossy())));
    words.join(" ")
}

/// Quotes for a POSIX shell, where that is needed.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    match !word.is_empty() && word.chars().all(plain) {
        true => word.to_string(),
        false => format!("'{}'", word.replace('\'', r"'\''")),
    }
}

fn slurp(pipe: Option<impl Read>) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        let _ = pipe.read_to_end(&mut bytes);
    }
    bytes
}

/// Waits for the end; `None` when the limit passed and the child was killed.
pub fn wait(child: &mut Child, limit: Duration) -> Option<i32> {
    use std::os::unix::process::ExitStatusExt;
    let end = Instant::now() + limit;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => {
                return Some(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()));
            }
            Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(10)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_and_status_are_kept() {
        let mut command = Command::new("sh");
        command.args(["-c", "cat; echo err >&2; exit 3"]);
        let output = run(&mut command, b"in", Duration::from_secs(20)).unwrap();
        assert_eq!(output, Output { status: 3, stdout: "in".into(), stderr: "err\n".into() });
        assert!(output.ok().unwrap_err().to_string().contains("exit status 3"));
    }

    #[test]
    fn what_hangs_is_ended() {
        let mut command = Command::new("sleep");
        let error = run(command.arg("1000"), b"", Duration::from_millis(50)).unwrap_err();
        assert!(error.to_string().contains("sleep 1000: no end"), "{error}");
    }

    #[test]
    fn words_are_quoted() {
        assert_eq!(quote("a b'c"), r"'a b'\''c'");
        assert_eq!(quote("-p"), "-p");
    }
}
