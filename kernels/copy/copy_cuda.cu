#include "vtl/kernels/copy/copy_plan.h"
#include "vtl/kernels/device/divide.h"
#include "vtl/kernels/device/rows.h"

namespace vtl::kernels::VTL_GPU {
namespace {

constexpr int kThreads = 256;
constexpr int64_t kMostElements = int64_t{1} << 30;  // of one launch: their numbers fit 32 bits, also at a grid's end

// Offsets of the elements of some axes, which are numbered with the last axis running fastest.
struct Offsets {
  int64_t from, to;
};
struct Axes {
  int rank = 0;
  Divisor extent[kMaxDims];
  int64_t from[kMaxDims], to[kMaxDims];

  void add(const CopyAxis& axis) {
    extent[rank] = Divisor(axis.extent);
    from[rank] = axis.from;
    to[rank++] = axis.to;
  }
  VTL_DEVICE Offsets at(int number) const {
    Offsets offsets{};
    for (int k = rank - 1; k >= 0; --k) {
      const int quotient = number / extent[k], i = remainder(number, quotient, extent[k]);
      offsets.from += i * from[k];
      offsets.to += i * to[k];
      number = quotient;
    }
    return offsets;
  }
};

// Elements of 1, 2, 4, 8 or 16 bytes that are only moved.
template <int Bytes>
struct MovedOf {
  using Type = Vec<uint32_t, Bytes / 4>;
};
template <>
struct MovedOf<2> {
  using Type = Vec<uint16_t, 1>;
};
template <>
struct MovedOf<1> {
  using Type = Vec<uint8_t, 1>;
};

// value + *addend where the elements are numbers; those that are only moved have no addend.
template <class T, int N>
VTL_DEVICE Vec<T, N> plus(Vec<T, N> value, const Vec<T, N>*) {
  return value;
}
template <class T, int N>
VTL_DEVICE Vec<T, N> sum_of(Vec<T, N> value, const Vec<T, N>& before) {
  VTL_UNROLL
  for (int k = 0; k < N; ++k) value[k] = from_float<T>(to_float(before[k]) + to_float(value[k]));
  return value;
}
template <int N>
VTL_DEVICE Vec<float, N> plus(Vec<float, N> value, const Vec<float, N>* addend) {
  return sum_of(value, load(addend));
}
template <int N>
VTL_DEVICE Vec<bf16, N> plus(Vec<bf16, N> value, const Vec<bf16, N>* addend) {
  return sum_of(value, load(addend));
}

// ---- elements as they come ------------------------------------------------------------------------------------------

constexpr int kElementsAtOnce = 4;

// Element e of `axes` from its place in `from` to its place in `to`. Grid: count / 1024; a thread has four elements,
// 256 apart, on their way.
template <class Element>
__global__ void __launch_bounds__(kThreads)
    copy_elements(const Element* from, const Element* addend, Element* to, Axes axes, int count) {
  const int first = static_cast<int>(blockIdx.x * (kThreads * kElementsAtOnce) + threadIdx.x);
  Element values[kElementsAtOnce]{};
  int64_t places[kElementsAtOnce]{};
  VTL_UNROLL
  for (int k = 0; k < kElementsAtOnce; ++k) {
    if (first + k * kThreads >= count) break;
    const Offsets offsets = axes.at(first + k * kThreads);
    places[k] = offsets.to;
    values[k] = load(from + offsets.from);
  }
  if (addend) {
    VTL_UNROLL
    for (int k = 0; k < kElementsAtOnce; ++k)
      if (first + k * kThreads < count) values[k] = plus(values[k], addend + places[k]);
  }
  VTL_UNROLL
  for (int k = 0; k < kElementsAtOnce; ++k)
    if (first + k * kThreads < count) store(to + places[k], values[k]);
}

// ---- transpositions -------------------------------------------------------------------------------------------------

// `to` runs along one axis of a tile, `from` across it. Tiles are 64 x 64, or longer where one side is short.
constexpr int kTileSide = 64, kTileElements = kTileSide * kTileSide, kElementsOfThread = kTileElements / kThreads;

struct Tiles {
  Axes outer;  // the axes beside the two
  CopyAxis along, across;
  Divisor along_side, across_side;    // of a tile
  Divisor along_tiles, across_tiles;  // how many
  int pitch;                          // elements between neighbours along `along`, in shared memory
};

// Bytes between lines of the tile: an odd number of words, or of elements of 8 bytes, so that a line and a column touch
// every bank once.
constexpr int pitch_of(int64_t side, int bytes) {
  if (bytes == 8) return static_cast<int>(side | 1);
  const int words = static_cast<int>((side * bytes + 3) / 4) | 1;
  return words * 4 / bytes;
}
template <class Element>
constexpr int kTileStorage = kTileSide* pitch_of(kTileSide, sizeof(Element));

// Grid: outer * tiles. Reads along `across`, writes along `along`; a thread's 16 elements are on their way at once. A
// warp moves 32 elements in a line: where lines of 2 bytes an element begin within a sector, it touches 3 sectors and
// not
// 2. Lines of three elements of 2 bytes cost a third more than the ideal wavefronts when they are put into the tile.
template <class Element>
__global__ void __launch_bounds__(kThreads, 2)
    copy_tiles(const Element* from, const Element* addend, Element* to, Tiles tiles) {
  VTL_SHARED(Element, tile, [kTileStorage<Element>]);
  int number = static_cast<int>(blockIdx.x);
  const int by_along = number / tiles.along_tiles;
  const int64_t along_begin =
      static_cast<int64_t>(remainder(number, by_along, tiles.along_tiles)) * tiles.along_side.value;
  number = by_along / tiles.across_tiles;
  const int64_t across_begin =
      static_cast<int64_t>(remainder(by_along, number, tiles.across_tiles)) * tiles.across_side.value;
  const Offsets begin = tiles.outer.at(number);
  from += begin.from + along_begin * tiles.along.from + across_begin * tiles.across.from;
  to += begin.to + along_begin * tiles.along.to + across_begin * tiles.across.to;
  if (addend) addend += begin.to + along_begin * tiles.along.to + across_begin * tiles.across.to;
  const int along_count = static_cast<int>(min(int64_t{tiles.along_side.value}, tiles.along.extent - along_begin));
  const int across_count = static_cast<int>(min(int64_t{tiles.across_side.value}, tiles.across.extent - across_begin));

  Element values[kElementsOfThread]{};
  // f(value, i, j) for the thread's elements: `along` i and `across` j, the one with the extent `fast` running fastest.
  const auto each = [&](bool along_is_fast, auto f) {
    const Divisor& fast = along_is_fast ? tiles.along_side : tiles.across_side;
    VTL_UNROLL
    for (int k = 0; k < kElementsOfThread; ++k) {
      const int e = k * kThreads + static_cast<int>(threadIdx.x), slow = e / fast, rest = remainder(e, slow, fast);
      const int i = along_is_fast ? rest : slow, j = along_is_fast ? slow : rest;
      if (i < along_count && j < across_count) f(values[k], i, j);
    }
  };
  each(false, [&](Element& v, int i, int j) { v = load(from + i * tiles.along.from + j * tiles.across.from); });
  each(false, [&](Element& v, int i, int j) { tile[i * tiles.pitch + j] = v; });
  __syncthreads();
  each(true, [&](Element& v, int i, int j) {
    v = tile[i * tiles.pitch + j];
    if (addend) v = plus(v, addend + i * tiles.along.to + j * tiles.across.to);
  });
  each(true, [&](Element& v, int i, int j) { store(to + i * tiles.along.to + j * tiles.across.to, v); });
}

// ---- launchers ------------------------------------------------------------------------------------------------------

// Where a copy begins. addend is null where nothing is added.
struct Job {
  const char *from, *addend;
  char* to;
};

template <class Element>
void launch_elements(Stream& stream, const Job& job, const CopyPlan& plan) {
  Axes axes;
  int64_t count = 1;
  for (int k = 0; k < plan.rank; ++k) {
    axes.add(plan.axes[k]);
    count *= plan.axes[k].extent;
  }
  launch(stream, {"copy_elements", blocks_for(count, kThreads * kElementsAtOnce), kThreads}, copy_elements<Element>,
         reinterpret_cast<const Element*>(job.from), reinterpret_cast<const Element*>(job.addend),
         reinterpret_cast<Element*>(job.to), axes, static_cast<int>(count));
}

template <class Element>
void launch_tiles(Stream& stream, const Job& job, CopyPlan plan, int transposed) {
  Tiles tiles;
  tiles.along = plan.take(plan.rank - 1);
  tiles.across = plan.take(transposed);
  const int64_t across = min(tiles.across.extent, int64_t{kTileSide});
  tiles.pitch = pitch_of(across, sizeof(Element));
  int64_t along = min(tiles.along.extent, min(kTileElements / across, int64_t{kTileStorage<Element>} / tiles.pitch));
  if (along < tiles.along.extent) along = along / 32 * 32;  // whole sectors
  tiles.along_side = Divisor(along);
  tiles.across_side = Divisor(across);
  const int64_t along_tiles = (tiles.along.extent + along - 1) / along;
  const int64_t across_tiles = (tiles.across.extent + across - 1) / across;
  tiles.along_tiles = Divisor(along_tiles);
  tiles.across_tiles = Divisor(across_tiles);
  int64_t count = along_tiles * across_tiles;
  for (int k = 0; k < plan.rank; ++k) {
    tiles.outer.add(plan.axes[k]);
    count *= plan.axes[k].extent;
  }
  launch(stream, {"copy_tiles", static_cast<unsigned>(count), kThreads}, copy_tiles<Element>,
         reinterpret_cast<const Element*>(job.from), reinterpret_cast<const Element*>(job.addend),
         reinterpret_cast<Element*>(job.to), tiles);
}

// `width` neighbouring elements along the last axis as one; false where they cannot be.
bool widen(CopyPlan& plan, const Job& job, int64_t bytes, int64_t width) {
  const auto whole = [&](const void* p) {
    return reinterpret_cast<uintptr_t>(p) % static_cast<uintptr_t>(bytes * width) == 0;
  };
  CopyPlan wide = plan;
  const CopyAxis& last = wide.axes[wide.rank - 1];
  if (last.from != 1 || last.to != 1 || last.extent % width != 0) return false;
  if (!whole(job.from) || !whole(job.addend) || !whole(job.to)) return false;
  for (int k = 0; k + 1 < wide.rank; ++k) {
    if (wide.axes[k].from % width != 0 || wide.axes[k].to % width != 0) return false;
    wide.axes[k].from /= width;
    wide.axes[k].to /= width;
  }
  wide.axes[wide.rank - 1].extent /= width;
  plan = wide;
  return true;
}

void move(Stream& stream, const Job& job, int64_t bytes, CopyPlan plan) {
  const int transposed = transposed_axis(plan);
  int64_t width = transposed < 0 ? 16 / bytes : 1;
  while (width > 1 && !widen(plan, job, bytes, width)) width /= 2;
  const auto go = [&]<int Bytes>() {
    using Element = typename MovedOf<Bytes>::Type;
    if (transposed < 0) return launch_elements<Element>(stream, job, plan);
    if constexpr (Bytes <= 8) launch_tiles<Element>(stream, job, plan, transposed);
  };
  switch (bytes * width) {
    case 1:
      return go.template operator()<1>();
    case 2:
      return go.template operator()<2>();
    case 4:
      return go.template operator()<4>();
    case 8:
      return go.template operator()<8>();
    case 16:
      return go.template operator()<16>();
  }
}

template <class T>
void sum(Stream& stream, const Job& job, CopyPlan plan) {
  constexpr int N = kVecLanes<T>;
  const int transposed = transposed_axis(plan);
  if (transposed >= 0)
    launch_tiles<Vec<T, 1>>(stream, job, plan, transposed);
  else if (widen(plan, job, sizeof(T), N))
    launch_elements<Vec<T, N>>(stream, job, plan);
  else
    launch_elements<Vec<T, 1>>(stream, job, plan);
}

// run(job, plan) for parts of at most kMostElements elements that make up the whole.
template <class F>
void for_parts(const Job& job, int64_t bytes, const CopyDims& dims, F&& run) {
  int64_t count = 1;
  int longest = 0;
  for (int k = 0; k < dims.rank; ++k) {
    count *= dims.extent[k];
    if (dims.extent[k] > dims.extent[longest]) longest = k;
  }
  if (count == 0) return;
  if (count <= kMostElements) return run(job, make_copy_plan(dims));
  CopyDims half = dims;
  const int64_t first = half.extent[longest] /= 2;
  for_parts(job, bytes, half, run);
  half.extent[longest] = dims.extent[longest] - first;
  const int64_t from = first * dims.from_stride[longest] * bytes, to = first * dims.to_stride[longest] * bytes;
  for_parts({job.from + from, job.addend ? job.addend + to : nullptr, job.to + to}, bytes, half, run);
}

// to[i] = from[i] in another type.
template <class From, class To>
struct Cast {
  static constexpr int kWidth = min(kVecLanes<From>, kVecLanes<To>);
  const From* from;
  To* to;

  bool aligned() const { return aligned_to<kWidth>(from) && aligned_to<kWidth>(to); }
  template <int N>
  VTL_DEVICE NothingKept kept(int64_t) const {
    return {};
  }
  template <int N>
  VTL_DEVICE Vec<From, N> read(int64_t i, NothingKept) const {
    return load_vec<N>(from + i);
  }
  template <int N>
  VTL_DEVICE Floats<N> at(int64_t i, NothingKept, const Vec<From, N>& read) const {
    const Floats<N> value = floats_of(read);
    store_floats(to + i, value);
    return value;
  }
};

}  // namespace

void copy_strided(Stream& stream, size_t element_bytes, const void* from, void* to, const CopyDims& dims) {
  const auto bytes = static_cast<int64_t>(element_bytes);
  for_parts({static_cast<const char*>(from), nullptr, static_cast<char*>(to)}, bytes, dims,
            [&](const Job& job, const CopyPlan& plan) { move(stream, job, bytes, plan); });
}

void copy_strided_add(Stream& stream, DType dtype, const void* from, Dest to, const CopyDims& dims) {
  if (!to.wanted()) return;
  if (!to.addend) return kernels::copy_strided(stream, size_of(dtype), from, to.out, dims);
  visit_float(dtype, [&]<class T>() {
    for_parts({static_cast<const char*>(from), static_cast<const char*>(to.addend), static_cast<char*>(to.out)},
              sizeof(T), dims, [&](const Job& job, const CopyPlan& plan) { sum<T>(stream, job, plan); });
  });
}

void cast(Stream& stream, DType from_dtype, const void* from, DType to_dtype, void* to, int64_t count) {
  if (from == to && from_dtype == to_dtype) return;
  visit_float(to_dtype, [&]<class To>() {
    const auto go = [&]<class From>() {
      for_each_element(stream, "cast", Cast<From, To>{static_cast<const From*>(from), static_cast<To*>(to)}, count);
    };
    if (from_dtype == DType::u8)
      go.template operator()<uint8_t>();
    else
      visit_float(from_dtype, go);
  });
}

}  // namespace vtl::kernels::VTL_GPU
