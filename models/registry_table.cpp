#include "vtl/models/registry_table.h"

#include <array>

namespace vtl::models {
namespace {

using kernels::Activation;

// ---- ResNet
// ----------------------------------------------------------------------------------------------------------

using Layers = std::array<int64_t, 4>;

ResNetConfig basic(const Layers& layers) { return {.block = ResNetConfig::Block::basic, .layers = layers}; }

ResNetConfig bottleneck(const Layers& layers) { return {.block = ResNetConfig::Block::bottleneck, .layers = layers}; }

ResNetConfig d(ResNetConfig config) {
  config.deep_stem = 32;
  config.avg_down = true;
  return config;
}

ResNetConfig wide(ResNetConfig config, int64_t groups, int64_t base_width) {
  config.groups = groups;
  config.base_width = base_width;
  return config;
}

// ---- vision transformers
// ---------------------------------------------------------------------------------------------

struct Size {
  int64_t dim, depth, heads;
};

constexpr Size kTiny{192, 12, 3}, kXSmall{256, 10, 4}, kSmall{384, 12, 6}, kMedium{512, 12, 8}, kBase{768, 12, 12},
    kLarge{1024, 24, 16}, kHuge{1280, 32, 16};

VitConfig vit(const Size& size, int64_t patch, int64_t image) {
  VitConfig config;
  config.height = config.width = image;
  config.patch = patch;
  config.dim = size.dim;
  config.depth = size.depth;
  config.heads = size.heads;
  config.mlp = 4 * size.dim;
  return config;
}

VitConfig no_qkv_bias(VitConfig config) {
  config.qkv_bias = false;
  return config;
}

VitConfig scaled(VitConfig config, float layer_scale) {
  config.layer_scale = layer_scale;
  return config;
}

// Global average pooling of the patches, no class token.
VitConfig gap(VitConfig config) {
  config.class_token = false;
  config.pool = VitConfig::Pool::average;
  return config;
}

VitConfig fc_norm(VitConfig config) {
  config.fc_norm = true;
  return config;
}

VitConfig registers(VitConfig config, int64_t count) {
  config.registers = count;
  config.position_on_patches = true;
  return config;
}

VitConfig norms_after(VitConfig config) {
  config.norms = VitConfig::Norms::after;
  return config;
}

VitConfig heads(VitConfig config, int64_t count) {
  config.heads = count;
  return config;
}

VitConfig clip_tower(VitConfig config, Activation activation = Activation::gelu_erf) {
  config.pre_norm = true;
  config.norm_eps = 1e-5;
  config.activation = activation;
  return config;
}

VitConfig distilled(VitConfig config) {
  config.distilled = true;
  return config;
}

VitConfig deit3(VitConfig config) {
  config.position_on_patches = true;
  return scaled(config, 1e-6f);
}

VitConfig dinov2(const Size& size) { return scaled(vit(size, 14, 518), 1e-5f); }

// ---- EfficientNet
// ----------------------------------------------------------------------------------------------------

// TensorFlow's EfficientNet-Lite: no squeeze-and-excitation, ReLU6, SAME padding.
EfficientNetConfig lite(double width, double depth) {
  EfficientNetConfig config;
  config.rows = {{1, 3, 1, 1, 16},  {2, 3, 2, 6, 24},  {2, 5, 2, 6, 40}, {3, 3, 2, 6, 80},
                 {3, 5, 1, 6, 112}, {4, 5, 2, 6, 192}, {1, 3, 1, 6, 320}};
  config.width = width;
  config.depth = depth;
  config.lite = true;
  config.activation = Activation::relu6;
  config.padding = layers::Padding::same;
  config.norm_eps = 1e-3;
  return config;
}

}  // namespace

const std::vector<Architecture>& architectures() {
  static const std::vector<Architecture> table{
      {"resnet18", basic({2, 2, 2, 2})},
      {"resnet34", basic({3, 4, 6, 3})},
      {"resnet50", bottleneck({3, 4, 6, 3})},
      {"resnet101", bottleneck({3, 4, 23, 3})},
      {"resnet152", bottleneck({3, 8, 36, 3})},
      {"resnet18d", d(basic({2, 2, 2, 2}))},
      {"resnet26d", d(bottleneck({2, 2, 2, 2}))},
      {"resnet34d", d(basic({3, 4, 6, 3}))},
      {"resnet50d", d(bottleneck({3, 4, 6, 3}))},
      {"resnet101d", d(bottleneck({3, 4, 23, 3}))},
      {"resnet152d", d(bottleneck({3, 8, 36, 3}))},
      {"wide_resnet50_2", wide(bottleneck({3, 4, 6, 3}), 1, 128)},
      {"resnext50_32x4d", wide(bottleneck({3, 4, 6, 3}), 32, 4)},

      {"vit_tiny_patch16_224", vit(kTiny, 16, 224)},
      {"vit_tiny_patch16_384", vit(kTiny, 16, 384)},
      {"vit_small_patch8_224", vit(kSmall, 8, 224)},
      {"vit_small_patch16_224", vit(kSmall, 16, 224)},
      {"vit_small_patch16_384", vit(kSmall, 16, 384)},
      {"vit_small_patch32_224", vit(kSmall, 32, 224)},
      {"vit_small_patch32_384", vit(kSmall, 32, 384)},
      {"vit_base_patch8_224", vit(kBase, 8, 224)},
      {"vit_base_patch16_224", vit(kBase, 16, 224)},
      {"vit_base_patch16_384", vit(kBase, 16, 384)},
      {"vit_base_patch32_224", vit(kBase, 32, 224)},
      {"vit_base_patch32_384", vit(kBase, 32, 384)},
      {"vit_base_patch16_224_miil", no_qkv_bias(vit(kBase, 16, 224))},
      {"vit_base_patch16_gap_224", heads(gap(vit(kBase, 16, 224)), 16)},
      {"vit_base_patch16_rpn_224", norms_after(no_qkv_bias(fc_norm(gap(vit(kBase, 16, 224)))))},
      {"vit_large_patch14_224", vit(kLarge, 14, 224)},
      {"vit_large_patch16_224", vit(kLarge, 16, 224)},
      {"vit_large_patch16_384", vit(kLarge, 16, 384)},
      {"vit_large_patch32_224", vit(kLarge, 32, 224)},
      {"vit_large_patch32_384", vit(kLarge, 32, 384)},
      {"vit_huge_patch14_224", vit(kHuge, 14, 224)},
      {"vit_huge_patch14_gap_224", gap(vit(kHuge, 14, 224))},
      {"vit_base_patch16_clip_224", clip_tower(vit(kBase, 16, 224))},
      {"vit_base_patch16_clip_384", clip_tower(vit(kBase, 16, 384))},
      {"vit_base_patch32_clip_224", clip_tower(vit(kBase, 32, 224))},
      {"vit_base_patch32_clip_256", clip_tower(vit(kBase, 32, 256))},
      {"vit_base_patch32_clip_384", clip_tower(vit(kBase, 32, 384))},
      {"vit_base_patch32_clip_448", clip_tower(vit(kBase, 32, 448))},
      {"vit_base_patch16_clip_quickgelu_224", clip_tower(vit(kBase, 16, 224), Activation::gelu_quick)},
      {"vit_base_patch32_clip_quickgelu_224", clip_tower(vit(kBase, 32, 224), Activation::gelu_quick)},
      {"vit_medium_patch16_clip_224", clip_tower(vit(kMedium, 16, 224))},
      {"vit_medium_patch32_clip_224", clip_tower(vit(kMedium, 32, 224))},
      {"vit_xsmall_patch16_clip_224", clip_tower(vit(kXSmall, 16, 224))},
      {"vit_large_patch14_clip_224", clip_tower(vit(kLarge, 14, 224))},
      {"vit_large_patch14_clip_336", clip_tower(vit(kLarge, 14, 336))},
      {"vit_large_patch14_clip_quickgelu_224", clip_tower(vit(kLarge, 14, 224), Activation::gelu_quick)},
      {"vit_huge_patch14_clip_224", clip_tower(vit(kHuge, 14, 224))},
      {"vit_medium_patch16_gap_240", scaled(no_qkv_bias(gap(vit(kMedium, 16, 240))), 1e-6f)},
      {"vit_medium_patch16_gap_256", scaled(no_qkv_bias(gap(vit(kMedium, 16, 256))), 1e-6f)},
      {"vit_medium_patch16_gap_384", scaled(no_qkv_bias(gap(vit(kMedium, 16, 384))), 1e-6f)},
      {"vit_medium_patch16_reg4_gap_256", scaled(fc_norm(gap(registers(vit(kMedium, 16, 256), 4))), 1e-5f)},
      {"vit_base_patch16_reg4_gap_256", fc_norm(gap(registers(vit(kBase, 16, 256), 4)))},
      {"vit_small_patch14_dinov2", dinov2(kSmall)},
      {"vit_base_patch14_dinov2", dinov2(kBase)},
      {"vit_large_patch14_dinov2", dinov2(kLarge)},
      {"vit_small_patch14_reg4_dinov2", registers(dinov2(kSmall), 4)},
      {"vit_base_patch14_reg4_dinov2", registers(dinov2(kBase), 4)},
      {"vit_large_patch14_reg4_dinov2", registers(dinov2(kLarge), 4)},
      {"deit_tiny_patch16_224", vit(kTiny, 16, 224)},
      {"deit_small_patch16_224", vit(kSmall, 16, 224)},
      {"deit_base_patch16_224", vit(kBase, 16, 224)},
      {"deit_base_patch16_384", vit(kBase, 16, 384)},
      {"deit_tiny_distilled_patch16_224", distilled(vit(kTiny, 16, 224))},
      {"deit_small_distilled_patch16_224", distilled(vit(kSmall, 16, 224))},
      {"deit_base_distilled_patch16_224", distilled(vit(kBase, 16, 224))},
      {"deit_base_distilled_patch16_384", distilled(vit(kBase, 16, 384))},
      {"deit3_small_patch16_224", deit3(vit(kSmall, 16, 224))},
      {"deit3_small_patch16_384", deit3(vit(kSmall, 16, 384))},
      {"deit3_medium_patch16_224", deit3(vit(kMedium, 16, 224))},
      {"deit3_base_patch16_224", deit3(vit(kBase, 16, 224))},
      {"deit3_base_patch16_384", deit3(vit(kBase, 16, 384))},
      {"deit3_large_patch16_224", deit3(vit(kLarge, 16, 224))},
      {"deit3_large_patch16_384", deit3(vit(kLarge, 16, 384))},
      {"deit3_huge_patch14_224", deit3(vit(kHuge, 14, 224))},

      {"tf_efficientnet_lite0", lite(1.0, 1.0)},
      {"tf_efficientnet_lite1", lite(1.0, 1.1)},
      {"tf_efficientnet_lite2", lite(1.1, 1.2)},
      {"tf_efficientnet_lite3", lite(1.2, 1.4)},
      {"tf_efficientnet_lite4", lite(1.4, 1.8)},
  };
  return table;
}

namespace {

constexpr auto center = CropMode::center, squash = CropMode::squash;
constexpr auto bicubic = Interpolation::bicubic, bilinear = Interpolation::bilinear;
constexpr auto imagenet = Normalisation::imagenet, half = Normalisation::half, zero_one = Normalisation::zero_one,
               clip = Normalisation::clip;

constexpr PretrainedTag kTags[] = {
    {"resnet18", "a1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet18", "a2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet18", "a3_in1k", 1000, 160, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet18", "fb_ssl_yfcc100m_ft_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "cc-by-nc-4.0"},
    {"resnet18", "fb_swsl_ig1b_ft_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "cc-by-nc-4.0"},
    {"resnet18", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet18", "tv_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet34", "a1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet34", "a2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet34", "a3_in1k", 1000, 160, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet34", "bt_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet34", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet34", "ra4_e3600_r224_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"resnet34", "tv_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet50", "a1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "a1h_in1k", 1000, 176, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "a2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "a3_in1k", 1000, 160, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "am_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "b1k_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "b2k_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "bamboo", 0, 224, 1.0, center, bicubic, imagenet, ""},
    {"resnet50", "bt_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "c1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "c2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "d_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "fb_ssl_yfcc100m_ft_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "cc-by-nc-4.0"},
    {"resnet50", "fb_swsl_ig1b_ft_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "cc-by-nc-4.0"},
    {"resnet50", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "ra_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "ram_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50", "tv2_in1k", 1000, 176, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet50", "tv_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet101", "a1h_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet101", "a1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet101", "a2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet101", "a3_in1k", 1000, 160, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet101", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet101", "tv2_in1k", 1000, 176, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet101", "tv_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet152", "a1h_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet152", "a1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet152", "a2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet152", "a3_in1k", 1000, 160, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet152", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet152", "tv2_in1k", 1000, 176, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet152", "tv_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnet18d", "ra2_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet18d", "ra4_e3600_r224_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"resnet26d", "bt_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet34d", "ra2_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50d", "ra2_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50d", "a1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50d", "a2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50d", "a3_in1k", 1000, 160, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50d", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet50d", "ra4_e3600_r224_in1k", 1000, 224, 0.95, center, bicubic, half, "apache-2.0"},
    {"resnet101d", "ra2_in1k", 1000, 256, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet101d", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnet152d", "ra2_in1k", 1000, 256, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnet152d", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"wide_resnet50_2", "racm_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"wide_resnet50_2", "tv2_in1k", 1000, 176, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"wide_resnet50_2", "tv_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnext50_32x4d", "a1h_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnext50_32x4d", "a1_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnext50_32x4d", "a2_in1k", 1000, 224, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnext50_32x4d", "a3_in1k", 1000, 160, 0.95, center, bicubic, imagenet, "apache-2.0"},
    {"resnext50_32x4d", "fb_ssl_yfcc100m_ft_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "cc-by-nc-4.0"},
    {"resnext50_32x4d", "fb_swsl_ig1b_ft_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "cc-by-nc-4.0"},
    {"resnext50_32x4d", "gluon_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnext50_32x4d", "ra_in1k", 1000, 224, 0.875, center, bicubic, imagenet, "apache-2.0"},
    {"resnext50_32x4d", "tv2_in1k", 1000, 176, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"resnext50_32x4d", "tv_in1k", 1000, 224, 0.875, center, bilinear, imagenet, "bsd-3-clause"},
    {"vit_tiny_patch16_224", "augreg_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_tiny_patch16_224", "augreg_in21k", 21843, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_tiny_patch16_384", "augreg_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch8_224", "dino", 0, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"vit_small_patch16_224", "augreg_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch16_224", "augreg_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch16_224", "augreg_in21k", 21843, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch16_224", "dino", 0, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"vit_small_patch16_384", "augreg_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch16_384", "augreg_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch32_224", "augreg_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch32_224", "augreg_in21k", 21843, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch32_384", "augreg_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch8_224", "augreg2_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch8_224", "augreg_in21k", 21843, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch8_224", "augreg_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch8_224", "dino", 0, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"vit_base_patch16_224", "augreg2_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_224", "augreg_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_224", "augreg_in21k", 21843, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_224", "augreg_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_224", "bamboo", 115217, 224, 1.0, center, bicubic, clip, ""},
    {"vit_base_patch16_224", "dino", 0, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"vit_base_patch16_224", "mae", 0, 224, 0.9, center, bicubic, imagenet, "cc-by-nc-4.0"},
    {"vit_base_patch16_224", "orig_in21k", 0, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_224", "orig_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_224", "sam_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_384", "augreg_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_384", "augreg_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_384", "orig_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch32_224", "augreg_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch32_224", "augreg_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch32_224", "augreg_in21k", 21843, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch32_224", "orig_in21k", 0, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch32_224", "sam_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch32_384", "augreg_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch32_384", "augreg_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_224_miil", "in21k", 11221, 224, 0.875, center, bilinear, zero_one, "apache-2.0"},
    {"vit_base_patch16_224_miil", "in21k_ft_in1k", 1000, 224, 0.875, center, bilinear, zero_one, "apache-2.0"},
    {"vit_base_patch16_gap_224", "untrained", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_rpn_224", "sw_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch14_224", "untrained", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch16_224", "augreg_in21k_ft_in1k", 1000, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch16_224", "augreg_in21k", 21843, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch16_224", "mae", 0, 224, 0.9, center, bicubic, imagenet, "cc-by-nc-4.0"},
    {"vit_large_patch16_224", "orig_in21k", 0, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch16_384", "augreg_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch32_224", "orig_in21k", 0, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch32_384", "orig_in21k_ft_in1k", 1000, 384, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_huge_patch14_224", "orig_in21k", 0, 224, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_huge_patch14_224", "mae", 0, 224, 0.9, center, bicubic, imagenet, "cc-by-nc-4.0"},
    {"vit_huge_patch14_gap_224", "in1k_ijepa", 0, 224, 0.9, center, bicubic, imagenet, "cc-by-nc-4.0"},
    {"vit_huge_patch14_gap_224", "in22k_ijepa", 0, 224, 0.9, center, bicubic, imagenet, "cc-by-nc-4.0"},
    {"vit_base_patch16_clip_224", "laion2b_ft_in12k_in1k", 1000, 224, 0.95, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "datacompxl", 512, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "dfn2b", 512, 224, 1.0, center, bicubic, clip, "apple-ascl"},
    {"vit_base_patch16_clip_224", "laion2b", 512, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "laion2b_ft_in1k", 1000, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "laion2b_ft_in12k", 11821, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "laion400m_e32", 512, 224, 1.0, center, bicubic, clip, "mit"},
    {"vit_base_patch16_clip_224", "metaclip_2pt5b", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch16_clip_224", "metaclip_400m", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch16_clip_224", "openai", 512, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "openai_ft_in1k", 1000, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "openai_ft_in12k", 11821, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_224", "openai_ft_in12k_in1k", 1000, 224, 0.95, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_384", "laion2b_ft_in12k_in1k", 1000, 384, 1.0, squash, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_384", "laion2b_ft_in1k", 1000, 384, 1.0, squash, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_384", "openai_ft_in1k", 1000, 384, 1.0, squash, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_384", "openai_ft_in12k_in1k", 1000, 384, 0.95, squash, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_224", "laion2b_ft_in12k_in1k", 1000, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_224", "datacompxl", 512, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_224", "laion2b", 512, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_224", "laion2b_ft_in1k", 1000, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_224", "laion400m_e32", 512, 224, 0.9, center, bicubic, clip, "mit"},
    {"vit_base_patch32_clip_224", "metaclip_2pt5b", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch32_clip_224", "metaclip_400m", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch32_clip_224", "openai", 512, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_224", "openai_ft_in1k", 1000, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_256", "datacompxl", 512, 256, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_384", "laion2b_ft_in12k_in1k", 1000, 384, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_384", "openai_ft_in12k_in1k", 1000, 384, 0.95, squash, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_448", "laion2b_ft_in12k_in1k", 1000, 448, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch16_clip_quickgelu_224", "metaclip_2pt5b", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch16_clip_quickgelu_224", "metaclip_400m", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch16_clip_quickgelu_224", "openai", 512, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_base_patch32_clip_quickgelu_224", "laion400m_e32", 512, 224, 0.9, center, bicubic, clip, "mit"},
    {"vit_base_patch32_clip_quickgelu_224", "metaclip_2pt5b", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch32_clip_quickgelu_224", "metaclip_400m", 512, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_base_patch32_clip_quickgelu_224", "openai", 512, 224, 0.9, center, bicubic, clip, "apache-2.0"},
    {"vit_medium_patch16_clip_224", "tinyclip_yfcc15m", 512, 224, 0.9, center, bicubic, clip, "mit"},
    {"vit_medium_patch32_clip_224", "tinyclip_laion400m", 512, 224, 0.9, center, bicubic, clip, "mit"},
    {"vit_xsmall_patch16_clip_224", "tinyclip_yfcc15m", 512, 224, 0.9, center, bicubic, clip, "mit"},
    {"vit_large_patch14_clip_224", "laion2b_ft_in12k_in1k", 1000, 224, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch14_clip_224", "apple_mclip2_dfndr2b", 768, 224, 1.0, center, bicubic, clip, "apple-amlr"},
    {"vit_large_patch14_clip_224", "datacompxl", 768, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_large_patch14_clip_224", "dfn2b", 768, 224, 1.0, center, bicubic, clip, "apple-ascl"},
    {"vit_large_patch14_clip_224", "dfn2b_s39b", 768, 224, 1.0, center, bicubic, clip, "apple-ascl"},
    {"vit_large_patch14_clip_224", "laion2b", 768, 224, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch14_clip_224", "laion2b_ft_in1k", 1000, 224, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch14_clip_224", "laion2b_ft_in12k", 11821, 224, 1.0, center, bicubic, half, "apache-2.0"},
    {"vit_large_patch14_clip_224", "laion400m_e32", 768, 224, 1.0, center, bicubic, clip, "mit"},
    {"vit_large_patch14_clip_224", "metaclip_2pt5b", 768, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_large_patch14_clip_224", "metaclip_400m", 768, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_large_patch14_clip_224", "openai", 768, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_large_patch14_clip_224", "openai_ft_in1k", 1000, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_large_patch14_clip_224", "openai_ft_in12k", 11821, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_large_patch14_clip_224", "openai_ft_in12k_in1k", 1000, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_large_patch14_clip_336", "laion2b_ft_in12k_in1k", 1000, 336, 1.0, squash, bicubic, half, "apache-2.0"},
    {"vit_large_patch14_clip_336", "laion2b_ft_in1k", 1000, 336, 1.0, squash, bicubic, half, "apache-2.0"},
    {"vit_large_patch14_clip_336", "openai", 768, 336, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_large_patch14_clip_336", "openai_ft_in12k_in1k", 1000, 336, 1.0, squash, bicubic, clip, "apache-2.0"},
    {"vit_large_patch14_clip_quickgelu_224", "dfn2b", 768, 224, 1.0, center, bicubic, clip, "apple-ascl"},
    {"vit_large_patch14_clip_quickgelu_224", "metaclip_2pt5b", 768, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_large_patch14_clip_quickgelu_224", "metaclip_400m", 768, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_large_patch14_clip_quickgelu_224", "openai", 768, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_huge_patch14_clip_224", "laion2b_ft_in12k_in1k", 1000, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_huge_patch14_clip_224", "dfn5b", 1024, 224, 1.0, center, bicubic, clip, "apple-ascl"},
    {"vit_huge_patch14_clip_224", "laion2b", 1024, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_huge_patch14_clip_224", "laion2b_ft_in1k", 1000, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_huge_patch14_clip_224", "laion2b_ft_in12k", 11821, 224, 1.0, center, bicubic, clip, "apache-2.0"},
    {"vit_huge_patch14_clip_224", "metaclip2_worldwide", 1024, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_huge_patch14_clip_224", "metaclip_2pt5b", 1024, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_huge_patch14_clip_224", "metaclip_altogether", 1024, 224, 1.0, center, bicubic, clip, "cc-by-nc-4.0"},
    {"vit_medium_patch16_gap_240", "sw_in12k", 11821, 240, 0.95, center, bicubic, half, "apache-2.0"},
    {"vit_medium_patch16_gap_256", "sw_in12k_ft_in1k", 1000, 256, 0.95, center, bicubic, half, "apache-2.0"},
    {"vit_medium_patch16_gap_384", "sw_in12k_ft_in1k", 1000, 384, 0.95, squash, bicubic, half, "apache-2.0"},
    {"vit_medium_patch16_reg4_gap_256", "sbb_in12k_ft_in1k", 1000, 256, 0.95, center, bicubic, half, "apache-2.0"},
    {"vit_medium_patch16_reg4_gap_256", "sbb_in1k", 1000, 256, 0.95, center, bicubic, half, "apache-2.0"},
    {"vit_medium_patch16_reg4_gap_256", "sbb_in12k", 11821, 256, 0.95, center, bicubic, half, "apache-2.0"},
    {"vit_base_patch16_reg4_gap_256", "untrained", 1000, 256, 0.9, center, bicubic, half, "apache-2.0"},
    {"vit_small_patch14_dinov2", "lvd142m", 0, 518, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"vit_base_patch14_dinov2", "lvd142m", 0, 518, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"vit_large_patch14_dinov2", "lvd142m", 0, 518, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"vit_small_patch14_reg4_dinov2", "lvd142m", 0, 518, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"vit_base_patch14_reg4_dinov2", "lvd142m", 0, 518, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"vit_large_patch14_reg4_dinov2", "lvd142m", 0, 518, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit_tiny_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit_small_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit_base_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit_base_patch16_384", "fb_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit_tiny_distilled_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit_small_distilled_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit_base_distilled_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit_base_distilled_patch16_384", "fb_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_small_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_small_patch16_224", "fb_in22k_ft_in1k", 1000, 224, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_small_patch16_384", "fb_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_small_patch16_384", "fb_in22k_ft_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_medium_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_medium_patch16_224", "fb_in22k_ft_in1k", 1000, 224, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_base_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_base_patch16_224", "fb_in22k_ft_in1k", 1000, 224, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_base_patch16_384", "fb_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_base_patch16_384", "fb_in22k_ft_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_large_patch16_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_large_patch16_224", "fb_in22k_ft_in1k", 1000, 224, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_large_patch16_384", "fb_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_large_patch16_384", "fb_in22k_ft_in1k", 1000, 384, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_huge_patch14_224", "fb_in1k", 1000, 224, 0.9, center, bicubic, imagenet, "apache-2.0"},
    {"deit3_huge_patch14_224", "fb_in22k_ft_in1k", 1000, 224, 1.0, center, bicubic, imagenet, "apache-2.0"},
    {"tf_efficientnet_lite0", "in1k", 1000, 224, 0.875, center, bicubic, half, "apache-2.0"},
    {"tf_efficientnet_lite1", "in1k", 1000, 240, 0.882, center, bicubic, half, "apache-2.0"},
    {"tf_efficientnet_lite2", "in1k", 1000, 260, 0.89, center, bicubic, half, "apache-2.0"},
    {"tf_efficientnet_lite3", "in1k", 1000, 300, 0.904, center, bilinear, half, "apache-2.0"},
    {"tf_efficientnet_lite4", "in1k", 1000, 380, 0.92, center, bilinear, half, "apache-2.0"},
};

}  // namespace

std::span<const PretrainedTag> pretrained_tags() { return kTags; }

}  // namespace vtl::models
