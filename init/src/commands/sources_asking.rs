//! A source that takes its time, asked beside everything else.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, TryRecvError, channel};

use rescue_schema::report::CredentialState;

use crate::creds::Said;

/// Somebody who asks.
pub(super) struct Asking {
    /// What is known until there is an answer.
    pub(super) so_far: Said,
    answer: Receiver<Said>,
    /// Closed when there is one.
    done: OwnedFd,
}

impl Asking {
    /// Begins to do `work`, which ends in what the source says; `so_far` is where nothing can be begun.
    pub(super) fn begin(
        so_far: Said,
        work: impl FnOnce() -> Said + Send + 'static,
    ) -> Result<Self, Box<Said>> {
        let Ok((done, held)) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC) else {
            return Err(Box::new(so_far));
        };
        let (sender, answer) = channel();
        let work = move || {
            let _ = sender.send(work());
            drop(held);
        };
        match std::thread::Builder::new().stack_size(512 << 10).spawn(work) {
            Ok(_) => Ok(Self { so_far, answer, done }),
            Err(_) => Err(Box::new(so_far)),
        }
    }

    /// Whether something is known to be there; else only a route by DHCP may yet tell so.
    pub(super) fn is_sure(&self) -> bool {
        self.so_far.state == CredentialState::Waiting
    }

    /// What came of it, if it is over.
    pub(super) fn answer(&self) -> Option<Said> {
        match self.answer.try_recv() {
            Ok(said) => Some(said),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Said::refused(&self.so_far.source, "who asks it has failed"))
            }
        }
    }
}

impl AsFd for Asking {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.done.as_fd()
    }
}
