"""The stack of one environment on AWS, as code. `python -m cdk.app`: a script here would put cdk/ first on sys.path."""
