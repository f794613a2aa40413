"""Metadata services as they are, and as they should not be, at one address: server.py KIND ADDRESS.

Each request is a line on stderr. Answers come from `translate/testdata` where a document is all there is, with the
Ed25519 key that KEY holds in the place of theirs.
"""

import json
import os
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

KIND, ADDRESS = sys.argv[1:3]
HERE = os.path.dirname(os.path.abspath(__file__))
DATA = os.path.join(HERE, "../../src/creds/translate/testdata")
THEIRS = "AAAAC3NzaC1lZDI1NTE5AAAAIJ4tG0pZ7Jmq0bRZ6vYf3XQm2Wk1cN8uT5sLh0dEaPqO"
KEY = os.environ.get("KEY", f"ssh-ed25519 {THEIRS} me@laptop")
META = {"uuid": "8f3b1c52-0b1e-4a7c-9a52-5f1c9b6d7e01", "hostname": "db7.novalocal",
        "public_keys": {"mine": KEY + "\n"}, "keys": [{"name": "mine", "type": "ssh", "data": KEY}]}
TOKEN = "AQAEAKdKeRNI8nGqXlhfLkkK2cK9Y3y2jCDsD_rA-mDbhkXR5gqJBQ=="
EC2 = {
    "instance-id": "i-0abcdef1234567890",
    "local-hostname": "ip-10-0-0-12.eu-central-1.compute.internal",
    "public-keys/": "0=laptop\n1=bastion",
    "public-keys/0/openssh-key": KEY + "\n",
    "public-keys/1/openssh-key": "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAABgQDbastion ops@bastion\n",
}
begun = time.monotonic()


def data(name):
    with open(os.path.join(DATA, name), encoding="utf-8") as file:
        return file.read().replace(THEIRS, KEY.split()[1])


class Service(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, _, *args):
        print(self.headers.get("Host"), *args, file=sys.stderr, flush=True)

    def say(self, status, body=b"", headers=(), kind="text/plain"):
        body = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def nothing(self):
        # What most of them say is made for people.
        self.say(404, "<html><title>404: Not Found</title></html>", kind="text/html")

    def openstack(self):
        path = self.path.removeprefix("/openstack/latest/")
        pages = {
            "meta_data.json": json.dumps(META),
            "network_data.json": json.dumps({"links": [{"id": "tap0", "type": "ovs", "ethernet_mac_address": "02:00:00:00:00:00"}],
                                             "networks": [{"id": "n0", "link": "tap0", "type": "ipv4_dhcp"}], "services": []}),
            "user_data": "#!/bin/sh\nreboot\n",
        }
        if path in pages:
            # Its older servers call everything a web page.
            return self.say(200, pages[path], kind="text/html; charset=UTF-8")
        self.nothing()

    def ec2(self):
        if self.command == "PUT":
            seconds = self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "")
            if self.path != "/latest/api/token" or not seconds.isdigit() or self.headers.get("X-Forwarded-For"):
                return self.say(400)
            return self.say(200, TOKEN, [("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", seconds)])
        if self.headers.get("X-aws-ec2-metadata-token") != TOKEN:
            return self.say(401, "", [("Connection", "close")])
        page = EC2.get(self.path.removeprefix("/latest/meta-data/"))
        self.nothing() if page is None else self.chunked(page)

    def chunked(self, page):
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for at in range(0, len(page), 7):
            piece = page[at:at + 7].encode()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            self.wfile.flush()
        self.wfile.write(b"0\r\n\r\n")

    def gce(self):
        if self.headers.get("Metadata-Flavor") != "Google" or self.headers.get("Host") != "metadata.google.internal":
            return self.say(403, "<html>Forbidden</html>", kind="text/html")
        if self.path == "/computeMetadata/v1/?recursive=true&alt=json":
            return self.say(200, data("gce.json"), [("Metadata-Flavor", "Google")], "application/json")
        self.nothing()

    def azure(self):
        if self.headers.get("Metadata") != "true":
            return self.say(400, '{"error":"Bad request. Required metadata header not specified"}')
        if self.path == "/metadata/instance?api-version=2021-08-01":
            return self.say(200, data("azure.json"), kind="application/json; charset=utf-8")
        self.nothing()

    def oracle(self):
        if self.headers.get("Authorization") != "Bearer Oracle":
            return self.say(403)
        if self.path != "/opc/v2/instance/":
            return self.nothing()
        instance = json.loads(data("oracle.json"))
        instance["metadata"]["ssh_authorized_keys"] = KEY + "\n"
        self.say(200, json.dumps(instance), kind="application/json")

    def digitalocean(self):
        self.say(200, data("digitalocean.json")) if self.path == "/metadata/v1.json" else self.nothing()

    def hetzner(self):
        self.say(200, data("hetzner.yaml")) if self.path == "/hetzner/v1/metadata" else self.nothing()

    def scaleway(self):
        self.say(200, data("scaleway.json")) if self.path == "/conf?format=json" else self.nothing()

    def equinix(self):
        self.say(200, data("equinix.json"), kind="application/json") if self.path == "/metadata" else self.nothing()

    def nocloud(self):
        pages = {"/seed/meta-data": "instance-id: iid-7\nlocal-hostname: db7\n",
                 "/seed/user-data": f"#cloud-config\nssh_authorized_keys:\n- {KEY}\n"}
        self.say(200, pages[self.path]) if self.path in pages else self.nothing()

    def late(self):
        # Not ready at first, as a service that is being restarted.
        return self.say(503) if time.monotonic() - begun < 2 else self.openstack()

    def moved(self):
        if self.path.startswith("/openstack/"):
            return self.say(301, "", [("Location", "/here" + self.path)])
        self.path = self.path.removeprefix("/here")
        self.openstack()

    def elsewhere(self):
        self.say(302, "", [("Location", f"http://192.0.2.1{self.path}")])

    def around(self):
        self.say(302, "", [("Location", self.path)])

    def hang(self):
        print(self.requestline, file=sys.stderr, flush=True)
        time.sleep(600)

    def drip(self):
        self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            self.wfile.write(b" ")
            self.wfile.flush()
            time.sleep(0.2)

    def huge(self):
        self.send_response(200)
        self.send_header("Content-Length", str(1 << 30))
        self.end_headers()
        self.pour(1 << 30)

    def endless(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        self.pour(1 << 30)

    def pour(self, total):
        sent = 0
        try:
            while sent < total:
                sent += self.wfile.write(b"x" * 65536)
        except OSError:
            print("poured", sent, file=sys.stderr, flush=True)

    def html(self):
        self.say(200, "<!DOCTYPE html><html><body>Log in to the wireless network</body></html>", kind="text/html")

    def garbage(self):
        self.wfile.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n")
        self.close_connection = True

    def missing(self):
        self.nothing()

    def forbidden(self):
        self.say(403)

    def do_GET(self):
        getattr(self, KIND)()

    do_PUT = do_GET


class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6 if ":" in ADDRESS else socket.AF_INET
    daemon_threads = True

    def handle_error(self, *_):
        # Whoever asked has hung up.
        pass


server = Server((ADDRESS, 80), Service)
print("listening", file=sys.stderr, flush=True)
server.serve_forever()
