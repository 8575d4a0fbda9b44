// The CPU kernels as a table of functions, one table per instruction set; all give the bits of src/numerics.
// No standard library types cross this border: translation units built for one instruction set must not emit
// shared inline functions that another could be linked to.
#pragma once

#include <cstdint>

#include "device/cpu/layout.h"

namespace orcd::cpu {

// Scale and sums of one quantised group of 32 activations.
struct GroupScale {
  float d;
  float dsum;        // d * float(sum of all 32)
  int32_t sum_low;   // of 0..15
  int32_t sum_high;  // of 16..31
};

struct LinearArgs {
  TensorType type;
  const uint8_t* weights;  // packed tiles
  uint64_t rows, cols;
  uint32_t strips;
  const int8_t* xq;      // [n_tokens][cols], block formats
  const GroupScale* xs;  // [n_tokens][cols / 32]
  const float* xf;       // [n_tokens][xf_stride], float formats
  uint64_t xf_stride;
  uint32_t n_tokens;
  float* y;  // [n_tokens][y_stride]; rows tile_begin * 16 .. go to y[t * y_stride + row - y_row]
  uint64_t y_stride;
  uint64_t y_row;  // row that y[0] stands for
  uint64_t tile_begin, tile_end;
  uint8_t* scratch;  // linear_scratch_bytes(cols), of this thread
};

// Codes of one tile unpacked to a byte each, for many tokens at once.
constexpr uint64_t linear_scratch_bytes(uint64_t cols) { return (cols + 31) / 32 * 512; }

inline constexpr uint32_t kMaxAttendRows = 16;

// Query rows that share one KV head, over the pages of one sequence.
struct AttendArgs {
  uint32_t n_rows;                 // <= kMaxAttendRows
  const float* q[kMaxAttendRows];  // [head_dim], scaled
  float* out[kMaxAttendRows];      // [head_dim]
  uint32_t position[kMaxAttendRows];
  const uint8_t* kv;      // of this layer
  uint64_t page_stride;   // bytes from page to page
  uint64_t head_offset;   // bytes of this head's K in a page; V follows K
  const uint32_t* pages;  // block table of the sequence
  uint32_t head_dim, window;
  float softcap;
  const float* sink[kMaxAttendRows];  // of the row's head; nullptr: none
  float* scratch;                     // attend_scratch_floats(head_dim), of this thread
};

constexpr uint64_t attend_scratch_floats(uint32_t head_dim) {
  return uint64_t{kMaxAttendRows} * (head_dim + 64);
}

enum class Glu : uint8_t { kSilu, kGeluTanh, kGeluErf, kClampedSwiglu };

struct Kernels {
  void (*linear)(const LinearArgs& args);
  void (*attend)(const AttendArgs& args);
  // One row of n floats -> q [n rounded up to 32], scales [ceil(n / 32)].
  void (*quantize)(const float* x, uint64_t n, int8_t* q, GroupScale* scales);
  void (*rms_norm)(const float* x, uint32_t n, const float* w, float eps, float* y);
  // h[i] = act(gate[i]) * up[i]; gate may be h. Without up: h[i] = act(gate[i]). kClampedSwiglu:
  // h[i] = clamped_swiglu(gate[i], up[i]), never without up.
  void (*glu)(Glu act, const float* gate, const float* up, uint64_t n, float* h);
  void (*add)(const float* y, uint64_t n, float* x);  // x[i] = x[i] + y[i]
  // y[i] = combine_expert(rank, weight, o[i], y[i])
  void (*combine)(uint32_t rank, float weight, const float* o, uint64_t n, float* y);
  void (*to_half)(const float* x, uint64_t n, uint16_t* out);
  void (*softcap)(float* x, uint64_t n, float cap);
  // Partial digest of floats [begin, end) of a row of n (begin even), added to a and b; *bad |= a NaN or +Inf
  // is there.
  void (*digest)(const float* row, uint64_t n, uint64_t begin, uint64_t end, uint64_t* a, uint64_t* b,
                 bool* bad);
  // Sum of the bytes as words; keeps the loads alive. For the bandwidth measurement.
  uint64_t (*read_sum)(const uint8_t* bytes, uint64_t n);
};

const Kernels& scalar_kernels();
#if defined(__x86_64__)
const Kernels& avx2_kernels();
const Kernels& avx512_kernels();
#endif

}  // namespace orcd::cpu
