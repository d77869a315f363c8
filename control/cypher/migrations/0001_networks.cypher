// Networks, see control/networks. Each statement may be run again.

CREATE CONSTRAINT graph_migration_version IF NOT EXISTS
FOR (m:GraphMigration) REQUIRE m.version IS UNIQUE;

CREATE CONSTRAINT network_name IF NOT EXISTS
FOR (n:Network) REQUIRE n.name IS UNIQUE;

CREATE CONSTRAINT network_version_id IF NOT EXISTS
FOR (v:NetworkVersion) REQUIRE v.id IS UNIQUE;

CREATE CONSTRAINT network_node_key IF NOT EXISTS
FOR (n:NetworkNode) REQUIRE n.network_key IS UNIQUE;

CREATE INDEX network_node_page IF NOT EXISTS
FOR (n:NetworkNode) ON (n.network_page);
