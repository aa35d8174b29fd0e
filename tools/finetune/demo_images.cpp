#include "vtl/tools/finetune/demo_images.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <exception>
#include <mutex>
#include <numbers>

#include "vtl/core/error.h"
#include "vtl/core/parallel.h"
#include "vtl/core/rng.h"
#include "vtl/io/png_writer.h"

namespace vtl::finetune {
namespace {

struct Point {
  float x, y;
};

struct Color {
  float r, g, b;
};

Color mix(const Color& a, const Color& b, float t) {
  return {a.r + (b.r - a.r) * t, a.g + (b.g - a.g) * t, a.b + (b.b - a.b) * t};
}
float luminance(const Color& c) { return 0.3f * c.r + 0.59f * c.g + 0.11f * c.b; }
float fraction(float x) { return x - std::floor(x); }
float square(float x) { return x * x; }

// ---- shapes: whether a point lies inside, in a frame where they reach to about 1 ------------------------------------

using Shape = bool (*)(Point);

bool band(Point p) { return std::abs(p.x) < 0.95f && std::abs(p.y) < 0.42f; }
bool disc(Point p) { return p.x * p.x + p.y * p.y < square(0.8f); }
bool cross(Point p) {
  return std::min(std::abs(p.x), std::abs(p.y)) < 0.27f && std::max(std::abs(p.x), std::abs(p.y)) < 0.9f;
}
bool ring(Point p) {
  const float radius = std::hypot(p.x, p.y);
  return radius > 0.42f && radius < 0.88f;
}
bool arrow(Point p) {
  const float from_tip = 0.9f - p.y;
  return (std::abs(p.x) < 0.2f && p.y > -0.9f && p.y < 0.2f) ||
         (p.y > 0 && from_tip > 0 && std::abs(p.x) < 0.85f * from_tip);
}

// ---- textures: where the second colour lies, with period 1 ----------------------------------------------------------

using Texture = bool (*)(Point);

bool stripes(Point p) { return fraction(p.x) < 0.5f; }
bool checks(Point p) { return (fraction(p.x) < 0.5f) != (fraction(p.y) < 0.5f); }
bool dots(Point p) { return square(fraction(p.x) - 0.5f) + square(fraction(p.y) - 0.5f) < square(0.32f); }
bool grid(Point p) { return std::min(fraction(p.x), fraction(p.y)) < 0.24f; }
bool wedges(Point p) { return fraction(p.x) < fraction(p.y); }
bool waves(Point p) { return fraction(p.x + 0.3f * std::sin(std::numbers::pi_v<float> * p.y)) < 0.5f; }
bool zigzags(Point p) { return fraction(p.x + 1.2f * std::abs(fraction(p.y / 1.5f) - 0.5f)) < 0.5f; }
bool bricks(Point p) {
  const float row = std::floor(2 * p.y);
  return fraction(2 * p.y) < 0.3f || fraction(0.8f * p.x + 0.5f * row) < 0.16f;
}
bool diamonds(Point p) { return std::abs(fraction(p.x) - 0.5f) + std::abs(fraction(p.y) - 0.5f) < 0.36f; }
bool rings(Point p) { return fraction(std::hypot(p.x, p.y)) < 0.5f; }

// ---- classes --------------------------------------------------------------------------------------------------------

template <class Function>
struct Named {
  const char* name;
  Function function;
};

struct Kind {
  Shape shape;
  Texture texture;
};

struct Task {
  std::vector<std::string> classes;
  std::vector<Kind> kinds;
};

// Both lists in byte order, so that the classes are.
Task combine(const std::vector<Named<Shape>>& shapes, const std::vector<Named<Texture>>& textures) {
  Task task;
  for (const auto& shape : shapes)
    for (const auto& texture : textures) {
      task.classes.push_back(concat(shape.name, '-', texture.name));
      task.kinds.push_back({shape.function, texture.function});
    }
  return task;
}

const Task& task_of(DemoTask task) {
  static const Task source = combine(
      {{"band", band}, {"cross", cross}, {"disc", disc}},
      {{"checks", checks}, {"dots", dots}, {"grid", grid}, {"stripes", stripes}, {"waves", waves}, {"wedges", wedges}});
  static const Task target =
      combine({{"arrow", arrow}, {"ring", ring}},
              {{"bricks", bricks}, {"diamonds", diamonds}, {"rings", rings}, {"zigzags", zigzags}});
  return task == DemoTask::source ? source : target;
}

// ---- one picture ----------------------------------------------------------------------------------------------------

// From the picture (0 to 1) to a frame of its own.
struct Frame {
  float x0, y0, cosine, sine, scale;

  Point operator()(Point p) const {
    const float x = (p.x - x0) * scale, y = (p.y - y0) * scale;
    return {cosine * x + sine * y, cosine * y - sine * x};
  }
};

Frame random_frame(RandomSequence& random, Point centre, float spread, float smallest, float largest, float turn) {
  const float x = centre.x + random.uniform(-spread, spread), y = centre.y + random.uniform(-spread, spread);
  const float angle = random.uniform(-turn, turn), size = random.uniform(smallest, largest);
  return {x, y, std::cos(angle), std::sin(angle), 1 / size};
}

Color random_color(RandomSequence& random) {
  const float r = random.uniform(), g = random.uniform(), b = random.uniform();
  return {r, g, b};
}

// A random muted hue, as bright as asked.
Color random_color(RandomSequence& random, float darkest, float brightest) {
  const Color color = mix(random_color(random), {0.5f, 0.5f, 0.5f}, 0.4f);
  const float wanted = random.uniform(darkest, brightest), is = luminance(color);
  return is > wanted ? mix({0, 0, 0}, color, wanted / is) : mix(color, {1, 1, 1}, (wanted - is) / (1 - is));
}

// A bar over everything.
struct Bar {
  Frame frame;
  float half_width;
  Color color;
};

// Everything of a picture that chance decides but its noise.
struct Scene {
  Kind kind;
  Frame object, surface, ground;
  Texture ground_texture;
  Color first, second;                // of the object
  Color ground_first, ground_second;  // from one side of the background to the other
  float ground_strength;              // of the background's texture
  std::array<Bar, 2> bars;
  size_t bar_count;
  float light_x, light_y;  // slope of the light across the picture
  float noise;
};

constexpr float kHalfTurn = std::numbers::pi_v<float>;

// How much chance may do decides how hard the tasks are: more of it, and neither a small ViT learns the source in a
// minute nor the target from a few pictures; less, and the target needs no pretraining.
Scene random_scene(const Kind& kind, RandomSequence& random) {
  static constexpr std::array<Texture, 5> kGrounds{checks, dots, stripes, waves, wedges};
  Scene scene{};
  scene.kind = kind;
  scene.object = random_frame(random, {0.5f, 0.5f}, 0.05f, 0.4f, 0.48f, kHalfTurn / 18);
  scene.surface = random_frame(random, {0.5f, 0.5f}, 0.1f, 0.125f, 0.155f, kHalfTurn / 10);
  scene.ground = random_frame(random, {0.5f, 0.5f}, 0.5f, 0.1f, 0.3f, kHalfTurn);
  scene.ground_texture = kGrounds[random.below(kGrounds.size())];
  scene.ground_first = random_color(random, 0.3f, 0.5f);
  scene.ground_second = random_color(random, 0.3f, 0.5f);
  scene.ground_strength = random.uniform(0, 0.2f);
  // Whatever the hues, the object stands out by its brightness.
  scene.first = random_color(random, 0.65f, 0.9f);
  scene.second = random_color(random, 0.05f, 0.25f);
  scene.bar_count = random.below(scene.bars.size() + 1);
  for (Bar& bar : scene.bars)
    bar = {random_frame(random, {0.5f, 0.5f}, 0.4f, 1, 1, kHalfTurn), random.uniform(0.01f, 0.035f),
           random_color(random)};
  scene.light_x = random.uniform(-0.4f, 0.4f);
  scene.light_y = random.uniform(-0.4f, 0.4f);
  scene.noise = random.uniform(0.01f, 0.05f);
  return scene;
}

Color color_at(const Scene& scene, Point p) {
  for (size_t i = 0; i < scene.bar_count; ++i)
    if (std::abs(scene.bars[i].frame(p).x) < scene.bars[i].half_width) return scene.bars[i].color;
  if (scene.kind.shape(scene.object(p))) return scene.kind.texture(scene.surface(p)) ? scene.second : scene.first;
  const Color ground = mix(scene.ground_first, scene.ground_second, p.x);
  return scene.ground_texture(scene.ground(p))
             ? mix(ground, {1 - ground.r, 1 - ground.g, 1 - ground.b}, scene.ground_strength)
             : ground;
}

uint8_t to_byte(float value) { return static_cast<uint8_t>(std::lround(255 * std::clamp(value, 0.0f, 1.0f))); }

}  // namespace

const std::vector<std::string>& demo_classes(DemoTask task) { return task_of(task).classes; }

io::Image draw_demo_image(DemoTask task, int64_t class_index, uint64_t seed, int64_t index, int64_t side) {
  const Task& drawn = task_of(task);
  VTL_CHECK(class_index >= 0 && class_index < static_cast<int64_t>(drawn.kinds.size()), "demo: class ", class_index,
            " of ", drawn.kinds.size());
  VTL_CHECK(side > 0, "demo: pictures with a side of ", side, " pixels, expected at least one");
  const auto substream = static_cast<uint32_t>(task == DemoTask::source ? class_index : 1000 + class_index);
  RandomSequence random(seed, RandomStream::demo, substream, static_cast<uint32_t>(index));
  const Scene scene = random_scene(drawn.kinds[static_cast<size_t>(class_index)], random);

  constexpr int kSamples = 2;  // a side of the grid within each pixel: smooth edges
  io::Image image{side, side, {}};
  image.rgb.reserve(static_cast<size_t>(side * side) * 3);
  const float step = 1 / static_cast<float>(side);
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x) {
      Color sum{0, 0, 0};
      for (int sample = 0; sample < kSamples * kSamples; ++sample) {
        const Point p{(static_cast<float>(x) + (static_cast<float>(sample % kSamples) + 0.5f) / kSamples) * step,
                      (static_cast<float>(y) + (static_cast<float>(sample / kSamples) + 0.5f) / kSamples) * step};
        const Color color = color_at(scene, p);
        sum = {sum.r + color.r, sum.g + color.g, sum.b + color.b};
      }
      const float across = static_cast<float>(x) * step - 0.5f, down = static_cast<float>(y) * step - 0.5f;
      const float light = (1 + scene.light_x * across + scene.light_y * down) / (kSamples * kSamples);
      const float noise = scene.noise * random.normal();
      for (const float channel : {sum.r, sum.g, sum.b}) image.rgb.push_back(to_byte(channel * light + noise));
    }
  return image;
}

void write_demo_images(const std::filesystem::path& folder, DemoTask task, uint64_t seed, int64_t first,
                       int64_t count) {
  const std::vector<std::string>& classes = demo_classes(task);
  for (const std::string& name : classes) {
    std::error_code error;
    std::filesystem::create_directories(folder / name, error);
    if (error) fail(ErrorKind::io, (folder / name).string(), ": the folder cannot be made: ", error.message());
  }
  std::mutex mutex;
  std::exception_ptr failure;
  parallel_chunks(static_cast<int64_t>(classes.size()) * count, [&](int64_t chunk) {
    try {
      const int64_t class_index = chunk / count, index = first + chunk % count;
      char name[32];
      std::snprintf(name, sizeof name, "%04d.png", static_cast<int>(index));
      io::write_png(folder / classes[static_cast<size_t>(class_index)] / name,
                    draw_demo_image(task, class_index, seed, index));
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
}

}  // namespace vtl::finetune
