"""Transport networks in Neo4j: what is stored, and how everybody reads it.

``(:Network {name, version})`` points to the version that counts;
``(:NetworkVersion {id, network, state, nodes, edges, …})`` tells of one upload;
``(:NetworkNode {id, supply, …})-[:ARC {cost, capacity, lower, flow, …}]->(:NetworkNode)`` are its
nodes and arcs. What is Drawbridge's own on them begins with ``network_``; everything else is the
user's.
"""
