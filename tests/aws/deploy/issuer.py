"""An issuer of tokens on loopback: its discovery document, its keys, and what it signs."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from loopback import listening

KEY_ID = "1"


def _key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass(frozen=True)
class Issuer:
    url: str
    key: rsa.RSAPrivateKey = field(default_factory=_key)

    def token(self, audience: str, *, key: rsa.RSAPrivateKey | None = None, seconds: float = 60, **claims: Any) -> str:
        """For so many seconds; signed by another key when one is given."""
        now = int(time.time())
        told = {"iss": self.url, "aud": audience, "iat": now - 1, "exp": now + seconds, **claims}
        return jwt.encode(told, key or self.key, "RS256", headers={"kid": KEY_ID})

    def forged(self, audience: str) -> str:
        return self.token(audience, key=_key())

    def document(self, path: str) -> dict[str, Any]:
        public: Any = jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key(), as_dict=True)
        documents: dict[str, Any] = {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [{**public, "kid": KEY_ID, "use": "sig", "alg": "RS256"}]},
        }
        found: dict[str, Any] = documents[path]
        return found


@contextmanager
def issuing() -> Iterator[Issuer]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer = json.dumps(issuer.document(self.path)).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Nobody reads it."""

    with listening(Handler) as url:
        issuer = Issuer(url)
        yield issuer
