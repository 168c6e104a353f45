import errno

import pytest

from tokexp.errors import DamagedError, DataError, StageError
from tokexp.launch.causes import cause_of, one_line


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), "memory"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory"), "memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "memory"),
        (OSError(errno.ENOSPC, "No space left on device"), "disk"),
        (OSError(errno.EFBIG, "File too large"), "disk"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 576 vs 534"), "disk"),
        (type("SafetensorError", (Exception,), {})("I/O error: File too large (os error 27)"), "disk"),
        (FloatingPointError("the loss is not finite"), "nan"),
        (DataError("no images"), "input"),
        (DamagedError("altered"), "input"),
        (ValueError("shapes"), "code"),
        (StageError("the output holds a link"), "code"),
    ],
)
def test_a_failure_has_the_cause_that_its_restarts_are_counted_by(error, cause, tmp_path):
    assert cause_of(error, tmp_path) == cause


def test_a_full_disk_is_seen_behind_the_message_for_people(tmp_path):
    error = StageError("disk full")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert cause_of(error, tmp_path) == "disk"


def test_a_message_is_one_line_with_the_type_where_it_was_not_written_for_people():
    assert one_line(ValueError("two\n lines")) == "ValueError: two lines"
    assert one_line(MemoryError()) == "MemoryError"
    assert one_line(DataError("no images in X; name another folder")) == "no images in X; name another folder"
