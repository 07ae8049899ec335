"""Whether the server in this container is ready, as its exit status: the image's health check.

It asks for `GET /v2/health/ready`, or for the path that is its argument.
"""

import os
import sys
from http.client import HTTPConnection

SECONDS = 2.0


def main(path: str) -> int:
    """0 when the answer is a 200, else 1, with the reason on stderr."""
    connection = HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8000")), timeout=SECONDS)
    try:
        connection.request("GET", path)
        status = connection.getresponse().status
    except OSError as exc:
        print(f"{path}: {exc}", file=sys.stderr)
        return 1
    if status != 200:
        print(f"{path}: {status}", file=sys.stderr)
    return int(status != 200)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:] or ["/v2/health/ready"]))
