"""The `data` block: where labelled images (or released tokens) come from.

Sources: DESIGN section 7; layouts and traps in Deng et al. 2009 (ImageNet) and the torchvision documentation.
"""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from tokexp.spec.base import Spec, added, neutral
from tokexp.spec.extensions import Kinds
from tokexp.spec.store_front import TokenShape, store_front

SIZES = {
    "CIFAR10": (3, 32), "CIFAR100": (3, 32), "MNIST": (1, 28), "FashionMNIST": (1, 28), "KMNIST": (1, 28),
    "SVHN": (3, 32), "STL10": (3, 96), "EuroSAT": (3, 64),
}  # fmt: skip
"""Channels and side in pixels of the torchvision sets whose images all have one size."""

TorchvisionName = Literal[
    "CIFAR10", "CIFAR100", "MNIST", "FashionMNIST", "KMNIST", "SVHN", "STL10", "EuroSAT",
    "Flowers102", "Food101", "FGVCAircraft", "OxfordIIITPet", "DTD", "GTSRB",
]  # fmt: skip

Fraction = Annotated[float, Field(ge=0, lt=1)]
SplitSeed = Annotated[int, Field(ge=0)]


class _Images(Spec):
    """What all image sources share: a stratified `select` part, cut from the training images for choosing by."""

    select_fraction: Fraction = Field(
        0.0, description="Share of the training images (stratified) set aside to select by; never trained on."
    )
    split_seed: SplitSeed = Field(0, description="Seed of every split that tokexp makes itself.")


class DigitsData(_Images):
    """scikit-learn's digits: 1,797 real 8 x 8 grey images of 10 classes, inside the package (no download)."""

    kind: Literal["digits"]
    test_fraction: float = Field(0.3, gt=0, lt=1, description="Share of the images held out, stratified by class.")

    def image_shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width)."""
        return 1, 8, 8


class ImageFolderData(_Images):
    """A folder of images, one subfolder per class, with or without split folders; or a zip of one."""

    kind: Literal["image_folder"]
    root: str = neutral(..., min_length=1, description="The folder or zip file; relative to where tokexp is run.")
    image_size: int = Field(ge=4, le=4096, description="Side in pixels that images are brought to.")
    channels: Literal[1, 3] = Field(3, description="1 reads images as grey, 3 as RGB.")
    resize: Literal["squash", "crop"] = Field(
        "squash", description="squash: both sides forced to the size; crop: shorter side, then the centre."
    )
    train: str | None = Field(None, description="Folder of the training split; found by its usual names if not given.")
    test: str | None = Field(None, description="Folder of the test split; found by its usual names if not given.")
    test_fraction: Fraction = Field(0.2, description="Share held out when there is no test folder.")
    labels: Literal["folders", "none"] = added(
        "folders", description="folders: one folder per class; none: any tree of images, all of one class."
    )
    fingerprint: Literal["listing", "content"] = Field(
        "listing", description="listing: names and sizes (and a zip's checksums); content: every byte is read."
    )
    corrupt: Literal["error", "skip"] = Field(
        "error", description="What to do with images that cannot be read; skip leaves them out and lists them."
    )

    @model_validator(mode="after")
    def _no_splits_without_labels(self) -> Self:
        if self.labels == "none" and (self.train or self.test):
            raise ValueError("with labels: none all images are taken; leave train and test out, or set root")
        return self

    def image_shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width)."""
        return self.channels, self.image_size, self.image_size


class TorchvisionData(_Images):
    """A classification set that torchvision reads by name."""

    kind: Literal["torchvision"]
    name: TorchvisionName = Field(description="The class in torchvision.datasets.")
    root: str = neutral("data", min_length=1, description="Folder that holds (or receives) the set.")
    download: bool = neutral(False, description="Fetch the set if it is not there.")
    image_size: int | None = Field(
        None, ge=4, le=4096, description="Side in pixels; needed for sets whose images differ in size."
    )
    resize: Literal["squash", "crop"] = Field("squash", description="As in image_folder.")

    def image_shape(self) -> tuple[int, int, int]:
        """Return (channels, height, width); sets of varying size need `image_size` (checked at validation)."""
        channels, side = SIZES.get(self.name, (3, 0))
        side = self.image_size or side
        return channels, side, side


class GivenTokens(Spec):
    """What data share that are tokens already: they have no pixels, and no tokenizer is needed."""

    def token_shape(self) -> TokenShape | None:
        """Return the sizes of the tokens; None where only a file says them, and it cannot be read here."""
        raise NotImplementedError

    def pixels_per_token(self) -> int:
        """Return the pixels per token and axis, 1 where nobody says it."""
        return 1


class SeitReleaseData(GivenTokens):
    """The token files that SeiT released: gzip blob, index, labels, codebook (no pixels, so no tokenizer).

    Source: Park et al. 2023 (SeiT), released format of the code's token data set.
    """

    kind: Literal["seit_release"]
    root: str = neutral(..., min_length=1, description="Folder that holds the files.")
    train: str = Field("imagenet1k-train-token", description="Stem of the training files' names.")
    test: str = Field("imagenet1k-val-token", description="Stem of the test files' names.")
    codebook: str = Field("codebook.ckpt", description="File of the codebook, a bare tensor (codes, width).")
    grid: int = Field(32, ge=1, le=256, description="Side of the square token grid.")
    codebook_size: int = Field(391, ge=2, le=510, description="Codes in the file; 509 is the largest storable id.")
    code_dim: int = Field(32, ge=1, le=4096, description="Width of a code vector.")
    pixel_stride: int = Field(8, ge=1, le=64, description="Pixels per token and axis, for the record.")

    def token_shape(self) -> TokenShape:
        """Return the sizes that the spec says."""
        return TokenShape((self.grid, self.grid), self.codebook_size, self.code_dim)

    def pixels_per_token(self) -> int:
        """Return the pixels per token and axis."""
        return self.pixel_stride


class TokenStoreData(GivenTokens):
    """Token stores of tokexp itself: what `tokexp tokenize` and `tokexp store` write. Any grid, any number of codes.

    Where the files lie decides nothing, what they hold does.
    """

    kind: Literal["token_store"]
    train: str = neutral(..., min_length=1, description="The .tokens file of the training images.")
    test: str | None = neutral(
        None, min_length=1, description="That of the test images; part of the training images is held out without it."
    )
    test_fraction: float = Field(
        0.2, gt=0, lt=1, description="Share held out (stratified) where there is no test file."
    )
    select_fraction: Fraction = Field(
        0.0, description="Share of the training images (stratified) set aside to select by; never trained on."
    )
    split_seed: SplitSeed = Field(0, description="Seed of every split that tokexp makes itself.")
    classes: int | None = Field(
        None, ge=1, le=65_536, description="Number of classes, where the two files do not say the same."
    )

    def token_shape(self) -> TokenShape | None:
        """Return the sizes that the training store says, None if it cannot be read here."""
        front = store_front(self.train)
        return None if front is None else front.shape

    def relevant(self) -> dict[str, Any]:
        """Return what decides a result, the content of the files in it: two files are two points of a sweep."""
        named = {"train": self.train, "test": self.test}
        return {**super().relevant(), **{name: _content(file) for name, file in named.items() if file is not None}}


def _content(file: str) -> str:
    front = store_front(file)
    return file if front is None else front.content


DataSpec = Annotated[DigitsData | ImageFolderData | TorchvisionData | SeitReleaseData | TokenStoreData, Kinds("data")]
