import pytest
import torch

from tests.stages.running import Bench


@pytest.fixture(scope="session")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """One set of outputs for all tests of stages: equal keys are computed once."""
    torch.set_num_threads(1)
    return Bench(tmp_path_factory.mktemp("stages"))
