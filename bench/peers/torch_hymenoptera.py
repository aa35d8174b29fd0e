"""Fine-tunes timm's EfficientNet-Lite0 on hymenoptera in PyTorch, without augmentation, and prints one JSON line.

    python torch_hymenoptera.py --strategy head|full|scratch [--precision bf16] [--seed 1] [--data DIR] [--weights DIR]

The counterpart of `vtl-finetune train DATA --augment none --schedule constant --warmup 0 --clip 0` with
the same strategy, epochs and rate: head trains a new classifier on features computed once; full trains everything with batch statistics; scratch does so from
random weights. AdamW with weight decay 0.05 on parameters of more than one dimension, batch 32. Files that cannot be decoded are named and skipped.
"""

import argparse
import contextlib
import json
import resource
import sys
import time
from pathlib import Path

import timm
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from safetensors.torch import load_file

SHARED = Path(__file__).resolve().parents[3] / "shared"
MODEL = "tf_efficientnet_lite0"
BATCH = 32
WEIGHT_DECAY = 0.05
SUFFIXES = {".jpg", ".jpeg", ".png"}

# strategy: (epochs, learning rate)
DEFAULTS = {"head": (10, 3e-3), "full": (5, 3e-4), "scratch": (5, 3e-4)}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--strategy", choices=DEFAULTS, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--data", type=Path, default=SHARED / "data" / "hymenoptera")
    parser.add_argument("--weights", type=Path, default=SHARED / "weights" / MODEL)
    args = parser.parse_args()
    epochs, rate = DEFAULTS[args.strategy]
    args.epochs, args.lr = args.epochs or epochs, args.lr or rate
    return args


def load_split(folder: Path, transform) -> tuple[torch.Tensor, torch.Tensor]:
    """Every readable image of CLASS/FILE, transformed, and its class index; classes and files in byte order."""
    images, labels = [], []
    for label, directory in enumerate(sorted(path for path in folder.iterdir() if path.is_dir())):
        for path in sorted(directory.iterdir()):
            try:
                if path.suffix.lower() not in SUFFIXES:
                    raise UnidentifiedImageError(f"not one of {sorted(SUFFIXES)}")
                images.append(transform(Image.open(path).convert("RGB")))
                labels.append(label)
            except (UnidentifiedImageError, OSError) as error:
                print(f"skipped {path}: {error}", file=sys.stderr)
    return torch.stack(images).contiguous(memory_format=torch.channels_last), torch.tensor(labels)


def build(args: argparse.Namespace, classes: int) -> torch.nn.Module:
    model = timm.create_model(MODEL, num_classes=classes)
    if args.strategy != "scratch":
        backbone = {name: t for name, t in load_file(args.weights / "model.safetensors").items() if not name.startswith("classifier.")}
        missing, unexpected = model.load_state_dict(backbone, strict=False)
        assert not unexpected and missing == ["classifier.weight", "classifier.bias"]
    return model.to(memory_format=torch.channels_last)


def autocast(args: argparse.Namespace):
    return torch.autocast("cpu", torch.bfloat16) if args.precision == "bf16" else contextlib.nullcontext()


def outputs(args: argparse.Namespace, module, inputs: torch.Tensor) -> torch.Tensor:
    """Evaluation mode, in batches."""
    with torch.inference_mode(), autocast(args):
        return torch.cat([module(batch).float() for batch in inputs.split(BATCH)]).clone()


def train(args: argparse.Namespace, module: torch.nn.Module, training: tuple, validation: tuple) -> list[float]:
    """Trains the parameters of `module`; the validation accuracy after each epoch."""
    parameters = list(module.parameters())
    groups = [{"params": [p for p in parameters if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
              {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, fused=True)
    (inputs, labels), (val_inputs, val_labels) = training, validation
    accuracies = []
    for epoch in range(args.epochs):
        module.train()
        for chosen in torch.randperm(len(labels)).split(BATCH):
            with autocast(args):
                loss = F.cross_entropy(module(inputs[chosen]).float(), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        module.eval()
        accuracies.append((outputs(args, module, val_inputs).argmax(1) == val_labels).float().mean().item())
        print(f"epoch {epoch + 1}: accuracy {accuracies[-1]:.4f}", file=sys.stderr, flush=True)
    return accuracies


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    transform = timm.data.create_transform(input_size=224, interpolation="bicubic", crop_pct=0.875, mean=(0.5,) * 3, std=(0.5,) * 3)
    training, validation = (load_split(args.data / split, transform) for split in ("train", "val"))
    model = build(args, classes=int(training[1].max()) + 1)
    if args.strategy == "head":
        model.eval()

        def features(images):
            return model.forward_head(model.forward_features(images), pre_logits=True)

        learning = model.classifier
        training, validation = ((outputs(args, features, images), labels) for images, labels in (training, validation))
    else:
        learning = model
    accuracies = train(args, learning, training, validation)
    print(json.dumps({
        "engine": f"torch {torch.__version__}", "model": MODEL, "strategy": args.strategy, "precision": args.precision, "seed": args.seed,
        "epochs": args.epochs, "lr": args.lr, "threads": args.threads, "training_images": len(training[1]), "validation_images": len(validation[1]),
        "accuracy": max(accuracies), "last_accuracy": accuracies[-1],
        "trainable_parameters": sum(p.numel() for p in learning.parameters()),
        "seconds": time.perf_counter() - start,
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }))


if __name__ == "__main__":
    main()
