#!/usr/bin/env python3
"""Fine-tunes real weights on real photographs with every strategy, and writes the table to bench/results.

    bench/transfer/run.py --data ../shared/data/hymenoptera --weights ../shared/weights/tf_efficientnet_lite0

Every run is a run of the program as a user starts it; the figures are those of its summary.json. The standard library suffices.
"""

import argparse
import datetime
import json
import pathlib
import platform
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]

# What is said beside the strategy. The first rows are the settings that PyTorch's figures are for.
SETTINGS = {
    "head": ["--strategy", "head", "--augment", "none"],
    "partial": ["--strategy", "partial"],
    "two-stage (default)": [],
    "full": ["--strategy", "full"],
    "lora": ["--strategy", "lora"],
    "scratch": ["--strategy", "scratch"],
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=pathlib.Path)
    parser.add_argument("--weights", required=True, type=pathlib.Path)
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--program", default=ROOT / "build/vtl-finetune", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--out", default=ROOT / "bench/results/transfer_hymenoptera", type=pathlib.Path, help="without extension")
    return parser.parse_args()


def run(args: argparse.Namespace, row: str, precision: str, seed: int, folder: pathlib.Path) -> dict:
    weights = [] if row == "scratch" else ["--weights", str(args.weights)]
    command = [str(args.program), "train", str(args.data), "--model", args.model, *weights, *SETTINGS[row],
               "--precision", precision, "--seed", str(seed), "--out", str(folder / f"{row}-{precision}-{seed}"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    summary = json.loads(done.stdout)
    print(f"{row:20} {precision} seed {seed}: accuracy {summary['metrics']['accuracy']:.4f}, {summary['seconds']:.0f} s", flush=True)
    return summary


def cpu() -> str:
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()


def main():
    args = arguments()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in args.only:
            for precision in args.precisions:
                runs = [run(args, row, precision, seed, pathlib.Path(folder)) for seed in range(args.seeds)]
                accuracies = [r["metrics"]["accuracy"] for r in runs]
                rows.append({
                    "strategy": row, "precision": precision, "accuracies": accuracies,
                    "trainable_parameters": runs[0]["trainable_parameters"], "total_parameters": runs[0]["total_parameters"],
                    "seconds": statistics.median(r["seconds"] for r in runs),
                    "peak_memory_mib": max(r["peak_memory_bytes"] for r in runs) / 2**20,
                })
    facts = {"date": datetime.date.today().isoformat(), "cpu": cpu(), "model": args.model, "data": args.data.name,
             "command": "bench/transfer/run.py", "rows": rows}
    args.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    lines = [f"# {args.model} on {args.data.name}", "",
             f"{facts['date']}, {facts['cpu']}. Validation accuracy of the best epoch, {args.seeds} seeds; seconds of a whole run (median).", "",
             "| strategy | precision | accuracy (mean) | lowest to highest | trainable parameters | seconds | peak MiB |", "|---|---|---|---|---|---|---|"]
    for r in rows:
        a = r["accuracies"]
        lines.append(f"| {r['strategy']} | {r['precision']} | {statistics.mean(a):.3f} | {min(a):.3f} to {max(a):.3f} | "
                     f"{r['trainable_parameters']:,} | {r['seconds']:.0f} | {r['peak_memory_mib']:.0f} |")
    args.out.with_suffix(".md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
