"""Times training steps or inference of a timm model in PyTorch, and prints one JSON line.

    python torch_peer.py --model resnet18 --mode train --precision bf16 --batch 16 --steps 8

The work is that of vtl_step_bench: synthetic images in memory; training is forward (dropout off, BatchNorm with batch
statistics), mean cross entropy, backward and one fused AdamW step; inference is the forward pass in evaluation mode. bf16 is
autocast, PyTorch's own recommendation, or for inference the whole model cast. With --lora R, PEFT adapters of rank R on every
linear layer of the blocks learn, and the head; everything else is frozen, BatchNorm with running statistics.
On a GPU fp32 is fp32 (TF32 off), cuDNN searches its algorithms, and memory is what PyTorch's allocator held at most.
"""

import argparse
import contextlib
import json
import resource
import statistics
import time

import timm
import torch
import torch.nn.functional as F

CLASSES = 10
WARMUP = 2
LORA_TARGETS = ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--mode", choices=("train", "infer"), required=True)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--layout", choices=("nchw", "channels_last"), default="channels_last")
    parser.add_argument("--bf16", choices=("autocast", "cast"), default="autocast", help="cast: the weights too, inference only")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--steps", type=int, default=8, help=f"timed steps, after {WARMUP} untimed ones")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--compile", action="store_true", help="torch.compile, in its default mode")
    parser.add_argument("--size", type=int, default=224, help="pixels a side")
    parser.add_argument("--lora", type=int, default=0, metavar="RANK")
    return parser.parse_args()


def casts(args: argparse.Namespace) -> bool:
    return args.mode == "infer" and args.precision == "bf16" and args.bf16 == "cast"


def build(args: argparse.Namespace) -> torch.nn.Module:
    model = timm.create_model(args.model, num_classes=CLASSES)
    if args.lora:
        import peft  # only where it is needed: it takes a second and 100 MiB
        config = peft.LoraConfig(r=args.lora, lora_alpha=args.lora, target_modules=LORA_TARGETS, modules_to_save=["head"])
        model = peft.get_peft_model(model, config)
    if args.layout == "channels_last":
        model = model.to(memory_format=torch.channels_last)
    if casts(args):
        model = model.to(torch.bfloat16)
    model = model.to(args.device).train(args.mode == "train" and not args.lora)
    return torch.compile(model) if args.compile else model


def stepper(args: argparse.Namespace, model: torch.nn.Module):
    """A function that does one step of the work."""
    torch.manual_seed(0)
    layout = torch.channels_last if args.layout == "channels_last" else torch.contiguous_format
    images = torch.randn(args.batch, 3, args.size, args.size).contiguous(memory_format=layout).to(args.device)
    if casts(args):
        images = images.to(torch.bfloat16)
    labels = (torch.arange(args.batch) % CLASSES).to(args.device)

    def autocast():
        return torch.autocast(args.device, torch.bfloat16) if args.precision == "bf16" and not casts(args) else contextlib.nullcontext()

    def infer():
        with torch.inference_mode(), autocast():
            model(images)

    def train():
        optimizer.zero_grad(set_to_none=True)
        with autocast():
            loss = F.cross_entropy(model(images).float(), labels)
        loss.backward()
        optimizer.step()

    if args.mode == "infer":
        return infer
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4, weight_decay=0.05, fused=True)
    return train


def seconds(step, count: int, wait) -> list[float]:
    for _ in range(WARMUP):
        step()
    wait()
    result = []
    for _ in range(count):
        start = time.perf_counter()
        step()
        wait()
        result.append(time.perf_counter() - start)
    return result


def peak_memory_mib(args: argparse.Namespace) -> float:
    if args.device == "cuda":
        return torch.cuda.max_memory_reserved() / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
    args = arguments()
    torch.set_num_threads(args.threads)
    torch.set_num_interop_threads(1)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    wait = torch.cuda.synchronize if args.device == "cuda" else lambda: None
    times = seconds(stepper(args, build(args)), args.steps, wait)
    deciles = statistics.quantiles(times, n=10, method="inclusive") if len(times) > 1 else times * 9
    print(json.dumps({
        "engine": f"torch {torch.__version__}",
        "model": args.model, "mode": args.mode, "precision": args.precision, "layout": args.layout, "bf16": args.bf16, "batch": args.batch,
        "lora": args.lora, "device": args.device, "compile": args.compile, "threads": args.threads, "steps": args.steps,
        "images_per_second": args.batch / statistics.median(times),
        "p10": args.batch / deciles[8],
        "p90": args.batch / deciles[0],
        "peak_memory_mib": peak_memory_mib(args),
    }))


if __name__ == "__main__":
    main()
