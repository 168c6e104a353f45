"""A browser for the whole module; without Chromium its tests are skipped, with the reason."""

from collections.abc import Iterator

import pytest

from tests.browser.chromium import PROGRAM, Browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if PROGRAM is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    window = Browser(tmp_path_factory.mktemp("profile"))
    yield window
    window.close()
