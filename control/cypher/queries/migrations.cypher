// name: applied
MATCH (m:GraphMigration)
RETURN m.version AS version, m.name AS name, m.checksum AS checksum
ORDER BY m.version

// name: record
MERGE (m:GraphMigration {version: $version})
SET m.name = $name, m.checksum = $checksum
