"""What every child process of a test needs: a free port, and an end with the process that started it.  Knows nothing of
xtrace or PostgreSQL."""
import ctypes
import functools
import random
import signal
import socket


def dies_with_parent(number=signal.SIGKILL):
    """For subprocess' preexec_fn: the kernel sends the child this signal when the thread that started it ends, so that
    nothing outlives a killed suite."""
    return functools.partial(ctypes.CDLL(None).prctl, 1, number)   # PR_SET_PDEATHSIG


def free_port():
    """Below the ephemeral range, so no outgoing connection takes it meanwhile."""
    while True:
        port = random.randrange(12000, 32000)
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
