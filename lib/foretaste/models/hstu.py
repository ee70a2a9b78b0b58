"""The HSTU block: attention without a softmax, gated, with no feed-forward behind it.

Zhai et al. 2024, Actions speak louder than words: trillion-parameter sequential transducers for generative recommendations, eq. 1-3.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from foretaste.models.positions import Places, RelativeBias, rotated


class HSTUBlock(nn.Module):
    """U, V, Q, K = SiLU(W₁ norm(x));  A = SiLU(Q Kᵀ + bias) / n;  x + W₂ (norm(A V) ⊙ U).

    A softmax tells which past events matter most; SiLU keeps how many do: the strength of an interest. n is the number of events
    looked at (the paper's is the longest length; the norm that follows makes it a matter of rounding), so padding changes nothing.
    """

    def __init__(self, *, width: int, heads: int, dropout: float, bias: RelativeBias | None, rotary: bool) -> None:
        super().__init__()
        self.heads, self.rotary = heads, rotary
        self.norm = nn.LayerNorm(width)
        self.uvqk = nn.Linear(width, 4 * width)
        self.norm_attended = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.bias = bias

    def forward(self, x: Tensor, places: Places) -> Tensor:
        rows, length, width = x.shape
        gate, *vqk = F.silu(self.uvqk(self.norm(x))).chunk(4, dim=-1)
        v, q, k = (part.view(rows, length, self.heads, width // self.heads).transpose(1, 2) for part in vqk)  # (B, h, T, d)
        if self.rotary:
            q, k = rotated(q), rotated(k)
        scores = q @ k.transpose(-1, -2)  # (B, h, T, d) x (B, h, d, T) -> (B, h, T, T)
        if self.bias is not None:
            scores = scores + self.bias(places)
        weights = F.silu(scores) * (places.causal / places.causal.sum(1, keepdim=True))
        attended = (weights.to(v.dtype) @ v).transpose(1, 2).reshape(rows, length, width)  # (B, T, D)
        return x + self.out(self.dropout(self.norm_attended(attended) * gate))  # type: ignore[no-any-return]

    @staticmethod
    def kept(width: int, heads: int, length: int) -> int:
        """Numbers that one event keeps for the backward pass."""
        return 12 * width + 3 * heads * length
