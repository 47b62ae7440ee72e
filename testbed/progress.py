"""How far a command is: shown in its terminal, and kept beside its results for `kis watch` (progress.json)."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

PROGRESS = "progress.json"
LEAST_SHARE, LEAST_S = 0.02, 3.0  # of a phase, before its pace says when it ends


class Progress(BaseModel):
    """What the command does that writes into a results folder. The file goes when the command ends."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    phase: str
    share: float | None = Field(None, ge=0, le=1, description="of the phase's work that is done; None: not known")
    first_share: float = Field(
        0.0, ge=0, le=1, description="what an earlier, interrupted command had done says nothing of this one's pace"
    )
    first_unix_s: float | None = Field(None, description="when that was; None: as the phase began")
    begun_unix_s: float
    phase_unix_s: float = Field(description="when the phase began")
    pid: int
    host: str

    def left_s(self, now_unix_s: float) -> float | None:
        """Seconds until the phase ends at its pace so far; None: too early to tell."""
        spent_s = now_unix_s - (self.phase_unix_s if self.first_unix_s is None else self.first_unix_s)
        done = 0.0 if self.share is None else self.share - self.first_share
        if self.share is None or done < LEAST_SHARE or spent_s < LEAST_S:
            return None
        return spent_s * (1 - self.share) / done
