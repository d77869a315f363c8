"""The real Neo4j for tests, in the place of the embedded graph server: see `make test-neo4j`."""
