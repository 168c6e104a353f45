import pytest
import torch

from tokexp.data.base import Batch
from tokexp.data.digits import build as digits
from tokexp.errors import InputError
from tokexp.spec.data import DigitsData
from tokexp.spec.tokenizers import EmaQuantizer, FsqQuantizer, QuantizerSpec, VqVae
from tokexp.tokenizers.vqvae import Reconstruction, VqVaeTokenizer, build

QUANTIZERS = [EmaQuantizer(kind="ema", codebook_size=16, code_dim=4), FsqQuantizer(kind="fsq", levels=(4, 5))]


def made(quantizer: QuantizerSpec, shape: tuple[int, int, int] = (1, 8, 8), **fields: int) -> VqVaeTokenizer:
    torch.manual_seed(0)
    return build(VqVae(**{"kind": "vqvae", "quantizer": quantizer, "width": 8} | fields), shape)


def train(objective: Reconstruction, images: torch.Tensor, first: int, last: int, *, adam: bool = False) -> list[float]:
    # Plain descent has no state of its own, which a training cut in two would lose.
    kind = torch.optim.Adam if adam else torch.optim.SGD
    optimizer = kind(objective.parameters(), lr=0.01)
    objective.train()
    losses = []
    for step in range(first, last):
        draws = torch.Generator().manual_seed(step)
        chosen = torch.randint(len(images), (32,), generator=draws)
        output = objective(Batch(torch.zeros(32, dtype=torch.int64), 10, values=images[chosen]), draws)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        objective.after_step()
        losses.append(float(output.metrics["mse"]))
    return losses


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return digits(DigitsData(kind="digits")).read("train", range(200))


@pytest.mark.parametrize("stride", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("blocks", [0, 2])
def test_every_stride_gives_its_grid_and_gives_the_image_back(stride: int, blocks: int) -> None:
    tokenizer = made(QUANTIZERS[1], (3, 32, 16), stride=stride, blocks=blocks)
    tokens = tokenizer.encode(torch.rand(2, 3, 32, 16))
    assert tokens.shape == (2, 32 // stride, 16 // stride)
    assert tokenizer.decode(tokens).shape == (2, 3, 32, 16)


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_training_lowers_the_error_and_reports_it(quantizer: QuantizerSpec, images: torch.Tensor) -> None:
    objective = made(quantizer).objective()
    assert isinstance(objective, Reconstruction)
    losses = train(objective, images, 0, 60, adam=True)
    assert sum(losses[-5:]) < 0.7 * sum(losses[:5])


def test_the_loss_is_the_squared_error_plus_commitment(images: torch.Tensor) -> None:
    tokenizer = made(QUANTIZERS[0])
    objective = Reconstruction(tokenizer).eval()
    output = objective(Batch(torch.zeros(9, dtype=torch.int64), 10, values=images[:9]), torch.Generator())
    codes = tokenizer.codebook()[tokenizer.encode(images[:9])].permute(0, 3, 1, 2)
    with torch.no_grad():
        mse = (tokenizer.pixels(codes) - images[:9]).square().mean()
        pull = 0.25 * (tokenizer.features(images[:9]) - codes).square().mean()
    assert float(output.loss.detach()) == pytest.approx(float(mse + pull), rel=1e-5)
    assert float(output.metrics["psnr"]) == pytest.approx(-10 * float(mse.log10()), rel=1e-4)
    assert float(output.metrics["codes_used"]) == 1.0


@pytest.mark.parametrize("quantizer", QUANTIZERS)
def test_training_that_was_cut_in_two_is_training_in_one(quantizer: QuantizerSpec, images: torch.Tensor) -> None:
    whole, first, second = (Reconstruction(made(quantizer)) for _ in range(3))
    train(whole, images, 0, 6)
    train(first, images, 0, 3)
    second.load_state_dict(first.state_dict())
    train(second, images, 3, 6)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_a_trained_codebook_is_used(images: torch.Tensor) -> None:
    tokenizer = made(QUANTIZERS[0])
    train(Reconstruction(tokenizer), images, 0, 60, adam=True)
    assert len(tokenizer.encode(images).unique()) >= 8


def test_codes_of_fsq_are_implicit_and_those_of_ema_are_not() -> None:
    assert made(QUANTIZERS[1]).info.implicit_codebook
    assert not made(QUANTIZERS[0]).info.implicit_codebook


def test_many_images_are_encoded_in_chunks_alike(images: torch.Tensor) -> None:
    tokenizer = made(QUANTIZERS[1])
    whole = tokenizer.encode(images)
    tokenizer._chunk = 7
    assert (tokenizer.encode(images) == whole).float().mean() > 0.999


def test_a_stride_that_does_not_divide_the_image_is_refused() -> None:
    with pytest.raises(InputError, match=r"tokenizer\.stride: 16 does not divide"):
        made(QUANTIZERS[0], (1, 8, 8), stride=16)
