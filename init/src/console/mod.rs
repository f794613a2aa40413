//! Login on a console: serial line, screen and keyboard, or whatever the kernel calls one.
//!
//! [`serve`] shows a screen ([`screen`]), asks for a name and a password ([`line`]), has them judged by
//! a [`Gate`] and runs the login's shell; then it begins again. It needs no network and waits for
//! events alone: keys, reports that are replaced, children that end.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rescue_schema::account::Account;
use rescue_schema::paths;
use zeroize::Zeroizing;

use self::line::{Key, Line};
use self::screen::Facts;
use crate::sys::notify::Notice;
use crate::sys::tty::{Keys, Tty, Watch};
use crate::sys::{log, spawn, tty};

mod line;
mod screen;

/// Longest name in bytes.
const MAX_NAME: usize = 64;
/// Longest password in bytes that is taken in; one more than a gate accepts, so that a longer one is
/// refused and not cut.
const MAX_PASSWORD: usize = 1025;
/// How long somebody who began to log in may think.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long the first screen waits for the boot to have something to say: output on a serial line costs
/// a boot more than anything else here.
const FIRST_SCREEN: Duration = Duration::from_millis(1000);
/// Reports change in bursts; the screen is drawn anew after one.
const BURST: Duration = Duration::from_millis(250);
/// Some terminals send return as CR LF: what comes this soon after is no return of its own, and above all
/// no empty password.
const SAME_RETURN: Duration = Duration::from_millis(30);
/// How long `rescue status` may take before the shell is started without it: a dying disk
/// must not keep the engineer out.
const STATUS_LIMIT: Duration = Duration::from_secs(5);

/// Who decides who may enter: the same check and the same counting as over SSH.
pub trait Gate {
    /// How long this console must wait before the next attempt.
    fn wait(&self) -> Option<Duration>;

    /// The account that `name` and `password` open. Counts the attempt.
    ///
    /// # Errors
    /// When that cannot be known; nobody enters then.
    fn enter(&self, name: &str, password: &[u8]) -> anyhow::Result<Option<Account>>;
}

/// A console to serve.
#[derive(Debug)]
pub struct Console {
    /// The terminal.
    pub device: PathBuf,
    /// What it is called: `ttyS0`.
    pub name: String,
    /// `TERM` of its sessions.
    pub term: String,
    /// Stands in the place of `/` for what the screen reads.
    pub root: PathBuf,
}

/// Serves `console` until the terminal goes away.
///
/// # Errors
/// Always ends with one: why the terminal cannot be used any more.
pub fn serve(console: &Console, gate: &dyn Gate) -> io::Result<std::convert::Infallible> {
    let reports = [paths::BOOT_REPORT, paths::NET_REPORT];
    let reports = reports.map(|path| console.root.join(path.trim_start_matches('/')));
    let mut login = Login {
        console,
        gate,
        tty: Tty::take_over(&console.device)?,
        watch: Watch::new(&reports).ok(),
        shown: String::new(),
        returned: None,
    };
    login.tty.set_keys(Keys::Ours)?;
    login.let_boot_finish()?;
    loop {
        let account = login.ask()?;
        login.session(&account)?;
        // A session that ends takes the terminal with it (tty_vhangup_session in the kernel).
        login.tty = Tty::take_over(&console.device)?;
        login.tty.set_keys(Keys::Ours)?;
    }
}

struct Login<'a> {
    console: &'a Console,
    gate: &'a dyn Gate,
    tty: Tty,
    watch: Option<Watch>,
    /// The screen as it was drawn last.
    shown: String,
    /// When return was typed last.
    returned: Option<Instant>,
}

/// What came of asking for a line.
enum Input {
    Line(Zeroizing<Vec<u8>>),
    Cancelled,
    Redraw,
    /// The screen should say something else now.
    Changed,
}

impl Login<'_> {
    fn facts(&self) -> Facts {
        Facts::read(&self.console.root)
    }

    fn say(&self, text: &str) -> io::Result<()> {
        self.tty.write(text.as_bytes())
    }

    fn let_boot_finish(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + FIRST_SCREEN;
        while self.watch.is_some() && !self.facts().is_settled() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || self.tty.wait(self.watch.as_ref(), Some(left))?.input {
                break;
            }
        }
        Ok(())
    }

    /// Shows the screen and asks until somebody may enter.
    fn ask(&mut self) -> io::Result<Account> {
        self.tty.drop_input();
        self.shown.clear();
        loop {
            let facts = self.facts();
            let screen = facts.screen(&self.console.name);
            if screen != self.shown {
                self.say(&screen)?;
                self.shown = screen;
            }
            let prompt = match facts.closed() {
                Some(_) => String::new(),
                None => format!("{} login: ", facts.hostname),
            };
            let name = match self.read_line(&prompt, MAX_NAME, true)? {
                // The first key after a long quiet time is often a return, to see the screen.
                Input::Line(name) if name.is_empty() || facts.closed().is_some() => {
                    self.shown.clear();
                    continue;
                }
                Input::Line(name) => String::from_utf8_lossy(&name).into_owned(),
                Input::Redraw => {
                    self.shown.clear();
                    continue;
                }
                Input::Cancelled | Input::Changed => continue,
            };
            let Input::Line(password) = self.read_line("Password: ", MAX_PASSWORD, false)? else { continue };
            if let Some(account) = self.judge(&name, &password)? {
                return Ok(account);
            }
        }
    }

    fn judge(&mut self, name: &str, password: &[u8]) -> io::Result<Option<Account>> {
        self.penalty()?;
        let source = format!("console {}", self.console.name);
        match self.gate.enter(name, password) {
            Ok(Some(account)) => {
                log::note(&source, &format!("{} logged in", account.name));
                Notice::LoggedIn.send();
                return Ok(Some(account));
            }
            // The name is not logged: people type passwords there.
            Ok(None) => {
                log::note(&source, "login incorrect");
                self.say("Login incorrect\n")?;
            }
            Err(error) => {
                log::note(&source, &format!("no login is possible: {error:#}"));
                self.say("No login is possible; the boot log says why\n")?;
            }
        }
        self.penalty()?;
        Ok(None)
    }

    /// Waits as long as the gate says, and forgets what is typed meanwhile.
    fn penalty(&mut self) -> io::Result<()> {
        let Some(wait) = self.gate.wait() else { return Ok(()) };
        self.say(&format!("Too many wrong passwords: wait {} s\n", wait.as_millis().div_ceil(1000)))?;
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            if self.tty.wait(None, Some(left))?.input {
                self.tty.read(&mut [0; 256])?;
            }
        }
    }

    fn read_line(&mut self, prompt: &str, limit: usize, echo: bool) -> io::Result<Input> {
        self.say(prompt)?;
        let mut line = Line::new(limit, echo);
        let (mut shown, mut changed) = (Vec::new(), None);
        // A password is waited for no longer than somebody types; an empty name for ever.
        let mut deadline = (!echo).then(|| Instant::now() + PATIENCE);
        loop {
            let now = Instant::now();
            if changed.is_some_and(|at: Instant| at <= now) {
                changed = None;
                if echo && line.is_empty() && self.facts().screen(&self.console.name) != self.shown {
                    self.say("\n")?;
                    return Ok(Input::Changed);
                }
            }
            if deadline.is_some_and(|at| at <= now) {
                self.say("\n")?;
                return Ok(Input::Cancelled);
            }
            let next = [deadline, changed].into_iter().flatten().min();
            let seen =
                self.tty.wait(self.watch.as_ref(), next.map(|at| at.saturating_duration_since(now)))?;
            if seen.change && changed.is_none() {
                changed = Some(Instant::now() + BURST);
            }
            if !seen.input {
                continue;
            }
            // One byte at a time: what follows the return belongs to the next question.
            let mut byte = [0];
            if self.tty.read(&mut byte)? == 0 {
                continue;
            }
            let [byte] = byte;
            if matches!(byte, b'\r' | b'\n') {
                let before = self.returned.replace(Instant::now());
                if line.is_empty() && before.is_some_and(|at| at.elapsed() < SAME_RETURN) {
                    continue;
                }
            }
            let key = line.key(byte, &mut shown);
            self.tty.write(&shown)?;
            shown.clear();
            match key {
                Key::Typed => {
                    deadline = (!echo || !line.is_empty()).then(|| Instant::now() + PATIENCE);
                }
                Key::Enter => return Ok(Input::Line(line.into_bytes())),
                Key::Cancel => return Ok(Input::Cancelled),
                Key::Redraw => {
                    self.say("\n")?;
                    return Ok(Input::Redraw);
                }
            }
        }
    }

    /// Runs the login's shell on the terminal.
    fn session(&mut self, account: &Account) -> io::Result<()> {
        self.tty.set_keys(Keys::Kernel)?;
        self.show_status(account);
        let source = format!("console {}", self.console.name);
        let shells = [account.shell.as_path(), Path::new("/bin/sh")];
        for shell in shells {
            match self.start(account, shell) {
                Ok(mut child) => {
                    let status = child.wait()?;
                    log::note(&source, &format!("{} logged out: {status}", account.name));
                    return Ok(());
                }
                Err(error) => {
                    let text = format!("starting {}: {error}", shell.display());
                    log::note(&source, &text);
                    self.say(&format!("{text}\n"))?;
                }
            }
        }
        Ok(())
    }

    fn start(&self, account: &Account, shell: &Path) -> io::Result<std::process::Child> {
        let name = shell.file_name().unwrap_or_default().to_string_lossy();
        let mut command = Command::new(shell);
        command.arg0(format!("-{name}"));
        self.environment(&mut command, account);
        command.current_dir(if account.home.is_dir() { account.home.as_path() } else { Path::new("/") });
        spawn::as_session(&mut command, Some(self.tty.for_session()?))?;
        command.spawn()
    }

    fn environment(&self, command: &mut Command, account: &Account) {
        command.env_clear().envs(spawn::login_environment(account)).env("TERM", &self.console.term);
    }

    /// What SSH shows at login, too. A shell without it is better than none: nothing here fails.
    fn show_status(&self, account: &Account) {
        let Ok(output) = self.tty.for_session() else { return };
        let Ok(errors) = output.try_clone() else { return };
        let mut command = Command::new("/proc/self/exe");
        command.arg("status").stdin(Stdio::null()).stdout(output).stderr(errors);
        self.environment(&mut command, account);
        if let Ok(mut child) = command.spawn()
            && let Ok(false) = tty::wait_for(&mut child, STATUS_LIMIT)
        {
            let _ = self.say("`rescue status` took too long; the shell comes without it\n");
        }
    }
}
