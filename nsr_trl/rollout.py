"""A rollout: what the hooks of the trainer pass to each other while completions are sampled and scored.

B rows over all ranks; the rows of a rank are a contiguous slice of them.
"""

from dataclasses import dataclass

from torch import Tensor

from .allocation import Draw


@dataclass
class Rollout:
    """
    Lives as long as TRL's `_generate_and_score_completions` runs, and is gone with it, however that ends.

    Attributes:
        inputs (`list[dict]`):
            The examples of this rank, one for each completion.
        draw ([`~allocation.Draw`], *optional*):
            How the prompts were drawn, where not all had the same chance.
        completion_ids (`list[list[int]]`, *optional*):
            This rank's completions that the rewards are of.
        rewards (`torch.Tensor` of shape `(B, functions)`, *optional*):
            Rewards, NaN where a function returned `None`.
        outcomes (`torch.Tensor` of shape `(B,)`, *optional*):
            Outcomes, where a reward gives a sign.
        weights (`torch.Tensor` of shape `(B,)`, *optional*):
            Signed weights, where the objective gives them.
        scales (`torch.Tensor` of shape `(B,)`, *optional*):
            By which TRL's advantages are multiplied, where they are kept and prompts were drawn unequally.
        has_logps (`torch.Tensor` of shape `(rows,)`, *optional*):
            Which of this rank's rows have old log-probs, where not all have.
    """

    inputs: list[dict]
    draw: Draw | None = None
    completion_ids: list[list[int]] | None = None
    rewards: Tensor | None = None
    outcomes: Tensor | None = None
    weights: Tensor | None = None
    scales: Tensor | None = None
    has_logps: Tensor | None = None

    def keep(self, rewards: Tensor, completion_ids: list[list[int]]) -> None:
        """Keeps rewards, with a copy of what they are of."""
        self.rewards, self.completion_ids = rewards, [list(ids) for ids in completion_ids]

    def rewards_of(self, completion_ids: list[list[int]]) -> Tensor | None:
        """The rewards of these completions, if they were computed of these."""
        return self.rewards if self.completion_ids == completion_ids else None
