"""A training script that knows nothing of hpo: it has flags, and prints a JSON line an epoch."""

import argparse
import json

from sklearn.datasets import load_digits
from sklearn.linear_model import SGDClassifier
from sklearn.model_selection import train_test_split

parser = argparse.ArgumentParser()
parser.add_argument("--learning_rate", type=float, default=0.01)
parser.add_argument("--alpha", type=float, default=1e-4)
parser.add_argument("--penalty", choices=["l1", "l2"], default="l2")
parser.add_argument("--epochs", type=int, default=10)
args = parser.parse_args()

x, y = load_digits(return_X_y=True)
x_train, x_val, y_train, y_val = train_test_split(x / 16, y, stratify=y, random_state=0)
model = SGDClassifier(
    loss="log_loss",
    penalty=args.penalty,
    alpha=args.alpha,
    learning_rate="constant",
    eta0=args.learning_rate,
    random_state=0,
)
for epoch in range(1, args.epochs + 1):
    model.partial_fit(x_train, y_train, classes=range(10))
    print(json.dumps({"epoch": epoch, "val_error": 1 - model.score(x_val, y_val)}), flush=True)
