#!/usr/bin/env python3
"""Fine-tunes real weights on real photographs with every strategy, and writes the table to bench/results.

    bench/real_input/transfer.py --data ../shared/data/hymenoptera --weights ../shared/weights/tf_efficientnet_lite0

Every run is a run of the program as a user starts it; the figures are those of its summary.json.
"""

import itertools
import pathlib
import statistics
import tempfile

import program

# What is said beside the strategy. head without augmentation is the setting in which features are computed once.
SETTINGS = {
    "head": ["--strategy", "head", "--augment", "none"],
    "partial": ["--strategy", "partial"],
    "two-stage (default)": [],
    "full": ["--strategy", "full"],
    "lora": ["--strategy", "lora"],
    "bitfit": ["--strategy", "bitfit"],
    "scratch": ["--strategy", "scratch"],
}

COLUMNS = {
    "strategy": lambda r: r["strategy"],
    "precision": lambda r: r["precision"],
    "accuracy (mean)": lambda r: f"{statistics.mean(r['accuracies']):.3f}",
    "lowest to highest": lambda r: f"{min(r['accuracies']):.3f} to {max(r['accuracies']):.3f}",
    "trainable parameters": lambda r: f"{r['trainable_parameters']:,}",
    "seconds": lambda r: f"{statistics.median(r['seconds']):.0f}",
    "peak MiB": lambda r: f"{max(r['peak_memory_mib']):.0f}",
}


def measure(args, strategy: str, precision: str, folder: pathlib.Path) -> dict:
    weights = [] if strategy == "scratch" else ["--weights", args.weights]
    runs = []
    for seed in range(args.seeds):
        runs.append(program.run(args.program, "train", args.data, "--model", args.model, *weights, *SETTINGS[strategy],
                                "--precision", precision, "--seed", seed, "--out", folder / f"{strategy}-{precision}-{seed}"))
        print(f"{strategy} {precision} seed {seed}: accuracy {runs[-1]['metrics']['accuracy']:.4f}, {runs[-1]['seconds']:.0f} s", flush=True)
    return {
        "strategy": strategy, "precision": precision, "accuracies": [r["metrics"]["accuracy"] for r in runs],
        "trainable_parameters": runs[0]["trainable_parameters"], "total_parameters": runs[0]["total_parameters"],
        "seconds": [r["seconds"] for r in runs], "peak_memory_mib": [r["peak_memory_bytes"] / 2**20 for r in runs],
    }


def main():
    parser = program.parser(__doc__, "transfer_hymenoptera")
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--weights", required=True, type=pathlib.Path)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    args = parser.parse_args()
    text = [f"Validation accuracy of the best epoch over {args.seeds} seeds; seconds of a whole run, loading and validation included (median); largest peak memory."]
    rows, table = [], ""
    with tempfile.TemporaryDirectory() as folder:
        for strategy, precision in itertools.product(args.only, args.precisions):
            rows.append(measure(args, strategy, precision, pathlib.Path(folder)))
            # After every row, so that what is cut short leaves what it has.
            table = program.write(args, f"{args.model} on {args.data.name}", text, rows, COLUMNS)
    print(table, end="")


if __name__ == "__main__":
    main()
