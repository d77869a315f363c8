"""Becomes another program, after arranging how that program lives and dies.

    python -I -S launch.py PARENT OWN PROGRAM [ARGUMENT …]

The program dies with the process PARENT (Linux). OWN is ``-``, or a folder for a program that
refuses to run as root (PostgreSQL): started by root, it then runs as an ordinary user who owns
that folder. A script of its own, run by exec, because a hook between fork and exec
(``preexec_fn``) is unsafe in a process with threads. Nothing but the standard library.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

NOBODY = 65534

PR_SET_PDEATHSIG, PR_SET_KEEPCAPS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE = 1, 8, 47, 2
CLONE_NEWUSER = 0x10000000
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def main(parent: int, own: str, program: list[str]) -> None:
    """Arrange what the module's head says and become ``program``."""
    if own != "-" and os.geteuid() == 0:
        leave_root(own)
    if sys.platform == "linux":
        # Last, because a change of identity clears it. SIGKILL, because it also reaches a stopped
        # process; every store recovers from it.
        call("prctl", PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked to be told
        sys.exit(1)
    os.execv(program[0], program)  # noqa: S606 - to become the program is this script's purpose


def leave_root(folder: str) -> None:
    """Run on as nobody, who owns ``folder``: in a user namespace, else with a real change."""
    if possible(enter_namespace):
        give(folder, 0)
        enter_namespace()
    else:  # refused, as in many containers
        give(folder, NOBODY)
        become_nobody()


def possible(step: Callable[[], None]) -> bool:
    """Whether ``step`` succeeds, tried in a process of its own: some cannot be taken back."""
    child = os.fork()
    if child == 0:
        try:
            step()
        except OSError:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0


def enter_namespace() -> None:
    """Seem to be nobody, inside of a user namespace.

    Seen from outside we are still root, but without root's rights. Root's files are ours as they
    are, and inside they too seem to be nobody's.
    """
    call("unshare", CLONE_NEWUSER)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{NOBODY} 0 1"),
        ("gid_map", f"{NOBODY} 0 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:  # noqa: PTH123
            file.write(text)


def give(folder: str, owner: int) -> None:
    """Make ``owner`` the owner of ``folder`` and what is in it, unless it is already."""
    if os.stat(folder).st_uid == owner:  # noqa: PTH116
        return
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            os.chown(os.path.join(root, name), owner, owner, follow_symlinks=False)  # noqa: PTH118
    os.chown(folder, owner, owner)  # last, as the mark that all is done


def become_nobody() -> None:
    """Change user and group to nobody, but keep the right to reach files in root's folders."""
    call("prctl", PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(NOBODY)
    os.setuid(NOBODY)
    bit = 1 << CAP_DAC_OVERRIDE
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    data = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; twice
    call("capset", header, data)
    call("prctl", PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)


def call(function: str, *arguments: object) -> None:
    """Call a function of the C library. Raises :class:`OSError` where it fails."""
    if getattr(ctypes.CDLL(None, use_errno=True), function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
