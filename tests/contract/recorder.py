"""A server that writes down what it is asked, and answers as it is told; and certificates for such."""

import datetime
import ipaddress
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

Answer: TypeAlias = Callable[[str, str], tuple[int, bytes]]
"""The status and the body for a method and a path."""


@dataclass
class Recorder:
    """`asked` has the method, the path and the headers, by names in lower case, of each request."""

    answer: Answer
    url: str = ""
    asked: list[tuple[str, str, Mapping[str, str]]] = field(default_factory=list)

    def header(self, name: str) -> set[str]:
        """The values of a header in all requests."""
        return {headers.get(name, "") for _, _, headers in self.asked}


def self_signed(folder: Path) -> Path:
    """A certificate of 127.0.0.1 that signs itself, with its key, in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "store")])
    now = datetime.datetime.now(datetime.UTC)
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(now).not_valid_after(now + datetime.timedelta(days=1))
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    text, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    path = folder / "store.pem"
    path.write_bytes(key.private_bytes(text, serialization.PrivateFormat.PKCS8, plain) + signed.public_bytes(text))
    return path


@contextmanager
def recording(answer: Answer, certificate: Path | None = None) -> Iterator[Recorder]:
    """On a free port; with a certificate over TLS."""
    recorder = Recorder(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def respond(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            recorder.asked.append((self.command, self.path, {k.lower(): v for k, v in self.headers.items()}))
            status, body = recorder.answer(self.command, self.path)
            self.send_response(status)
            self.send_header("Content-Type", "application/xml" if body.startswith(b"<") else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        do_GET = do_HEAD = do_POST = do_PUT = respond

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        recorder.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield recorder
        finally:
            server.shutdown()
            thread.join()
