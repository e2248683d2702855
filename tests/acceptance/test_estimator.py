"""scikit-learn's estimators as objectives: judged as scikit-learn judges them, fold by fold."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, log_loss
from sklearn.svm import SVC
from sklearn.tree import DecisionTreeClassifier

import hpo
from hpo import objectives, spec, studyfile
from hpo.jobs import job_of
from hpo.spec import source_of
from hpo.trainers import Report
from hpo.trainers.data import Source, load_data
from hpo.trainers.exports import load as load_export
from hpo.trial import Job
from tests.acceptance.harness import Folder, Study

ESTIMATORS = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, TransformerMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import FixedThresholdClassifier
from sklearn.pipeline import make_pipeline
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, StandardScaler
from sklearn.svm import SVC


def pipeline():
    return make_pipeline(StandardScaler(), SVC())


def either(kind):
    last = SVC() if kind == "svc" else RandomForestClassifier(n_estimators=5)
    return make_pipeline(StandardScaler(), last)


def reluctant():
    return FixedThresholdClassifier(LogisticRegression(), threshold=0.99)


def sure_of_itself(C):
    return SVC(C=C, probability=True)


def in_place(copy):
    return make_pipeline(MinMaxScaler(copy=copy), KNeighborsClassifier())


def forest(**parameters):
    return RandomForestClassifier(n_estimators=3, max_depth=2, **parameters)


def scaler():
    return StandardScaler()


def nothing():
    pass


class Duck:
    def fit(self, x, y):
        return self

    def set_params(self, **parameters):
        return self


class Doubled(TransformerMixin, BaseEstimator):
    def fit(self, x, y=None):
        return self

    def transform(self, x):
        return 2 * x


def unpicklable(alpha):
    return make_pipeline(FunctionTransformer(lambda x: 2 * x), Ridge(alpha=alpha))


def own_pipeline(alpha):
    return make_pipeline(Doubled(), Ridge(alpha=alpha))


class Stubborn(ClassifierMixin, BaseEstimator):
    def __init__(self, answer=0):
        self.answer = answer

    def fit(self, x, y):
        self.classes_ = np.unique(y)
        return self

    def predict(self, x):
        return np.full(len(x), self.answer)
"""


def study(estimator: str, space: Mapping[str, Any] | None = None, **objective: Any) -> Study:
    return {
        "name": "s",
        "objective": {
            "estimator": estimator,
            "data": "breast_cancer",
            "metric": "val_error",
            **objective,
        },
        "space": space or {"unused": [0]},
        "search": {"sampler": "grid"},
    }


def run(
    folder: Path, values: Study, config: Mapping[str, Any], seed: int = 5
) -> tuple[list[Report], Mapping[str, float]]:
    """Runs one configuration: its reports, and what it returned."""
    values = {**values, "space": {name: [value] for name, value in config.items()}}
    plan = spec.check(studyfile.from_values(values, "the study", folder))
    steps = objectives.build(plan)(Job(0, config, seed, folder))
    reports = []
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as end:
            return reports, end.value


@pytest.fixture(autouse=True)
def _estimators(folder: Folder) -> None:
    folder.write("estimators.py", ESTIMATORS)


def test_metrics_are_scikit_learns_in_the_mean_over_folds(tmp_path: Path) -> None:
    values = study(
        "sklearn.ensemble.RandomForestClassifier",
        folds=3,
        report=["val_log_loss", "val_f1", "val_roc_auc", "val_pr_auc", "train_loss"],
    )
    scorers = ["accuracy", "neg_log_loss", "f1", "roc_auc", "average_precision"]
    values["objective"]["report"] += scorers

    reports, final = run(tmp_path, values, {"n_estimators": 10, "max_depth": 3})

    assert [report.step for report in reports] == [1, 2, 3]
    assert final["val_accuracy"] == pytest.approx(final["accuracy"])
    assert final["val_log_loss"] == pytest.approx(-final["neg_log_loss"])
    assert final["val_f1"] == pytest.approx(final["f1"])
    assert final["val_roc_auc"] == pytest.approx(final["roc_auc"])
    assert final["val_pr_auc"] == pytest.approx(final["average_precision"])
    plan = spec.check(studyfile.from_values(values | {"space": {"max_depth": [3]}}, "s", tmp_path))
    errors, losses = [], []
    for data in load_data(source_of(plan.spec.objective, tmp_path), 0):
        (x, y), (val_x, val_y) = (next(iter(p.batches([len(p)]))) for p in (data.train, data.val))
        forest = RandomForestClassifier(10, max_depth=3, random_state=5).fit(x.double(), y)
        errors.append(1 - forest.score(val_x.double(), val_y))
        losses.append(log_loss(y, forest.predict_proba(x.double())))
    assert final["val_error"] == pytest.approx(np.mean(errors))
    assert final["val_error_std"] == pytest.approx(np.std(errors))
    assert final["train_loss"] == pytest.approx(np.mean(losses))
    running = [report.metrics["val_error"] for report in reports]
    assert running == pytest.approx(np.cumsum(errors) / [1, 2, 3])


def test_a_regressor_is_judged_in_the_targets_unit(tmp_path: Path) -> None:
    scorers = ["neg_root_mean_squared_error", "neg_mean_absolute_error", "r2"]
    values = study("sklearn.linear_model.Ridge", data="diabetes", metric="val_rmse", report=scorers)

    (report,), final = run(tmp_path, values, {"alpha": 1.0})

    assert final == report.metrics
    assert 40 < final["val_rmse"] < 80  # the target's deviation is 77
    assert final["val_rmse"] == pytest.approx(-final["neg_root_mean_squared_error"])
    assert final["val_mae"] == pytest.approx(-final["neg_mean_absolute_error"])
    assert final["val_r2"] == pytest.approx(final["r2"])


def test_counts_reach_a_regressor_as_they_were_counted(folder: Folder, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 2)), rng.poisson(1.0, 200).astype(float)
    y[0] = 1e9  # beside which float32 keeps no ones
    np.savez(folder.path / "counts.npz", x=x, y=y)
    name = "sklearn.linear_model.PoissonRegressor"
    values = study(name, data="counts.npz", metric="val_mae")

    _, final = run(tmp_path, values, {"alpha": 1.0})

    (data,) = load_data(Source("counts.npz", "regression", folder=tmp_path), seed=0)
    assert sorted(np.concatenate([*data.numbers.values()])) == sorted(y)
    assert final["val_mae"] > 0


def test_the_best_one_is_judged_by_the_test_part_which_nothing_else_looks_at(
    folder: Folder,
) -> None:
    space = {"n_estimators": [10], "max_depth": [1, 4]}
    values = study("sklearn.ensemble.RandomForestClassifier", space, folds=3, report=["f1"])
    assert folder.hpo("run", folder.study(values)).code == 0

    done = folder.hpo("best", "s", "--test", "--json")
    again = folder.hpo("best", "s", "--test", "--json")

    best, found = done.json["best"], done.json["test"]
    assert "is fitted again" in done.err
    assert "is fitted again" not in again.err  # what was found is kept
    assert again.json["test"] == found
    plan = spec.check(studyfile.from_values(values, "s", folder.path))
    trial = hpo.best("s", storage=f"sqlite:///{folder.path}/hpo.db")
    seed = job_of(hpo.load_study("s", storage=f"sqlite:///{folder.path}/hpo.db"), trial).seed
    errors, f1s = [], []
    for data in load_data(source_of(plan.spec.objective, folder.path), 0):
        (x, y), (test_x, test_y) = (
            next(iter(part.batches([len(part)]))) for part in (data.train, data.test)
        )
        forest = RandomForestClassifier(**best["params"], random_state=seed).fit(x.double(), y)
        errors.append(1 - forest.score(test_x.double(), test_y))
        f1s.append(f1_score(test_y, forest.predict(test_x.double())))
    assert found["test_error"] == pytest.approx(np.mean(errors))
    assert found["test_f1"] == pytest.approx(np.mean(f1s))


@pytest.mark.parametrize(
    ("estimator", "config"),
    [
        ("sklearn.svm.SVC", {"C": 0.05}),  # scores of two classes
        ("estimators.reluctant", {"threshold": 0.999}),  # does not answer what is likeliest
        ("estimators:reluctant", {"threshold": 0.9, "estimator__C": 0.01}),
    ],
)
def test_answers_are_judged_as_predicted_and_scores_as_scored(
    tmp_path: Path, estimator: str, config: dict[str, Any]
) -> None:
    scorers = ["accuracy", "recall", "precision", "roc_auc"]
    values = study(estimator, report=[*scorers, *(f"val_{name}" for name in scorers)])

    _, final = run(tmp_path, values, config)

    assert len({final[name] for name in scorers}) == len(scorers)
    for name in scorers:
        assert final[f"val_{name}"] == pytest.approx(final[name])


@pytest.mark.parametrize("estimator", ["sklearn.svm.SVC", "sklearn.tree.DecisionTreeClassifier"])
def test_scorers_are_about_the_positive_class(tmp_path: Path, estimator: str) -> None:
    names = {"recall": "recall", "precision": "precision", "f1": "f1"}
    names |= {"average_precision": "pr_auc", "roc_auc": "roc_auc", "accuracy": "accuracy"}
    report = [*names, "recall_macro", *(f"val_{name}" for name in names.values())]
    values = study(estimator, positive="malignant", report=report)

    _, final = run(tmp_path, values, {"class_weight": "balanced"})
    last = run(tmp_path, study(estimator, report=report), {"class_weight": "balanced"})[1]

    for scorer, name in names.items():
        assert final[scorer] == pytest.approx(final[f"val_{name}"])
    assert final["recall"] != last["recall"]
    assert final["recall_macro"] == last["recall_macro"]


def test_scores_of_many_classes_are_logits(tmp_path: Path) -> None:
    values = study("sklearn.svm.SVC", data="digits", metric="val_roc_auc", report=["accuracy"])

    _, final = run(tmp_path, values, {"gamma": 0.01})

    assert final["val_roc_auc"] > 0.99
    assert final["val_loss"] < np.log(10)  # better than not to know
    assert final["val_accuracy"] == pytest.approx(final["accuracy"])


def test_an_estimator_that_only_answers_is_sure_of_its_answers(tmp_path: Path) -> None:
    report = ["accuracy", "val_roc_auc", "model_bytes", "latency_ms"]

    _, final = run(tmp_path, study("estimators:Stubborn", report=report), {"answer": 1})

    assert final["val_accuracy"] == pytest.approx(final["accuracy"])
    assert final["val_roc_auc"] == 0.5
    assert np.isfinite(final["val_loss"])
    assert min(final["latency_ms"], final["model_bytes"]) > 0


def test_a_test_on_changed_data_is_refused(folder: Folder) -> None:
    rows = [f"{x},{(x * 7) % 5},{int((x * 13) % 10 > 4)}" for x in range(200)]
    folder.write("two.csv", "\n".join(["a,b,y", *rows, ""]))
    values = study("sklearn.tree.DecisionTreeClassifier", {"max_depth": [3]}, data="two.csv")
    values["objective"]["target"] = "y"
    assert folder.hpo("run", folder.study(values)).code == 0

    folder.write("two.csv", "\n".join(["a,b,y", *rows[60:], ""]))
    changed = folder.hpo("best", "s", "--test")
    refused = folder.hpo("export", "s")
    folder.write("two.csv", "\n".join(["a,b,y", *rows, ""]))
    restored = folder.hpo("best", "s", "--test", "--json")

    assert changed.code == refused.code == 1
    assert "fitted again, trial 0 has val_error" in refused.err
    assert "fitted again, trial 0 has val_error" in changed.err
    assert "Put 'two.csv' back as it was" in changed.err
    assert {name[:5] for name in restored.json["test"]} == {"test_"}


def answers_of(folder: Folder, model: str, examples: str) -> list[str]:
    """What an export's script, in a process that knows nothing of the study, prints of a file."""
    script = folder.path / model / "predict.py"
    done = subprocess.run(
        [sys.executable, "-W", "error", script, folder.path / examples],
        cwd=folder.path.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()


def test_an_export_answers_by_itself_as_the_trial_did(folder: Folder) -> None:
    values = study("sklearn.svm.SVC", {"C": [1.0, 10.0]}, data="wine")
    assert folder.hpo("run", folder.study(values)).code == 0
    refused = folder.hpo("export", "s", "--onnx")
    done = folder.hpo("export", "s", "--json")

    assert (refused.code, done.code) == (1, 0)
    assert "--onnx is of networks" in refused.err
    assert done.json["files"] == [
        "config.json", "estimator.joblib", "predict.py", "transformer.joblib"
    ]  # fmt: skip
    x, y = load_wine(return_X_y=True)
    np.save(folder.path / "x.npy", x)
    plan = spec.check(studyfile.from_values(values, "s", folder.path))
    (data,) = load_data(source_of(plan.spec.objective, folder.path), 0)
    (train, classes) = next(iter(data.train.batches([len(data.train)])))
    fitted = SVC(C=done_best(folder)["C"]).fit(train.double(), classes)
    expected = fitted.predict(data.transformer.transform(x).astype(np.float32).astype(float))
    answers = answers_of(folder, "s-model", "x.npy")
    assert answers == [f"class_{number}" for number in expected]
    assert np.mean(expected == y) > 0.9


@pytest.mark.parametrize("estimator", ["sklearn.svm.SVC", "estimators:sure_of_itself"])
def test_an_export_leaves_unanswered_what_validation_says(folder: Folder, estimator: str) -> None:
    report = ["val_accuracy_answered", "train_coverage"]
    values = study(estimator, {"C": [0.1]}, metric="val_coverage", report=report)
    values["objective"] |= {"data": "breast_cancer", "required_accuracy": 0.995}
    assert folder.hpo("run", folder.study(values)).code == 0
    assert folder.hpo("export", "s").code == 0
    best = folder.hpo("best", "s", "--test", "--json").json

    model = load_export(folder.path / "s-model")
    (data,) = load_data(Source("breast_cancer"), seed=0)
    shares, accuracies = {}, {}
    for name in ("train", "val", "test"):
        part = getattr(data, name)
        ((x, y),) = part.batches([len(part)])
        answers = model.answers(model.network(x))
        right = [
            data.classes[k] == answer
            for k, answer in zip(y.tolist(), answers, strict=True)
            if answer is not None
        ]
        shares[name], accuracies[name] = len(right) / len(answers), np.mean(right)
    metrics = best["best"]["metrics"]
    assert metrics["val_coverage"] == pytest.approx(shares["val"])
    assert metrics["val_accuracy_answered"] == pytest.approx(accuracies["val"])
    assert accuracies["val"] >= 0.995
    assert metrics["train_coverage"] == pytest.approx(shares["train"])
    assert best["test"]["test_coverage"] == pytest.approx(shares["test"])
    assert best["test"]["test_accuracy_answered"] == pytest.approx(accuracies["test"])
    assert 0 < shares["test"] < 1


def done_best(folder: Folder) -> Mapping[str, Any]:
    params: Mapping[str, Any] = folder.hpo("best", "s", "--json").json["best"]["params"]
    return params


def test_an_export_takes_code_of_ones_own_along_and_answers_in_the_targets_unit(
    folder: Folder,
) -> None:
    rows = [f"{'ab'[x % 2]},{x},{1000 * x + 500 * (x % 2)}" for x in range(200)]
    folder.write("houses.csv", "\n".join(["town,rooms,price", *rows, ""]))
    values = study("estimators:own_pipeline", {"alpha": [1e-3]}, data="houses.csv", folds=2)
    values["objective"] |= {"target": "price", "metric": "val_mae"}
    assert folder.hpo("run", folder.study(values)).code == 0
    done = folder.hpo("export", "s", "--to", "model")
    assert "Try it: python model/predict.py examples.csv" in done.err
    (folder.path / "estimators.py").unlink()
    folder.write("new.csv", "town,rooms\nb,3\na,100\n")

    answers = [float(answer) for answer in answers_of(folder, "model", "new.csv")]

    assert answers == pytest.approx([3_500, 100_000], abs=50)


def test_an_estimator_that_cannot_be_pickled_is_told_and_leaves_the_folder(folder: Folder) -> None:
    values = study("estimators:unpicklable", {"alpha": [1.0]}, data="diabetes", metric="val_mae")
    assert folder.hpo("run", folder.study(values)).code == 0

    refused = folder.hpo("export", "s", "--to", "model")

    assert refused.code == 1
    assert "the estimator cannot be pickled: " in refused.err
    assert "at the top level of a module" in refused.err
    assert "--to" not in refused.err
    assert [*(folder.path / "model").iterdir()] == []


def test_costs_are_of_probabilities_and_errors_of_what_is_predicted(tmp_path: Path) -> None:
    values = study(
        "sklearn.tree.DecisionTreeClassifier",
        metric="val_cost",
        costs=[[0, 1], [5, 0]],
        required_accuracy=0.9,
        report=["val_recall", "val_coverage", "recall", "accuracy"],
    )
    _, final = run(tmp_path, values, {"max_depth": 2})
    plan = spec.check(studyfile.from_values(values | {"space": {"max_depth": [2]}}, "s", tmp_path))
    (data,) = load_data(source_of(plan.spec.objective, tmp_path), 0)
    (x, y), (val_x, val_y) = (next(iter(p.batches([len(p)]))) for p in (data.train, data.val))
    tree = DecisionTreeClassifier(max_depth=2, random_state=5).fit(x.double(), y)
    costs = np.array([[0, 1], [5, 0]])
    answers = (tree.predict_proba(val_x.double()) @ costs).argmin(axis=1)

    assert final["val_cost"] == pytest.approx(costs[val_y, answers].mean())
    assert final["val_recall"] == pytest.approx(final["recall"])
    assert final["val_error"] == pytest.approx(1 - final["accuracy"])
    assert 0 < final["val_coverage"] <= 1


def test_what_is_random_follows_from_the_trials_seed(tmp_path: Path) -> None:
    values = study("estimators.either", metric="val_loss")
    config = {"kind": "forest", "randomforestclassifier__max_features": 1}

    losses = [run(tmp_path, values, config, seed)[1]["val_loss"] for seed in (1, 1, 2)]
    fixed = {**config, "randomforestclassifier__random_state": 3}
    said = [run(tmp_path, values, fixed, seed)[1]["val_loss"] for seed in (1, 2)]

    assert losses[0] == losses[1] != losses[2]
    assert said[0] == said[1]


def test_a_function_may_return_one_estimator_or_another(folder: Folder) -> None:
    space = {
        "kind": ["svc", "forest"],
        "svc__C": {"choice": [0.1, 1.0], "when": {"kind": "svc"}},
        "randomforestclassifier__max_depth": {"choice": [2, 4], "when": {"kind": "forest"}},
    }

    assert folder.hpo("run", folder.study(study("estimators.either", space))).code == 0

    assert folder.states("s") == {"COMPLETE": 4}


def test_all_parameters_reach_a_function_that_takes_any(tmp_path: Path) -> None:
    values = study("estimators.forest", report=["model_bytes"])

    sizes = [run(tmp_path, values, {"bootstrap": b})[1]["model_bytes"] for b in (True, False)]

    assert sizes[0] != sizes[1]


def test_an_estimator_that_changes_its_input_leaves_the_data_as_it_is(tmp_path: Path) -> None:
    names = ["train_error", "val_loss", "neg_log_loss"]
    values = study("estimators.in_place", data="wine", folds=2, report=names)
    values["space"] = {"copy": [True, False], "kneighborsclassifier__n_neighbors": [3, 7]}
    objective = objectives.build(spec.check(studyfile.from_values(values, "s", tmp_path)))

    def metrics(neighbours: int, *, copy: bool) -> Mapping[str, float]:
        config = {"copy": copy, "kneighborsclassifier__n_neighbors": neighbours}
        *_, last = objective(Job(0, config, 5, tmp_path))
        return last.metrics

    expected = [metrics(neighbours, copy=True) for neighbours in (3, 7)]
    assert [metrics(neighbours, copy=False) for neighbours in (3, 7)] == expected
    assert expected[0] != expected[1]


def test_a_trial_is_stopped_after_a_bad_fold(folder: Folder) -> None:
    values = study(
        "estimators.pipeline",
        {"svc__C": [1.0, 1e-6]},
        folds=3,
        metric="balanced_accuracy",  # of which more is better, as of every scorer
    )
    values["baseline"] = {"svc__C": 1.0}
    values["stopping"] = {"rule": "median", "startup_trials": 1}
    values["gate"] = {"balanced_accuracy": ">= 0.9", "balanced_accuracy_std": "<= 0.1"}

    done = folder.hpo("run", folder.study(values))

    assert done.code == 0, done.err
    good, bad = folder.trials("s")
    assert (good["state"], good["n_steps"]) == ("COMPLETE", 3)
    assert (bad["state"], bad["n_steps"]) == ("PRUNED", 1)


def test_warnings_are_counted_once_and_fail_nothing(folder: Folder) -> None:
    space = {"max_iter": [2, 3], "hidden_layer_sizes": 4}

    done = folder.hpo("run", folder.study(study("sklearn.neural_network.MLPClassifier", space)))

    assert done.code == 0
    assert folder.states("s") == {"COMPLETE": 2}
    assert done.err.count("ConvergenceWarning") == 1


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"estimator": "sklearn.svm.SVCs"}, "nothing to call named 'SVCs'. Did you mean 'SVC'?"),
        ({"estimator": "sklearn.swm.SVC"}, "cannot import 'sklearn.swm'"),
        ({"estimator": "estimators.scaler"}, "neither a classifier nor a regressor"),
        ({"estimator": "estimators.nothing"}, "None is not a scikit-learn estimator"),
        ({"estimator": "estimators.either"}, "missing 1 required positional argument: 'kind'"),
        ({"metric": "val_eror"}, "unknown metric 'val_eror'. Did you mean 'val_error'?"),
        ({"metric": "roc_auc_ovrr"}, "Did you mean 'roc_auc_ovr'?"),
        ({"metric": "n_parameters"}, "unknown metric 'n_parameters'"),
        ({"metric": "val_rmse"}, "'val_rmse' has no meaning in classification"),
        ({"metric": "val_cost"}, "objective.costs"),
        ({"positive": "ill"}, "'ill'"),
        (
            {"positive": "malignant", "metric": "positive_likelihood_ratio"},
            "'positive_likelihood_ratio' is always about 'benign', and `positive` is another.",
        ),
    ],
)
def test_a_mistake_is_told_when_the_file_is_checked(
    folder: Folder, change: dict[str, str], said: str
) -> None:
    values = study("sklearn.svm.SVC", {"C": [1.0]})
    values["objective"].update(change)

    done = folder.hpo("check", folder.study(values))

    assert done.code == 1
    assert said in " ".join(done.err.split())


@pytest.mark.parametrize(
    ("estimator", "name", "nearest"),
    [
        ("sklearn.svm.SVC", "c", "Known: C, "),
        ("sklearn.svm.SVC", "kernal", "'kernel'"),
        ("estimators.pipeline", "svc_C", "'svc__C'"),
        ("estimators.pipeline", "svc__gama", "'svc__gamma'"),
    ],
)
def test_an_unknown_parameter_is_told_with_the_nearest(
    folder: Folder, estimator: str, name: str, nearest: str
) -> None:
    done = folder.hpo("check", folder.study(study(estimator, {name: [1.0, 2.0]})))

    assert done.code == 1
    told = " ".join(done.err.split())
    assert f"space.{name}: '{estimator}' has no parameter '{name}'." in told
    assert nearest in told


def test_an_estimator_that_does_not_say_what_it_is_for_is_told(folder: Folder) -> None:
    done = folder.hpo("check", folder.study(study("estimators.Duck")))

    assert done.code == 1
    told = " ".join(done.err.split())
    assert "'estimators.Duck' does not say whether it is a classifier or a regressor." in told
    assert "inherit from sklearn.base.ClassifierMixin or RegressorMixin" in told
