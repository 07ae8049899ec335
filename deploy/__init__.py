"""Deployments: what is neither a wrapper nor the CDK's."""
