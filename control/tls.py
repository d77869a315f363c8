"""What went wrong with an encrypted connection."""

import ssl


def distrusts(error: BaseException) -> bool:
    """Whether it failed because the server's certificate was not taken. Libraries wrap that into
    errors of their own, as a connection that failed."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause is not None
