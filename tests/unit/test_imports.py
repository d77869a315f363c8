"""A process loads what it uses, and not what happens to be installed."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from control import ids
from control.imports import deferred, without
from tests.stack import ROOT, clean_environment


@pytest.mark.parametrize("module", ["worker.app", "service.app"])
def test_numpy_stays_out_and_can_still_be_had(module: str) -> None:
    asked = f"import sys, {module}; print('numpy' in sys.modules); import numpy; numpy.zeros(1)"
    said = subprocess.check_output(
        [sys.executable, "-c", asked], text=True, cwd=ROOT, env=clean_environment()
    )
    assert said == "False\n"


def test_a_worker_has_no_cipher_before_it_has_subscribers() -> None:
    asked = "import sys, worker.app; print('cryptography.hazmat' in sys.modules)"
    said = subprocess.check_output(
        [sys.executable, "-c", asked], text=True, cwd=ROOT, env=clean_environment()
    )
    assert said == "False\n"


def test_what_is_loaded_already_stays() -> None:
    with without("json", "a_module_that_nobody_has"):
        import json

        assert json.loads("1") == 1
    assert "a_module_that_nobody_has" not in sys.modules


def test_it_is_put_back_where_the_block_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "colorsys", raising=False)
    with pytest.raises(ImportError), without("colorsys"):
        import_module("colorsys")
    assert import_module("colorsys").ONE_THIRD


Load = Callable[..., ModuleType]
CLIENT = "class Client: pass\ndef connect(): return Client()\n"
PASSES_ON = "from .client import Client, connect\nfrom .server import Server\nfrom . import tools\n"


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Load]:
    """Makes a package of these files, and imports it while parts of it are deferred."""
    name = f"library_{ids.new_id().lower()}"
    monkeypatch.syspath_prepend(str(tmp_path))

    def load(package: str, *parts: str, **modules: str) -> ModuleType:
        for module, text in {"__init__": package, **modules}.items():
            path = tmp_path / name / f"{module.replace('__of__', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        with deferred(*(f"{name}.{part}" for part in parts)):
            return import_module(name)

    yield load
    for loaded in [module for module in sys.modules if module.startswith(name)]:
        del sys.modules[loaded]


def test_a_part_that_is_passed_on_is_loaded_when_it_is_asked_for(library: Load) -> None:
    found = library(
        PASSES_ON, "client", "tools", client=CLIENT, server="class Server: pass", tools="N = 1"
    )
    client, tools = f"{found.__name__}.client", f"{found.__name__}.tools"
    assert not {"Client", "connect", "client", "tools"} & vars(found).keys()
    assert found.Server()
    assert not {client, tools} & sys.modules.keys()
    assert isinstance(found.connect(), found.Client)
    assert found.Client is sys.modules[client].Client is vars(found)["Client"]
    assert found.client is sys.modules[client]
    assert found.tools.N == 1
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        found.nothing  # noqa: B018


def test_a_package_that_finds_names_itself_still_does(library: Load) -> None:
    text = "from .client import Client\ndef __getattr__(name): return name.upper()\n"
    found = library(text, "client", client=CLIENT)
    assert found.anything == "ANYTHING"
    assert found.Client.__name__ == "Client"


@pytest.mark.parametrize(
    "text",
    [
        "from .client import Client\nclass Better(Client): pass\n",
        "from .client import connect\nMADE = connect()\n",
        "from .client import Client\nNAME = Client.__qualname__\n",
    ],
    ids=["inherited", "called", "looked at"],
)
def test_what_a_library_needs_itself_is_loaded_at_once(library: Load, text: str) -> None:
    found = library(text, "client", client=CLIENT)
    assert f"{found.__name__}.client" in sys.modules
    assert isinstance(found.client.connect(), found.client.Client)


def test_a_module_beside_the_package_is_given_the_thing_itself(library: Load) -> None:
    text = "from .client import Client\ndef takes(it): return isinstance(it, Client)\n"
    found = library("from .server import takes", "client", client=CLIENT, server=text)
    assert found.takes(found.client.Client())


def test_a_part_of_what_is_deferred_loads_all_of_it(library: Load) -> None:
    text = "from .deep.part import PART"
    found = library(text, "deep", deep__of____init__="WHOLE = True", deep__of__part="PART = 1")
    assert (found.PART, found.deep.WHOLE, found.deep.part.PART) == (1, True, 1)


def test_what_is_loaded_before_is_not_deferred() -> None:
    with deferred("json"):
        import json

        assert json.loads("1") == 1
