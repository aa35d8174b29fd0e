#include "vtl/kernels/image/image.h"

#include "vtl/kernels/dispatch.h"

namespace vtl::kernels {

VTL_DECLARE_BACKENDS(image_normalize)

void image_normalize(Stream& stream, DType dtype, const uint8_t* image, void* y, const float* mean, const float* std,
                     ImageDims dims) {
  VTL_DISPATCH(image_normalize, stream)(stream, dtype, image, y, mean, std, dims);
}

}  // namespace vtl::kernels
