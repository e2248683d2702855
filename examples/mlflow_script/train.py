"""A training script that tells nobody but MLflow how it goes.

Started by itself, it logs to a run of its own; started by hpo, to the run in $MLFLOW_RUN_ID.
"""

import argparse

import mlflow
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

parser = argparse.ArgumentParser()
parser.add_argument("--lr", type=float, default=0.001)
parser.add_argument("--units", type=int, default=64)
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x / 16, y, stratify=y, random_state=0)
model = MLPClassifier([args.units], learning_rate_init=args.lr, random_state=0)
with mlflow.start_run():
    for epoch in range(1, args.epochs + 1):
        model.partial_fit(x_train, y_train, classes=range(10))
        metrics = {"loss": model.loss_, "val_accuracy": model.score(x_val, y_val)}
        mlflow.log_metrics(metrics, step=epoch)
