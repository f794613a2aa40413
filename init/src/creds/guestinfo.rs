//! VMware's `guestinfo.metadata` and `guestinfo.userdata`, as cloud-init's DataSourceVMware takes them, asked of the
//! host by its RPC (open-vm-tools, `lib/message/message.c` and `lib/rpcOut`): a channel, a request in pieces of four
//! bytes, an answer in as many.

use super::base64;
use super::media::drive::join;
use super::part::{NetworkDocument, NetworkFormat, Part};
use super::translate::{archive, cloud_config, json_of};
use crate::sys::vmware::Registers;
use crate::tree::{self, Node};

/// `BDOOR_CMD_MESSAGE`, and its steps in the high half.
const MESSAGE: u32 = 0x1e;
const OPEN: u32 = 0;
const SEND_SIZE: u32 = 1;
const SEND: u32 = 2;
const HEAR_SIZE: u32 = 3;
const HEAR: u32 = 4;
const HEARD: u32 = 5;
const CLOSE: u32 = 6;
/// `RPCI`, with cookies.
const PROTOCOL: u32 = 0x4943_5052 | 0x8000_0000;
/// Statuses of an answer.
const SUCCESS: u32 = 1;
const WAITING: u32 = 2;
/// Longest answer, in bytes.
const MAX_ANSWER: u32 = 1 << 20;

/// Who is called.
pub type Door<'d> = &'d mut dyn FnMut(&mut Registers);

/// A channel to the host.
struct Channel<'d> {
    door: Door<'d>,
    /// As the host has opened it: its number, and its cookie.
    registers: Registers,
}

impl<'d> Channel<'d> {
    fn open(door: Door<'d>) -> Option<Self> {
        let mut registers = Registers { ebx: PROTOCOL, ecx: OPEN << 16 | MESSAGE, ..Registers::default() };
        door(&mut registers);
        let open = registers.ecx >> 16 & SUCCESS != 0;
        open.then_some(Self { door, registers })
    }

    /// Takes a step with a number; what comes back, if it went well.
    fn step(&mut self, step: u32, number: u32) -> Option<Registers> {
        let mut registers = Registers { ebx: number, ecx: step << 16 | MESSAGE, ..self.registers };
        (self.door)(&mut registers);
        (registers.ecx >> 16 & SUCCESS != 0).then_some(registers)
    }

    fn ask(&mut self, request: &[u8]) -> Option<Vec<u8>> {
        self.step(SEND_SIZE, u32::try_from(request.len()).ok()?)?;
        for piece in request.chunks(4) {
            let mut word = [0; 4];
            word.get_mut(..piece.len())?.copy_from_slice(piece);
            self.step(SEND, u32::from_le_bytes(word))?;
        }
        // What the host sends is called as what a guest would.
        let answer = self.step(HEAR_SIZE, 0)?;
        let size = answer.ebx;
        // One that is longer is not even begun.
        if answer.ecx >> 16 & WAITING == 0 || answer.edx >> 16 != SEND_SIZE || size > MAX_ANSWER {
            return None;
        }
        let mut bytes = Vec::new();
        for _ in 0..size.div_ceil(4) {
            let piece = self.step(HEAR, SUCCESS).filter(|piece| piece.edx >> 16 == SEND)?;
            bytes.extend(piece.ebx.to_le_bytes());
        }
        bytes.truncate(usize::try_from(size).ok()?);
        self.step(HEARD, SUCCESS)?;
        Some(bytes)
    }
}

impl Drop for Channel<'_> {
    fn drop(&mut self) {
        self.step(CLOSE, 0);
    }
}

/// Whether there is a host behind the door.
pub fn answers(door: Door<'_>) -> bool {
    Channel::open(door).is_some()
}

/// Who is asked for a variable by its name.
pub type Get<'g> = &'g mut dyn FnMut(&str) -> Result<Option<Vec<u8>>, String>;

/// The value of a variable; `None` where it has none.
///
/// # Errors
/// When the host does not answer, or breaks off.
pub fn variable(door: Door<'_>, name: &str) -> Result<Option<Vec<u8>>, String> {
    let mut channel = Channel::open(door).ok_or("the host does not answer")?;
    let answer = channel.ask(format!("info-get {name}").as_bytes());
    let answer = answer.ok_or_else(|| format!("{name}: the host has broken off"))?;
    // "1 " and the value, or "0 " and why there is none.
    Ok(answer
        .strip_prefix(b"1 ")
        .map(|value| value.trim_ascii_end().to_vec())
        .filter(|value| !value.is_empty()))
}

/// What the variables say; `None` where there are none.
///
/// # Errors
/// What is there and malformed.
pub fn read(get: Get<'_>) -> Result<Option<Part>, String> {
    let mut decoded = |name: &str| -> Result<Option<Vec<u8>>, String> {
        let Some(value) = get(name)? else { return Ok(None) };
        let encoding = get(&format!("{name}.encoding"))?.unwrap_or_default();
        decode(&value, &encoding).map(Some).map_err(|why| format!("{name}: {why}"))
    };
    let (meta_data, user_data) = (decoded("guestinfo.metadata")?, decoded("guestinfo.userdata")?);
    if meta_data.is_none() && user_data.is_none() {
        return Ok(None);
    }
    let mut part = Part::default();
    if let Some(bytes) = meta_data {
        let said = |why: String| format!("guestinfo.metadata: {why}");
        part = cloud_config::meta_data(&bytes).map_err(said)?;
        if let Some(network) = network(&bytes).map_err(said)? {
            part.network.insert(0, NetworkDocument::one(NetworkFormat::CloudInit, "network", &network));
        }
    }
    if let Some(bytes) = user_data {
        let user = cloud_config::user_data(&bytes).map_err(|why| format!("guestinfo.userdata: {why}"))?;
        part = join(user, part);
    }
    Ok(Some(part))
}

/// `base64` and `gzip+base64`, by each of the names that cloud-init knows.
fn decode(value: &[u8], encoding: &[u8]) -> Result<Vec<u8>, String> {
    let plain = || base64::decode(value).ok_or_else(|| String::from("not base64, as its encoding says"));
    match encoding.to_ascii_lowercase().as_slice() {
        b"" => Ok(value.to_vec()),
        b"base64" | b"b64" => plain(),
        b"gzip+base64" | b"gz+b64" => archive::gunzip(&plain()?, MAX_ANSWER as usize),
        _ => Err("in an encoding that is not known".into()),
    }
}

/// The network in it: a mapping, its `config`, or either as text in an encoding.
fn network(meta_data: &[u8]) -> Result<Option<Vec<u8>>, String> {
    let root = tree::yaml(meta_data).map_err(|error| error.to_string())?;
    let network = root.get("network");
    let (config, encoding) = match network.get("config") {
        Node::Null => (network, root.get("network.encoding")),
        config => (config, network.get("encoding")),
    };
    match config {
        Node::Null => Ok(None),
        Node::Text(text) => {
            let encoding = encoding.text().unwrap_or_default();
            decode(text.as_bytes(), encoding.as_bytes()).map(Some).map_err(|why| format!("network: {why}"))
        }
        config => Ok(Some(json_of(config).to_string().into_bytes())),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// A host as open-vm-tools expects it, with these variables.
    #[derive(Default)]
    struct Host {
        variables: BTreeMap<&'static str, Vec<u8>>,
        left: u32,
        asked: Vec<u8>,
        answer: Vec<u8>,
        at: usize,
        open: i32,
    }

    impl Host {
        fn call(&mut self, r: &mut Registers) {
            assert_eq!(r.ecx & 0xffff, MESSAGE);
            let step = r.ecx >> 16;
            let mut status = SUCCESS;
            if step != OPEN {
                assert_eq!((r.edx >> 16, r.esi, r.edi), (7, 0xc00c, 0x1e), "the channel");
            }
            match step {
                OPEN => {
                    assert_eq!(r.ebx, PROTOCOL);
                    self.open += 1;
                    (r.edx, r.esi, r.edi) = (7 << 16, 0xc00c, 0x1e);
                }
                SEND_SIZE => (self.left, self.asked) = (r.ebx, Vec::new()),
                SEND => {
                    let length = self.left.min(4);
                    self.asked.extend(&r.ebx.to_le_bytes()[..usize::try_from(length).unwrap()]);
                    self.left -= length;
                }
                HEAR_SIZE => {
                    assert_eq!(self.left, 0);
                    let name = self.asked.strip_prefix(b"info-get ").map(String::from_utf8_lossy).unwrap();
                    self.answer = match self.variables.get(&*name) {
                        Some(value) => [b"1 ", value.as_slice()].concat(),
                        None => b"0 No value found".to_vec(),
                    };
                    self.at = 0;
                    (r.ebx, r.edx) = (u32::try_from(self.answer.len()).unwrap(), SEND_SIZE << 16);
                    status |= WAITING;
                }
                HEAR => {
                    let mut word = [0; 4];
                    let piece = &self.answer[self.at..self.answer.len().min(self.at + 4)];
                    word[..piece.len()].copy_from_slice(piece);
                    self.at += 4;
                    (r.ebx, r.edx) = (u32::from_le_bytes(word), SEND << 16);
                }
                HEARD => assert_eq!(r.ebx, SUCCESS),
                CLOSE => self.open -= 1,
                other => panic!("step {other}"),
            }
            r.ecx = r.ecx & 0xffff | status << 16;
        }
    }

    fn said(variables: &[(&'static str, &str)]) -> Result<Option<Part>, String> {
        let variables = variables.iter().map(|(name, value)| (*name, value.as_bytes().to_vec())).collect();
        let mut host = Host { variables, ..Host::default() };
        let part = read(&mut |name| variable(&mut |r| host.call(r), name));
        assert_eq!(host.open, 0, "channels are closed");
        part
    }

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIHcKXvHJEvGqMNTAb/cgp0UGYa/Ze7DIwXbvAMyRPMF a";

    #[test]
    fn what_the_host_says_is_taken() {
        assert_eq!(said(&[]), Ok(None));
        let user = format!("#cloud-config\nssh_authorized_keys: [\"{KEY}\"]\n");
        let meta = "instance-id: i-7\nlocal-hostname: db7\nnetwork:\n  version: 2\n  ethernets: {a: {dhcp4: true}}\n";
        let part = said(&[("guestinfo.metadata", meta), ("guestinfo.userdata", &user)]).unwrap().unwrap();
        assert_eq!(part.document.device.hostname.as_deref(), Some("db7"));
        assert_eq!(part.document.logins.len(), 1);
        let network = String::from_utf8(part.network[0].files[0].1.clone()).unwrap();
        assert!(network.contains(r#""dhcp4":"true""#) && network.contains(r#""version":"2""#), "{network}");
        // gzip and base64 of `instance-id: i-8`, with the network in an encoding of its own.
        let meta = "instance-id: i-8\nnetwork: dmVyc2lvbjogMgo=\nnetwork.encoding: base64\n";
        let part = said(&[("guestinfo.metadata", meta)]).unwrap().unwrap();
        assert_eq!(part.document.device.id.as_deref(), Some("i-8"));
        assert_eq!(part.network[0].files[0].1, b"version: 2\n");
        let packed = "H4sIAAAAAAACA8vMKy5JzEtO1c1MsVLI1LXgAgCL01HsEQAAAA==";
        for encoding in ["gzip+base64", "gz+b64"] {
            let variables = [("guestinfo.metadata", packed), ("guestinfo.metadata.encoding", encoding)];
            match said(&variables) {
                Ok(part) => assert_eq!(part.unwrap().document.device.id.as_deref(), Some("i-8")),
                Err(why) => panic!("{why}"),
            }
        }
    }

    #[test]
    fn what_is_malformed_is_refused_and_a_host_that_breaks_off_is_nobody() {
        for variables in [
            [("guestinfo.metadata", "[1, 2]"), ("x", "")],
            [("guestinfo.metadata", "***"), ("guestinfo.metadata.encoding", "base64")],
            [("guestinfo.metadata", "a: b"), ("guestinfo.metadata.encoding", "rot13")],
            [("guestinfo.userdata", "#cloud-config\n{"), ("x", "")],
        ] {
            let why = said(&variables).unwrap_err();
            assert!(why.starts_with(variables[0].0), "{why}");
        }
        // No such hardware: a port without anything reads as all ones, and changes nothing else.
        assert!(!answers(&mut |_| {}) && answers(&mut |r| Host::default().call(r)));
        assert!(variable(&mut |_| {}, "guestinfo.metadata").is_err());
        assert!(variable(&mut |r| r.ebx = u32::MAX, "guestinfo.metadata").is_err());
        // Each step may fail, and each ends.
        for fails in 0..24 {
            let mut host = Host::default();
            host.variables.insert("guestinfo.metadata", b"instance-id: i-7".to_vec());
            let mut count = 0;
            let got = variable(
                &mut |r| {
                    host.call(r);
                    if count == fails {
                        r.ecx &= 0xffff;
                    }
                    count += 1;
                },
                "guestinfo.metadata",
            );
            // The last step closes the channel, and nothing hangs on it.
            assert_eq!(got.is_ok(), fails >= count - 1, "{fails} of {count}");
        }
        // An answer without end is not begun.
        let endless = variable(
            &mut |r| {
                let step = r.ecx >> 16;
                (r.ecx, r.ebx) = (r.ecx & 0xffff | 3 << 16, u32::MAX);
                r.edx = if step == HEAR_SIZE { SEND_SIZE << 16 } else { 7 << 16 };
            },
            "guestinfo.metadata",
        );
        assert!(endless.is_err());
    }
}
