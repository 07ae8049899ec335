"""The AWS Lambda functions: wrappers that turn events into what inferry knows."""
