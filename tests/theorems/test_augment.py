"""What augmentation may do to a minibatch, and how often."""

import math

import pytest
import torch
from scipy import stats

from hpo.trainers.augment import augment, crop, flip, mixup
from hpo.trainers.config import TrainerConfig


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(n: int, *shape: int) -> torch.Tensor:
    return torch.randn(n, *(shape or (2, 4, 5)), generator=seeded(9))


# Mirroring


def test_each_image_is_mirrored_or_left_alone_half_of_the_time() -> None:
    x = images(4000)
    y = flip(x, seeded())
    left_alone, mirrored = ((y == z).flatten(1).all(1) for z in (x, x.flip(-1)))
    assert torch.equal(left_alone, ~mirrored)
    # A share of 4000 draws is beyond 5 sigma with odds of 1 in 1.7 million.
    assert abs(mirrored.double().mean().item() - 0.5) < 5 * 0.5 / math.sqrt(4000)
    assert torch.equal(flip(y, seeded()), x)  # the same images again: twice is never


# Shifting


@pytest.mark.parametrize("most", [1, 2, 3])
def test_shifted_images_are_the_windows_of_the_framed_image_all_as_often(most: int) -> None:
    n, h, w = 5000, 4, 5
    image = images(1, 2, h, w)
    framed = torch.zeros(2, h + 2 * most, w + 2 * most)
    framed[:, most:-most, most:-most] = image[0]
    windows = [
        framed[:, i : i + h, j : j + w] for i in range(2 * most + 1) for j in range(2 * most + 1)
    ]
    shifted = crop(image.expand(n, -1, -1, -1), most, seeded())
    seen = torch.stack([(shifted == window).flatten(1).all(1) for window in windows])
    assert (seen.sum(dim=0) == 1).all()
    # A chi-squared test of equal odds, which a true one fails once in a million; the seed is fixed.
    assert stats.chisquare(seen.sum(dim=1).numpy()).pvalue > 1e-6


def test_images_of_a_minibatch_are_shifted_each_by_itself() -> None:
    x = images(200)
    y = crop(x, 1, seeded())
    still = (y == x).flatten(1).all(1).sum().item()
    assert 5 <= still <= 50  # about 1 in 9, 22; beyond with odds of 1 in 100,000; fixed seed
    assert torch.equal(crop(x, 1, seeded()), y)


# Noise


def test_noise_has_mean_0_and_the_deviation_asked_for() -> None:
    x = images(100_000, 10)
    noise = augment(TrainerConfig(noise=0.3), x, seeded()) - x
    # Of 10^6 normal draws, mean and variance are beyond 5 sigma with odds of 1 in 1.7 million.
    assert abs(noise.mean().item()) < 5 * 0.3 / 1000
    assert noise.var().item() == pytest.approx(0.09, rel=5 * math.sqrt(2) / 1000)
    assert stats.kstest(noise.flatten()[:5000] / 0.3, "norm").pvalue > 1e-6


# All together


def test_images_are_mirrored_then_shifted_then_noisy() -> None:
    x, ours, by_hand = images(50), seeded(), seeded()
    y = augment(TrainerConfig(flip=True, crop=2, noise=0.1), x, ours)
    expected = crop(flip(x, by_hand), 2, by_hand)
    expected = expected + 0.1 * torch.randn(x.shape, generator=by_hand)
    torch.testing.assert_close(y, expected)
    assert torch.equal(ours.get_state(), by_hand.get_state())


def test_where_nothing_is_asked_for_nothing_is_drawn_or_copied() -> None:
    generator, x, y = seeded(), images(3), torch.arange(3)
    before = generator.get_state()
    config = TrainerConfig()
    assert augment(config, x, generator) is x
    mixed, y_a, y_b, share = mixup(config, x, y, generator)
    assert mixed is x
    assert y_a is y_b is y
    assert share == 1
    assert torch.equal(generator.get_state(), before)


def test_augmentation_leaves_what_it_is_given_and_the_global_generator_as_they_were() -> None:
    x, y = images(20), torch.arange(20)
    copy, state = x.clone(), torch.get_rng_state()
    config = TrainerConfig(flip=True, crop=1, noise=0.5, mixup=0.5)
    mixup(config, augment(config, x, seeded()), y, seeded())
    assert torch.equal(x, copy)
    assert torch.equal(torch.get_rng_state(), state)


# Mixing


def test_a_mixed_example_lies_between_its_own_and_its_partner() -> None:
    x, y = images(64), torch.arange(64)
    mixed, own, partner, share = mixup(TrainerConfig(mixup=1), x, y, seeded(2))
    assert 0.1 < float(share) < 0.9
    assert torch.equal(own, y)
    assert torch.equal(partner.sort().values, y)  # each is a partner once
    assert not torch.equal(partner, y)
    torch.testing.assert_close(mixed, share * x + (1 - share) * x[partner])
    again = mixup(TrainerConfig(mixup=1), x, y, seeded(2))
    assert all(
        torch.equal(a, torch.as_tensor(b)) for a, b in zip((mixed, own), again, strict=False)
    )


def test_the_loss_of_both_targets_is_that_of_the_mixed_one() -> None:
    x, y = images(6, 5), torch.tensor([0, 1, 2, 2, 1, 0])
    mixed, own, partner, share = mixup(TrainerConfig(mixup=1), x, y, seeded())
    logits = mixed[:, :3]
    loss = torch.nn.functional.cross_entropy
    one_hot = torch.eye(3)
    torch.testing.assert_close(
        share * loss(logits, own) + (1 - share) * loss(logits, partner),
        loss(logits, share * one_hot[own] + (1 - share) * one_hot[partner]),
    )


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 3.0, 50.0, 1e6])
def test_shares_are_from_the_symmetric_beta_distribution(alpha: float) -> None:
    generator, config = seeded(), TrainerConfig(mixup=alpha)
    x, y = torch.zeros(2, 1), torch.zeros(2)
    shares = torch.stack(
        [torch.as_tensor(mixup(config, x, y, generator)[3]) for _ in range(700)]
    ).double()
    assert ((shares >= 0) & (shares <= 1)).all()
    # Floats leave no number between 1 - 2^-24 and 1, where much of Beta(0.01, 0.01) lies: what is
    # nearer than 10^-6 to either end is moved to it, in the draws and in the distribution.
    near = shares.where(shares > 1e-6, 0.0).where(shares < 1 - 1e-6, 1.0)
    inside = near[(near > 0) & (near < 1)].numpy()
    beta = stats.beta(alpha, alpha)
    low = beta.cdf(1e-6)
    # Kolmogorov and Smirnov's test of what is inside, and the number at each end: a true one fails
    # once in a million; the seed is fixed.
    if len(inside):
        test = stats.kstest(inside, lambda s: (beta.cdf(s) - low) / (1 - 2 * low))
        assert test.pvalue > 1e-6
    for end in (0, 1):
        assert stats.binomtest(int((near == end).sum()), 700, low).pvalue > 1e-6
