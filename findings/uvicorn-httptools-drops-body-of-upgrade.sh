#!/usr/bin/env bash
# uvicorn 0.54.0 with httptools 0.9.0, its default parser where it is installed: a POST that offers to go on in HTTP/2
# ("Upgrade: h2c", as curl --http2 and Java's HttpClient do by default for http://) reaches the application with an empty
# body, and 200 says that all is well. With h11, uvicorn's other parser, the same request keeps its body.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install -qq uvicorn==0.54.0 httptools==0.9.0 h11==0.16.0
venv/bin/python - <<'EOF'
import asyncio

import uvicorn

BODY = b'{"inputs": []}'
REQUEST = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\nConnection: close%s\r\n\r\n" + BODY
OFFER = b", Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__"


async def app(scope, receive, send):
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})


async def echoed(parser, offer):
    config = uvicorn.Config(app, http=parser, lifespan="off", log_level="critical", port=0)
    server = uvicorn.Server(config)
    task = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST % (len(BODY), offer))
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    server.should_exit = True
    await task
    return head.split()[1], body


for parser in ("httptools", "h11"):
    for offer in (b"", OFFER):
        status, body = asyncio.run(echoed(parser, offer))
        print(f"{parser}, {'with' if offer else 'without'} the offer: {status.decode()}, {len(body)} of {len(BODY)} bytes of body")
        assert (status, body) == (b"200", b"" if parser == "httptools" and offer else BODY)
EOF
