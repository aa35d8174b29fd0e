"""Writes tests/golden/timm_models.json: what timm says about every model that vtl's registry offers.

Models are built on the meta device, so this takes seconds and no weights. See README.md for the format.
"""

import hashlib

import timm
import torch
from timm.models._efficientnet_blocks import DepthwiseSeparableConv, InvertedResidual
from timm.models.efficientnet import EfficientNet
from timm.models.resnet import BasicBlock, ResNet
from timm.models.vision_transformer import VisionTransformer

from golden_file import write_json

RESNETS = [f"resnet{depth}" for depth in (18, 34, 50, 101, 152)]
RESNETS += [f"resnet{depth}d" for depth in (18, 26, 34, 50, 101, 152)]
RESNETS += ["wide_resnet50_2", "resnext50_32x4d"]

VITS = [
    "vit_tiny_patch16_224", "vit_tiny_patch16_384",
    "vit_small_patch8_224", "vit_small_patch16_224", "vit_small_patch16_384", "vit_small_patch32_224", "vit_small_patch32_384",
    "vit_base_patch8_224", "vit_base_patch16_224", "vit_base_patch16_384", "vit_base_patch32_224", "vit_base_patch32_384",
    "vit_base_patch16_224_miil", "vit_base_patch16_gap_224", "vit_base_patch16_rpn_224",
    "vit_large_patch14_224", "vit_large_patch16_224", "vit_large_patch16_384", "vit_large_patch32_224", "vit_large_patch32_384",
    "vit_huge_patch14_224", "vit_huge_patch14_gap_224",
    "vit_base_patch16_clip_224", "vit_base_patch16_clip_384", "vit_base_patch32_clip_224", "vit_base_patch32_clip_256",
    "vit_base_patch32_clip_384", "vit_base_patch32_clip_448", "vit_base_patch16_clip_quickgelu_224", "vit_base_patch32_clip_quickgelu_224",
    "vit_medium_patch16_clip_224", "vit_medium_patch32_clip_224", "vit_xsmall_patch16_clip_224",
    "vit_large_patch14_clip_224", "vit_large_patch14_clip_336", "vit_large_patch14_clip_quickgelu_224", "vit_huge_patch14_clip_224",
    "vit_medium_patch16_gap_240", "vit_medium_patch16_gap_256", "vit_medium_patch16_gap_384",
    "vit_medium_patch16_reg4_gap_256", "vit_base_patch16_reg4_gap_256",
    "vit_small_patch14_dinov2", "vit_base_patch14_dinov2", "vit_large_patch14_dinov2",
    "vit_small_patch14_reg4_dinov2", "vit_base_patch14_reg4_dinov2", "vit_large_patch14_reg4_dinov2",
    "deit_tiny_patch16_224", "deit_small_patch16_224", "deit_base_patch16_224", "deit_base_patch16_384",
    "deit_tiny_distilled_patch16_224", "deit_small_distilled_patch16_224", "deit_base_distilled_patch16_224", "deit_base_distilled_patch16_384",
    "deit3_small_patch16_224", "deit3_small_patch16_384", "deit3_medium_patch16_224", "deit3_base_patch16_224", "deit3_base_patch16_384",
    "deit3_large_patch16_224", "deit3_large_patch16_384", "deit3_huge_patch14_224",
]

EFFICIENTNETS = [f"tf_efficientnet_lite{size}" for size in range(5)]

PREPROCESSING = ("input_size", "test_input_size", "fixed_input_size", "interpolation", "crop_pct", "test_crop_pct", "crop_mode",
                 "mean", "std", "num_classes", "pool_size", "first_conv", "classifier", "license")


def preprocessing(cfg) -> dict:
    """The facts of one pretrained configuration; absent and false ones are left out."""
    facts = {key: getattr(cfg, key) for key in PREPROCESSING}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items() if value is not None and value is not False}


def activation_name(module: torch.nn.Module) -> str:
    if isinstance(module, torch.nn.GELU) and module.approximate == "tanh":
        return "gelu_tanh"
    return type(module).__name__.lower()


def vit_args(model: VisionTransformer) -> dict:
    block = model.blocks[0]
    patch_embed = model.patch_embed
    return {
        "img_size": list(patch_embed.img_size),
        "patch_size": list(patch_embed.patch_size),
        "embed_dim": model.embed_dim,
        "depth": len(model.blocks),
        "heads": block.attn.num_heads,
        "mlp_dim": block.mlp.fc1.out_features,
        "qkv_bias": block.attn.qkv.bias is not None,
        "patch_bias": patch_embed.proj.bias is not None,
        "class_token": model.cls_token is not None,
        "distilled": hasattr(model, "dist_token"),
        "reg_tokens": model.num_reg_tokens,
        "no_embed_class": model.no_embed_class,
        "pos_embed": list(model.pos_embed.shape),
        "global_pool": model.global_pool,
        "fc_norm": not isinstance(model.fc_norm, torch.nn.Identity),
        "final_norm": not isinstance(model.norm, torch.nn.Identity),
        "pre_norm": not isinstance(model.norm_pre, torch.nn.Identity),
        "post_norm_blocks": type(block).__name__ == "ResPostBlock",
        "init_values": float(block.ls1.init_values) if hasattr(getattr(block, "ls1", None), "gamma") else None,
        "act": activation_name(block.mlp.act),
        "norm_eps": block.norm1.eps,
    }


def resnet_args(model: ResNet) -> dict:
    first = model.layer1[0]
    deep = isinstance(model.conv1, torch.nn.Sequential)
    downsample = next(m.downsample for m in model.layer2 if m.downsample is not None)
    return {
        "block": "basic" if isinstance(first, BasicBlock) else "bottleneck",
        "layers": [len(layer) for layer in (model.layer1, model.layer2, model.layer3, model.layer4)],
        "stem": [list(conv.weight.shape) for conv in (model.conv1 if deep else [model.conv1]) if isinstance(conv, torch.nn.Conv2d)],
        "avg_down": isinstance(downsample[0], torch.nn.AvgPool2d),
        "global_pool": model.global_pool.pool_type,
        "act": activation_name(model.act1),
        "norm_eps": model.bn1.eps,
        "norm_momentum": model.bn1.momentum,
    }


def efficientnet_block(block: InvertedResidual | DepthwiseSeparableConv) -> dict:
    inverted = isinstance(block, InvertedResidual)
    return {
        "kind": type(block).__name__,
        "in": (block.conv_pw if inverted else block.conv_dw).in_channels,
        "expanded": block.conv_dw.in_channels,
        "out": (block.conv_pwl if inverted else block.conv_pw).out_channels,
        "kernel": block.conv_dw.kernel_size[0],
        "stride": block.conv_dw.stride[0],
        "skip": block.has_skip,
    }


def efficientnet_args(model: EfficientNet) -> dict:
    return {
        "stem": model.conv_stem.out_channels,
        "head": model.conv_head.out_channels,
        "padding": "same" if type(model.conv_stem).__name__ == "Conv2dSame" else "symmetric",
        "blocks": [[efficientnet_block(block) for block in stage] for stage in model.blocks],
        "global_pool": model.global_pool.pool_type,
        "act": activation_name(model.blocks[0][0].bn1.act),
        "norm_eps": model.bn1.eps,
        "norm_momentum": model.bn1.momentum,
    }


def model_args(model: torch.nn.Module) -> dict:
    if isinstance(model, VisionTransformer):
        return vit_args(model)
    return resnet_args(model) if isinstance(model, ResNet) else efficientnet_args(model)


def keys_sha256(state: dict[str, torch.Tensor]) -> str:
    """SHA-256 of the lines `name dim dim ...\\n`, sorted bytewise by name; a scalar's line is `name\\n`."""
    lines = (" ".join([name, *map(str, tensor.shape)]) + "\n" for name, tensor in sorted(state.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def describe(name: str) -> dict:
    with torch.device("meta"):
        model = timm.create_model(name, pretrained=False)
    state = model.state_dict()
    default = preprocessing(timm.get_pretrained_cfg(name))
    tags = {}
    for full in timm.list_pretrained(f"{name}.*"):
        tag = full.partition(".")[2]
        cfg = preprocessing(timm.get_pretrained_cfg(full))
        tags[tag] = {key: cfg.get(key) for key in {**default, **cfg} if cfg.get(key) != default.get(key)}
    return {
        "family": type(model).__name__,
        "default_tag": timm.get_pretrained_cfg(name).tag,
        "preprocessing": default,
        "tags": tags,
        "params": sum(p.numel() for p in model.parameters()),
        "num_features": model.num_features,
        "tensors": len(state),
        "keys_sha256": keys_sha256(state),
        "args": model_args(model),
    }


def main():
    content = {"timm": timm.__version__, "models": {name: describe(name) for name in RESNETS + VITS + EFFICIENTNETS}}
    path = write_json("timm_models.json", content)
    print(f"{path}: {len(content['models'])} models, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
