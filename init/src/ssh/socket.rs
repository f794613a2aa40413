//! The client's socket as russh reads it: in large pieces, and acknowledged at once while the client
//! logs in.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes read at once. russh asks for a packet's length and then for its rest; with this many it is one
/// call for two packets of the largest size, or for all that a client sends in a step of its login.
const PIECE: usize = 64 << 10;
/// Reads that are acknowledged at once. OpenSSH's client turns Nagle's algorithm off only when its
/// session has started: until then its second small message in a row waits for our acknowledgement,
/// which the kernel holds back for 40 ms where it expects an answer to carry it. A login with a dozen
/// keys tried has some forty reads.
const PROMPT_READS: u32 = 64;

/// A client's connection.
pub(super) struct Socket {
    stream: TcpStream,
    piece: Vec<u8>,
    taken: usize,
    prompt: u32,
    /// Bytes that will be written and have been already.
    said: usize,
}

impl Socket {
    /// `said` bytes of what is written first the client has got from the listener.
    pub(super) fn new(stream: TcpStream, said: usize) -> Self {
        Self { stream, piece: Vec::new(), taken: 0, prompt: PROMPT_READS, said }
    }

    /// Makes the piece hold bytes, unless the client sends no more.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.taken < self.piece.len() {
            return Poll::Ready(Ok(()));
        }
        self.piece.clear();
        self.taken = 0;
        self.piece.reserve_exact(PIECE);
        ready!(pin!(self.stream.read_buf(&mut self.piece)).poll(context))?;
        if self.prompt > 0 {
            self.prompt -= 1;
            // Without it the login is slower and nothing else.
            let _ = rustix::net::sockopt::set_tcp_quickack(&self.stream, true);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let socket = self.get_mut();
        ready!(socket.fill(context))?;
        let waiting = socket.piece.get(socket.taken..).unwrap_or_default();
        let taken = waiting.len().min(buffer.remaining());
        buffer.put_slice(waiting.get(..taken).unwrap_or_default());
        socket.taken += taken;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        data: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.said > 0 {
            let skipped = self.said.min(data.len());
            self.said -= skipped;
            return Poll::Ready(Ok(skipped));
        }
        Pin::new(&mut self.stream).poll_write(context, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
