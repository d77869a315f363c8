// How one version comes about and goes. Each transaction begins with `hold`: writing takes the lock
// of the version, so that what is read next is not changed by another one until the end.

// name: begin
MERGE (v:NetworkVersion {id: $version})
ON CREATE SET
  v.network = $name, v.digest = $digest, v.format = $format, v.created_at = $created_at,
  v.state = 'loading', v.nodes = 0, v.edges = 0, v.supply = 0.0, v.demand = 0.0
SET v.touched_ms = $now_ms
RETURN v.state, v.nodes, v.edges, v.supply, v.demand

// name: hold
MATCH (v:NetworkVersion {id: $version})
SET v.touched_ms = $now_ms
RETURN v.state, v.nodes, v.edges, v.supply, v.demand

// name: add_nodes
MATCH (v:NetworkVersion {id: $version})
SET v.nodes = $nodes, v.supply = $supply, v.demand = $demand
WITH v
UNWIND $rows AS row
CREATE (n:NetworkNode {
  network_key: row[0], network_page: row[1], network_seq: row[2], id: row[3], supply: row[4]
})
SET n += row[5]

// name: absent
UNWIND $rows AS row
OPTIONAL MATCH (n:NetworkNode {network_key: row[0]})
WITH row, n WHERE n IS NULL
RETURN row[1]

// name: present_before
UNWIND $rows AS row
MATCH (n:NetworkNode {network_key: row[0]})
WHERE n.network_seq < $first
RETURN row[1]

// name: add_arcs
MATCH (v:NetworkVersion {id: $version})
SET v.edges = $edges
WITH v
UNWIND $rows AS row
MATCH (a:NetworkNode {network_key: row[0]})
MATCH (b:NetworkNode {network_key: row[1]})
CREATE (a)-[r:ARC {
  network_seq: row[2], network_head: b.network_seq, cost: row[3], capacity: row[4], lower: row[5]
}]->(b)
RETURN count(r)

// name: add_arcs_with_attributes
MATCH (v:NetworkVersion {id: $version})
SET v.edges = $edges
WITH v
UNWIND $rows AS row
MATCH (a:NetworkNode {network_key: row[0]})
MATCH (b:NetworkNode {network_key: row[1]})
CREATE (a)-[r:ARC {
  network_seq: row[2], network_head: b.network_seq, cost: row[3], capacity: row[4], lower: row[5]
}]->(b)
SET r += row[6]
RETURN count(r)

// name: point
MERGE (n:Network {name: $name})
ON CREATE SET n.version = ''
SET n.touched_ms = $now_ms
RETURN n.version

// name: publish
MATCH (n:Network {name: $name})
MATCH (v:NetworkVersion {id: $version})
SET n.version = $version, v.state = 'complete'

// name: set_state
MATCH (v:NetworkVersion {id: $version})
SET v.state = $state

// name: all
MATCH (v:NetworkVersion)
OPTIONAL MATCH (n:Network {name: v.network})
RETURN v.id, v.state, v.touched_ms, coalesce(v.pinned_until_ms, 0),
  n IS NOT NULL AND n.version = v.id

// name: may_go
MATCH (v:NetworkVersion {id: $version})
OPTIONAL MATCH (n:Network {name: v.network})
RETURN (n IS NULL OR n.version <> v.id) AND coalesce(v.pinned_until_ms, 0) < $now_ms

// name: remove_arcs
MATCH (:NetworkNode {network_page: $page})-[r:ARC]->()
WITH r LIMIT $limit
DELETE r
RETURN count(*)

// name: remove_nodes
MATCH (n:NetworkNode {network_page: $page})
DETACH DELETE n
RETURN count(*)

// name: remove_version
MATCH (v:NetworkVersion {id: $version})
DELETE v
RETURN count(*)
