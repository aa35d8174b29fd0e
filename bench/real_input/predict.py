#!/usr/bin/env python3
"""Compares what the program says of photographs with what the same weights gave elsewhere, and writes the table to bench/results.

    bench/real_input/predict.py --pictures ../shared/data/imagenet_samples --weights ../shared/weights/tf_efficientnet_lite0

The weights' folder holds expected.json: for each picture its true class, and the best class and its logit as timm computes them.
"""

import json
import pathlib
import time

import program


def measure(args, precision: str) -> dict:
    expected = json.loads((args.weights / "expected.json").read_text())["predictions"]
    start = time.monotonic()
    found = program.run(args.program, "predict", "--model", args.model, "--weights", args.weights, args.pictures, "--precision", precision, "--logits")
    seconds = time.monotonic() - start
    by_name = {pathlib.Path(p["path"]).name: p for p in found["predictions"]}
    ours = [by_name[e["file"]] for e in expected]
    ranks = [sum(logit > p["logits"][e["true_index"]] for logit in p["logits"]) for p, e in zip(ours, expected)]
    return {
        "precision": precision, "pictures": len(expected), "seconds": seconds,
        "same_best_class": sum(p["index"] == e["best_index"] for p, e in zip(ours, expected)),
        "largest_logit_deviation": max(abs(p["logits"][e["best_index"]] / e["best_logit"] - 1) for p, e in zip(ours, expected)),
        "top1": sum(rank == 0 for rank in ranks), "top5": sum(rank < 5 for rank in ranks),
    }


def main():
    parser = program.parser(__doc__, "predict_imagenet_samples")
    parser.add_argument("--pictures", required=True, type=pathlib.Path)
    parser.add_argument("--weights", required=True, type=pathlib.Path)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    args = parser.parse_args()
    rows = [measure(args, precision) for precision in ("fp32", "bf16")]
    text = ["From JPEG files, against timm's best class and its logit for each; seconds of the whole command."]
    print(program.write(args, f"{args.model} on {args.pictures.name}", text, rows, {
        "precision": lambda r: r["precision"],
        "pictures": lambda r: r["pictures"],
        "same best class": lambda r: r["same_best_class"],
        "largest deviation of its logit": lambda r: f"{r['largest_logit_deviation']:.2%}",
        "right": lambda r: r["top1"],
        "right in the top five": lambda r: r["top5"],
        "seconds": lambda r: f"{r['seconds']:.1f}",
    }), end="")


if __name__ == "__main__":
    main()
