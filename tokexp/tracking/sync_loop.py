"""`python -m tokexp.tracking.sync_loop WORKSPACE REF`: keep a run or a sweep current in MLflow.

The controller starts it (tokexp/tracking/live.py) and closes its stdin, by finishing or by dying: until then it goes
on, then it syncs once more and ends. Whatever goes wrong is written to stderr and never reaches the run.
"""

import logging
import os
import select
import sys
from pathlib import Path

from tokexp.ledger.workspace import Workspace
from tokexp.tracking.sync import Syncer, find_record

INTERVAL_S = 2.0
"""Seconds between two looks at the event files; after a failure they double up to MAX_INTERVAL_S."""

MAX_INTERVAL_S = 60.0

log = logging.getLogger("tokexp.tracking")


def main(root: str, ref: str) -> None:
    """Sync until stdin closes, and once more after that."""
    workspace = Workspace(Path(root))
    ref = find_record(workspace, ref).ref
    syncer = Syncer(workspace)
    interval = INTERVAL_S
    while True:
        ended = bool(select.select([sys.stdin], [], [], interval)[0])
        worked = _update(syncer, ref, live=not ended)
        if ended:
            return
        interval = INTERVAL_S if worked else min(2 * interval, MAX_INTERVAL_S)


def _update(syncer: Syncer, ref: str, *, live: bool) -> bool:
    try:
        report = syncer.update(ref, live=live)
    except Exception as error:
        log.warning("%s", error)
        return False
    for text in (trouble := report.unreachable + report.problems):
        log.warning("%s", text)
    return not trouble


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s", stream=sys.stderr)
    os.nice(10)
    main(sys.argv[1], sys.argv[2])
