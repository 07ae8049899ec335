#!/usr/bin/env bash
# redis-py 8.1.0: with socket_timeout=0.002 a command to a server that does not answer takes seconds, not 2 ms: time-outs are
# tried again ten times by default, with pauses in between. retry=Retry(NoBackoff(), 0) makes the time-out what it says.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq redis==8.1.0
venv/bin/python - <<'EOF'
import socket
import time

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError
from redis.retry import Retry


def seconds(**options):
    """Of a GET, of a server that takes connections and says nothing, as one that is stopped or overloaded does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = Redis(port=server.getsockname()[1], socket_timeout=0.002, **options)
        start = time.monotonic()
        try:
            client.get("key")
        except TimeoutError:
            return time.monotonic() - start


by_default, once = seconds(), seconds(retry=Retry(NoBackoff(), 0))
print(f"redis-py 8.1.0, socket_timeout=0.002: {by_default:.1f} s by default, {once * 1000:.1f} ms without retries")
assert by_default > 1 > 0.5 > once
EOF
