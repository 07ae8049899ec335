"""The settings of the C library's allocator, seen from outside: in the page faults of a run that is done again."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import numpy as np
{settle}

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def run():
    arrays = [np.ones(3 << 18) for _ in range(4)]  # 6 MiB each
    del arrays

for _ in range(3):
    run()
before = faults()
for _ in range(10):
    run()
print(faults() - before)
"""


def faults(settle: str) -> int:
    command = [sys.executable, "-c", FAULTS.format(settle=settle)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the settings are glibc's")
def test_memory_is_kept_for_the_next_run() -> None:
    assert faults("from inferry import process; process.settle()") < 100
    assert faults("") > 1000  # what it would be
