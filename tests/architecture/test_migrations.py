"""Migrations leave the release before able to run: they add, unless they say since when nobody
needs what they take away (``-- contracts: since 0007``), or why it only looks so (``-- expands:``).
"""

import re
from collections.abc import Iterator

import pytest

from control import migrations
from control.migrations import Migration

NOBODY_RAN_BEFORE = ("0002_flags",)
"""Contracting, of tables that others had made, before there was any release."""

_EXPLAINED = re.compile(r"^-- expands: \S", re.MULTILINE)
_QUOTED = re.compile(r"(\$\w*\$).*?\1", re.DOTALL)
_COMMENT = re.compile(r"--[^\n]*")
_STRING = re.compile(r"'(?:[^']|'')*'")
_MADE = re.compile(r"\bCREATE (?:UNLOGGED )?TABLE (?:IF NOT EXISTS )?([\w.]+)", re.IGNORECASE)
_OF = re.compile(
    r"^(?:ALTER TABLE (?:IF EXISTS )?(?:ONLY )?|CREATE UNIQUE INDEX .*? ON (?:ONLY )?"
    r"|REVOKE .*? ON (?:TABLE )?|DELETE FROM |TRUNCATE (?:TABLE )?)([\w.]+)",
    re.IGNORECASE,
)
_TAKES = re.compile(
    r"\b(DROP|RENAME|TRUNCATE|REVOKE|DELETE FROM|SET NOT NULL|CREATE UNIQUE INDEX"
    r"|ALTER (?:COLUMN )?\S+ (?:SET DATA )?TYPE"
    r"|ADD (?:CONSTRAINT|CHECK|UNIQUE|PRIMARY KEY|FOREIGN KEY|EXCLUDE))\b",
    re.IGNORECASE,
)
_COLUMN = re.compile(
    r"\bADD (?:COLUMN )?(?:IF NOT EXISTS )?\w+ [^,]*?\bNOT NULL\b[^,]*", re.IGNORECASE
)
_FILLED = re.compile(r"\b(DEFAULT|GENERATED|\w*serial)\b", re.IGNORECASE)


def contracting(statements: str) -> Iterator[str]:
    """What a migration takes away or narrows of what was there before it."""
    blocks = [match[0] for match in _QUOTED.finditer(statements)]
    text = _STRING.sub("''", _COMMENT.sub("", _QUOTED.sub("", statements)))
    made = {name.lower() for name in _MADE.findall(text)}
    for block in blocks:  # code, whose tables cannot be told
        yield from (f"{match[0]} in a block" for match in _TAKES.finditer(_COMMENT.sub("", block)))
    for statement in (" ".join(part.split()) for part in text.split(";")):
        subject = _OF.match(statement)
        if subject is not None and subject[1].lower() in made:
            continue
        if statement.upper().startswith("CREATE") and "UNIQUE INDEX" not in statement.upper():
            continue
        yield from (f"{match[0]}: {statement[:80]}" for match in _TAKES.finditer(statement))
        for column in _COLUMN.findall(statement):
            if not _FILLED.search(column):
                yield f"{column.strip()}: has no default"


def faults(migration: Migration) -> list[str]:
    """What is wrong with a migration, if anything."""
    if migration.since > migration.version:
        return [f"works with releases since {migration.since:04d}, which comes later"]
    if migration.since or _EXPLAINED.search(migration.statements):
        return []
    return list(contracting(migration.statements))


@pytest.mark.parametrize("migration", migrations.shipped(), ids=str)
def test_the_release_before_can_live_with_it(migration: Migration) -> None:
    if str(migration) not in NOBODY_RAN_BEFORE:
        assert faults(migration) == []


@pytest.mark.parametrize(
    "statements",
    [
        "DROP TABLE drawbridge.jobs_archive;",
        "ALTER TABLE drawbridge.audit DROP COLUMN detail;",
        "ALTER TABLE drawbridge.audit\n  RENAME COLUMN detail TO why;",
        "alter table drawbridge.audit alter column seq type integer;",
        "ALTER TABLE drawbridge.audit ALTER detail SET DATA TYPE varchar(9);",
        "ALTER TABLE drawbridge.audit ALTER COLUMN reason SET NOT NULL;",
        "ALTER TABLE drawbridge.audit ADD COLUMN a text, ADD COLUMN b text NOT NULL;",
        "ALTER TABLE drawbridge.audit ADD CHECK (seq > 1);",
        "CREATE UNIQUE INDEX ON drawbridge.jobs_archive (correlation_id);",
        "DO $x$ BEGIN EXECUTE 'DROP TABLE drawbridge.audit'; END $x$;",
        "-- contracts: since 0010\nSELECT 1;",
    ],
)
def test_what_takes_away_without_a_word_is_found(statements: str) -> None:
    assert faults(Migration(9, "x", statements))


@pytest.mark.parametrize(
    "statements",
    [
        "ALTER TABLE drawbridge.audit ADD COLUMN b text;",
        "ALTER TABLE drawbridge.audit ADD COLUMN b text NOT NULL DEFAULT '', ADD c integer;",
        "CREATE TABLE new (a text NOT NULL, UNIQUE (a)); ALTER TABLE new ADD CHECK (a <> '');"
        "CREATE UNIQUE INDEX one ON new (a); REVOKE DELETE ON new FROM PUBLIC;",
        "INSERT INTO drawbridge.audit (reason) VALUES ('DROP TABLE'); -- no DROP here",
        "-- contracts: since 0008\nALTER TABLE drawbridge.audit DROP COLUMN detail;",
        "-- expands: an index that only the newest reads\nDROP INDEX drawbridge.old;",
    ],
)
def test_what_adds_or_says_so_is_not(statements: str) -> None:
    assert faults(Migration(9, "x", statements)) == []
