"""A small internet for tests: name spaces of their own, with addresses that anywhere else would be somebody's.

Run as a program it is that internet: it brings up the network space it was started in, answers for its names, serves what
clients fetch, and writes down whoever comes where nobody may come. `Outside` starts it, and programs inside of it.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import io
import json
import os
import pathlib
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile

SERVED = "203.0.114.10"
SERVED_IPV6 = "2a0e:97c0::10"
FORBIDDEN = "203.0.114.66"
# Inside of a private network, and of the machine itself.
PRIVATE = "10.0.0.5"
METADATA = "169.254.169.254"
PORTS = (22, 53, 80, 443, 8080)
API_PORT = 8787

NAMES = (
    "site.example.com",
    "git.example.com",
    "code.example.com",
    "echo.example.com",
    "pip.example.org",
    "npm.example.org",
    "cargo.example.org",
    "go.example.org",
)
# What names that may be asked for lead to; all others do not exist.
ADDRESSES = {name: [SERVED] for name in NAMES} | {
    "forbidden.example.net": [FORBIDDEN],
    "inside.example.com": [PRIVATE],
    "metadata.example.com": [METADATA],
    "mixed.example.com": [SERVED, PRIVATE],
    "looped.example.com": ["127.0.0.1"],
}


class Outside:
    """The running internet. Root starts it, or a user who may make name spaces."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        make_authority(folder)
        spaces = ["unshare", "--net", "--mount", "--propagation", "private"]
        self.process = subprocess.Popen(
            [*spaces, "--", sys.executable, __file__, str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout
        said = self.process.stdout.readline().strip()
        assert said == "ready", f"the outside did not come up: {said!r}"

    @property
    def prefix(self) -> list[str]:
        """What runs a program inside of it."""
        return ["nsenter", "--net", "--mount", f"--target={self.process.pid}", "--"]

    def run(self, *command: str, environment: dict[str, str] | None = None) -> str:
        """What a program prints that is run inside of it."""
        told = {"capture_output": True, "text": True, "env": {**os.environ, **(environment or {})}}
        done = subprocess.run([*self.prefix, *command], check=False, **told)
        return done.stdout + done.stderr

    @property
    def api(self) -> str:
        """A socket that leads to a server inside of it."""
        return str(self.folder / "api.sock")

    @property
    def roots(self) -> pathlib.Path:
        """The authority that its hosts show certificates of."""
        return self.folder / "root.pem"

    def intruders(self) -> list[str]:
        """Everybody who came where nobody may come."""
        path = self.folder / "intruders"
        return path.read_text().splitlines() if path.exists() else []

    def asked(self) -> list[str]:
        """The names that were asked for."""
        path = self.folder / "asked"
        return path.read_text().splitlines() if path.exists() else []

    def echoed(self) -> str:
        """All that `echo.example.com` was sent, heads and bodies."""
        path = self.folder / "echoed"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def code(self) -> Code:
        """The repositories of `code.example.com`."""
        return Code(self.folder / "code")

    def remove(self) -> None:
        """Ends it; its spaces go with it."""
        self.process.communicate(timeout=60)


def make_authority(folder: pathlib.Path) -> None:
    """A root and one certificate for all names, as an operator's own hosts have them."""
    names = ",".join(f"DNS:{name}" for name in ADDRESSES)
    (folder / "names").write_text(f"subjectAltName={names}\n")
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    root = ["-keyout", "root.key", "-out", "root.pem", "-subj", "/CN=Outside root"]
    leaf = ["-keyout", "leaf.key", "-out", "leaf.csr", "-subj", "/CN=outside"]
    sign = ["-in", "leaf.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "2"]
    for command in (
        ["req", "-x509", *key, *root],
        ["req", *key[:-2], *leaf],
        ["x509", "-req", *sign, "-extfile", "names", "-out", "leaf.pem"],
    ):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True)


def run(folder: pathlib.Path) -> None:
    """Is the internet until its standard input ends."""
    ip("link", "set", "lo", "up")
    for address in (SERVED, FORBIDDEN, PRIVATE, METADATA):
        ip("addr", "add", f"{address}/32", "dev", "lo")
    ip("addr", "add", f"{SERVED_IPV6}/128", "dev", "lo", "nodad")
    resolv = folder / "resolv.conf"
    resolv.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
    place = os.path.realpath("/etc/resolv.conf")
    subprocess.run(["mount", "--bind", str(resolv), place], check=True)

    watch(folder / "intruders")
    answer_names(folder / "asked")
    handler = type("Handler", (Site,), {"shelf": Shelf(folder)})
    for port in (80, 443):
        server = Hosts((SERVED, port), handler)
        if port == 443:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(folder / "leaf.pem", folder / "leaf.key")
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        start(server.serve_forever)
    start(lead, folder / "api.sock")
    print("ready", flush=True)
    sys.stdin.read()


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)


def start(work, *arguments) -> None:
    threading.Thread(target=work, args=arguments, daemon=True).start()


def watch(log: pathlib.Path) -> None:
    """Writes down every connection and packet that arrives where none may arrive."""

    def note(what: str) -> None:
        with log.open("a") as file:
            file.write(f"{what}\n")

    def connections(listener: socket.socket, what: str) -> None:
        while True:
            stream, _ = listener.accept()
            note(what)
            stream.close()

    def packets(bound: socket.socket, what: str) -> None:
        while True:
            bound.recvfrom(65536)
            note(what)

    for address in (FORBIDDEN, PRIVATE, METADATA):
        for port in PORTS:
            listener = socket.create_server((address, port), backlog=64)
            start(connections, listener, f"tcp {address}:{port}")
            bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            bound.bind((address, port))
            start(packets, bound, f"udp {address}:{port}")


def answer_names(log: pathlib.Path) -> None:
    """A name server for `ADDRESSES`, which writes down what it is asked."""
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.bind(("127.0.0.1", 53))

    def answer() -> None:
        while True:
            query, peer = bound.recvfrom(4096)
            name, kind, end = question(query)
            with log.open("a") as file:
                file.write(f"{name}\n")
            found = ADDRESSES.get(name.lower().rstrip("."))
            records = [socket.inet_aton(address) for address in found or [] if kind == 1]
            flags = 0x8180 if found else 0x8183
            reply = query[:2] + struct.pack("!HHHHH", flags, 1, len(records), 0, 0) + query[12:end]
            for record in records:
                reply += struct.pack("!HHHIH", 0xC00C, 1, 1, 0, len(record)) + record
            bound.sendto(reply, peer)

    start(answer)


def question(query: bytes) -> tuple[str, int, int]:
    """The name and type that a query asks for, and where the question ends."""
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels), struct.unpack("!H", query[at + 1 : at + 3])[0], at + 5


def lead(path: pathlib.Path) -> None:
    """Leads from a socket outside of these spaces to the server inside."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(64)
        while True:
            near, _ = listener.accept()
            try:
                far = socket.create_connection(("127.0.0.1", API_PORT))
            except OSError:
                near.close()
                continue
            start(pass_on, near, far)
            start(pass_on, far, near)


def pass_on(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for side in (source, target):
            side.close()


class Code:
    """A git host: repositories by owner and name, the tokens that reach each, and who came with what."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def add(self, name: str, tokens: list[str] | None, files: dict[str, str], links: dict[str, str] | None = None) -> list[str]:
        """Makes a repository with a commit on `main` and one more on `feature`; their names. Without tokens anybody may read."""
        work = self.folder / "work"
        git = ["git", "-C", str(work), "-c", "user.name=outside", "-c", "user.email=outside@example.com"]
        subprocess.run(["git", "init", "--quiet", "--initial-branch=main", str(work)], check=True)
        commits = []
        for branch, more in (("main", {}), ("feature", {"FEATURE": "on a branch\n"})):
            if branch != "main":
                subprocess.run([*git, "switch", "--quiet", "--create", branch], check=True)
            for path, content in (files | more).items():
                (work / path).parent.mkdir(parents=True, exist_ok=True)
                (work / path).write_text(content)
            for path, target in (links or {}).items():
                (work / path).unlink(missing_ok=True)
                (work / path).symlink_to(target)
            subprocess.run([*git, "add", "--all", "--force"], check=True)
            subprocess.run([*git, "commit", "--quiet", "--message", f"on {branch}"], check=True)
            head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
            commits.append(head.stdout.strip())
        subprocess.run([*git, "switch", "--quiet", "main"], check=True)
        place = self.folder / f"{name}.git"
        subprocess.run(["git", "clone", "--quiet", "--bare", str(work), str(place)], check=True)
        # Pushes by who has a token; the host itself decides who that is.
        subprocess.run(["git", "-C", str(place), "config", "http.receivepack", "true"], check=True)
        shutil.rmtree(work)
        self.allow(name, tokens)
        return commits

    def allow(self, name: str, tokens: list[str] | None) -> None:
        """From now on these tokens reach it and no others."""
        path = self.folder / f"{name}.json"
        aside = path.with_suffix(".new")
        aside.write_text(json.dumps(tokens))
        aside.rename(path)

    def tokens(self, name: str) -> list[str] | None:
        return json.loads((self.folder / f"{name}.json").read_text())

    def known(self, token: str | None) -> bool:
        return any(token in (json.loads(path.read_text()) or []) for path in self.folder.glob("*/*.json"))

    def log(self, name: str, *arguments: str) -> str:
        """What git says of a repository here."""
        git = ["git", "-c", "safe.directory=*", "-C", str(self.folder / f"{name}.git")]
        return subprocess.run([*git, *arguments], check=True, capture_output=True, text=True).stdout.strip()

    def visit(self, path: str, token: str | None) -> None:
        with (self.folder / "visits").open("a") as file:
            file.write(f"{path} {token or '-'}\n")

    def visits(self, name: str) -> list[str]:
        """The tokens that requests for a repository came with, `-` for none, in order."""
        path = self.folder / "visits"
        lines = path.read_text().splitlines() if path.exists() else []
        visits = [line.rsplit(" ", 1) for line in lines]
        return [token for place, token in visits if place.startswith((f"/{name}/", f"/{name}.git/"))]

    def send(self, path: str, size: int) -> None:
        with (self.folder / "sent").open("a") as file:
            file.write(f"{path} {size}\n")

    def sent(self, name: str) -> int:
        """How many bytes git has answered for a repository so far."""
        path = self.folder / "sent"
        lines = path.read_text().splitlines() if path.exists() else []
        sizes = [line.rsplit(" ", 1) for line in lines]
        return sum(int(size) for place, size in sizes if place.startswith((f"/{name}/", f"/{name}.git/")))

    def hold(self, name: str) -> pathlib.Path:
        """Whoever fetches this repository waits until something opens this pipe for writing."""
        gate = self.folder / f"{name}.gate"
        os.mkfifo(gate)
        return gate

    def wait(self, name: str) -> None:
        gate = self.folder / f"{name}.gate"
        if gate.exists():
            gate.open().close()


class Shelf:
    """What there is to fetch: one small package of each kind, named hello-hands, and a repository."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.files: dict[tuple[str, str], bytes] = {("site.example.com", "/"): b"hello from outside\n"}
        self.wheel()
        self.npm()
        self.crate()
        self.module()
        self.repository(folder / "git")

    def add(self, host: str, path: str, content: bytes | str | dict) -> None:
        if isinstance(content, dict):
            content = json.dumps(content)
        self.files[host, path] = content.encode() if isinstance(content, str) else content

    def wheel(self) -> None:
        name, packed = "hello_hands-1.0-py3-none-any.whl", io.BytesIO()
        files = {
            "hello_hands.py": "print('python says hello')\n",
            "hello_hands-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: hello-hands\nVersion: 1.0\n",
            "hello_hands-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "hello_hands-1.0.dist-info/RECORD"
        files[record] = "".join(f"{path},,\n" for path in [*files, record])
        with zipfile.ZipFile(packed, "w") as archive:
            for path, content in files.items():
                archive.writestr(path, content)
        digest = hashlib.sha256(packed.getvalue()).hexdigest()
        link = f"https://pip.example.org/files/{name}#sha256={digest}"
        self.add("pip.example.org", "/simple/hello-hands/", f'<!DOCTYPE html><a href="{link}">{name}</a>')
        self.add("pip.example.org", f"/files/{name}", packed.getvalue())

    def npm(self) -> None:
        manifest = {"name": "hello-hands", "version": "1.0.0", "main": "index.js"}
        packed = tarball({"package/package.json": json.dumps(manifest), "package/index.js": "console.log('node says hello')\n"})
        path = "/hello-hands/-/hello-hands-1.0.0.tgz"
        dist = {"tarball": f"https://npm.example.org{path}", "shasum": hashlib.sha1(packed).hexdigest()}
        versions = {"1.0.0": manifest | {"dist": dist}}
        listing = {"name": "hello-hands", "dist-tags": {"latest": "1.0.0"}, "versions": versions}
        self.add("npm.example.org", "/hello-hands", listing)
        self.add("npm.example.org", path, packed)

    def crate(self) -> None:
        manifest = '[package]\nname = "hello-hands"\nversion = "1.0.0"\nedition = "2021"\n'
        program = 'fn main() { println!("rust says hello"); }\n'
        packed = tarball({"hello-hands-1.0.0/Cargo.toml": manifest, "hello-hands-1.0.0/src/main.rs": program})
        entry = {"name": "hello-hands", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False}
        digest = hashlib.sha256(packed).hexdigest()
        self.add("cargo.example.org", "/config.json", {"dl": "https://cargo.example.org/crates"})
        self.add("cargo.example.org", "/he/ll/hello-hands", entry | {"cksum": digest})
        self.add("cargo.example.org", "/crates/hello-hands/1.0.0/download", packed)

    def module(self) -> None:
        name, at = "example.com/hello-go", "/example.com/hello-go/@v"
        packed, manifest = io.BytesIO(), f"module {name}\n\ngo 1.18\n"
        # What is built in prints without a library that would have to be built as well.
        program = 'package main\n\nfunc main() { println("go says hello") }\n'
        with zipfile.ZipFile(packed, "w") as archive:
            for path, content in {"go.mod": manifest, "main.go": program}.items():
                archive.writestr(f"{name}@v1.0.0/{path}", content)
        self.add("go.example.org", f"{at}/list", "v1.0.0\n")
        self.add("go.example.org", f"{at}/v1.0.0.info", {"Version": "v1.0.0", "Time": "2025-01-01T00:00:00Z"})
        self.add("go.example.org", f"{at}/v1.0.0.mod", manifest)
        self.add("go.example.org", f"{at}/v1.0.0.zip", packed.getvalue())

    def repository(self, folder: pathlib.Path) -> None:
        self.repositories = folder
        self.code = Code(folder.parent / "code")
        work = folder / "work"
        git = ["git", "-c", "user.name=outside", "-c", "user.email=outside@example.com", "-c", "init.defaultBranch=main"]
        subprocess.run([*git, "init", "--quiet", str(work)], check=True)
        (work / "README").write_text("git says hello\n")
        subprocess.run([*git, "add", "README"], cwd=work, check=True)
        subprocess.run([*git, "commit", "--quiet", "--message", "hello"], cwd=work, check=True)
        subprocess.run([*git, "clone", "--quiet", "--bare", str(work), str(folder / "hello.git")], check=True)
        shutil.rmtree(work)


def tarball(files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size = len(content.encode())
            archive.addfile(entry, io.BytesIO(content.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)


class Hosts(http.server.ThreadingHTTPServer):
    """Says nothing of clients that went away."""

    # As many as come at once: who is turned away tries again a second later.
    request_queue_size = 64

    def handle_error(self, request: object, client_address: object) -> None:
        """Only what is wrong here is told."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, ssl.SSLError)):
            super().handle_error(request, client_address)


class Site(http.server.BaseHTTPRequestHandler):
    """All hosts at once."""

    protocol_version = "HTTP/1.1"
    shelf: Shelf

    def do_GET(self) -> None:
        host, path = self.headers["host"].partition(":")[0], self.path.partition("?")[0]
        if host == "git.example.com":
            self.git()
        elif host == "code.example.com":
            self.visited()
        elif host == "echo.example.com":
            self.echo()
        elif path == "/redirect":
            self.answer(302, b"", ("Location", "https://forbidden.example.net/"))
        else:
            content = self.shelf.files.get((host, path))
            kind = ("Content-Type", "text/html" if path.startswith("/simple/") else "application/octet-stream")
            self.answer(404 if content is None else 200, content or b"no such thing\n", kind)

    do_HEAD = do_GET

    def do_POST(self) -> None:
        if self.headers["host"] == "git.example.com":
            self.git()
        elif self.headers["host"] == "code.example.com":
            self.visited()
        elif self.headers["host"] == "echo.example.com":
            self.echo()
        else:
            self.answer(200, self.body())

    def echo(self) -> None:
        """A host that gives away all that it is told: in each form, to whoever asks; and an MCP server that does."""
        body = self.body() if self.command == "POST" else b""
        told = f"{self.command} {self.path}\n{self.headers}\n".encode() + body
        with (self.shelf.folder / "echoed").open("ab") as file:
            file.write(told + b"\n")
        said = self.headers["authorization"] or "nobody"
        path = self.path.partition("?")[0]
        if self.path == "/mcp?oauth" and said != f"Bearer {(self.shelf.folder / 'fresh').read_text()}":
            return self.answer(401, f"not {said}".encode())
        if path == "/mcp":
            return self.mcp(json.loads(body or b"{}"), said)
        if path == "/token":
            fresh = (self.shelf.folder / "fresh").read_text()
            tokens = {"access_token": fresh, "token_type": "Bearer", "expires_in": 3600}
            return self.answer(200, json.dumps(tokens).encode(), ("Content-Type", "application/json"))
        if path == "/gzip":
            return self.answer(200, gzip.compress(told), ("Content-Encoding", "gzip"))
        if path == "/base64":
            return self.answer(200, base64.b64encode(told))
        self.answer(500 if path == "/error" else 200, told, ("X-Told", said))

    def mcp(self, message: dict, said: str) -> None:
        if "id" not in message:
            return self.answer(202 if self.command == "POST" else 405, b"")
        results = {
            "initialize": lambda: {
                "protocolVersion": message["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "echo", "version": "1"},
            },
            "tools/list": lambda: {"tools": [{"name": "echo", "description": said, "inputSchema": {"type": "object"}}]},
            "tools/call": lambda: {"content": [{"type": "text", "text": f"you are {said}"}]},
        }
        answer = {"jsonrpc": "2.0", "id": message["id"]}
        if result := results.get(message["method"]):
            answer["result"] = result()
        else:
            answer["error"] = {"code": -32601, "message": "no such method"}
        self.answer(200, json.dumps(answer).encode(), ("Content-Type", "application/json"))

    def body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("content-length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def visited(self) -> None:
        """A private git host: like the large ones it knows a user by a token in the place of the password."""
        code, path = self.shelf.code, self.path.partition("?")[0]
        kind, _, basic = (self.headers["authorization"] or "").partition(" ")
        token = base64.b64decode(basic).decode().partition(":")[2] if kind == "Basic" else None
        code.visit(path, token)
        owner, name, *rest = path.strip("/").split("/")
        name = f"{owner}/{name.removesuffix('.git')}"
        if not (code.folder / f"{name}.json").exists():
            return self.answer(404, self.body() and b"")
        tokens = code.tokens(name)
        writes = "git-receive-pack" in self.path
        if token not in (tokens or []) and (tokens is not None or writes):
            refused = 403 if code.known(token) else 401
            return self.answer(refused, self.body() and b"", ("WWW-Authenticate", 'Basic realm="code"'))
        if rest[:2] == ["info", "lfs"]:
            # A host that says what it was told.
            return self.answer(200, f"{self.headers['authorization']} {token}".encode(), ("X-Said", str(token)))
        if self.command == "POST":
            code.wait(name)
        self.git(code.folder)

    def git(self, root: pathlib.Path | None = None) -> None:
        path, _, query = self.path.partition("?")
        body = self.body()
        environment = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(root or self.shelf.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("content-type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("content-encoding", ""),
            "GIT_PROTOCOL": self.headers.get("git-protocol", ""),
            # The repository was made by the same user, in spaces of the same test.
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
        }
        # Where a client asks for what is not there, git says so in its answer and fails.
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        assert done.stdout, done.stderr
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = [tuple(line.split(": ", 1)) for line in head.decode().split("\r\n")]
        status = next((int(value.split()[0]) for name, value in headers if name == "Status"), 200)
        if root:
            self.shelf.code.send(path, len(content))
        self.answer(status, content, *(pair for pair in headers if pair[0] != "Status"))

    def answer(self, status: int, content: bytes, *headers: tuple[str, str]) -> None:
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


if __name__ == "__main__":
    run(pathlib.Path(sys.argv[1]))
