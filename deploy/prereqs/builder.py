"""The program that builds the image, and the processors that it builds for."""

import json
from typing import Any

from deploy.prereqs.findings import Finding, missing, note, ok
from deploy.prereqs.programs import ask

NAME = "image builder"
# As the CDK calls them, and as builders do.
PLATFORMS = {"arm64": ("arm64", "aarch64"), "x86_64": ("amd64", "x86_64")}


def builder(program: str, architecture: str) -> Finding:
    """Whether `program`, Docker or what CDK_DOCKER names, can build for the architecture (arm64 or x86_64)."""
    said = ask(program, "version", "--format", "{{json .}}")
    if said.status is None:
        remedy = "install Docker, or name another builder (finch, podman) in CDK_DOCKER"
        return missing(NAME, f"there is no program {program}", remedy)
    own = _own(said.output) if said.status == 0 else ""
    if not own:
        return missing(NAME, f"{program} does not answer: {said.error}", f"start {program}'s daemon")
    names = PLATFORMS[architecture]
    if own in names:
        return ok(NAME, f"{program} on {own}")
    inspected = ask(program, "buildx", "inspect")
    if inspected.status == 0 and any(f"linux/{name}" in inspected.output for name in names):
        return ok(NAME, f"{program} on {own}, which emulates {architecture}")
    remedy = (
        f"docker run --privileged --rm tonistiigi/binfmt --install {names[0]} (QEMU), "
        f"or deploy with --context architecture={_other(architecture)}"
    )
    if inspected.status == 0:
        return missing(NAME, f"{program} runs on {own} and can't build for {architecture}", remedy)
    return note(NAME, f"{program} runs on {own}; whether it builds for {architecture} it does not say", remedy)


def _own(text: str) -> str:
    """The processor of the daemon, or of the program where it needs none; empty: none answers."""
    said: dict[str, Any] = json.loads(text)
    server = said.get("Server") or {}
    client = said.get("Client") or {}
    return str(server.get("Arch") or client.get("OsArch", "").rpartition("/")[2])


def _other(architecture: str) -> str:
    return next(name for name in PLATFORMS if name != architecture)
