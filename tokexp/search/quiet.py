"""Optuna without its own words on the terminal: what a person has to know, tokexp says."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quietly() -> Iterator[None]:
    """Keep Optuna's log and all warnings (experimental, deprecated, ...) quiet within the block."""
    from optuna import logging

    # Removing Optuna's handler instead would hand its warnings to Python's handler of last resort: stderr.
    before = logging.get_verbosity()
    logging.set_verbosity(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(before)
