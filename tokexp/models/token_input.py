"""What embeds the tokens of a model: the codebook's vectors as they come, or a table of the model's own.

Source: SeiT++ and its release. SeiT reads codebook vectors, continuous after crops and mixing; MTM's release finds the
nearest code again and looks that up in a table that it trains.
"""

from typing import Literal

from torch import Tensor, nn

from tokexp.tokenizers.base import Codebook

Embedding = Literal["codebook", "learned"]


class TokenInput(nn.Module):
    """Values (B, d, H, W) to what the stem reads, (B, d, H, W).

    codebook: the values themselves. learned: the nearest code of each vector -> own table (K, d), first weights
    N(0, 0.02) -> layer norm (eps 1e-6) -> dropout.
    """

    def __init__(self, codebook: Codebook, how: Embedding, dropout: float = 0.1) -> None:
        """Take the codes, what embeds them, and the dropout after an own table."""
        super().__init__()
        if how not in ("codebook", "learned"):
            raise ValueError(f"tokens are embedded by 'codebook' or 'learned', not {how!r}")
        self.how: Embedding = how
        self.codebook = codebook
        if how == "learned":
            self.table = nn.Embedding(len(codebook), codebook.width)
            nn.init.normal_(self.table.weight, std=0.02)
            self.norm = nn.LayerNorm(codebook.width, eps=1e-6)
            self.dropout = nn.Dropout(dropout)

    def indices(self, values: Tensor) -> Tensor:
        """Return indices (B, H, W) of the nearest codes, by the codebook's metric."""
        return self.codebook.nearest(values)

    def output_table(self) -> Tensor:
        """Return the vectors (K, d) that a tied head compares with: the own table's, or the codes. No gradient."""
        return (self.table.weight if self.how == "learned" else self.codebook.codes).detach()

    def forward(self, values: Tensor, indices: Tensor | None = None) -> Tensor:
        """Return embeddings; `indices` (B, H, W) of `values` spare a second search where they are known."""
        if self.how == "codebook":
            return values
        found = self.indices(values) if indices is None else indices
        embedded: Tensor = self.dropout(self.norm(self.table(found)))
        return embedded.permute(0, 3, 1, 2)


class OwnTable(nn.Module):
    """Values (B, d, H, W) to rows of a table of the model's own (K, width), first weights N(0, 0.02): (B, width, H, W).

    Source: Baraldi et al. 2025 (MaPeT), section 5.3: learnable embeddings of tokens, trained with the model.
    """

    def __init__(self, codebook: Codebook, width: int) -> None:
        """Take the codes, of which the nearest to a vector is its token, and the table's width."""
        super().__init__()
        self.codebook = codebook
        self.table = nn.Embedding(len(codebook), width)
        nn.init.normal_(self.table.weight, std=0.02)

    def forward(self, values: Tensor) -> Tensor:
        """Return the rows of the nearest codes."""
        rows: Tensor = self.table(self.codebook.nearest(values))
        return rows.permute(0, 3, 1, 2)
