"""MLflow as a projection of what was recorded: never the truth, always completed later, never in the way of a run.

`start_live` keeps it current while a controller lives; `sync` completes it at any time. Neither loads MLflow before it
has something to say.
"""

from tokexp.tracking.live import LiveSync, start_live
from tokexp.tracking.sync import SyncReport, sync

__all__ = ["LiveSync", "SyncReport", "start_live", "sync"]
