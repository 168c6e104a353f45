"""What vqvae's training can add: features of a network, a discriminator, how codes are used; alone and in a group."""

import math
import os
import socket
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import multiprocessing
from torch.nn.functional import mse_loss

from tokexp.data.base import Batch
from tokexp.data.digits import build as digits
from tokexp.engine.batches import PixelFeed
from tokexp.engine.loop import Phase, fit
from tokexp.engine.reporting import Silent
from tokexp.errors import DataError
from tokexp.spec.data import DigitsData
from tokexp.spec.tokenizers import Adversarial, EmaQuantizer, FsqQuantizer, Perceptual, VqVae
from tokexp.spec.train import TrainSpec
from tokexp.tokenizers.code_use import CodeCounter
from tokexp.tokenizers.discriminator import PatchDiscriminator, adaptive_weight, deceiving, judging
from tokexp.tokenizers.vqvae import Reconstruction, VqVaeTokenizer, build
from tokexp.vgg import vgg16

CPU = torch.device("cpu")
SMALL = Adversarial(width=8, layers=1)


def made(**fields: object) -> VqVaeTokenizer:
    torch.manual_seed(0)
    quantizer = EmaQuantizer(kind="ema", codebook_size=16, code_dim=4)
    return build(VqVae.model_validate({"kind": "vqvae", "quantizer": quantizer, "width": 8, **fields}), (1, 8, 8))


def step(objective: Reconstruction, seed: int = 0, count: int = 12) -> tuple[dict[str, float], torch.Tensor]:
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(seed))
    batch = Batch(torch.zeros(count, dtype=torch.int64), 2, values=images)
    output = objective(batch, torch.Generator().manual_seed(seed))
    return {name: float(value) for name, value in output.metrics.items()}, output.loss


def test_the_hinge_losses_are_their_formulas() -> None:
    torch.manual_seed(1)
    judge = PatchDiscriminator(1, SMALL)
    real, fake = torch.rand(5, 1, 8, 8), torch.rand(5, 1, 8, 8, requires_grad=True)
    with torch.no_grad():
        on_real, on_fake = judge(real), judge(fake)
    expected = 0.5 * ((1 - on_real).clamp_min(0).mean() + (1 + on_fake).clamp_min(0).mean())
    torch.testing.assert_close(judging(judge, real, fake), expected)
    torch.testing.assert_close(deceiving(judge, fake), -on_fake.mean())


def test_each_side_moves_its_own_weights_alone() -> None:
    torch.manual_seed(1)
    judge = PatchDiscriminator(1, SMALL)
    fake = torch.rand(5, 1, 8, 8, requires_grad=True)
    deceiving(judge, fake).backward()
    assert fake.grad is not None
    assert float(fake.grad.abs().sum()) > 0
    assert all(parameter.grad is None for parameter in judge.parameters())
    fake.grad = None
    judging(judge, torch.rand(5, 1, 8, 8), fake).backward()
    assert fake.grad is None
    assert all(parameter.grad is not None for parameter in judge.parameters())


def test_a_picture_is_judged_alone() -> None:
    judge, pictures = PatchDiscriminator(3, Adversarial(width=8, layers=2)), torch.rand(6, 3, 16, 16)
    torch.testing.assert_close(judge(pictures)[2:3], judge(pictures[2:3]))


def test_the_adaptive_weight_is_the_ratio_of_the_gradients() -> None:
    last = torch.tensor([1.0, 2.0], requires_grad=True)
    strong, weak = (3 * last).sum(), (last * torch.tensor([0.0, 0.5])).sum()
    assert float(adaptive_weight(strong, weak, last)) == pytest.approx(math.sqrt(18) / (0.5 + 1e-4))
    assert float(adaptive_weight(strong, (0 * last).sum(), last)) == 1e4


def test_the_whole_loss_is_the_sum_of_its_parts() -> None:
    tokenizer = made(adversarial={"width": 8, "layers": 1, "weight": 0.5})
    objective = Reconstruction(tokenizer).train()
    metrics, loss = step(objective)
    parts = metrics["mse"] + metrics["commitment"] + metrics["judgement"]
    assert float(loss.detach()) == pytest.approx(
        parts + 0.5 * metrics["adaptive_weight"] * metrics["deception"], rel=1e-5
    )


def test_before_its_start_the_discriminator_changes_nothing() -> None:
    plain, late = (
        Reconstruction(made()).train(),
        Reconstruction(made(adversarial={"width": 8, "layers": 1, "start": 2})),
    )
    late.train()
    for number in range(3):
        losses = [step(objective, number)[1] for objective in (plain, late)]
        for loss, objective in zip(losses, (plain, late), strict=True):
            objective.zero_grad()
            loss.backward()
            objective.after_step()
        pairs = zip(plain.tokenizer.parameters(), late.tokenizer.parameters(), strict=True)
        alike = all(torch.equal(one.grad, other.grad) for one, other in pairs if one.grad is not None)
        assert alike is (number < 2)
        assert all(parameter.grad is not None for parameter in late.parameters())


def test_the_use_of_codes_is_counted_over_an_update() -> None:
    counter = CodeCounter(8)
    for indices in ([[0, 0], [0, 1]], [[1, 5], [0, 1]]):
        counter.add(torch.tensor(indices))
    use = counter.take()
    assert use is not None
    frequencies = np.array([4, 3, 1]) / 8
    assert float(use.share) == 3 / 8
    assert float(use.perplexity) == pytest.approx(np.exp(-(frequencies * np.log(frequencies)).sum()))
    assert counter.take() is None


@pytest.mark.parametrize("quantizer", [EmaQuantizer(kind="ema", codebook_size=64), FsqQuantizer(kind="fsq")])
def test_the_use_of_the_update_before_is_reported(quantizer: EmaQuantizer | FsqQuantizer) -> None:
    objective = Reconstruction(made(quantizer=quantizer)).train()
    first, _ = step(objective)
    assert (first["codebook_use"], first["restarted"]) == (0.0, 0.0)
    objective.after_step()
    second, _ = step(objective)
    assert second["codebook_use"] == pytest.approx(first["codes_used"] / 64)
    assert 1 <= second["perplexity"] <= first["codes_used"] + 1e-3


def test_codes_that_are_hardly_used_are_counted_as_restarted() -> None:
    # Below 0.52: whether 10 of 20 make a half is a matter of rounding.
    spec = EmaQuantizer(kind="ema", codebook_size=16, code_dim=4, restart_below=0.52)
    objective = Reconstruction(made(quantizer=spec)).train()
    step(objective)
    objective.after_step()
    quantizer = objective.tokenizer.quantizer
    quantizer.counts.zero_()  # type: ignore[operator]
    images = torch.rand(12, 1, 8, 8, generator=torch.Generator().manual_seed(5))
    chosen = torch.bincount(objective.tokenizer.encode(images).reshape(-1), minlength=16)
    step(objective, seed=5)
    objective.after_step()
    # N = 0.95 x 0 + 0.05 n
    expected = int((0.05 * chosen < 0.52).sum())
    assert 0 < expected < 16
    assert step(objective)[0]["restarted"] == expected


@pytest.fixture(scope="module")
def vgg(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A file of random weights of VGG-16 (its classifier is small: views of one number)."""
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in vgg16(weights=None, init_weights=False).state_dict().items()}
    state = {
        name: torch.zeros(()).expand(shape) if name.startswith("classifier") else torch.randn(shape) * 0.05
        for name, shape in shapes.items()
    }
    file = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(state, file)
    return str(file)


@pytest.fixture(scope="module")
def linear(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("lpips") / "vgg.pth"
    widths = enumerate((64, 128, 256, 512, 512))
    torch.save({f"lin{n}.model.1.weight": torch.rand(1, width, 1, 1) for n, width in widths}, file)
    return str(file)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_distance_of_features_is_equation_1_of_lpips(vgg: str, linear: str, weighted: bool) -> None:
    from tokexp.tokenizers.lpips import Lpips

    measure = Lpips(vgg, linear if weighted else None)
    one, other = torch.rand(2, 1, 16, 16), torch.rand(2, 1, 16, 16)
    with torch.device("meta"):
        network = vgg16(weights=None, init_weights=False)
    network.load_state_dict(torch.load(vgg, weights_only=True), assign=True)
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = torch.zeros(2)
    weights = torch.load(linear, weights_only=True)
    a, b = (((x.repeat(1, 3, 1, 1) - mean[:, None, None]) / deviation[:, None, None]) for x in (one, other))
    layers = {3: 0, 8: 1, 15: 2, 22: 3, 29: 4}
    with torch.no_grad():
        for number, layer in enumerate(network.features[:30]):
            a, b = layer(a.clone()), layer(b.clone())
            if number in layers:
                difference = a / a.norm(dim=1, keepdim=True) - b / b.norm(dim=1, keepdim=True)
                w = weights[f"lin{layers[number]}.model.1.weight"] if weighted else 1.0
                expected += (w * difference.square()).sum(1).mean((1, 2))
    torch.testing.assert_close(measure(one, other), expected.mean(), rtol=1e-4, atol=1e-6)
    assert float(measure(one, one)) == 0
    assert not [name for name in measure.state_dict() if not name.startswith("features.")]


def test_the_features_loss_pulls_the_decoder_and_is_no_part_of_the_state(vgg: str) -> None:
    from tokexp.tokenizers.lpips import Lpips

    torch.manual_seed(0)
    spec = VqVae(kind="vqvae", width=8, stride=4, perceptual=Perceptual(vgg=vgg, weight=2.0))
    tokenizer = build(spec, (1, 16, 16))
    objective = Reconstruction(tokenizer).train()
    images = torch.rand(3, 1, 16, 16)
    output = objective(Batch(torch.zeros(3, dtype=torch.int64), 2, values=images), torch.Generator())
    parts = output.metrics["mse"] + output.metrics["commitment"] + 2 * output.metrics["perceptual"]
    torch.testing.assert_close(output.loss.detach(), parts, rtol=1e-4, atol=1e-6)
    output.loss.backward()
    made_again = tokenizer.pixels(tokenizer.codebook()[tokenizer.encode(images)].permute(0, 3, 1, 2))
    alone = mse_loss(made_again, images) + 2 * Lpips(vgg, None)(made_again, images)
    (expected,) = torch.autograd.grad(alone, tokenizer.last_weights())
    torch.testing.assert_close(tokenizer.last_weights().grad, expected, rtol=1e-3, atol=1e-6)
    assert not [name for name in objective.state_dict() if "lpips" in name or "shift" in name]
    assert tokenizer.info.outside_data.startswith("labels of ImageNet-1k")


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x80\x02R.", b"PK\x03\x04 cut"])
def test_weights_that_are_no_torch_file_are_one_short_message(content: bytes, vgg: str, tmp_path: Path) -> None:
    from tokexp.tokenizers.lpips import Lpips

    file = tmp_path / "x.pth"
    file.write_bytes(content)
    for files, words in (((str(file), None), "vgg16: it is no"), ((vgg, str(file)), "LPIPS")):
        with pytest.raises(DataError, match=words) as caught:
            Lpips(*files)
        assert "weights_only" not in str(caught.value)


def test_weights_that_are_something_else_are_named(vgg: str, tmp_path: Path) -> None:
    from tokexp.tokenizers.lpips import Lpips

    torch.save({"a": torch.zeros(1)}, tmp_path / "x.pth")
    with pytest.raises(DataError, match=r"x\.pth: these are not weights of torchvision's vgg16"):
        Lpips(str(tmp_path / "x.pth"), None)
    with pytest.raises(DataError, match=r"x\.pth: these are not LPIPS's weights"):
        Lpips(vgg, str(tmp_path / "x.pth"))


def _trained(folder: Path) -> Reconstruction:
    tokenizer = made(adversarial={"width": 8, "layers": 1, "start": 2})
    objective = Reconstruction(tokenizer)
    train = TrainSpec(steps=4, batch_size=32, accumulate=2, lr=1e-3, weight_decay=0.0)
    source = digits(DigitsData(kind="digits"))
    feed = PixelFeed(source, "train", CPU, range(200))
    fit(objective, feed, lambda batch, _: batch, Phase("tokenizer", train, 3, CPU, folder, Silent(), lambda: False))
    return objective


def _member(rank: int, folder: str, port: int) -> None:
    from tokexp.engine.processes import join_group

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    join_group(CPU)
    objective = _trained(Path(folder) / "shared")
    if rank == 0:
        torch.save(objective.state_dict(), f"{folder}/group.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_train_the_tokenizer_of_one(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_member, args=(str(tmp_path), port), nprocs=2)
    found = torch.load(tmp_path / "group.pt", weights_only=True)
    alone = _trained(tmp_path / "alone").state_dict()
    assert float(alone["updates"]) == 4
    for name, value in alone.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-4, atol=1e-6, msg=lambda text, name=name: f"{name}: {text}"
        )
