"""What several processes must agree on, and what operators steer."""


def __getattr__(name: str) -> str:
    """``__version__``, looked up when asked for: that costs 13 ms of each job process's start."""
    if name != "__version__":
        raise AttributeError(name)
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - see above

    try:
        return version("drawbridge")
    except PackageNotFoundError:  # a bare checkout that was never installed
        return "0.0.0+unknown"
