//! Standard input and output without a buffer in between: for programs that speak a protocol on them
//! and bring buffers of their own.

use std::io::{self, Read, Write};

/// Standard input.
#[derive(Debug)]
pub struct Input;

/// Standard output.
#[derive(Debug)]
pub struct Output;

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(io::stdin(), buffer)?)
    }
}

impl Write for Output {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(rustix::io::write(io::stdout(), data)?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
