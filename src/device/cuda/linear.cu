// Chooses the matrix kernel of a weight format, and what follows from the shape.
#include "device/cuda/linear.h"

#include <bit>

#include "numerics/strips.h"

namespace orcd::cuda {

#define ORCD_DECLARE(name)           \
  void prepare_##name(Calls* calls); \
  void launch_##name(Calls* calls, uint32_t n_sm, const LinearArgs& args)
ORCD_DECLARE(Q4_0);
ORCD_DECLARE(Q4_1);
ORCD_DECLARE(Q5_0);
ORCD_DECLARE(Q5_1);
ORCD_DECLARE(Q8_0);
ORCD_DECLARE(Q4_K);
ORCD_DECLARE(Q5_K);
ORCD_DECLARE(Q6_K);
#undef ORCD_DECLARE
void prepare_mixed(Calls* calls);
void launch_mixed_token(Calls* calls, uint32_t n_sm, TensorType type, TensorType other,
                        const LinearArgs& args);

namespace {

// What follows from the shapes. type_of(i): of segment i.
template <typename TypeOf>
void shape_segments(LinearArgs& args, TypeOf type_of) {
  args.n_units = static_cast<uint32_t>(units_of(args.cols));
  args.n_groups = args.cols / 32;
  args.n_tiles = 0;
  args.max_strips = 1;
  for (uint32_t i = 0; i < args.n_segments; ++i) {
    Segment& segment = args.segments[i];
    segment.strips = numerics::strip_count(segment.rows, args.cols);
    args.max_strips = segment.strips > args.max_strips ? segment.strips : args.max_strips;
    segment.strip_shift = static_cast<uint32_t>(std::countr_zero(segment.strips));
    segment.n_tiles = static_cast<uint32_t>(tiles_of(segment.rows));
    segment.super_at = super_offset(type_of(i), segment.rows, args.cols);
    segment.super_stride = args.cols / 256 * packed_shape(type_of(i)).super_bytes;
    args.n_tiles += segment.n_tiles;
  }
  args.max_shift = static_cast<uint32_t>(std::countr_zero(args.max_strips));
}

}  // namespace

void prepare_linear(Calls* calls) {
  for (const auto prepare : {prepare_Q4_0, prepare_Q4_1, prepare_Q5_0, prepare_Q5_1, prepare_Q8_0,
                             prepare_Q4_K, prepare_Q5_K, prepare_Q6_K, prepare_mixed})
    prepare(calls);
}

void launch_mixed(Calls* calls, uint32_t n_sm, TensorType type, TensorType other, LinearArgs args) {
  shape_segments(args, [&](uint32_t i) { return i < args.other_segment ? type : other; });
  launch_mixed_token(calls, n_sm, type, other, args);
}

void launch_linear(Calls* calls, uint32_t n_sm, TensorType type, LinearArgs args) {
  args.other_segment = args.n_segments;
  shape_segments(args, [&](uint32_t) { return type; });
  switch (type) {
    case TensorType::kQ4_0:
      return launch_Q4_0(calls, n_sm, args);
    case TensorType::kQ4_1:
      return launch_Q4_1(calls, n_sm, args);
    case TensorType::kQ5_0:
      return launch_Q5_0(calls, n_sm, args);
    case TensorType::kQ5_1:
      return launch_Q5_1(calls, n_sm, args);
    case TensorType::kQ8_0:
      return launch_Q8_0(calls, n_sm, args);
    case TensorType::kQ4_K:
      return launch_Q4_K(calls, n_sm, args);
    case TensorType::kQ5_K:
      return launch_Q5_K(calls, n_sm, args);
    default:
      return launch_Q6_K(calls, n_sm, args);
  }
}

}  // namespace orcd::cuda
