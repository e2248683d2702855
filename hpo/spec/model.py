"""What may stand in a study file: its sections as Pydantic models, and their JSON Schema.

A model knows its own keys, one by one; what does not go together is told by `hpo.spec.checks`.
The section ``objective:`` has a module of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, WithJsonSchema, model_validator

from hpo.places import DEFAULT_STORAGE, DEFAULT_TRACKING
from hpo.spec.durations import Seconds
from hpo.spec.objective import ObjectiveSpec, Strict
from hpo.spec.space_schema import SPACE_SCHEMA

SamplerName = Literal["grid", "random", "sobol", "tpe", "gp", "skopt", "bayesian"]
RuleName = Literal[
    "none", "forecast", "median", "percentile", "asha", "hyperband", "patience", "wilcoxon"
]
WrappedName = Literal["none", "forecast", "median", "percentile", "asha", "hyperband"]


class SearchSpec(Strict):
    """How configurations are chosen, and how many."""

    sampler: SamplerName = Field("bayesian", description="`bayesian` chooses between gp and tpe.")
    trials: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Trials in the whole study; a grid defaults to all of its points."
    )
    timeout: Seconds | None = Field(
        None,
        description="The study ends after this long, counted over all drivers and runs of it "
        "while any of them runs; trials that run then can be resumed.",
    )
    gpu_hours: Annotated[float, Field(gt=0, strict=False)] | None = Field(
        None, description="The study ends when trials took so many hours times GPUs, likewise."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seeds sampler, data split, trials.")
    startup_trials: Annotated[int, Field(ge=1)] = Field(
        10, description="tpe, gp, skopt: random trials before the model is asked."
    )
    estimator: Literal["GP", "RF", "ET"] = Field("GP", description="skopt: its surrogate model.")


class StoppingSpec(Strict):
    """Which trials are stopped early, judged by the metric at each step."""

    rule: RuleName = Field("none", description="`forecast` is ours, the others are Optuna's.")
    threshold: Annotated[float, Field(gt=0, lt=1, strict=False)] = Field(
        0.2,
        description="forecast: a trial is stopped if its probability to beat the best finished "
        "one is below this times the share of its own steps that is left, where that takes three "
        "times what finished trials gained from there on; below less where it takes less.",
    )
    tolerance: Annotated[float, Field(ge=0, strict=False, allow_inf_nan=False)] = Field(
        0.0, description="forecast: what an improvement has to exceed, in the metric's unit."
    )
    audit: Annotated[float, Field(ge=0, le=1, strict=False)] = Field(
        0.02,
        description="forecast: the share of the trials to be stopped that is run to the end all "
        "the same, so that the forecasts can be judged.",
    )
    startup_trials: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="forecast, median, percentile: finished trials before any is stopped; 5, and "
        "of forecast 3.",
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="median, percentile: steps before a trial may be stopped."
    )
    interval_steps: Annotated[int, Field(ge=1)] = Field(
        1, description="median, percentile: a trial is judged every so many steps."
    )
    min_trials: Annotated[int, Field(ge=1)] = Field(
        1, description="median, percentile: finished trials that must have reported a step."
    )
    percentile: Annotated[float, Field(ge=0, le=100, strict=False)] = Field(
        25.0, description="percentile: the share of trials that goes on."
    )
    min_steps: Annotated[int, Field(ge=1)] = Field(
        1,
        description="asha, hyperband: steps of the first rung; forecast: reports before a trial "
        "may be stopped.",
    )
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="hyperband: steps of a whole trial, by default its epochs."
    )
    reduction: Annotated[int, Field(ge=2)] = Field(
        3, description="asha, hyperband: one in so many goes on to the next rung."
    )
    min_early_stopping_rate: Annotated[int, Field(ge=0)] = Field(
        0, description="asha: how many of the first rungs are left out."
    )
    bootstrap_count: Annotated[int, Field(ge=0)] = Field(
        0, description="asha, hyperband: trials that must reach a rung before any passes it."
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        5, description="patience: steps worse than its best that a trial may have."
    )
    min_delta: Annotated[float, Field(ge=0, strict=False)] = Field(
        0.0, description="patience: what counts as no worse, in the metric's unit."
    )
    wrapped: WrappedName = Field(
        "none", description="patience: the rule that has to agree, with its own options beside."
    )
    p_threshold: Annotated[float, Field(ge=0, le=1, strict=False)] = Field(
        0.1, description="wilcoxon: the p-value below which a trial counts as worse."
    )
    startup_steps: Annotated[int, Field(ge=0)] = Field(
        2, description="wilcoxon: steps before a trial may be stopped."
    )

    @property
    def rules(self) -> tuple[str, ...]:
        """The rule, and the one that it wraps."""
        return (self.rule, self.wrapped) if self.rule == "patience" else (self.rule,)


RULE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "forecast": ("threshold", "tolerance", "audit", "startup_trials", "min_steps"),
    "median": ("startup_trials", "warmup_steps", "interval_steps", "min_trials"),
    "percentile": ("percentile", "startup_trials", "warmup_steps", "interval_steps", "min_trials"),
    "asha": ("min_steps", "reduction", "min_early_stopping_rate", "bootstrap_count"),
    "hyperband": ("min_steps", "max_steps", "reduction", "bootstrap_count"),
    "patience": ("patience", "min_delta", "wrapped"),
    "wilcoxon": ("p_threshold", "startup_steps"),
}
"""What can be said of each stopping rule."""

OF_PROCESSES = ("workers", "gpus_per_trial", "trials_per_gpu", "trial_timeout")
"""What can be said under ``run:`` of worker processes only; any of it chooses them."""


class RunSpec(Strict):
    """Where and how trials run."""

    executor: Literal["inline", "processes"] = Field(
        "inline",
        description="inline: in this process, in turn; processes: in worker processes, several at "
        "once. Any of `workers`, `gpus_per_trial`, `trials_per_gpu` and `trial_timeout` chooses "
        "processes.",
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="processes: trials at once; auto is one for each GPU share, or for each "
        "`threads` cores.",
    )
    gpus_per_trial: Annotated[float, Field(gt=0, strict=False)] | None = Field(
        None, description="processes: GPUs of a trial, or the share of one: 1, 2, 0.25."
    )
    trials_per_gpu: Literal["auto"] | Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="processes: trials that share a GPU; auto is as many as its memory holds, by "
        "the peak of those that ran.",
    )
    trial_timeout: Seconds | None = Field(
        None, description="processes: a trial that takes longer fails as TIMED_OUT."
    )
    max_retries: Annotated[int, Field(ge=0)] = Field(
        2, description="How often a trial is taken up again whose process died."
    )
    lease: Annotated[Seconds, Field(ge=1)] = Field(
        60.0, description="Silence of a driver after which others take up its trials."
    )
    storage_retry: Seconds = Field(
        300.0, description="How long a lost database is waited for; training goes on meanwhile."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    threads: Annotated[int, Field(ge=1)] = Field(
        1, description="CPU threads of a trial; small networks are fastest with one."
    )
    max_failures: Annotated[int, Field(ge=0)] | None = Field(
        None, description="End the study when more trials than this have failed."
    )
    directory: str = Field("hpo-runs", description="Folder for metrics and checkpoints.")
    checkpoint_every: Annotated[int, Field(ge=1)] | Seconds = Field(
        60.0,
        description="trainer: epochs (`5`), or time (`60s`), after which a trial can be resumed.",
    )
    keep_weights: Literal["best", "all", "none"] = Field(
        "best", description="trainer: of which trials the trained weights are kept."
    )
    grace_period: Seconds = Field(
        10.0,
        description="Time that an interrupted trial has to reach its next report and checkpoint; "
        "of a command, to end by itself after SIGTERM, before SIGKILL.",
    )

    @model_validator(mode="before")
    @classmethod
    def _natural_executor(cls, values: Any) -> Any:
        asked = isinstance(values, dict) and any(values.get(k) is not None for k in OF_PROCESSES)
        return {"executor": "processes", **values} if asked else values


class StudySpec(Strict):
    """A study file, as written; `Plan` is what follows from it."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="Letters, digits, '.', '_' and '-'; defaults to the file's name."
    )
    objective: ObjectiveSpec
    space: Annotated[dict[str, Any], WithJsonSchema(SPACE_SCHEMA)] = Field(
        description="What may be searched."
    )
    baseline: dict[str, Any] | None = Field(
        None,
        description="What you would run without a search: trial 0. What it leaves out has its "
        "prior, or else the trainer's default.",
    )
    search: SearchSpec = SearchSpec()
    stopping: StoppingSpec = StoppingSpec()
    run: RunSpec = RunSpec()
    storage: str | None = Field(
        None, description=f"Where studies live; $HPO_STORAGE or {DEFAULT_STORAGE}."
    )
    tracking: str | None = Field(
        None,
        description=f"MLflow's URI, or none; $MLFLOW_TRACKING_URI or {DEFAULT_TRACKING}.",
    )
    constraints: dict[str, str] = Field(
        default_factory=dict,
        description="What a trial must keep to be among the best: {latency_ms: '<= 5'}",
    )
    gate: dict[str, str] = Field(
        default_factory=dict, description="What the best trial must reach: {val_error: '<= 0.03'}"
    )


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, with which editors complete and check it."""
    schema = StudySpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["required"] = [key for key in schema["required"] if key != "name"]
    return schema
