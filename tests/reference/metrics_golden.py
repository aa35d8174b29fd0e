"""Writes tests/golden/metrics.json: scikit-learn's metrics of small classification results. See README.md."""

import warnings

import numpy as np
import sklearn
from sklearn import metrics

import formula
from golden_file import write_json


def case(name: str, samples: int, class_shares: list[float], step: float = 1 / 16, signal: float = 1.5, never_predicted=()) -> tuple:
    """Labels drawn by `class_shares` and logits, multiples of `step`, that favour the label by `signal`."""
    classes = len(class_shares)
    edges = np.cumsum(class_shares)[:-1]
    labels = np.searchsorted(edges, (formula.uniform(f"{name}.labels", samples) + 1) / 2, side="right")
    logits = 2 * formula.uniform(f"{name}.logits", samples * classes).reshape(samples, classes)
    logits[np.arange(samples), labels] += signal
    logits[:, list(never_predicted)] -= 8
    return labels, np.round(logits / step) * step + 0.0  # no negative zeros


CASES = {
    "two_classes": case("two_classes", 50, [0.5, 0.5]),
    "two_classes_unbalanced": case("two_classes_unbalanced", 60, [0.9, 0.1]),
    "three_classes": case("three_classes", 60, [0.4, 0.35, 0.25]),
    "three_classes_unbalanced": case("three_classes_unbalanced", 60, [0.88, 0.08, 0.04]),
    "ten_classes": case("ten_classes", 80, [0.1] * 10),
    "ten_classes_absent": case("ten_classes_absent", 60, [0.2, 0.0, 0.2, 0.1, 0.1, 0.1, 0.1, 0.0, 0.1, 0.1], never_predicted=[7]),
    "ties": case("ties", 40, [0.2, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.05, 0.05], step=0.5),
    "two_classes_ties": case("two_classes_ties", 40, [0.6, 0.4], step=1.0),
    "one_class_only": case("one_class_only", 20, [0.0, 1.0, 0.0]),
    "all_right": case("all_right", 30, [0.3, 0.3, 0.4], signal=8.0),
    "useless": case("useless", 60, [0.25, 0.25, 0.25, 0.25], signal=0.0),
}


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def top5(labels: np.ndarray, logits: np.ndarray) -> float:
    """Equal scores rank the lower index first, as argmax does; scikit-learn ranks the higher first, hence the reversal."""
    classes = logits.shape[1]
    if classes <= 5:
        return 1.0
    return metrics.top_k_accuracy_score(classes - 1 - labels, logits[:, ::-1], k=5, labels=range(classes))


def auc_per_class(labels: np.ndarray, probabilities: np.ndarray) -> list[float | None]:
    """One against the rest; none for a class without positives or without negatives."""
    def auc(index):
        positives = labels == index
        return None if positives.all() or not positives.any() else metrics.roc_auc_score(positives, probabilities[:, index])
    return [auc(index) for index in range(probabilities.shape[1])]


def scores(labels: np.ndarray, logits: np.ndarray) -> dict:
    classes = range(logits.shape[1])
    probabilities, predicted = softmax(logits), logits.argmax(axis=1)
    precision, recall, f1, support = metrics.precision_recall_fscore_support(labels, predicted, labels=classes, zero_division=0)
    aucs = auc_per_class(labels, probabilities)
    defined = [auc for auc in aucs if auc is not None]
    return {
        "classes": len(classes),
        "labels": labels.tolist(),
        "logits": logits.tolist(),
        "accuracy": metrics.accuracy_score(labels, predicted),
        "top5": float(top5(labels, logits)),
        "loss": metrics.log_loss(labels, probabilities, labels=classes),
        "macro_f1": metrics.f1_score(labels, predicted, average="macro", zero_division=0),
        "auc": float(np.mean(defined)) if defined else None,
        "auc_per_class": aucs,
        "precision": precision.tolist(),
        "recall": recall.tolist(),
        "f1": f1.tolist(),
        "support": support.tolist(),
        "confusion": metrics.confusion_matrix(labels, predicted, labels=classes).tolist(),
    }


def check_auc(result: dict, labels: np.ndarray, logits: np.ndarray) -> None:
    """No rounding decides a rank, and where every class occurs the mean over classes is scikit-learn's ovr, macro."""
    probabilities = softmax(logits)
    assert result["auc_per_class"] == auc_per_class(labels, probabilities.astype(np.float32))
    if None in result["auc_per_class"]:
        return
    want = metrics.roc_auc_score(labels, probabilities[:, 1] if logits.shape[1] == 2 else probabilities, multi_class="ovr", average="macro")
    assert abs(result["auc"] - want) < 1e-12, (result["auc"], want)


def main():
    warnings.filterwarnings("error")
    content = {"sklearn": sklearn.__version__, "cases": {}}
    for name, (labels, logits) in CASES.items():
        content["cases"][name] = scores(labels, logits)
        check_auc(content["cases"][name], labels, logits)
    path = write_json("metrics.json", content)
    print(f"{path}: {len(CASES)} cases, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
