#!/usr/bin/env python3
"""Times PyTorch's operations on a GPU under the names of vtl_bench, and prints a JSON object {name: microseconds}.

    torch_kernels.py [--only WORD]

The shapes are those of bench/*_bench.cpp at batch 256. Attention takes the fastest of PyTorch's backends, cuDNN searches its
algorithms, fp32 is fp32 (TF32 off). A figure is the median of several means of a few calls, after a warm-up.
"""

import argparse
import json
import statistics
import sys

import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

BATCH, TOKENS = 256, 197
DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}
LINEAR = {"vit_s16_qkv": (384, 1152), "vit_s16_fc1": (384, 1536), "vit_s16_fc2": (1536, 384), "vit_b16_qkv": (768, 2304),
          "vit_b16_fc1": (768, 3072), "vit_b16_fc2": (3072, 768), "vit_s16_lora_down": (384, 8), "vit_s16_lora_up": (8, 384)}
# name: side, in, out, kernel, stride, pad, groups
CONVOLUTIONS = {"resnet_stem": (224, 3, 64, 7, 2, 3, 1), "resnet18_stage1": (56, 64, 64, 3, 1, 1, 1),
                "resnet18_stage2_first": (56, 64, 128, 3, 2, 1, 1), "resnet18_stage2": (28, 128, 128, 3, 1, 1, 1),
                "resnet18_stage3": (14, 256, 256, 3, 1, 1, 1), "resnet18_stage4": (7, 512, 512, 3, 1, 1, 1),
                "resnet50_stage1_expand": (56, 64, 256, 1, 1, 0, 1), "resnet50_stage3_shortcut": (28, 512, 1024, 1, 2, 0, 1),
                "resnet50_stage4_reduce": (7, 2048, 512, 1, 1, 0, 1), "efficientnet_lite0_expand": (28, 40, 240, 1, 1, 0, 1),
                "efficientnet_lite0_depthwise_112": (112, 32, 32, 3, 1, 1, 32),
                "efficientnet_lite0_depthwise_56": (56, 144, 144, 5, 2, 2, 144),
                "efficientnet_lite0_depthwise_14": (14, 672, 672, 5, 1, 2, 672), "vit_s16_patches": (224, 3, 384, 16, 16, 0, 1)}
ATTENTION = {"vit_b16": (12, 197, 64), "vit_h14": (16, 257, 80), "swin_t_stage1": (3, 49, 32)}
BATCHNORM = {"resnet50_stem": (112, 64, F.relu), "resnet50_layer3": (14, 256, F.relu), "efficientnet_b0_stage3": (28, 144, F.silu)}


def microseconds(call, calls: int = 20, rounds: int = 7) -> float:
    for _ in range(3):
        call()
    times = []
    for _ in range(rounds):
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        begin.record()
        for _ in range(calls):
            call()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end) * 1000 / calls)
    return statistics.median(times)


def random(*shape, dtype=torch.float32):
    return torch.randn(shape, device="cuda", dtype=dtype)


def linears(dtype):
    for name, (inputs, outputs) in LINEAR.items():
        x, w = random(BATCH * TOKENS, inputs, dtype=dtype), random(outputs, inputs, dtype=dtype)
        bias, dy = random(outputs, dtype=dtype), random(BATCH * TOKENS, outputs, dtype=dtype)
        yield f"gemm_forward/{name}", lambda: F.linear(x, w, bias)
        yield f"gemm_forward_gelu_saved/{name}", lambda: F.gelu(F.linear(x, w, bias))
        yield f"gemm_backward_data/{name}", lambda: dy @ w
        yield f"gemm_backward_weight/{name}", lambda: dy.t() @ x


def convolutions(dtype):
    for name, (side, inputs, outputs, kernel, stride, pad, groups) in CONVOLUTIONS.items():
        x = random(BATCH, inputs, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w = random(outputs, inputs // groups, kernel, kernel, dtype=dtype).contiguous(memory_format=torch.channels_last)
        dy = torch.randn_like(F.conv2d(x, w, None, stride, pad, 1, groups))

        def gradient(mask):
            return lambda: torch.ops.aten.convolution_backward(
                dy, x, w, None, [stride] * 2, [pad] * 2, [1, 1], False, [0, 0], groups, mask)

        yield f"conv2d_forward/{name}", lambda: F.conv2d(x, w, None, stride, pad, 1, groups)
        if inputs > 3:
            yield f"conv2d_backward_data/{name}", gradient([True, False, False])
        yield f"conv2d_backward_weight/{name}", gradient([False, True, False])


def with_gradient(forward, inputs):
    """forward, and its backward alone."""
    for each in inputs:
        each.requires_grad_()
    y = forward()
    dy = torch.randn_like(y)
    return forward, lambda: torch.autograd.grad(y, inputs, dy, retain_graph=True)


def attentions(dtype):
    for name, (heads, tokens, size) in ATTENTION.items():
        qkv = random(BATCH, tokens, 3, heads, size, dtype=dtype)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        best = {}
        for backend in (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
            try:
                with sdpa_kernel(backend):
                    leaves = [t.detach().requires_grad_() for t in (q, k, v)]
                    forward, backward = with_gradient(lambda: F.scaled_dot_product_attention(*leaves), leaves)
                    for direction, call in (("forward", forward), ("backward", backward)):
                        best.setdefault(direction, []).append((microseconds(call), backend.name))
            except RuntimeError as error:
                print(f"{name} {dtype} {backend.name}: {str(error).splitlines()[0]}", file=sys.stderr)
        for direction, times in best.items():
            yield f"attention_{direction}/{name}", min(times)[0]


def norms(dtype):
    x = random(BATCH * TOKENS, 768, dtype=dtype)
    w, b = random(768, dtype=dtype), random(768, dtype=dtype)
    forward, backward = with_gradient(lambda: F.layer_norm(x, (768,), w, b, 1e-6), [x, w, b])
    yield "layernorm_forward/vit_b16", forward
    yield "layernorm_backward/vit_b16", backward
    for name, (side, channels, activation) in BATCHNORM.items():
        x = random(BATCH, channels, side, side, dtype=dtype).contiguous(memory_format=torch.channels_last)
        w, b, mean, var = random(channels), random(channels), random(channels), torch.ones(channels, device="cuda")
        forward, backward = with_gradient(lambda: activation(F.batch_norm(x, mean, var, w, b, True)), [x, w, b])
        yield f"batchnorm_forward/{name}", forward
        yield f"batchnorm_backward/{name}", backward


def elementwise(dtype):
    x = random(BATCH, TOKENS, 3072, dtype=dtype)
    for name, call in {"gelu_erf": F.gelu, "relu": F.relu, "silu": F.silu}.items():
        forward, backward = with_gradient(lambda: call(x), [x])
        yield f"activation_forward_{name}/vit_b16_mlp", forward
        yield f"activation_backward_{name}/vit_b16_mlp", backward
    a, b = random(BATCH, TOKENS, 768, dtype=dtype), random(BATCH, TOKENS, 768, dtype=dtype)
    yield "add/vit_b16", lambda: a + b
    yield "column_sum/vit_b16_mlp", lambda: x.detach().sum((0, 1))
    logits, labels = random(256, 1000, dtype=dtype), torch.full((256,), 7, device="cuda")
    forward, backward = with_gradient(lambda: F.cross_entropy(logits, labels, label_smoothing=0.1), [logits])
    yield "softmax_xent_forward/imagenet", forward
    yield "softmax_xent_backward/imagenet", backward
    image = random(BATCH, 64, 112, 112, dtype=dtype).contiguous(memory_format=torch.channels_last)
    forward, backward = with_gradient(lambda: F.max_pool2d(image, 3, 2, 1), [image])
    yield "max_pool_forward/resnet50_stem", forward
    yield "max_pool_backward/resnet50_stem", backward


def optimizers():
    for name, count in {"vit_b16": 86567656, "vit_b16_lora": 294912}.items():
        parameters = [torch.zeros(count // 150, device="cuda", requires_grad=True) for _ in range(150)]
        for each in parameters:
            each.grad = torch.zeros_like(each)
        yield f"adamw/{name}", torch.optim.AdamW(parameters, lr=1e-3, fused=True).step


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="WORD", help="names that contain it")
    args = parser.parse_args()
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    times = {}

    def take(name, work):
        if args.only in name:
            times[name] = work if isinstance(work, float) else microseconds(work)

    for name, work in optimizers():
        take(name, work)
    for suffix, dtype in DTYPES.items():
        for group in (linears, attentions, norms, elementwise, convolutions):
            try:
                for name, work in group(dtype):
                    take(f"{name}/{suffix}", work)
            except RuntimeError as error:  # what is not there is named, the rest goes on
                print(f"{group.__name__} {suffix}: {str(error).splitlines()[0]}", file=sys.stderr)
    print(json.dumps(times))


if __name__ == "__main__":
    main()
