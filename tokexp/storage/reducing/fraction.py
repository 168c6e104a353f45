"""A part of the training images, as they are: SeiT's sampling baselines (Park et al. 2023, table B.5).

`c_score` keeps images by the consistency scores of Jiang et al. 2021 (the share of networks that get an image right
without having seen it); any other score of importance works alike.
"""

import numpy as np

from tokexp.spec.reducing import FractionReduce
from tokexp.spec.storage import StorageSpec
from tokexp.spec.units import Budget
from tokexp.storage.budget import fit_budget, keep_order
from tokexp.storage.image_store import account
from tokexp.storage.reducing.base import Reduced, Reduction, Training, byte_limit, header_of, lossless, stored
from tokexp.storage.reducing.score_files import read_lists, read_scores
from tokexp.storage.reducing.selecting import in_turn, score_order, uniform_order


class Fraction(Reduction):
    """The first images of an order; the bytes of their files are taken over."""

    def __init__(self, spec: FractionReduce) -> None:
        """Take the share and how images are selected."""
        self.spec = spec

    def reduce(self, training: Training, storage: StorageSpec) -> Reduced:
        """Return the share of the images, or the most that fit the budget."""
        order, everything = self.order(training, storage.seed), len(training.labels)
        count = self._count(training, storage, order)
        positions = np.sort(order[:count])
        share = {"share": count / everything}
        return stored(training, positions, lambda position: lossless(training, position), self._facts(), share)

    def order(self, training: Training, seed: int) -> np.ndarray:
        """Return positions (n,) in the order in which images are kept; those that it lacks never are."""
        spec, labels = self.spec, training.labels
        if spec.select == "uniform":
            return uniform_order(len(labels), seed)
        if spec.select == "class_balanced":
            return keep_order(labels, seed)
        assert spec.file is not None
        if spec.select == "per_class":
            return in_turn(read_lists(spec.file, training.ids, labels, training.classes), labels, seed)
        scores = read_scores(spec.file, training.ids, labels)
        return score_order(scores, labels, seed, highest=spec.keep == "highest", balanced=spec.balanced)

    def _count(self, training: Training, storage: StorageSpec, order: np.ndarray) -> int:
        if self.spec.share is not None:
            return min(len(order), max(1, round(self.spec.share * len(training.labels))))
        limit = byte_limit(storage, len(training.labels))
        if limit is None:
            return len(order)
        lengths = training.lengths(lambda position: lossless(training, position), order, "images measured")

        def measure(count: int) -> int:
            in_place = np.argsort(order[:count])
            return account(header_of(training, count, self._facts()), lengths[:count][in_place]).total

        # A list may name fewer images than the source has; a budget per image is over those of the source.
        total = StorageSpec(budget=Budget(bytes=limit, per="total"))
        return fit_budget(total, len(order), measure)

    def _facts(self) -> dict[str, float | str]:
        return {"reduce": "fraction", "select": self.spec.select}


def build(spec: FractionReduce) -> Fraction:
    """Return the policy for a spec."""
    return Fraction(spec)
