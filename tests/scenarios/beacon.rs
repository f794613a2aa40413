//! A machine whose command line names a document on the web fetches it there, by HTTPS. The beacon in it is told
//! that the machine is ready, once the server is back, signed by its host key; what is secret of it is in no log.
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};

use crate::image::cpio_of;
use crate::lab::Lab;
use crate::process;
use crate::vm::limit;

/// Serves the document, and says what it is sent, a line of JSON each; the first is refused.
const SERVER: &str = r#"
import base64, http.server, json, ssl, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    answers = [503]
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        status = self.answers.pop(0) if self.answers else 204
        # Before the answer: who has seen that finds this in the log.
        print(json.dumps({"status": status, "body": body.decode(), "token": self.headers["Authorization"],
            "signature": base64.b64decode(self.headers["Rescue-Signature"]).decode()}), flush=True)
        self.send_response(status); self.send_header("Content-Length", "0"); self.end_headers()
    def do_GET(self):
        time.sleep(9) # until the SSH server is there with a key of its own making
        body = open(sys.argv[3], "rb").read()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *a): pass
server = http.server.HTTPServer(("192.0.2.1", 443), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1], sys.argv[2])
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listening", flush=True)
server.serve_forever()
"#;
const TOKEN: &str = "beacon-token-7f3a0c51d2e84b96a7c3";

pub(crate) fn run(lab: &Lab<'_>) -> anyhow::Result<()> {
    let device = lab.root_device()?;
    let mut document: serde_json::Value = serde_json::from_slice(&std::fs::read(&device.document)?)?;
    document["session"] =
        serde_json::json!({ "id": "7d5c", "beacon": { "url": "https://192.0.2.1/b", "token": TOKEN } });
    crate::device::write_private(&device.document, document.to_string().as_bytes())?;
    let (certificate, key) = (lab.path("cert.pem"), lab.path("key.pem"));
    let mut command = Command::new("openssl");
    command.args([
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-days",
        "2",
    ]);
    command.args(["-subj", "/CN=portal", "-addext", "subjectAltName=IP:192.0.2.1"]);
    command
        .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate);
    process::check(&mut command, limit(60))?;

    let network = lab.network()?;
    let cable = network.cable("t0", &["192.0.2.1/24"])?;
    let _dhcp = network.dnsmasq("t0", "192.0.2.50,192.0.2.50", &[])?;
    let mut command = network.command("python3");
    command.args(["-c", SERVER]).arg(&certificate).arg(&key).arg(&device.document);
    let portal = network.start(&mut command, "portal", "listening")?;

    let roots = cpio_of("/etc/ssl/certs/ca-certificates.crt", 0o644, &std::fs::read(&certificate)?)?;
    let sum = process::check(Command::new("sha256sum").arg(&device.document), limit(30))?;
    let digest = sum.split(' ').next().unwrap_or_default();
    let url = format!("rescue.device_url=https://192.0.2.1/device.json rescue.device_sha256={digest}");
    let vm = lab.standard_with(roots)?.append(&url).network(&network, vec![cable]).start()?;
    vm.ready_as(&device, "192.0.2.50")?;
    let guest = vm.ssh_in(&network, &device, "192.0.2.50")?;
    let sources = guest.ok("rescue status --sources")?;
    ensure!(sources.contains("https://192.0.2.1/device.json: "), "{sources}");
    guest.until("rescue log", |said| said.contains("sent: HTTP 204"))?;
    let heard: Vec<serde_json::Value> =
        portal.log().lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let statuses: Vec<Option<u64>> = heard.iter().map(|it| it["status"].as_u64()).collect();
    ensure!(statuses == [Some(503), Some(204)], "{heard:?}");
    let last = heard.last().context("nothing was heard")?;
    ensure!(last["token"] == format!("Bearer {TOKEN}"), "{last}");
    let body: serde_json::Value = serde_json::from_str(last["body"].as_str().unwrap_or_default())?;
    ensure!(
        body["event"] == "ready" && body["session"] == "7d5c" && body["ssh"] == "192.0.2.50:22",
        "{body}"
    );
    ensure!(body["hostkey"] == device.host_key_fingerprint, "{body}");
    verified(lab, &device.dir, last)?;
    super::secrets_stay_secret::nowhere(&vm, &guest, TOKEN)?;
    Ok(())
}

/// By the client that its reader has.
fn verified(lab: &Lab<'_>, keys: &Path, it: &serde_json::Value) -> anyhow::Result<()> {
    let (signers, signature) = (lab.path("signers"), lab.path("body.sig"));
    std::fs::write(&signers, format!("db7 {}", std::fs::read_to_string(keys.join("host_key.pub"))?))?;
    std::fs::write(&signature, it["signature"].as_str().unwrap_or_default())?;
    let mut command = Command::new("ssh-keygen");
    command
        .args(["-Y", "verify", "-n", "rescue-beacon", "-I", "db7", "-f"])
        .arg(&signers)
        .arg("-s")
        .arg(&signature);
    process::run(&mut command, it["body"].as_str().unwrap_or_default().as_bytes(), limit(30))?.ok()?;
    Ok(())
}
