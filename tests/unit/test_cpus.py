"""How many CPUs a process has, as its control groups say in files like these."""

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from inferry import cpus as module
from inferry.cpus import cpus, session_threads
from inferry.settings import Settings

SELF = "proc/self/cgroup"
TOP = "sys/fs/cgroup"
# As systemd mounts v1: the controllers of CPUs together, and a link for each.
V1 = "sys/fs/cgroup/cpu,cpuacct"


@pytest.fixture(autouse=True)
def six(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)


def root(folder: Path, files: Mapping[str, str]) -> Path:
    for path, text in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    if (folder / V1).exists():
        (folder / TOP / "cpu").symlink_to("cpu,cpuacct")
    return folder


def v1(group: str, quota: int, period: int = 100000) -> dict[str, str]:
    folder = f"{V1}/{group}" if group else V1
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


HOST_V1 = "12:pids:/a\n4:cpuacct,cpu:{}\n3:cpuset:/b\n1:name=systemd:/c\n"


@pytest.mark.parametrize(
    ("quota", "expected"),
    [
        ("max 100000\n", 6),
        ("50000 100000\n", 1),
        ("100000 100000\n", 1),
        ("150000 100000\n", 2),
        ("400000 100000\n", 4),
        ("900000 100000\n", 6),
        ("", 6),
        ("1 2 3", 6),
        ("100000 0", 6),
        (None, 6),
    ],
)
def test_a_quota_is_rounded_up(tmp_path: Path, quota: str | None, expected: int) -> None:
    """Without one it is the CPUs that the process may run on."""
    files = {SELF: "0::/\n"} | ({} if quota is None else {f"{TOP}/cpu.max": quota})
    assert cpus(root(tmp_path, files)) == expected


GROUPS: dict[str, tuple[dict[str, str], int]] = {
    "nothing is known": ({}, 6),
    "v2 at the root, without /proc": ({f"{TOP}/cpu.max": "200000 100000\n"}, 2),
    "v2, a unit's own": (
        {SELF: "0::/system.slice/inferry.service\n", f"{TOP}/system.slice/inferry.service/cpu.max": "150000 100000\n"},
        2,
    ),
    "v2, the slice around the unit has less": (
        {
            SELF: "0::/a.slice/b.slice/c.service\n",
            f"{TOP}/a.slice/cpu.max": "300000 100000\n",
            f"{TOP}/a.slice/b.slice/cpu.max": "max 100000\n",
            f"{TOP}/a.slice/b.slice/c.service/cpu.max": "500000 100000\n",
        },
        3,
    ),
    "v2, another unit's": ({SELF: "0::/a.service\n", f"{TOP}/b.service/cpu.max": "100000 100000\n"}, 6),
    "v2, a container that sees the host's path": (
        {SELF: "0::/kubepods/pod1/c1\n", f"{TOP}/cpu.max": "250000 100000\n"},
        3,
    ),
    "v2, a group above the namespace": ({SELF: "0::/../other\n", f"{TOP}/cpu.max": "250000 100000\n"}, 3),
    "v1, a container's own at the root": ({SELF: HOST_V1.format("/"), **v1("", 150000)}, 2),
    "v1, a container that sees the host's path": ({SELF: HOST_V1.format("/docker/c1"), **v1("", 400000)}, 4),
    "v1, a unit's own": (
        {SELF: HOST_V1.format("/system.slice/inferry.service"), **v1("system.slice/inferry.service", 100000, 50000)},
        2,
    ),
    "v1, the group around it has less": ({SELF: HOST_V1.format("/a/b"), **v1("a", 100000), **v1("a/b", 300000)}, 1),
    "v1 without a limit": ({SELF: HOST_V1.format("/a"), **v1("", -1), **v1("a", -1)}, 6),
    "v1 beside v2, which has no CPUs": (
        {SELF: HOST_V1.format("/a") + "0::/a\n", **v1("a", 250000), f"{TOP}/unified/a/cgroup.procs": ""},
        3,
    ),
    "cpuset alone is no quota": ({SELF: "3:cpuset,cpuacct:/a\n", **v1("a", 100000)}, 6),
    "lines of another form": ({SELF: "what\n\n0::/\n", f"{TOP}/cpu.max": "100000 100000\n"}, 1),
}


@pytest.mark.parametrize("name", GROUPS)
def test_the_smallest_quota_of_all_groups_around_a_process_counts(tmp_path: Path, name: str) -> None:
    files, expected = GROUPS[name]
    assert cpus(root(tmp_path, files)) == expected


def test_where_processes_are_not_pinned(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for count, expected in ((3, 3), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda count=count: count)
        assert cpus(tmp_path) == expected


def test_session_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """The CPUs shared between the workers; what is asked for outranks it."""
    monkeypatch.setattr(module, "cpus", lambda: 8)
    given = [(0, 1), (0, 3), (0, 8), (0, 100), (5, 1), (5, 100)]
    threads = [session_threads(Settings(intra_op_threads=wanted, workers=workers)) for wanted, workers in given]
    assert threads == [8, 2, 1, 1, 5, 5]
