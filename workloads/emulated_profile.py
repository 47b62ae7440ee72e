"""What an emulated accelerator pretends to be."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field


class EmulatedProfile(BaseModel):
    """A batch of size b takes mean_s[b - 1] seconds times a lognormal factor of mean 1.

    slowness_file: while it serves, the number in that file is a further factor (workloads/backends/slowness.py).
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    mean_s: tuple[float, ...] = Field(min_length=1, description="mean batch time by batch size, starting with 1")
    sigma: float = Field(0.05, ge=0, description="standard deviation of the factor's logarithm")
    seed: int = Field(0, ge=0, description="seed of the factor")
    slowness_file: Path | None = Field(
        None, description="file with a further factor that may change during the run; missing file: 1"
    )

    @classmethod
    def linear(
        cls, base_s: float, per_request_s: float, max_batch_size: int, sigma: float = 0.05, seed: int = 0
    ) -> EmulatedProfile:
        """mean_s[b - 1] = base_s + per_request_s * b, the shape of most accelerators."""
        means = tuple(base_s + per_request_s * size for size in range(1, max_batch_size + 1))
        return cls(mean_s=means, sigma=sigma, seed=seed)
