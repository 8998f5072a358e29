"""Losses of the methods that DPO is compared with: pure functions of tensors.

Log-probabilities of completions, (B,), are summed over their tokens.
"""

from collections.abc import Sequence

import torch


def preferred_ft(chosen: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Compute Preferred-FT (Rafailov et al., 2305.18290, section 6): -log pi(y_w|x) per token, the mean over all.

    `chosen` (B,) are log-probabilities of the chosen completions, `lengths` (B,) their tokens.
    """
    return -chosen.sum() / lengths.sum()


def unlikelihood(
    chosen: Sequence[torch.Tensor], rejected: Sequence[torch.Tensor], alpha: float
) -> torch.Tensor:
    """Compute unlikelihood (Welleck et al., 1908.04319, equation 4) on pairs, as Rafailov et al. compare with it.

    -mean log p(y_w,t) - alpha * mean log(1 - p(y_l,t)) over the tokens of each completion, the mean over pairs.
    `chosen` and `rejected` hold the log-probabilities of tokens, (T,) for each completion.
    """
    likely = [-one.mean() for one in chosen]
    # log(1 - p) is log(-expm1(log p)), away from p = 1.
    unlikely = [-torch.log(-torch.expm1(one.clamp(max=-1e-4))).mean() for one in rejected]
    return torch.stack(likely).mean() + alpha * torch.stack(unlikely).mean()


def leave_one_out(rewards: torch.Tensor) -> torch.Tensor:
    """Return advantages (P, K) of K completions each of P prompts: the reward less the mean of the others'.

    The baseline of RLOO (Ahmadian et al., 2402.14740, equation 8). It stands in for a learned value.
    """
    others = rewards.shape[1] - 1
    return rewards - (rewards.sum(dim=1, keepdim=True) - rewards) / others


def clipped_surrogate(
    new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, clip: float
) -> torch.Tensor:
    """Compute PPO's clipped objective, negated (Schulman et al., 1707.06347, equation 7): the mean over tokens.

    `new` and `old` (N,) are log-probabilities of tokens, `advantages` (N,) those of their completions.
    """
    ratio = (new - old).exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()
