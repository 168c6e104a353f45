"""`python -m tokexp.tracking.server COMMAND...`: run MLflow's server for as long as whoever started this is alive.

The starter holds the other end of stdin and makes this the leader of a session of its own. When stdin closes, by the
starter's end or by its death, the server and the processes that it started are ended.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

_LOOK_S = 0.5
_END_S = 10.0


def main(command: Sequence[str]) -> int:
    """Run the command until it ends or stdin closes; return its exit code."""
    # SIGTERM goes to the whole session: this process waits for the server's own end.
    signal.signal(signal.SIGTERM, lambda *_: None)
    server = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    while server.poll() is None:
        if select.select([sys.stdin], [], [], _LOOK_S)[0] and not os.read(sys.stdin.fileno(), 1):
            _end(server)
    return server.returncode


def _end(server: "subprocess.Popen[bytes]") -> None:
    os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + _END_S
    while server.poll() is None and time.monotonic() < deadline:
        time.sleep(0.1)
    # What is left of the session, this process included.
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
