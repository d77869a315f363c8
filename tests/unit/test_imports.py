"""A process loads what it uses, and not what happens to be installed."""

import subprocess
import sys
from importlib import import_module

import pytest

from control.imports import without
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
