"""Job state: what the service and the worker agree on."""
