// Pictures for the demonstration: one textured shape each, before a busy background. A class is a shape with a texture;
// all else (colours, place, size, turn, light, background, what lies over it, noise) tells nothing of the class.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "vtl/io/image.h"

namespace vtl::finetune {

// What the backbone is pretrained on, and what it is fine-tuned for: other shapes with other textures.
enum class DemoTask { source, target };

// "SHAPE-TEXTURE", in byte order.
const std::vector<std::string>& demo_classes(DemoTask task);

inline constexpr int64_t kDemoImageSide = 80;

// Square pictures; the same pixels for the same arguments. `class_index` counts in demo_classes(task).
io::Image draw_demo_image(DemoTask task, int64_t class_index, uint64_t seed, int64_t index,
                          int64_t side = kDemoImageSide);

// Draws `count` pictures of each class as FOLDER/CLASS/NNNN.png: those with the indices from `first` on. On the compute
// threads. An io error names the file that cannot be written.
void write_demo_images(const std::filesystem::path& folder, DemoTask task, uint64_t seed, int64_t first, int64_t count);

}  // namespace vtl::finetune
