"""Asks for responses that are not kept, and for each of them again: cache.py PORT COUNT WIDTH.

Prints `{"miss": [seconds of each], "hit": [seconds of each]}`, once the server has counted as many of both.
"""

import http.client
import json
import os
import sys
import time

PATH = "/v2/models/slow"
HEADERS = {"Content-Type": "application/json"}


def main() -> None:
    """Prints the samples."""
    port, count, width = map(int, sys.argv[1:])
    os.sched_setaffinity(0, {1})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    before = lookups(connection)
    samples: dict[str, list[float]] = {"miss": [], "hit": []}
    for number in range(count):
        tensor = {"name": "x", "shape": [1, width], "datatype": "FP32", "data": [number + 0.5] * width}
        body = json.dumps({"inputs": [tensor]})
        for name in samples:
            start = time.perf_counter()
            connection.request("POST", f"{PATH}/infer", body, HEADERS)
            response = connection.getresponse()
            content = response.read()
            samples[name].append(time.perf_counter() - start)
            assert (response.status, json.loads(content)["outputs"][0]["data"]) == (200, tensor["data"])
    counted = [after - before for after, before in zip(lookups(connection), before, strict=True)]
    assert counted == [count, count], f"{counted} misses and hits of {count} each"
    print(json.dumps(samples))


def lookups(connection: http.client.HTTPConnection) -> list[int]:
    """The misses and hits that the server has counted."""
    connection.request("GET", f"{PATH}/stats")
    found = json.loads(connection.getresponse().read())["model_stats"][0]["inference_stats"]
    return [found[name]["count"] for name in ("cache_miss", "cache_hit")]


if __name__ == "__main__":
    main()
