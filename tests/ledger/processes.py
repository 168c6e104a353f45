"""Real processes for the ledger's tests: a script in an interpreter of its own, and one process per point of death."""

import subprocess
import sys
from pathlib import Path

KILL_AT_EVERY_CALL = """
import os, signal, sys
from pathlib import Path

def deadly(count):
    # Kills this process at its count-th call that changes the disk.
    left = [count]
    def wrap(name):
        real = getattr(os, name)
        def call(*args, **kwargs):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        setattr(os, name, call)
    for name in ("fsync", "rename", "replace", "mkdir", "unlink", "rmdir"):
        wrap(name)

def die_at_each_point(work, look):
    # Runs work(point) in a child that dies at its point-th call, then look(point, died), until one child survives.
    for point in range(1, 200):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                deadly(point)
                work(point)
                code = 0
            finally:
                os._exit(code)
        status = os.waitpid(child, 0)[1]
        died = os.WIFSIGNALED(status)
        assert died or os.WEXITSTATUS(status) == 0, f"the child failed by itself at point {point}"
        look(point, died)
        if not died:
            return point
    raise AssertionError("no end of points")
"""


def run_script(text: str, *arguments: object) -> str:
    """Run Python text with arguments, require that it ends well, and return what it printed."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def start_script(text: str, *arguments: object) -> subprocess.Popen[str]:
    """Start Python text with arguments and return the process, its output readable line by line."""
    command = [sys.executable, "-c", text, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def tree(folder: Path) -> dict[str, bytes]:
    """Return the content of every file below a folder."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
