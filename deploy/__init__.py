"""How Drawbridge is brought to a machine: the embedded stack and the deployment files."""
