"""What a metric's name tells: which way is better, and how far it goes. Nothing else guesses."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from hpo.trainers import goals
from hpo.trainers.goals import Direction

__all__ = ["Direction", "bounds", "is_held_out", "is_known", "natural"]

_NAMES: Mapping[Direction, str] = {
    "maximize": """acc accuracy ap auc auprc auroc bleu coverage dice elbo em f1 hit hits iou
        jaccard kappa likelihood map mcc meteor miou mrr ndcg pearson precision profit psnr r2
        recall return returns reward rewards roc rouge sensitivity sharpe similarity spearman
        specificity ssim success throughput utility win winrate wins""",
    "minimize": """bpb bpc bpd brier cer cost distance divergence duration ece eer err error errors
        fid kid kl latency logloss loss losses mae mape memory mse msle nll nmse perplexities
        perplexity ppl regret residual rmse rmsle runtime seconds smape ter time wer""",
}
_LARGER, _SMALLER = (frozenset(_NAMES[way].split()) for way in ("maximize", "minimize"))
_OF_SHARES = """acc accuracy ap auc auprc auroc coverage dice f1 iou jaccard map miou precision
    recall sensitivity specificity"""
_SHARES = frozenset(_OF_SHARES.split())
_LARGER_ALONE = frozenset(["score", "scores"])  # but a brier_score is a Brier score
_HELD_OUT = frozenset(["val", "valid", "validation", "test", "eval", "dev"])
_TURNED = frozenset(["neg", "negative", "minus"])

_SEPARATORS = re.compile(r"[^A-Za-z0-9.]+")
_CAMEL = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")  # valAcc
_F_SCORE = re.compile(r"f(beta|\d+(\.\d+)?)")


def is_known(metric: str) -> bool:
    """Whether a metric is one of the trainers', with or without its part."""
    return (goals.metric(metric) or goals.OF_PART.get(metric)) is not None


def natural(metric: str) -> Direction | None:
    """Which way is better of `metric`; None where its name does not tell.

    The trainers' metrics are known. Of any other name, the words are looked at: ``val_acc``,
    ``test/AUC`` and ``top1_accuracy`` are larger when better, ``eval-loss``, ``WER`` and
    ``fit_seconds`` smaller, ``neg_log_likelihood`` is turned round. A name with words of both
    kinds, ``accuracy_loss``, does not tell.
    """
    known = goals.metric(metric) or goals.OF_PART.get(metric)
    if known is not None:
        return known.direction
    words = set(_words(metric))
    larger, smaller = bool(words & _LARGER), bool(words & _SMALLER)
    if not (larger or smaller):
        larger = bool(words & _LARGER_ALONE)
    if larger == smaller:
        return None
    return "maximize" if larger != bool(words & _TURNED) else "minimize"


def is_held_out(metric: str) -> bool:
    """Whether a metric's name says that it is of data that was not trained on: ``val_loss``."""
    return bool(_HELD_OUT & set(_words(metric)))


def bounds(metric: str) -> tuple[float, float] | None:
    """Its lowest and highest value; None where its name does not tell.

    Of what is a share by its name, such as ``val_acc``, 0 and 1; own code may say it in per cent.
    """
    known = goals.bounds(metric)
    if known or is_known(metric):
        return known
    tells = natural(metric) == "maximize" and not _TURNED & set(_words(metric))
    return (0.0, 1.0) if tells and _SHARES & set(_words(metric)) else None


def _words(metric: str) -> Iterator[str]:
    for token in filter(None, _SEPARATORS.split(metric)):
        word = token.lower()
        yield "f1" if _F_SCORE.fullmatch(word) else word
        yield word.rstrip("0123456789.")  # bleu4, mAP50
        yield from (part.lower() for part in _CAMEL.findall(token))
