"""What every tokenizer promises, checked for each of them."""

from hashlib import blake2b
from math import prod
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.tokenizers.published import with_checkpoint
from tokexp.data.base import Batch
from tokexp.errors import InputError
from tokexp.registry import implementation
from tokexp.spec.coefficients import Dct
from tokexp.spec.published_tokenizers import FrozenTokenizer
from tokexp.spec.tokenizers import (
    DalleDvae,
    EmaQuantizer,
    FeatureKMeans,
    FsqQuantizer,
    LfqQuantizer,
    PatchKMeans,
    Titok,
    TokenizerSpec,
    VitVqgan,
    Vqgan,
    VqKd,
    VqVae,
)
from tokexp.tokenizers.base import Codebook, Tokenizer

SHAPE = (3, 16, 8)
SPECS = {
    "patch_kmeans": PatchKMeans(kind="patch_kmeans", patch_size=4, codebook_size=12, iterations=4),
    "vqvae_ema": VqVae(
        kind="vqvae", stride=4, width=8, quantizer=EmaQuantizer(kind="ema", codebook_size=12, code_dim=3)
    ),
    "vqvae_fsq": VqVae(kind="vqvae", stride=4, width=8, quantizer=FsqQuantizer(kind="fsq", levels=(4, 3))),
    # So that few updates are enough for signs to differ.
    "vqvae_lfq": VqVae(
        kind="vqvae", stride=4, width=8,
        quantizer=LfqQuantizer(kind="lfq", bits=4, commitment=0.0, entropy=1.0, diversity=4.0),
    ),
    "dct": Dct(kind="dct", block=4, coefficients=6, chroma="half", levels=12),
    "vit_vqgan": VitVqgan(
        kind="vit_vqgan", width=12, depth=1, heads=3, mlp_width=20, patch_size=4, positions=4, codebook_size=12,
        code_dim=5, input_size=16, checkpoint="made by the fixture",
    ),
    "vqgan": Vqgan(
        kind="vqgan", width=4, multipliers=(1, 2, 2), blocks=1, z_channels=6, code_dim=5, codebook_size=12,
        checkpoint="made by the fixture",
    ),
    "vqgan_gumbel": Vqgan(
        kind="vqgan", variant="f8_8192", width=4, multipliers=(1, 2, 2), blocks=1, z_channels=6, code_dim=6,
        codebook_size=12, checkpoint="made by the fixture",
    ),
    "dalle_dvae": DalleDvae(
        kind="dalle_dvae", width=4, codebook_size=12, code_dim=5, checkpoint="made by the fixture", decoder="also",
    ),
    "vq_kd": VqKd(
        kind="vq_kd", width=12, depth=1, heads=3, mlp_width=20, patch_size=4, positions=4, codebook_size=12,
        code_dim=5, input_size=16, checkpoint="made by the fixture",
    ),
    "titok": Titok(
        kind="titok", tokens=6, width=12, depth=1, heads=3, patch_size=4, positions=4, codebook_size=12, code_dim=5,
        input_size=16, pixel_width=4, pixel_multipliers=(1, 2, 2), pixel_codes=7, pixel_code_dim=6,
        checkpoint="made by the fixture",
    ),
    "feature_kmeans": FeatureKMeans(
        kind="feature_kmeans", backbone="resnet18", layer=1, width=64, stride=4, random=True, codebook_size=12,
        iterations=3, restarts=2, sample=0.5,
    ),
}  # fmt: skip
OUTSIDE = {
    "vit_vqgan": "ImageNet-1k",
    "vqgan": "ImageNet-1k",
    "vqgan_gumbel": "OpenImages",
    "dalle_dvae": "250 M web images",
    "vq_kd": "ImageNet-1k, CLIP",
    "titok": "ImageNet-1k",
}
"""What published tokenizers were trained on."""


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    noise = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    return (noise + torch.linspace(0, 3, 40).view(-1, 1, 1, 1)) / 4


@pytest.fixture(params=list(SPECS))
def spec(request: pytest.FixtureRequest, tmp_path: Path) -> TokenizerSpec:
    found = SPECS[request.param]
    if isinstance(found, FrozenTokenizer) and found.checkpoint is not None:
        made: TokenizerSpec = with_checkpoint(found, SHAPE, tmp_path)
        return made
    return found


@pytest.fixture
def tokenizer(spec: TokenizerSpec, images: torch.Tensor) -> Tokenizer:
    torch.manual_seed(1)
    return ready(implementation("tokenizers", spec.kind)(spec, SHAPE), images)


def ready(tokenizer: Tokenizer, images: torch.Tensor) -> Tokenizer:
    """Fit, or train for some updates."""
    objective = tokenizer.objective()
    if objective is None:
        tokenizer.fit(images.split(16))
        return tokenizer.eval()
    optimizer = torch.optim.Adam(objective.parameters(), lr=0.01)
    for step in range(15):
        batch = Batch(torch.zeros(len(images), dtype=torch.int64), 2, values=images)
        optimizer.zero_grad()
        objective.train()(batch, torch.Generator().manual_seed(step)).loss.backward()
        optimizer.step()
        objective.after_step()
    return tokenizer.eval()


def is_lfq(spec: TokenizerSpec) -> bool:
    """Say whether there are 16 codes: a power of two is needed."""
    return isinstance(spec, VqVae) and spec.quantizer.kind == "lfq"


def digest(tokenizer: Tokenizer) -> str:
    state = tokenizer.state_dict()
    return blake2b(b"".join(state[name].numpy().tobytes() for name in sorted(state))).hexdigest()


def test_tokens_are_indices_into_the_codebook_on_the_specs_grid(
    spec: TokenizerSpec, tokenizer: Tokenizer, images: torch.Tensor
) -> None:
    tokens = tokenizer.encode(images)
    assert tokens.dtype == torch.int64
    assert tokens.shape == (40, *spec.grid(SHAPE)) == (40, *tokenizer.info.grid)
    assert tokens.min() >= 0
    assert tokens.max() < len(tokenizer.codebook())
    assert len(tokens.unique()) > 1


def test_the_codebook_has_the_specs_width(spec: TokenizerSpec, tokenizer: Tokenizer) -> None:
    codes = tokenizer.codebook()
    assert codes.dtype == torch.float32
    assert codes.shape == (16 if is_lfq(spec) else 12, spec.code_width(SHAPE))
    assert codes.isfinite().all()


def test_decoded_images_have_shape_and_range_of_images(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    if not tokenizer.info.decodes:
        with pytest.raises(InputError, match="has no decoder"):
            tokenizer.decode(tokenizer.encode(images))
        return
    decoded = tokenizer.decode(tokenizer.encode(images))
    assert decoded.shape == images.shape
    assert decoded.min() >= 0
    assert decoded.max() <= 1


def test_encoding_and_decoding_change_no_state(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    before = digest(tokenizer)
    for mode in (False, True):
        tokenizer.train(mode)
        tokens = tokenizer.encode(images)
        if tokenizer.info.decodes:
            tokenizer.decode(tokens)
    assert digest(tokenizer) == before


def test_encoding_twice_gives_the_same_tokens(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    assert torch.equal(tokenizer.encode(images), tokenizer.encode(images))


def test_no_images_give_no_tokens(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(torch.empty(0, *SHAPE))
    assert tokens.shape == (0, *tokenizer.info.grid)
    if tokenizer.info.decodes:
        assert tokenizer.decode(tokens).shape == (0, *SHAPE)


def test_its_weights_on_disk_rebuild_it(
    spec: TokenizerSpec, tokenizer: Tokenizer, images: torch.Tensor, tmp_path: Path
) -> None:
    save_file(tokenizer.state_dict(), tmp_path / "tokenizer.safetensors")
    again: Tokenizer = implementation("tokenizers", spec.kind)(spec, SHAPE).eval()
    again.load_state_dict(load_file(tmp_path / "tokenizer.safetensors"), strict=True)
    assert torch.equal(again.encode(images), tokenizer.encode(images))
    assert torch.equal(again.codebook(), tokenizer.codebook())


def test_the_same_seed_makes_the_same_tokenizer(
    spec: TokenizerSpec, tokenizer: Tokenizer, images: torch.Tensor
) -> None:
    torch.manual_seed(1)
    again = ready(implementation("tokenizers", spec.kind)(spec, SHAPE), images)
    assert digest(again) == digest(tokenizer)


def test_a_looked_up_code_finds_its_index(tokenizer: Tokenizer, images: torch.Tensor) -> None:
    codebook, tokens = Codebook(tokenizer.codebook(), tokenizer.info.metric), tokenizer.encode(images)
    assert torch.equal(codebook.nearest(codebook.lookup(tokens)), tokens)


def test_the_facts_are_those_of_the_spec(tokenizer: Tokenizer, request: pytest.FixtureRequest) -> None:
    assert tokenizer.info.image_shape == SHAPE
    assert tokenizer.info.pixels_per_token == SHAPE[1] * SHAPE[2] // prod(tokenizer.info.grid)
    assert tokenizer.info.outside_data == OUTSIDE.get(request.node.callspec.params["spec"], "none")
