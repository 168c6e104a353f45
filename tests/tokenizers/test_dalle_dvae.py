"""dalle_dvae against modules written here under the released names; their pickles are the files that it reads."""

import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tokexp.errors import DataError
from tokexp.spec.tokenizers import DalleDvae
from tokexp.tokenizers.dalle_dvae import DalleDvaeTokenizer, build

SHAPE = (3, 16, 24)
WIDE, CODES, DIM = 8, 11, 5


class Conv2d(nn.Module):
    def __init__(self, n_in: int, n_out: int, kw: int) -> None:
        super().__init__()
        self.w = nn.Parameter(2 * torch.randn(n_out, n_in, kw, kw) / (n_in * kw * kw) ** 0.5)
        self.b = nn.Parameter(0.1 * torch.randn(n_out))
        self.device, self.kw = torch.device("cpu"), kw

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.w, self.b, padding=(self.kw - 1) // 2)


class Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, kernels: tuple[int, ...]) -> None:
        super().__init__()
        inner, layers, before = n_out // 4, [], n_in
        for i, kw in enumerate(kernels, start=1):
            after = n_out if i == 4 else inner
            layers += [(f"relu_{i}", nn.ReLU()), (f"conv_{i}", Conv2d(before, after, kw))]
            before = after
        self.post_gain = 1 / (4 * 2) ** 2
        self.id_path = Conv2d(n_in, n_out, 1) if n_in != n_out else nn.Identity()
        self.res_path = nn.Sequential(OrderedDict(layers))

    def forward(self, x: Tensor) -> Tensor:
        skip: Tensor = self.id_path(x)
        return skip + self.post_gain * self.res_path(x)


class Whole(nn.Module):
    def __init__(self, decodes: bool) -> None:
        super().__init__()
        widths = [DIM, 8 * WIDE, 4 * WIDE, 2 * WIDE, WIDE] if decodes else [WIDE, WIDE, 2 * WIDE, 4 * WIDE, 8 * WIDE]
        kernels = (1, 3, 3, 3) if decodes else (3, 3, 3, 1)
        first = Conv2d(CODES, DIM, 1) if decodes else Conv2d(3, WIDE, 7)
        groups = OrderedDict[str, nn.Module](input=first)
        for i in range(1, 5):
            parts = OrderedDict[str, nn.Module]()
            parts["block_1"] = Block(widths[i - 1], widths[i], kernels)
            parts["block_2"] = Block(widths[i], widths[i], kernels)
            if i < 4:
                parts["upsample" if decodes else "pool"] = nn.Upsample(scale_factor=2) if decodes else nn.MaxPool2d(2)
            groups[f"group_{i}"] = nn.Sequential(parts)
        last = Conv2d(widths[4], 6 if decodes else CODES, 1)
        groups["output"] = nn.Sequential(OrderedDict[str, nn.Module](relu=nn.ReLU(), conv=last))
        self.blocks = nn.Sequential(groups)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.blocks(x)
        return out


def blocks() -> Tensor:
    """Images of six colours each, which networks with random weights tell apart."""
    colours = torch.rand(5, 3, 2, 3, generator=torch.Generator().manual_seed(1))
    return colours.repeat_interleave(8, dim=2).repeat_interleave(8, dim=3)


@pytest.fixture(scope="module")
def pickled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, nn.Module, nn.Module]:
    """Two pickled modules of a package that exists only while they are written."""
    torch.manual_seed(0)
    folder, package = tmp_path_factory.mktemp("pickles"), ModuleType("dall_e")
    encoder, decoder = Whole(False), Whole(True)
    # Without this one code wins everywhere: behind the maxima all features are positive.
    last = encoder.blocks.get_submodule("output.conv")
    assert isinstance(last, Conv2d)
    last.b.data -= encoder(0.8 * blocks() + 0.1).mean((0, 2, 3))
    with pytest.MonkeyPatch.context() as patch:
        for cls in (Conv2d, Block, Whole):
            setattr(package, cls.__name__, cls)
            patch.setattr(cls, "__module__", "dall_e")
        patch.setitem(sys.modules, "dall_e", package)
        torch.save(encoder, folder / "encoder.pkl")
        torch.save(decoder, folder / "decoder.pkl")
    return folder, encoder, decoder


def small(folder: Path, **fields: Any) -> DalleDvae:
    files = {"checkpoint": str(folder / "encoder.pkl"), "decoder": str(folder / "decoder.pkl")}
    return DalleDvae(
        **{"kind": "dalle_dvae", "width": WIDE, "codebook_size": CODES, "code_dim": DIM, **files, **fields}
    )


@pytest.fixture(scope="module")
def loaded(pickled: tuple[Path, nn.Module, nn.Module]) -> DalleDvaeTokenizer:
    tokenizer = build(small(pickled[0]), SHAPE)
    tokenizer.fit([])
    return tokenizer


@pytest.fixture(scope="module")
def images() -> Tensor:
    return blocks()


def test_tokens_are_the_argmax_of_the_pickled_encoder(
    loaded: DalleDvaeTokenizer, pickled: tuple[Path, nn.Module, nn.Module], images: Tensor
) -> None:
    assert "dall_e" not in sys.modules
    logits = pickled[1](0.8 * images + 0.1)
    assert torch.allclose(loaded.encoder(0.8 * images + 0.1), logits, atol=1e-5)
    tokens = loaded.encode(images)
    assert torch.equal(tokens, logits.argmax(1))
    assert tokens.shape == (5, 2, 3)
    assert len(tokens.unique()) >= 3


def test_pixels_are_those_of_the_pickled_decoder_on_one_hot_codes(
    loaded: DalleDvaeTokenizer, pickled: tuple[Path, nn.Module, nn.Module], images: Tensor
) -> None:
    tokens = loaded.encode(images)
    mixture = F.one_hot(tokens, CODES).permute(0, 3, 1, 2).float()
    expected = ((pickled[2](mixture)[:, :3].sigmoid() - 0.1) / 0.8).clamp(0, 1)
    assert torch.allclose(loaded.decode(tokens), expected, atol=1e-5)


def test_codes_are_the_columns_of_the_decoders_first_convolution(
    loaded: DalleDvaeTokenizer, pickled: tuple[Path, nn.Module, nn.Module]
) -> None:
    assert torch.equal(loaded.codebook(), pickled[2].state_dict()["blocks.input.w"][:, :, 0, 0].T)


def test_the_published_encoder_has_53_8_million_parameters_and_112_pixels_give_14_tokens() -> None:
    spec = DalleDvae(kind="dalle_dvae", checkpoint="e", decoder="d", input_size=112)
    with torch.device("meta"):
        tokenizer = build(spec, (3, 224, 224))
    assert sum(value.numel() for value in tokenizer.encoder.parameters()) == pytest.approx(53.8e6, rel=1e-3)
    assert tokenizer.info.grid == (14, 14)
    assert tokenizer.info.pixels_per_token == 256
    assert tuple(tokenizer.codebook().shape) == (8192, 128)
    names = set(tokenizer.encoder.state_dict())
    assert {"blocks.input.w", "blocks.group_2.block_1.id_path.b", "blocks.group_4.block_2.res_path.conv_4.w"} <= names
    assert "blocks.group_1.block_1.id_path.w" not in names


def test_the_files_exchanged_are_refused_by_name(pickled: tuple[Path, nn.Module, nn.Module]) -> None:
    folder = pickled[0]
    exchanged = small(folder, checkpoint=str(folder / "decoder.pkl"), decoder=str(folder / "encoder.pkl"))
    with pytest.raises(DataError, match=r"decoder\.pkl' is no checkpoint of the kind dalle_dvae \(encoder\)"):
        build(exchanged, SHAPE).fit([])
