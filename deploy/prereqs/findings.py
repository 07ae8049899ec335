"""What a check found, and how it is printed."""

from collections.abc import Iterable
from typing import NamedTuple, TextIO

OK, NOTE, MISSING = "ok", "note", "missing"


class Finding(NamedTuple):
    """`said` is what was found, `remedy` what to do about it. MISSING stops a deployment, a NOTE does not."""

    name: str
    state: str
    said: str
    remedy: str = ""


def ok(name: str, said: str) -> Finding:
    return Finding(name, OK, said)


def note(name: str, said: str, remedy: str) -> Finding:
    return Finding(name, NOTE, said, remedy)


def missing(name: str, said: str, remedy: str) -> Finding:
    return Finding(name, MISSING, said, remedy)


def report(findings: Iterable[Finding], output: TextIO) -> bool:
    """Prints each as soon as it is found, and says whether nothing is missing."""
    complete = True
    for finding in findings:
        complete = complete and finding.state != MISSING
        print(f"{finding.state:8} {finding.name}: {finding.said}", file=output, flush=True)
        if finding.remedy:
            print(f"{'':8} -> {finding.remedy}", file=output, flush=True)
    return complete
