"""HTTP: the API, the probes and the pages."""
