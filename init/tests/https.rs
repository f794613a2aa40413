//! The beacon, sent to a real HTTPS server that is down at first, its signature checked by ssh-keygen; and the
//! document at `rescue.device_url=`, fetched from one. Needs root, python3, openssl, sha256sum and ssh-keygen.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Binds, and listens once it is told to; says what it was sent as one line of JSON.
const SERVER: &str = r#"
import base64, http.server, json, socket, ssl, sys
class Handler(http.server.BaseHTTPRequestHandler):
    answers = [503, 200]
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop(0)
        self.send_response(status); self.send_header("Content-Length", "0"); self.end_headers()
        print(json.dumps({"status": status, "path": self.path, "body": body.decode(),
            "token": self.headers["Authorization"],
            "signature": base64.b64decode(self.headers["Rescue-Signature"]).decode()}), flush=True)
    def do_GET(self):
        status = self.answers.pop(0) if self.answers else 200
        body = open(sys.argv[3], "rb").read() if self.path == "/device.json?a=b" else b""
        status = status if body else 404
        self.send_response(status); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
server = http.server.HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.server_bind()
print(server.server_address[1], flush=True)
sys.stdin.readline()
if sys.argv[1] != "plain":
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    server.socket = context.wrap_socket(server.socket, server_side=True)
server.server_activate()
server.serve_forever()
"#;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn tool(program: &str, args: &[&str]) {
    let out = Command::new(program).args(args).output().unwrap_or_else(|e| panic!("running {program}: {e}"));
    assert!(out.status.success(), "{program}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A machine as files, whose beacon goes to `host:port`, and a certificate for `name`.
fn machine(folder: &Path, name: &str) {
    let at = |path: &str| folder.join(path).to_string_lossy().into_owned();
    for path in ["run/rescue", "etc/ssh", "etc/ssl/certs"] {
        std::fs::create_dir_all(folder.join(path)).unwrap();
    }
    tool("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &at("etc/ssh/ssh_host_ed25519_key")]);
    let (certificate, key) = (at("etc/ssl/certs/ca-certificates.crt"), at("key.pem"));
    let subject = format!("subjectAltName=DNS:{name}");
    tool(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=portal",
            "-addext",
            &subject,
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
    );
    std::fs::write(folder.join("etc/hosts"), "127.0.0.1 portal.example other.example\n").unwrap();
    let boot = r#"{"session":"7d5c","device":"srv-0142","logins":["root"],"ready":{"ms":900,
        "ssh":"192.0.2.7:22","hostkey":"SHA256:abc"}}"#;
    std::fs::write(folder.join("run/rescue/boot.json"), boot).unwrap();
    let net = r#"{"links":[{"name":"eth0","addresses":["192.0.2.7/24"]}]}"#;
    std::fs::write(folder.join("run/rescue/net.json"), net).unwrap();
}

fn serve(folder: &Path, scheme: &str) -> (Ended, BufReader<std::process::ChildStdout>, u16) {
    let mut command = Command::new("python3");
    let certificate = folder.join("etc/ssl/certs/ca-certificates.crt");
    command.args(["-c", SERVER]).arg(if scheme == "https" { certificate } else { "plain".into() });
    command
        .arg(folder.join("key.pem"))
        .arg(folder.join("device.json"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().expect("running python3");
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();
    (Ended(child), out, line.trim().parse().unwrap())
}

fn begin(folder: &Path, host: &str, port: u16) -> (Ended, BufReader<std::process::ChildStdout>) {
    begin_with(folder, &serde_json::json!({"url": format!("https://{host}:{port}/b?x=1"), "token": "t0ken"}))
}

fn begin_with(folder: &Path, wishes: &serde_json::Value) -> (Ended, BufReader<std::process::ChildStdout>) {
    std::fs::write(folder.join("run/rescue/beacon.json"), wishes.to_string()).unwrap();
    let mut beacon = Command::new(env!("CARGO_BIN_EXE_rescue"));
    beacon.args(["beacon", "--root"]).arg(folder).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = beacon.spawn().unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (Ended(child), out)
}

#[test]
fn it_arrives_when_the_server_is_back_and_its_signature_holds() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    machine(folder, "portal.example");
    let (mut server, mut heard, port) = serve(folder, "https");
    let (_beacon, mut said) = begin(folder, "portal.example", port);
    let mut line = String::new();
    said.read_line(&mut line).unwrap();
    assert!(line.contains("not sent: connecting to 127.0.0.1") && line.contains("again in 1 s"), "{line}");
    server.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let mut received = Vec::new();
    for status in [503, 200] {
        let mut line = String::new();
        heard.read_line(&mut line).unwrap();
        let it: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!((it["status"].as_u64(), it["path"].as_str()), (Some(status), Some("/b?x=1")));
        received.push(it);
    }
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("HTTP 503; again") && rest.ends_with("sent: HTTP 200\n"), "{rest}");
    assert!(!rest.contains("t0ken"), "{rest}");
    let last = &received[1];
    assert_eq!(last["token"].as_str(), Some("Bearer t0ken"));
    let text = last["body"].as_str().unwrap();
    let body: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!((body["event"].as_str(), body["session"].as_str()), (Some("ready"), Some("7d5c")));
    assert_eq!(body["hostkey"].as_str(), Some("SHA256:abc"));
    assert_eq!(body["addresses"][0].as_str(), Some("192.0.2.7/24"));
    let public = std::fs::read_to_string(folder.join("etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
    std::fs::write(folder.join("signers"), format!("db7 {public}")).unwrap();
    std::fs::write(folder.join("body.sig"), last["signature"].as_str().unwrap()).unwrap();
    let verify = |message: &str| {
        let mut command = Command::new("ssh-keygen");
        command.args(["-Y", "verify", "-n", "rescue-beacon", "-I", "db7", "-f"]).arg(folder.join("signers"));
        command.arg("-s").arg(folder.join("body.sig")).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(message.as_bytes()).unwrap();
        child.wait().unwrap().success()
    };
    assert!(verify(text));
    assert!(!verify(&text.replace("7d5c", "7d5d")));
}

#[test]
fn nothing_is_said_to_a_server_of_another_name() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    machine(folder, "portal.example");
    let (mut server, _heard, port) = serve(folder, "https");
    server.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let (_beacon, mut said) = begin(folder, "other.example", port);
    // The server may not listen yet.
    loop {
        let mut line = String::new();
        assert_ne!(said.read_line(&mut line).unwrap(), 0);
        assert!(line.starts_with("not sent: "), "{line}");
        if line.contains("certificate") {
            break;
        }
    }
}

#[test]
fn an_authority_that_is_pinned_is_the_only_one() {
    let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let folder = folder.path();
    machine(folder, "portal.example");
    machine(other.path(), "portal.example");
    let pem =
        |folder: &Path| std::fs::read_to_string(folder.join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    let (right, wrong) = (pem(folder), pem(other.path()));
    let (mut server, _heard, port) = serve(folder, "https");
    server.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    let url = format!("https://portal.example:{port}/b");
    // The image's own would vouch for it.
    for (ca, said) in
        [(wrong.as_str(), "certificate"), ("none", "no certificate"), (right.as_str(), "HTTP 503")]
    {
        let (_beacon, mut out) = begin_with(folder, &serde_json::json!({"url": url, "ca": ca}));
        // The server may not listen yet.
        loop {
            let mut line = String::new();
            assert_ne!(out.read_line(&mut line).unwrap(), 0, "{said}");
            assert!(line.starts_with("not sent: "), "{line}");
            if line.contains(said) {
                break;
            }
            assert!(line.contains("connecting"), "{said}: {line}");
        }
    }
}

/// What `rescue sources` says of the document at `url`, of which this is the digest.
fn fetched(folder: &Path, url: &str, digest: &str) -> String {
    std::fs::create_dir_all(folder.join("proc")).unwrap();
    let line = format!("quiet rescue.metadata=off rescue.device_url={url} rescue.device_sha256={digest}\n");
    std::fs::write(folder.join("proc/cmdline"), line).unwrap();
    let net = r#"{"links":[{"name":"eth0","carrier":true,"addresses":["fe80::1/64","192.0.2.7/24"]}]}"#;
    std::fs::write(folder.join("run/rescue/net.json"), net).unwrap();
    let mut sources = Command::new(env!("CARGO_BIN_EXE_rescue"));
    let out = sources.args(["sources", "--root"]).arg(folder).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let said = text.lines().rfind(|line| line.starts_with("device_url: ")).map(str::to_string);
    said.unwrap_or_else(|| panic!("{text}"))
}

#[test]
fn the_document_that_was_meant_is_fetched_and_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    machine(folder, "portal.example");
    let document = br#"{"version":1,"device":{"id":"srv-7"},"logins":[{"name":"root","authorized_keys":["ssh-ed25519 A"]}]}"#;
    std::fs::write(folder.join("device.json"), document).unwrap();
    let sum = Command::new("sha256sum").arg(folder.join("device.json")).output().unwrap();
    let digest = String::from_utf8(sum.stdout).unwrap()[..64].to_string();
    for scheme in ["https", "http"] {
        let (mut server, _heard, port) = serve(folder, scheme);
        server.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        let place = format!("{scheme}://portal.example:{port}/device.json");
        // The server refuses at first, which is tried again.
        let said = fetched(folder, &format!("{place}?a=b"), &digest);
        assert_eq!(
            said,
            format!("device_url: found: {place}: device srv-7, logins root, 0 host key(s), 0 link(s)")
        );
        let said = fetched(folder, &format!("{place}?a=b"), &digest.replace('a', "b"));
        assert!(said.starts_with("device_url: refused: ") && said.contains("not the SHA-256"), "{said}");
        let said = fetched(folder, &place, &digest);
        assert_eq!(said, format!("device_url: refused: {place}: HTTP 404"));
    }
}

/// What SoftLayer's service is, alone in a network where that name is this machine's.
const SOFTLAYER: &str = r##"
import http.server, os, ssl, subprocess, sys
ANSWERS = {"getId": '47110815', "getHostname": '"db7"', "getDomain": '"example.net"',
    "getUserMetadata": '"#cloud-config\\nssh_authorized_keys: [\\"' + sys.argv[5] + '\\"]\\n"'}
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        name = self.path.removeprefix("/rest/v3.1/SoftLayer_Resource_Metadata/").removesuffix(".json")
        body = ANSWERS.get(name, "").encode()
        self.send_response(200 if body else 404); self.send_header("Content-Length", str(len(body)))
        self.end_headers(); self.wfile.write(body)
    def log_message(self, *a): pass
subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
server = http.server.HTTPServer(("127.0.0.1", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
if os.fork() == 0:
    server.serve_forever()
server.socket.close()
out = subprocess.run([sys.argv[3], "sources", "--root", sys.argv[4]], stdout=subprocess.PIPE).stdout
sys.stdout.buffer.write(out); sys.stdout.flush()
os.killpg(0, 15)
"##;

#[test]
fn softlayers_service_is_asked_where_the_command_line_names_it() {
    use std::os::unix::process::CommandExt;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    machine(folder, "api.service.softlayer.com");
    std::fs::write(folder.join("etc/hosts"), "127.0.0.1 api.service.softlayer.com\n").unwrap();
    std::fs::create_dir_all(folder.join("proc")).unwrap();
    std::fs::write(folder.join("proc/cmdline"), "quiet rescue.metadata=softlayer\n").unwrap();
    let net = r#"{"links":[{"name":"eth0","carrier":true,"addresses":["10.0.0.7/26"]}]}"#;
    std::fs::write(folder.join("run/rescue/net.json"), net).unwrap();
    let key = std::fs::read_to_string(folder.join("etc/ssh/ssh_host_ed25519_key.pub")).unwrap();
    let mut command = Command::new("unshare");
    command.args(["-n", "python3", "-c", SOFTLAYER]).arg(folder.join("etc/ssl/certs/ca-certificates.crt"));
    command.arg(folder.join("key.pem")).arg(env!("CARGO_BIN_EXE_rescue")).arg(folder).arg(key.trim());
    // Its server ends with it.
    let out = command.process_group(0).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8(out.stdout).unwrap();
    let said =
        text.lines().find(|line| line.starts_with("metadata service: ")).unwrap_or_else(|| panic!("{text}"));
    let expected =
        "metadata service: found: SoftLayer: device 47110815, logins root, 0 host key(s), 0 link(s)";
    assert_eq!(said, expected, "{text}{}", String::from_utf8_lossy(&out.stderr));
}
