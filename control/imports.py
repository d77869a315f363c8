"""Leaving out of a library what nobody here uses, so that it takes no memory.

Each of these parts costs every process megabytes and a part of its start.
"""

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


@contextmanager
def without(*names: str) -> Iterator[None]:
    """Within the block, modules that are not loaded yet count as not installed.

    For what a library uses only where it is installed, or can be loaded.
    """
    left_out = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(left_out))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in left_out:
            del sys.modules[name]


@contextmanager
def deferred(*names: str) -> Iterator[None]:
    """Within the block, modules are not loaded that a package takes names from to pass them on,
    as ``aiohttp/__init__.py`` does. They are once somebody asks the package for such a name.

    What turns out to be needed by the library itself is loaded at once, so a later release of it
    works too, and takes the memory.
    """
    finder = _Finder(name for name in names if name not in sys.modules)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        finder.settle()


class _Finder(MetaPathFinder, Loader):
    """Finds a placeholder for each of ``names``."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = set(names)

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name in self._names:
            return ModuleSpec(name, self, is_package=True)
        package = name.rpartition(".")[0]
        if package in self._names:  # a part of it is needed now, so all of it is
            return PathFinder.find_spec(name, self.load(package).__path__)
        return None

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Absent(spec.name, self)

    def exec_module(self, _module: ModuleType) -> None:
        """There is nothing to be run."""

    def load(self, name: str) -> ModuleType:
        """The module itself, now."""
        self._names.discard(name)
        if isinstance(sys.modules.get(name), _Absent):
            del sys.modules[name]
        return import_module(name)

    def settle(self) -> None:
        """Let what was taken from placeholders be found where it is asked for."""
        for name in self._names:
            if isinstance(sys.modules.get(name), _Absent):
                del sys.modules[name]
        roots = {name.partition(".")[0] for name in self._names}
        for name, module in tuple(sys.modules.items()):
            if name.partition(".")[0] not in roots:
                continue
            taken = {key: it for key, it in vars(module).items() if isinstance(it, _Absent | _Name)}
            if hasattr(module, "__path__"):
                _find_later(module, taken)
            else:
                vars(module).update({key: it.found() for key, it in taken.items()})


class _Absent(ModuleType):
    """Stands for a module until it is settled who needs it."""

    def __init__(self, name: str, finder: _Finder) -> None:
        super().__init__(name)
        self._finder = finder

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Name(self, name)

    def found(self) -> ModuleType:
        """The module itself."""
        return self._finder.load(self.__name__)


class _Name:
    """Stands for something in an absent module; whoever uses it at once is given the thing."""

    def __init__(self, module: _Absent, name: str) -> None:
        self._module = module
        self._name = name

    def __mro_entries__(self, _bases: tuple[Any, ...]) -> tuple[Any]:
        return (self.found(),)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.found()(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.found(), name)

    def found(self) -> Any:
        """The thing itself."""
        return getattr(self._module.found(), self._name)


def _find_later(package: ModuleType, taken: Mapping[str, _Absent | _Name]) -> None:
    """Take these names off ``package`` until somebody asks for them."""
    if not taken:
        return
    for name in taken:
        delattr(package, name)
    before: Callable[[str], Any] | None = vars(package).get("__getattr__")

    def found(name: str) -> Any:
        if name in taken:
            thing = taken[name].found()
            setattr(package, name, thing)
            return thing
        if before is None:
            raise AttributeError(f"module {package.__name__!r} has no attribute {name!r}")
        return before(name)

    package.__getattr__ = found  # type: ignore[method-assign]
