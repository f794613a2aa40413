//! Asking for a passphrase on the terminal, without showing it.

use std::io::{self, Write as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longest that can be typed (cryptsetup's own limit).
const LONGEST: usize = 512;

/// Puts the modes of stdin's terminal back.
struct Before(Termios);

impl Drop for Before {
    fn drop(&mut self) {
        let _ = tcsetattr(io::stdin(), OptionalActions::Flush, &self.0);
    }
}

/// Asks on stdin's terminal; `None` when that was cancelled by Ctrl-C or Ctrl-D. The keys are signals no
/// more meanwhile, so that the modes are put back whatever is typed.
///
/// # Errors
/// Those of the terminal.
pub fn ask(prompt: &str) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let stdin = std::io::stdin();
    let modes = tcgetattr(&stdin)?;
    let mut silent = modes.clone();
    silent.local_modes.remove(LocalModes::ECHO | LocalModes::ICANON | LocalModes::ISIG);
    tcsetattr(&stdin, OptionalActions::Flush, &silent)?;
    let before = Before(modes);
    let _ = write!(io::stderr(), "{prompt}");
    // Sized once: growing would leave copies of it behind.
    let mut typed = Zeroizing::new(Vec::with_capacity(LONGEST));
    let mut byte = Zeroizing::new([0u8]);
    let done = loop {
        if rustix::io::read(&stdin, &mut byte[..])? == 0 {
            break false;
        }
        let [key] = *byte;
        match key {
            b'\n' | b'\r' => break true,
            3 | 4 => break false,
            8 | 0x7f => drop(typed.pop()),
            0x15 => typed.clear(),
            _ if typed.len() < LONGEST => typed.push(key),
            _ => {}
        }
    };
    drop(before);
    let _ = writeln!(io::stderr());
    Ok(done.then_some(typed))
}
