// The same for every pixel of [images, height, width, channels]. What an operation does is a struct, its body:
//
//   static constexpr int kWidth;   channels that a thread takes at once, at most
//   bool aligned() const;          on the host: whether its pointers are aligned to kWidth values
//   at<N>(p)                       the work for channels p.c ... p.c + N - 1 of one pixel
#pragma once

#include "vtl/kernels/device/floats.h"
#include "vtl/kernels/device/launch.h"

namespace vtl::kernels::VTL_GPU {

struct PixelDims {
  int64_t images, height, width, channels;

  // Where channel c of a pixel lies.
  VTL_DEVICE int64_t offset(int64_t image, int64_t h, int64_t w, int64_t c) const {
    return ((image * height + h) * width + w) * channels + c;
  }
};

struct Pixel {
  int64_t image;
  int h, w;
  int64_t c;
};

inline constexpr int kPixelThreads = 256;
inline constexpr int kPixelBlocks = 4;  // on a multiprocessor at once: 64 registers for a thread
inline constexpr int64_t kMostPixelRows = 65535, kMostPixelImages = 65535;

// Block: x along the channels, N for each thread, y along a row of pixels. Grid: (channel blocks * column_blocks, rows
// or less, images or less). d.channels is a multiple of N.
template <int N, class Body>
__global__ void __launch_bounds__(kPixelThreads, kPixelBlocks)
    each_pixel(Body body, PixelDims d, unsigned column_blocks) {
  const int64_t c = (static_cast<int64_t>(blockIdx.x / column_blocks) * blockDim.x + threadIdx.x) * N;
  const int w = static_cast<int>(blockIdx.x % column_blocks * blockDim.y + threadIdx.y);
  if (c >= d.channels || w >= d.width) return;
  for (int64_t image = blockIdx.z; image < d.images; image += gridDim.z)
    for (int64_t h = blockIdx.y; h < d.height; h += gridDim.y)
      body.template at<N>(Pixel{image, static_cast<int>(h), w, c});
}

namespace pixels_detail {

// count / pieces, rounded up, for the fewest pieces of at most `most`: hardly anything is left over.
inline unsigned even_share(int64_t count, int64_t most) {
  const int64_t pieces = (count + most - 1) / most;
  return static_cast<unsigned>((count + pieces - 1) / pieces);
}

template <int N, class Body>
void launch_pixels(Stream& stream, const char* name, const Body& body, PixelDims d) {
  const int64_t vectors = d.channels / N;
  const unsigned x = even_share(vectors, kPixelThreads), y = even_share(d.width, kPixelThreads / x);
  const unsigned column_blocks = blocks_for(d.width, y);
  const dim3 grid(blocks_for(vectors, x) * column_blocks, static_cast<unsigned>(min(d.height, kMostPixelRows)),
                  static_cast<unsigned>(min(d.images, kMostPixelImages)));
  launch(stream, {name, grid, dim3(x, y)}, each_pixel<N, Body>, body, d, column_blocks);
}

}  // namespace pixels_detail

// `name` is that of the kernel, for errors and counts: a literal. Nothing to do is nothing done.
template <class Body>
void for_each_pixel(Stream& stream, const char* name, const Body& body, PixelDims d) {
  if (d.images == 0 || d.height == 0 || d.width == 0 || d.channels == 0) return;
  if (d.channels % Body::kWidth == 0 && body.aligned())
    pixels_detail::launch_pixels<Body::kWidth>(stream, name, body, d);
  else
    pixels_detail::launch_pixels<1>(stream, name, body, d);
}

}  // namespace vtl::kernels::VTL_GPU
