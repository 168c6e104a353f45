"""`tokexp ui` in a real browser: MLflow's pages show a sweep as it is, without anything to be clicked together."""

import json
import os
import signal
import socket
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tests.browser.chromium import Browser
from tests.recorded import workspace_at
from tests.recorded_sweeps import BYTES, TOP1, recorded_sweep
from tests.tracking.servers import wait_for
from tokexp.ledger.sweeps import COMPLETE_FILE, sweep_folder
from tokexp.ledger.workspace import Workspace
from tokexp.tracking.stores import local_uri

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]

REF = "ablation-abababab"
CASES = {"SeiT": {0: 0.70, 1: 0.72}, "ColorAdapt": {0: 0.75, 1: 0.74}, "both": {0: 0.86, 1: "pruned"}}
NAMES = [f"{case}, seed {seed}" for case, seeds in CASES.items() for seed in seeds]
PANEL = """
localStorage.setItem('mlflow.assistant.fab.autoOpenedOnFirstLoad_v1', 'true');
localStorage.setItem('mlflow.assistant.panelOpen_v1', 'false')
"""
PLOTS = "document.querySelectorAll('.js-plotly-plot .main-svg').length"
LINES = "document.querySelectorAll('.parcoords canvas, .parcoords svg path, [class*=parcoords]').length"


@dataclass(frozen=True)
class Dashboard:
    workspace: Workspace
    address: str
    page: str

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(local_uri(self.workspace))

    def experiment(self) -> str:
        return str(self.client.get_experiment_by_name("ablation").experiment_id)

    def ids(self, only: str) -> list[str]:
        return [run.info.run_id for run in self.client.search_runs([self.experiment()], only)]


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Dashboard]:
    workspace = workspace_at(tmp_path_factory.mktemp("shown"))
    record_sweep(workspace)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "tokexp", "ui", "--port", str(port), "--workspace", str(workspace.root), "--json"]
    # A shell that runs this in the background ignores SIGINT, which would be inherited.
    shown = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    try:
        assert shown.stdout is not None
        said = json.loads("".join(iter(shown.stdout.readline, "}\n")) + "}")
        wait_for(lambda: _answers(said["address"]), 180)
        browser.open(f"{said['address']}/version")
        # A panel about chat models covers a quarter of the page when it is first opened.
        browser.evaluate(PANEL)
        yield Dashboard(workspace, said["address"], said["page"])
    finally:
        os.kill(shown.pid, signal.SIGINT)
        shown.wait(30)


def record_sweep(workspace: Workspace) -> None:
    values = {case: {"tokenizer.codebook_size": 8 << place} for place, case in enumerate(CASES)}
    recorded_sweep(
        workspace, CASES, values=values, sizes={"SeiT": 9.8, "ColorAdapt": 13.8, "both": 18.2},
        metrics=(TOP1, BYTES), parameters=("tokenizer.codebook_size",), total=6,
    )  # fmt: skip
    (sweep_folder(workspace, REF) / COMPLETE_FILE).touch()


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=60) as answer:
            return int(answer.status) == 200
    except OSError:
        return False


def _errors(browser: Browser) -> list[str]:
    """Return what went wrong in the page, without what MLflow's own pages always complain of."""
    usual = ("users/current", "ResizeObserver loop", "React Router", "favicon")
    return [error for error in browser.errors if not any(text in error for text in usual)]


def test_the_printed_page_lists_the_trials_with_metrics_and_parameters(
    browser: Browser, dashboard: Dashboard, tmp_path: Path
) -> None:
    browser.open(dashboard.page)
    browser.until_text(*NAMES, "finetune/top1", "storage/bytes_per_image", "0.86", "18.2")
    text = browser.text()
    # Best first; the pruned one, which has no result, last.
    places = [text.index(f"\n{name}\n") for name in ("both, seed 0", "ColorAdapt, seed 0", "SeiT, seed 0")]
    assert places == sorted(places)
    browser.screenshot(tmp_path / "metrics.png")
    browser.evaluate("document.querySelector('.ag-body-horizontal-scroll-viewport').scrollLeft = 2000")
    browser.until_text("tokenizer.codebook_size", "tokexp.state", "pruned")
    browser.screenshot(tmp_path / "trials.png")
    assert _errors(browser) == []


def test_the_chart_page_draws_parallel_coordinates_and_curves(
    browser: Browser, dashboard: Dashboard, tmp_path: Path
) -> None:
    browser.open("about:blank")
    browser.open(f"{dashboard.page}&compareRunsMode=CHART")
    browser.until_text("Parallel Coordinates", "storage/bytes_per_image vs. finetune/top1", *NAMES)
    browser.until(f"{PLOTS} > 0")
    browser.until(f"{LINES} > 0")
    browser.screenshot(tmp_path / "charts.png")
    assert _errors(browser) == []


def test_the_compare_page_draws_parallel_coordinates_of_the_trials(
    browser: Browser, dashboard: Dashboard, tmp_path: Path
) -> None:
    runs = dashboard.ids("tags.`tokexp.state` = 'done'")
    query = urllib.parse.urlencode({"runs": json.dumps(runs), "experiments": json.dumps([dashboard.experiment()])})
    browser.open("about:blank")
    browser.open(f"{dashboard.address}/#/compare-runs?{query}")
    browser.until_text(
        "Comparing 5 Runs from 1 Experiment", "Parallel Coordinates Plot", "codebook_size", "finetune/top1"
    )
    browser.until(f"{LINES} > 0")
    browser.screenshot(tmp_path / "compare.png")
    assert _errors(browser) == []


def test_the_plain_page_has_one_parent_that_the_trials_are_folded_below(browser: Browser, dashboard: Dashboard) -> None:
    browser.open("about:blank")
    browser.open(f"{dashboard.address}/#/experiments/{dashboard.experiment()}/runs")
    browser.until_text("7 matching runs", REF)
    assert "both, seed 0" not in browser.text()
    browser.click("[role=gridcell] button[data-component-id*=runnamecell]")
    browser.until_text(*NAMES)


def test_the_parents_page_says_what_was_best(browser: Browser, dashboard: Dashboard, tmp_path: Path) -> None:
    (parent,) = dashboard.ids("tags.`tokexp.kind` = 'sweep'")
    browser.open("about:blank")
    browser.open(f"{dashboard.address}/#/experiments/{dashboard.experiment()}/runs/{parent}")
    browser.until_text("6 trials: 5 done, 1 pruned.", "best/finetune/top1", "Finished")
    browser.screenshot(tmp_path / "parent.png")
    assert _errors(browser) == []
