#!/usr/bin/env bash
# uvloop 0.23.0 (libuv): of connections that wait, one is accepted in each turn of the event loop, where asyncio's own
# loop accepts all up to its backlog. A server whose turns take 20 ms takes at most 50 new connections a second,
# whatever its backlog, while those that are open are served.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq uvloop==0.23.0
venv/bin/python - <<'EOF'
import asyncio
import socket

import uvloop

WAITING, TURNS = 100, 60


async def accepted():
    loop, made = asyncio.get_running_loop(), []

    class Server(asyncio.Protocol):
        def connection_made(self, transport):
            made.append(transport)

    server = await loop.create_server(Server, "127.0.0.1", 0, backlog=1000)
    address = server.sockets[0].getsockname()
    clients = [socket.create_connection(address) for _ in range(WAITING)]
    for _ in range(TURNS):
        await asyncio.sleep(0)
    count = len(made)
    for client in clients:
        client.close()
    server.close()
    return count


plain, uv = asyncio.run(accepted()), uvloop.run(accepted())
print(f"accepted of {WAITING} waiting connections in {TURNS} turns: asyncio {plain}, uvloop 0.23.0 {uv}")
assert plain == WAITING
assert uv <= TURNS
EOF
