// Chooses the matrix kernel of a weight format, and what follows from the shape.
#include "device/cuda/linear.h"

#include <algorithm>
#include <iterator>

#include "device/cuda/linear_deal.h"

namespace orcd::cuda {

// The block formats, each with its kernels in a translation unit of its own.
// clang-format off
#define ORCD_EACH_FORMAT(DO) \
  DO(Q4_0) DO(Q4_1) DO(Q5_0) DO(Q5_1) DO(Q8_0) DO(Q2_K) DO(Q3_K) DO(Q4_K) DO(Q5_K) DO(Q6_K) \
  DO(IQ4_NL) DO(IQ4_XS) DO(MXFP4)
// clang-format on

#define ORCD_DECLARE(name)                                                 \
  void prepare_##name(Calls* calls);                                       \
  void launch_##name(Calls* calls, uint32_t n_sm, const LinearArgs& args); \
  void launch_experts_##name(Calls* calls, uint32_t n_sm, const ExpertArgs& args);
ORCD_EACH_FORMAT(ORCD_DECLARE)
#undef ORCD_DECLARE
void prepare_mixed(Calls* calls);
void launch_mixed_token(Calls* calls, uint32_t n_sm, TensorType type, TensorType other,
                        const LinearArgs& args);

namespace {

struct FormatKernels {
  TensorType type;
  void (*prepare)(Calls* calls);
  void (*launch)(Calls* calls, uint32_t n_sm, const LinearArgs& args);
  void (*launch_experts)(Calls* calls, uint32_t n_sm, const ExpertArgs& args);
};
#define ORCD_ROW(name) {TensorType::k##name, prepare_##name, launch_##name, launch_experts_##name},
constexpr FormatKernels kFormats[] = {ORCD_EACH_FORMAT(ORCD_ROW)};
#undef ORCD_ROW

// REQUIRES a block format that packed_shape() knows.
const FormatKernels& kernels_of(TensorType type) {
  return *std::find_if(std::begin(kFormats), std::end(kFormats),
                       [&](const FormatKernels& format) { return format.type == type; });
}

}  // namespace

void prepare_linear(Calls* calls) {
  for (const FormatKernels& format : kFormats) format.prepare(calls);
  prepare_mixed(calls);
}

void launch_mixed(Calls* calls, uint32_t n_sm, TensorType type, TensorType other, LinearArgs args) {
  shape_segments(args, [&](uint32_t i) { return i < args.other_segment ? type : other; });
  launch_mixed_token(calls, n_sm, type, other, args);
}

void launch_linear(Calls* calls, uint32_t n_sm, TensorType type, LinearArgs args) {
  args.other_segment = args.n_segments;
  shape_segments(args, [&](uint32_t) { return type; });
  kernels_of(type).launch(calls, n_sm, args);
}

void launch_experts(Calls* calls, uint32_t n_sm, TensorType type, ExpertArgs args) {
  LinearArgs& linear = args.linear;
  linear.other_segment = linear.n_segments;
  shape_segments(linear, [&](uint32_t) { return type; });
  for (uint32_t i = 0; i < linear.n_segments; ++i)
    args.expert_bytes[i] = packed_bytes(type, linear.segments[i].rows, linear.cols);
  kernels_of(type).launch_experts(calls, n_sm, args);
}

}  // namespace orcd::cuda
