//! Numbers and strings of the SFTP wire (draft-ietf-secsh-filexfer-02 sections 3 to 5), packet codes and
//! status codes. Strings are bytes: a name on a disk need not be UTF-8.

/// Largest packet in bytes without its length, either way. OpenSSH's `SFTP_MAX_MSG_LENGTH`.
pub(super) const MAX_PACKET: usize = 256 << 10;
/// Most bytes of a file in one request: what fits into a packet beside the rest of it.
pub(super) const MAX_DATA: usize = MAX_PACKET - 1024;

/// Packet codes.
pub(super) mod kind {
    pub(crate) const INIT: u8 = 1;
    pub(crate) const VERSION: u8 = 2;
    pub(crate) const OPEN: u8 = 3;
    pub(crate) const CLOSE: u8 = 4;
    pub(crate) const READ: u8 = 5;
    pub(crate) const WRITE: u8 = 6;
    pub(crate) const LSTAT: u8 = 7;
    pub(crate) const FSTAT: u8 = 8;
    pub(crate) const SETSTAT: u8 = 9;
    pub(crate) const FSETSTAT: u8 = 10;
    pub(crate) const OPENDIR: u8 = 11;
    pub(crate) const READDIR: u8 = 12;
    pub(crate) const REMOVE: u8 = 13;
    pub(crate) const MKDIR: u8 = 14;
    pub(crate) const RMDIR: u8 = 15;
    pub(crate) const REALPATH: u8 = 16;
    pub(crate) const STAT: u8 = 17;
    pub(crate) const RENAME: u8 = 18;
    pub(crate) const READLINK: u8 = 19;
    pub(crate) const SYMLINK: u8 = 20;
    pub(crate) const STATUS: u8 = 101;
    pub(crate) const HANDLE: u8 = 102;
    pub(crate) const DATA: u8 = 103;
    pub(crate) const NAME: u8 = 104;
    pub(crate) const ATTRS: u8 = 105;
    pub(crate) const EXTENDED: u8 = 200;
    pub(crate) const EXTENDED_REPLY: u8 = 201;
}

/// What a status says, by its code (section 7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Code {
    Ok = 0,
    Eof = 1,
    NoSuchFile = 2,
    PermissionDenied = 3,
    Failure = 4,
    BadMessage = 5,
    Unsupported = 8,
}

impl Code {
    /// OpenSSH's words for it.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Ok => "Success",
            Self::Eof => "End of file",
            Self::NoSuchFile => "No such file",
            Self::PermissionDenied => "Permission denied",
            Self::Failure => "Failure",
            Self::BadMessage => "Bad message",
            Self::Unsupported => "Operation unsupported",
        }
    }
}

/// A packet ends before what it must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Short;

/// Takes a packet apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Short> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(Short)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, Short> {
        self.take(1)?.first().copied().ok_or(Short)
    }

    pub(super) fn number(&mut self) -> Result<u32, Short> {
        let bytes = self.take(4)?.try_into().map_err(|_| Short)?;
        Ok(u32::from_be_bytes(bytes))
    }

    pub(super) fn long(&mut self) -> Result<u64, Short> {
        let bytes = self.take(8)?.try_into().map_err(|_| Short)?;
        Ok(u64::from_be_bytes(bytes))
    }

    pub(super) fn string(&mut self) -> Result<&'a [u8], Short> {
        let length = usize::try_from(self.number()?).map_err(|_| Short)?;
        self.take(length)
    }
}

/// Packets that wait to be written, one after another.
#[derive(Debug, Default)]
pub(super) struct Out {
    pub(super) bytes: Vec<u8>,
}

/// Where a packet begins whose length is not known yet.
#[derive(Debug, Clone, Copy)]
pub(super) struct Begun(usize);

impl Out {
    /// Begins a packet.
    pub(super) fn begin(&mut self, kind: u8, id: u32) -> Begun {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        self.bytes.push(kind);
        self.number(id);
        Begun(at)
    }

    /// Ends it: its length is written where it belongs.
    pub(super) fn end(&mut self, Begun(at): Begun) {
        let length = self.bytes.len().saturating_sub(at + 4);
        self.put(at, u32::try_from(length).unwrap_or(u32::MAX));
    }

    /// Overwrites four bytes.
    pub(super) fn put(&mut self, at: usize, number: u32) {
        if let Some(place) = self.bytes.get_mut(at..at + 4) {
            place.copy_from_slice(&number.to_be_bytes());
        }
    }

    pub(super) fn number(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn long(&mut self, number: u64) {
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    pub(super) fn string(&mut self, string: &[u8]) {
        self.number(u32::try_from(string.len()).unwrap_or(u32::MAX));
        self.bytes.extend_from_slice(string);
    }

    pub(super) fn status(&mut self, id: u32, code: Code, text: &str) {
        let begun = self.begin(kind::STATUS, id);
        self.number(code as u32);
        self.string(text.as_bytes());
        self.string(b"");
        self.end(begun);
    }
}
