//! `rescue console` on a pseudo-terminal, driven as somebody at the keyboard would.

use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rescue_schema::credentials::Document;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

const PASSWORD: &str = "correct horse";
const DOCUMENT: &str = r#"{"version":1,"logins":[{"name":"root",
    "password_hash":"$5$abc$HEtZB/1K6XJ99xRK14R.qL6AxT3f9/cPAGbTKZddAT6"}]}"#;
const LIMIT: Duration = Duration::from_secs(120);

/// A terminal whose other end this test holds, and the rescue behind it.
struct Seat {
    master: Option<OwnedFd>,
    console: Child,
    root: tempfile::TempDir,
    terminal: String,
    /// Everything that was shown.
    shown: String,
    /// Up to where it was waited for.
    read: usize,
}

impl Seat {
    fn new(document: Option<&str>, boot_report: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let document = document.map(|json| Document::parse(json.as_bytes()).unwrap());
        init::accounts::plan(document.as_ref(), Path::new("/bin/sh")).apply(root.path()).unwrap();
        std::fs::create_dir_all(root.path().join("run/rescue")).unwrap();
        report(root.path(), boot_report);
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let terminal = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
        let console = start(&terminal, root.path());
        Self { master: Some(master), console, root, terminal, shown: String::new(), read: 0 }
    }

    fn type_in(&mut self, keys: &[u8]) {
        let mut rest = keys;
        while !rest.is_empty() {
            match rustix::io::write(self.master.as_ref().unwrap(), rest) {
                Ok(n) => rest = &rest[n..],
                // What is shown must be read, or nothing more is taken in.
                Err(rustix::io::Errno::AGAIN) => self.take(),
                Err(error) => panic!("typing: {error}"),
            }
        }
    }

    /// Reads until `text` is shown after what was waited for before.
    fn expect(&mut self, text: &str) {
        let deadline = Instant::now() + LIMIT;
        while !self.shown[self.read..].contains(text) {
            assert!(Instant::now() < deadline, "no {text:?} in\n{}", self.shown);
            self.take();
        }
        self.read += self.shown[self.read..].find(text).unwrap() + text.len();
    }

    fn take(&mut self) {
        let master = self.master.as_ref().unwrap();
        let limit = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
        poll(&mut [PollFd::new(master, PollFlags::IN)], Some(&limit)).unwrap();
        let mut buffer = [0; 4096];
        let mode = rustix::fs::OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(master, rustix::fs::OFlags::RDWR | mode).unwrap();
        match rustix::io::read(master, &mut buffer) {
            Ok(n) => self.shown += &String::from_utf8_lossy(&buffer[..n]),
            // Between a hang-up and the next time the console opens it.
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }

    /// Whether `text` is shown within half a second.
    fn shows(&mut self, text: &str) -> bool {
        let deadline = Instant::now() + Duration::from_millis(500);
        while Instant::now() < deadline {
            self.take();
        }
        self.shown[self.read..].contains(text)
    }

    fn log_in(&mut self, password: &str) {
        self.expect("login: ");
        self.type_in(b"root\r");
        self.expect("Password: ");
        self.type_in(password.as_bytes());
        self.type_in(b"\r");
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let _ = self.console.kill();
        let _ = self.console.wait();
    }
}

fn start(terminal: &str, root: &Path) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rescue"));
    command.args(["console", terminal, "--root"]).arg(root).stdin(Stdio::null()).stderr(Stdio::null());
    init::sys::spawn::as_service(&mut command, false);
    command.spawn().unwrap()
}

fn report(root: &Path, json: &str) {
    init::sys::files::replace(&root.join("run/rescue/boot.json"), 0o644, json.as_bytes()).unwrap();
}

#[test]
fn a_password_opens_a_shell_and_leaving_it_brings_the_screen_back() {
    let mut seat = Seat::new(Some(DOCUMENT), r#"{"session":"7d5c"}"#);
    seat.expect("session   7d5c");
    seat.log_in(PASSWORD);
    // Typed before the shell is there: it is kept for the shell.
    seat.type_in(b"echo \"<$((6*7)) $TERM $USER $HOME $0>\"; tty; stty size\r");
    seat.expect("<42 vt220 root /root -sh>");
    let terminal = seat.terminal.clone();
    seat.expect(&terminal);
    seat.expect("24 80");
    // The terminal is the shell's own: a key is a signal.
    seat.expect("# ");
    // The job itself says that it is in the foreground.
    seat.type_in(b"sh -c 'echo begun-$((1+1)); exec sleep 100'\r");
    seat.expect("begun-2");
    seat.type_in(b"\x03");
    seat.expect("# ");
    seat.type_in(b"exit 3\r");
    seat.expect("session   7d5c");
    seat.log_in(PASSWORD);
    seat.type_in(b"echo again-$((1+1))\r");
    seat.expect("again-2");
    assert!(!seat.shown.contains(PASSWORD), "{}", seat.shown);
}

#[test]
fn wrong_passwords_are_slowed_down_and_the_right_one_still_works() {
    let mut seat = Seat::new(Some(DOCUMENT), "{}");
    let mut start = Instant::now();
    for _ in 0..4 {
        start = Instant::now();
        seat.log_in("wrong");
        seat.expect("Login incorrect");
    }
    seat.expect("Too many wrong passwords: wait 2 s");
    seat.type_in(b"root\rcorrect horse\r");
    seat.expect("login: ");
    assert!(start.elapsed() >= Duration::from_millis(1800), "{:?}", start.elapsed());
    assert!(!seat.shows("Password: "), "what is typed during the wait is dropped");
    let table = std::fs::read_to_string(seat.root.path().join("run/rescue/throttle")).unwrap();
    assert!(table.contains(&format!("{} 4 ", seat.terminal.trim_start_matches("/dev/"))), "{table}");
    seat.type_in(b"\x03");
    seat.log_in(PASSWORD);
    seat.type_in(b"echo in-$((1+1))\r");
    seat.expect("in-2");
    assert!(!std::fs::read_to_string(seat.root.path().join("run/rescue/throttle")).unwrap().contains("pts/"));
}

#[test]
fn a_closed_door_says_why_and_opens_when_that_changes() {
    let reason = "device.json: logins[0].name: neither root nor admin";
    let mut seat = Seat::new(None, &format!(r#"{{"closed":"{reason}"}}"#));
    seat.expect("Nobody may log in: device.json:");
    assert!(!seat.shows("login: "));
    seat.type_in(b"root\r");
    seat.expect("Nobody may log in: ");
    assert!(!seat.shows("Password: "));
    init::accounts::plan(Some(&Document::parse(DOCUMENT.as_bytes()).unwrap()), Path::new("/bin/sh"))
        .apply(seat.root.path())
        .unwrap();
    report(seat.root.path(), r#"{"device":"srv-9"}"#);
    seat.expect("device    srv-9");
    seat.log_in(PASSWORD);
    seat.type_in(b"echo in-$((1+1))\r");
    seat.expect("in-2");
}

#[test]
fn without_credentials_no_name_and_password_let_in() {
    // Even where nothing says that the door is closed.
    let mut seat = Seat::new(None, "damaged");
    for password in [" ", "root", "!", "*", PASSWORD] {
        seat.log_in(password);
        seat.expect("Login incorrect");
        if seat.shows("wait") {
            break;
        }
    }
}

#[test]
fn noise_on_the_line_does_no_harm() {
    let mut seat = Seat::new(Some(DOCUMENT), "{}");
    seat.expect("login: ");
    let noise: Vec<u8> = (0..=255u8).filter(|b| !b"\r\n\x03\x04\x0c".contains(b)).collect();
    for _ in 0..200 {
        seat.type_in(&noise);
        seat.take();
    }
    seat.type_in(b"\x03");
    seat.expect("login: ");
    seat.type_in(b"\x04\x0c\x1b[A\xff\xfe\r\n");
    seat.expect("Password: ");
    seat.type_in(&vec![b'x'; 3000]);
    seat.type_in(b"\r");
    seat.expect("Login incorrect");
    seat.log_in(PASSWORD);
    seat.type_in(b"echo in-$((1+1))\r");
    seat.expect("in-2");
}

#[test]
fn a_terminal_that_goes_away_ends_the_process() {
    let mut seat = Seat::new(Some(DOCUMENT), "{}");
    seat.expect("login: ");
    seat.master = None;
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(status) = seat.console.try_wait().unwrap() {
            assert_eq!((status.code(), status.signal()), (Some(1), None));
            break;
        }
        assert!(Instant::now() < deadline, "it still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_console_that_was_killed_comes_back_and_takes_the_terminal_from_the_old_session() {
    let mut seat = Seat::new(Some(DOCUMENT), "{}");
    seat.log_in(PASSWORD);
    seat.expect("# ");
    seat.type_in(b"echo pid-$$-; echo do''ne\r");
    seat.expect("done");
    let at = seat.shown.rfind("pid-").unwrap();
    seat.read = at + 4 + seat.shown[at + 4..].find('-').unwrap() + 1;
    let text = &seat.shown[..seat.read - 1];
    let pid: u32 = text[text.rfind("pid-").unwrap() + 4..].parse().unwrap();
    seat.console.kill().unwrap();
    seat.console.wait().unwrap();
    assert!(Path::new(&format!("/proc/{pid}")).exists());
    seat.console = start(&seat.terminal, seat.root.path());
    seat.expect("login: ");
    let deadline = Instant::now() + LIMIT;
    let gone = || match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z "),
        Err(_) => true,
    };
    while !gone() {
        assert!(Instant::now() < deadline, "the old shell still runs");
        std::thread::sleep(Duration::from_millis(10));
    }
    seat.type_in(b"\x03");
    seat.log_in(PASSWORD);
    seat.type_in(b"echo in-$((1+1))\r");
    seat.expect("in-2");
}

#[test]
fn a_verb_that_nobody_reads_any_more_ends_as_it_would_otherwise() {
    for verb in [&["help"][..], &["completions", "bash"], &["status", "--json"], &["no-such-verb"]] {
        let run = |out: Stdio, err: Stdio| {
            Command::new(env!("CARGO_BIN_EXE_rescue")).args(verb).stdout(out).stderr(err).status().unwrap()
        };
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            Stdio::from(writer)
        };
        assert_eq!(run(closed(), closed()), run(Stdio::null(), Stdio::null()), "{verb:?}");
    }
}
