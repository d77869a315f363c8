"""Files of nodes and edges that become a network: their formats, and the job that stores them."""
