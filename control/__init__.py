"""What several processes must agree on, and what operators steer."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("drawbridge")
except PackageNotFoundError:  # a bare checkout that was never installed
    __version__ = "0.0.0+unknown"
