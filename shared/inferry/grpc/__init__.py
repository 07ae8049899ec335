"""The Open Inference Protocol over gRPC: the same service as HTTP's, on a port of its own (GRPC_PORT)."""
