"""Something done every so often, in a thread of its own, while a block runs."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def meanwhile(look: Callable[[], bool], seconds: float, name: str) -> Iterator[None]:
    """Call `look` every so many seconds while the block runs, until it returns False.

    The first call comes after one pause, none after the block has ended. `name` is the thread's; an error in `look`
    ends the thread alone.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(seconds) and look():
            pass

    thread = threading.Thread(target=watch, name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
