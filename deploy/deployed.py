"""The commit that an environment runs: `python -m deploy.deployed dev` prints commit=SHA, and nothing behind = if none.

That is the newest of whose deployments, as GitHub has them, all succeeded: a workflow goes back to it.
"""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from deploy.prereqs import programs

# What is replaced by a newer deployment becomes inactive, and only what had succeeded does.
SUCCEEDED = {"SUCCESS", "INACTIVE"}
QUERY = """
query($owner: String!, $name: String!, $environment: String!) {
  repository(owner: $owner, name: $name) {
    deployments(environments: [$environment], last: 50) { nodes { commitOid latestStatus { state } } }
  }
}
"""


def last_good(nodes: Sequence[Mapping[str, Any]]) -> str:
    """The commit of the newest deployments that all succeeded, of a list with the newest last; empty without one.

    A deployment without a status has not begun, and has not succeeded.
    """
    states: dict[str, set[str]] = {}
    for node in reversed(nodes):
        states.setdefault(node["commitOid"], set()).add((node["latestStatus"] or {}).get("state", ""))
    return next((commit for commit, found in states.items() if found <= SUCCEEDED), "")


def main(environment: str, repository: str) -> str:
    """SystemExit with what gh says when it can't tell."""
    owner, _, name = repository.partition("/")
    fields = {"query": QUERY, "owner": owner, "name": name, "environment": environment}
    given = [part for item in fields.items() for part in ("--raw-field", "=".join(item))]
    said = programs.ask("gh", "api", "graphql", *given)
    if said.status != 0:
        raise SystemExit(f"gh can't tell what is deployed: {said.error or 'it is not installed'}")
    return last_good(json.loads(said.output)["data"]["repository"]["deployments"]["nodes"])


if __name__ == "__main__":
    print(f"commit={main(sys.argv[1], os.environ.get('GITHUB_REPOSITORY', ''))}")
