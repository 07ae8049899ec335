"""`python -m deploy.prereqs aws|azure`, with the arguments of `cdk deploy`; exit status 1: something is missing."""

import os
import sys

from deploy.prereqs.findings import report


def main(cloud: str, arguments: list[str]) -> bool:
    """Whether a deployment can begin."""
    # Each cloud's check needs packages of its own.
    if cloud == "aws":
        from deploy.prereqs import aws

        return report(aws.findings(arguments, os.environ), sys.stdout)
    if cloud == "azure":
        from deploy.prereqs import azure

        return report(azure.findings(arguments, os.environ), sys.stdout)
    raise SystemExit(f"CLOUD is aws or azure, got {cloud!r}")


if __name__ == "__main__":
    sys.exit(not main(sys.argv[1], sys.argv[2:]))
