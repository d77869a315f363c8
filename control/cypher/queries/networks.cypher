// What everybody reads. Only the version that (:Network).version names counts for readers.

// name: all
MATCH (n:Network) WHERE n.name > $after
WITH n ORDER BY n.name LIMIT $limit
MATCH (v:NetworkVersion {id: n.version})
RETURN properties(v) AS version
ORDER BY v.network

// name: one
MATCH (n:Network {name: $name})
MATCH (v:NetworkVersion {id: n.version})
RETURN properties(v) AS version

// name: pin
MATCH (v:NetworkVersion {id: $version})
SET v.pinned_until_ms =
  CASE WHEN coalesce(v.pinned_until_ms, 0) < $until_ms THEN $until_ms ELSE v.pinned_until_ms END
RETURN v.state AS state

// name: state
MATCH (v:NetworkVersion {id: $version})
RETURN v.state AS state

// name: page_of_nodes
MATCH (n:NetworkNode {network_page: $page})
RETURN n.network_seq, n.id, n.supply
ORDER BY n.network_seq

// name: page_of_nodes_in_full
MATCH (n:NetworkNode {network_page: $page})
RETURN n.network_seq, n.id, n.supply, properties(n)
ORDER BY n.network_seq

// name: count_arcs
MATCH (:NetworkNode {network_page: $page})-[r:ARC]->()
RETURN count(r)

// name: page_of_arcs
// In columns: a record for each arc would cost more than what is in it.
MATCH (a:NetworkNode {network_page: $page})-[r:ARC]->()
RETURN collect(r.network_seq), collect(a.network_seq), collect(r.network_head), collect(r.cost),
  collect(coalesce(r.capacity, $unlimited)), collect(r.lower), collect(coalesce(r.flow, $no_flow))

// name: piece_of_arcs
MATCH (a:NetworkNode {network_page: $page})-[r:ARC]->()
WHERE r.network_seq > $after
WITH a, r ORDER BY r.network_seq LIMIT $limit
RETURN collect(r.network_seq), collect(a.network_seq), collect(r.network_head), collect(r.cost),
  collect(coalesce(r.capacity, $unlimited)), collect(r.lower), collect(coalesce(r.flow, $no_flow))

// name: begin_flow
MATCH (v:NetworkVersion {id: $version, state: 'complete'})
SET v.flow_writer = $run_id, v.flow_run_id = null, v.flow_objective = null, v.flow_at = null
RETURN v.id

// name: hold_flow
MATCH (v:NetworkVersion {id: $version, state: 'complete'})
SET v.flow_touched_ms = $now_ms
WITH v WHERE v.flow_writer = $run_id
RETURN v.id

// name: write_flow
MATCH (a:NetworkNode {network_page: $page})-[r:ARC]->()
WHERE r.network_seq >= $first AND r.network_seq <= $last
SET r.flow = coalesce($flows[toString(r.network_seq)], 0.0)
RETURN count(r) AS written

// name: finish_flow
MATCH (v:NetworkVersion {id: $version, state: 'complete'})
SET v.flow_touched_ms = $now_ms
WITH v WHERE v.flow_writer = $run_id
SET v.flow_run_id = $run_id, v.flow_objective = $objective, v.flow_at = $at
RETURN v.id
