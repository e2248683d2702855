"""What training examples go through before a network sees them, a minibatch at once.

Everything is drawn from the generator that is given, on the examples' device.
"""

import torch
from torch.nn.functional import pad

from hpo.trainers.config import TrainerConfig


def augment(config: TrainerConfig, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Mirrors each example by chance, shifts it, adds noise, in this order, if `config` says so.

    Args:
        config: Reads `flip`, `crop` and `noise`.
        x: Features, (n, *shape); where they are mirrored or shifted, images (n, c, h, w).
        generator: On the device of `x`.

    Returns:
        As many, of the same shape; `x` itself, and nothing drawn, where nothing is asked for.
    """
    if config.flip:
        x = flip(x, generator)
    if config.crop:
        x = crop(x, config.crop, generator)
    if config.noise:
        normal = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
        x = torch.add(x, normal, alpha=config.noise)
    return x


def flip(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each image, (n, c, h, w), with probability 1/2 mirrored: its left is its right."""
    mirrored = torch.rand((len(x), 1, 1, 1), generator=generator, device=x.device) < 0.5
    return torch.where(mirrored, x.flip(-1), x)


def crop(x: torch.Tensor, most: int, generator: torch.Generator) -> torch.Tensor:
    """Each image, (n, c, h, w), shifted by up to `most` pixels down or up, and right or left.

    All (2 most + 1)^2 shifts are as likely. What comes in from outside is 0, which is the mean of
    standardised features.
    """
    n, _, h, w = x.shape
    # Each image's windows are views of it with a frame of zeros: (n, c, shifts, shifts, h, w).
    windows = pad(x, (most,) * 4).unfold(2, h, 1).unfold(3, w, 1)
    down, right = torch.randint(2 * most + 1, (2, n), generator=generator, device=x.device)
    return windows[torch.arange(n, device=x.device), :, down, right]


Mixed = tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor | float]


def mixup(
    config: TrainerConfig, x: torch.Tensor, y: torch.Tensor, generator: torch.Generator
) -> Mixed:
    """Mixes each example of a minibatch with a partner, another one or by chance itself.

    The loss of an example is then share * loss(y) + (1 - share) * loss(y of the partner); with the
    cross entropy, and in the gradient of squared errors, that is the loss of mixed targets.

    Args:
        config: Reads `mixup`, the alpha of Beta(alpha, alpha).
        x: Features, (n, *shape).
        y: Targets, (n,).
        generator: On the device of both.

    Returns:
        share * x + (1 - share) * x of the partners; y; y of the partners; and the share, one for
        the minibatch, which stays on the device, (). Without mixup x, y, y and 1, and nothing is
        drawn.

    Source: Zhang et al. (2018), mixup: beyond empirical risk minimization, eq. 1.
    """
    if not config.mixup:
        return x, y, y, 1.0
    share = _symmetric_beta(config.mixup, generator)
    partner = torch.randperm(len(x), generator=generator, device=x.device)
    return torch.lerp(x[partner], x, share.to(x.dtype)), y, y[partner], share


def _symmetric_beta(alpha: float, generator: torch.Generator) -> torch.Tensor:
    """One draw from Beta(alpha, alpha), (), in closed form: not every device draws gammas.

    With U and V uniform on [0, 1], T = sqrt(2 alpha (U^(-1/alpha) - 1)) cos(2 pi V) has Student's
    distribution with 2 alpha degrees of freedom, and (1 + T / sqrt(2 alpha + T^2)) / 2 is the draw.

    Sources: Bailey (1994), Polar generation of random variates with the t-distribution; Devroye
    (1996), Random variate generation in one line of code.
    """
    u, v = torch.rand(2, generator=generator, device=generator.device)
    r = torch.expm1(-torch.log(u) / alpha)  # infinite for the least u where alpha is small
    c = torch.cos(2 * torch.pi * v)
    return (1 + c / torch.sqrt(1 / r + c * c)) / 2
