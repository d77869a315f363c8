"""The inventory of Redis keys tells the truth about the scripts and the code."""

import re
from pathlib import Path

from control import keys
from control.flags.projection import texts
from worker.jobs import scripts

LUA = Path(__file__).parents[2] / "worker" / "jobs" / "lua"


def test_no_two_entries_match_one_key() -> None:
    samples = [re.sub(r"<[^>]+>", "x", entry.pattern) for entry in keys.INVENTORY]
    for sample in samples:
        assert sum(entry.matches(sample) for entry in keys.INVENTORY) == 1


def test_what_the_code_builds_is_listed() -> None:
    built = [keys.FLAGS, keys.DUE, keys.WORKERS, keys.KINDS, keys.index("k")]
    built += [keys.index("k", status) for status in keys.LISTED] + [keys.job("ID")]
    built += [keys.queue(lane, name) for lane in keys.LANES for name in keys.QUEUES]
    built += [keys.offers(lane) for lane in keys.LANES] + [keys.HANDED]
    built += [keys.slots("k"), keys.held("k")]
    built += [keys.LEASES, keys.REPORTS, keys.BEGAN, keys.status("f"), keys.debounce("f")]
    built += [keys.echo("i"), keys.turn("s"), keys.seen("s"), keys.rate("s", "w")]
    built += [keys.command("ID", "attempt"), keys.command("ID", "attempt") + ":told"]
    assert [key for key in built if not keys.is_listed(key)] == []
    assert not keys.is_listed("drawbridge:{jobs}:surprise")


def test_every_key_of_the_scripts_begins_with_the_prefix() -> None:
    """Scripts make keys from `prefix` alone, so one hash tag holds them all on a cluster."""
    for path in LUA.glob("*.lua"):
        assert "drawbridge:" not in re.sub(r"--.*", "", path.read_text()), path.name


def test_lua_and_python_name_the_same_queues() -> None:
    shared = (LUA / "records.lua").read_text()
    for table, names in (("QUEUES", keys.QUEUES), ("LANES", keys.LANES)):
        listed = re.search(rf"local {table} = {{ (.*?) }}", shared)
        assert listed is not None
        assert tuple(re.findall(r"'(\w+)'", listed[1])) == names


def test_every_script_says_what_it_takes_and_returns() -> None:
    for text in (*map(scripts.text_of, scripts.names()), *texts().values()):
        told = text.rpartition("-- ARGV:")[2]
        assert told, text[:200]
        assert "-- Returns" in told, text[:200]


def test_scripts_of_the_control_plane_are_given_all_their_keys() -> None:
    """On a cluster a script may touch only what it was given."""
    for name, text in texts().items():
        code = re.sub(r"--.*", "", text)
        assert "drawbridge:" not in code, name
        assert "app_status:" not in code, name
