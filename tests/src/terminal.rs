//! A terminal on the other side of the real OpenSSH client: what is typed in, what is shown out.

use std::io::{Read, Write};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};

use crate::guest::Guest;
use crate::vm::limit;

/// An engineer's terminal: a client with a terminal on the other side, cut without a word when it is dropped.
pub struct Terminal {
    child: Child,
    shown: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    /// A login shell, or what these words run.
    ///
    /// # Errors
    /// When the client cannot be started.
    pub fn open(guest: &Guest, words: &[&str]) -> Result<Self> {
        let mut command = guest.command(&[]);
        command
            .arg("-tt")
            .args(words)
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().context("starting ssh")?;
        let shown = Arc::new(Mutex::new(Vec::new()));
        let (kept, out) = (shown.clone(), child.stdout.take());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            let Some(mut out) = out else { return };
            while let Ok(length @ 1..) = out.read(&mut buffer) {
                if let Ok(mut kept) = kept.lock() {
                    kept.extend_from_slice(&buffer[..length]);
                }
            }
        });
        Ok(Self { child, shown })
    }

    /// Types this.
    ///
    /// # Errors
    /// When the client is gone.
    pub fn say(&mut self, text: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("the terminal has no input")?;
        input.write_all(text.as_bytes()).context("the terminal is gone")
    }

    /// Waits until what is shown is as it should be.
    ///
    /// # Errors
    /// What it shows, when it does not come to that.
    pub fn until(&self, what: &str, is: impl Fn(&str) -> bool) -> Result<()> {
        let end = std::time::Instant::now() + limit(60);
        loop {
            let shown = self.shown.lock().map(|shown| String::from_utf8_lossy(&shown).into_owned());
            let shown = shown.unwrap_or_default();
            if is(&shown) {
                return Ok(());
            }
            ensure!(std::time::Instant::now() < end, "no {what}: {shown:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
