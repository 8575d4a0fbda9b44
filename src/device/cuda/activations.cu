// Norm and quantisation of many rows, the matrix kernel of float formats, and the gated activation on its
// own.
#include "device/cuda/activations.cuh"
#include "device/cuda/ptx.cuh"

namespace orcd::cuda {
namespace {

constexpr uint32_t kQuantizeThreads = 512;

// Eight values of a token, with the neighbouring lanes of their group, to where the matrix kernels look for
// them: whole warps.
__device__ __forceinline__ void store_octet(const QuantizeArgs& a, uint32_t token, uint32_t octet,
                                            bool inside, const float (&v)[8]) {
  const QuantizedPart<8> q = quantize_part(v);
  if (!inside) return;
  const uint32_t group = octet / 4, in8 = token % 8;
  const uint64_t tile8 = token / 8;
  if (a.token_stride != 0) {
    uint8_t* cores = a.xq + (static_cast<uint64_t>(group / 2) * (a.token_stride / 8) + tile8) * 512;
    *reinterpret_cast<uint2*>(cores + octet % 8 / 2 * 128 + in8 * 16 + octet % 2 * 8) =
        make_uint2(q.words[0], q.words[1]);
    if (octet % 4 == 0) a.xs[static_cast<uint64_t>(group) * a.token_stride + token] = q.scale;
  } else {
    uint8_t* unit = a.xq + (tile8 * a.n_units + group / 2) * 512;
    *reinterpret_cast<uint32_t*>(unit + fragment_byte(group, octet % 4 * 8, in8 * 4)) = q.words[0];
    *reinterpret_cast<uint32_t*>(unit + fragment_byte(group, octet % 4 * 8 + 4, in8 * 4)) = q.words[1];
    if (octet % 4 == 0) a.xs[(tile8 * a.n_groups + group) * 8 + in8] = q.scale;
  }
}

__device__ __forceinline__ const float* input_row(const QuantizeArgs& a, uint32_t token) {
  return a.x + static_cast<uint64_t>(a.row_index ? __ldcg(a.row_index + token) : token) * a.cols;
}

// A block a token; its row passes through shared memory, [cols] f32.
__global__ void __launch_bounds__(kQuantizeThreads) normalise_and_quantize_kernel(const QuantizeArgs a) {
  extern __shared__ __align__(16) float row[];
  __shared__ float red[256];
  const uint32_t token = blockIdx.x, n_octets = a.cols / 8;
  const NormWeights weights = load_norm_weights(a.norm, threadIdx.x < n_octets ? threadIdx.x * 8 : 0);
  wait_for_inputs();
  load_row<kQuantizeThreads>(input_row(a, token), a.cols, row);
  __syncthreads();
  const RowNorm norm = row_statistics(LoadShared{row}, a.cols, a.norm, red);
#pragma unroll 1
  for (uint32_t first = threadIdx.x & ~31u; first < n_octets; first += kQuantizeThreads) {
    const uint32_t octet = first + (threadIdx.x & 31);
    const bool inside = octet < n_octets;
    float v[8] = {};
    if (inside) {
      normalise_octet(row + octet * 8, octet * 8, a.norm, norm,
                      first < kQuantizeThreads ? weights : load_norm_weights(a.norm, octet * 8), v);
    }
    store_octet(a, token, octet, inside, v);
  }
}

// An octet a thread.
__global__ void __launch_bounds__(kQuantizeThreads) quantize_kernel(const QuantizeArgs a) {
  wait_for_inputs();
  const uint32_t token = blockIdx.x, octet = blockIdx.y * kQuantizeThreads + threadIdx.x;
  const bool inside = octet < a.cols / 8;
  float v[8] = {};
  if (inside) {
    const float4* x = reinterpret_cast<const float4*>(input_row(a, token)) + octet * 2;
    *reinterpret_cast<float4*>(v) = __ldcg(x);
    *reinterpret_cast<float4*>(v + 4) = __ldcg(x + 1);
  }
  store_octet(a, token, octet, inside, v);
}

__global__ void __launch_bounds__(256) norm_kernel(const NormArgs a) {
  __shared__ float red[256];
  wait_for_inputs();
  const uint32_t token = blockIdx.x;
  const float* x = a.x + static_cast<uint64_t>(a.row_index ? __ldcg(a.row_index + token) : token) * a.cols;
  float* y = a.y + static_cast<uint64_t>(token) * a.cols;
  const RowNorm row = row_statistics(LoadGlobal{x}, a.cols, a.norm, red);
  for (uint32_t i = threadIdx.x; i < a.cols; i += 256) {
    const float value = normalise(__ldcg(x + i), i, a.norm, row);
    y[i] = a.add ? __ldcg(y + i) + value * a.scale : value;
  }
}

constexpr uint32_t kFloatTokens = 4;

template <TensorType F>
__device__ __forceinline__ float load_weight(const uint8_t* data, uint64_t i) {
  if constexpr (F == TensorType::kF32) return __ldg(reinterpret_cast<const float*>(data) + i);
  const uint16_t bits = __ldg(reinterpret_cast<const uint16_t*>(data) + i);
  return F == TensorType::kF16 ? numerics::half_to_float(bits) : numerics::bfloat_to_float(bits);
}

// kBatch links of the chains of a lane's row for n tokens: all loads are on their way before the first is
// used; lane l has the tokens' element l, which goes round by shuffles. w: of the tile, by (element, row).
template <TensorType F, uint32_t kTokens, uint32_t kBatch>
__device__ __forceinline__ void float_links(const uint8_t* w, const float* x, uint64_t cols, uint64_t first,
                                            uint32_t n, float (&acc)[kTokens]) {
  const uint32_t lane = threadIdx.x & 31;
  float weight[kBatch], mine[kTokens];
#pragma unroll
  for (uint32_t m = 0; m < kTokens; ++m)
    mine[m] = m < n && lane < kBatch ? __ldcg(x + m * cols + first + lane) : 0.0f;
#pragma unroll
  for (uint32_t i = 0; i < kBatch; ++i) weight[i] = load_weight<F>(w, (first + i) * 32 + lane);
#pragma unroll
  for (uint32_t i = 0; i < kBatch; ++i) {
#pragma unroll
    for (uint32_t m = 0; m < kTokens; ++m)
      acc[m] = __fmaf_rn(weight[i], __shfl_sync(~0u, mine[m], i), acc[m]);
  }
}

// A block is one tile of 32 rows, a warp one strip of it; kTokens tokens at a time.
template <TensorType F, uint32_t kTokens>
__global__ void __launch_bounds__(numerics::kMaxStrips * 32) float_linear_kernel(const FloatLinearArgs a) {
  __shared__ float part[numerics::kMaxStrips][kTokens][32];
  wait_for_inputs();
  const uint32_t warp = threadIdx.x >> 5, lane = threadIdx.x & 31, tile = blockIdx.x;
  const uint32_t first_token = blockIdx.y * kTokens, n = min(kTokens, a.n_tokens - first_token);
  const uint64_t cols = a.weight.cols;
  const uint64_t expert = a.chosen ? __ldcg(a.chosen + first_token) : 0;
  const uint64_t tile_at =
      expert * packed_bytes(F, a.weight.rows, cols) + tile * cols * 32 * element_bytes(F);
  const float* x = a.x + (a.chosen ? first_token / a.pairs_per_row : first_token) * cols;
  float acc[kTokens] = {};
  const uint64_t end = numerics::strip_begin(cols, a.strips, warp + 1);
  uint64_t k = numerics::strip_begin(cols, a.strips, warp);
#pragma unroll 1
  for (; k + 32 <= end; k += 32) float_links<F, kTokens, 32>(a.weight.data + tile_at, x, cols, k, n, acc);
#pragma unroll 1
  for (; k < end; ++k) float_links<F, kTokens, 1>(a.weight.data + tile_at, x, cols, k, n, acc);
#pragma unroll
  for (uint32_t m = 0; m < kTokens; ++m) part[warp][m][lane] = acc[m];
  __syncthreads();
  const uint32_t row = tile * 32 + lane;
  for (uint32_t m = warp; m < n; m += a.strips) {
    if (row >= a.weight.rows) continue;
    float y = part[0][m][lane];
    for (uint32_t s = 1; s < a.strips; ++s) y = __fadd_rn(y, part[s][m][lane]);
    if (a.bias) y = __fadd_rn(y, __ldg(a.bias + expert * a.weight.rows + row));
    float* out = a.out + static_cast<uint64_t>(first_token + m) * a.out_stride + row;
    if (a.epilogue == Epilogue::kAdd) y = __fadd_rn(__ldcg(out), __fmul_rn(y, a.scale));
    if (a.epilogue == Epilogue::kHead) {
      y = __fmul_rn(y, a.scale);
      if (a.softcap > 0.0f) y = numerics::softcap(y, a.softcap);
    }
    *out = y;
  }
}

template <TensorType F>
void launch_floats(Calls* calls, const FloatLinearArgs& args) {
  const bool single = args.n_tokens == 1 || args.chosen;
  const LaunchShape shape = {dim3(static_cast<uint32_t>((args.weight.rows + 31) / 32),
                                  single ? args.n_tokens : (args.n_tokens + kFloatTokens - 1) / kFloatTokens),
                             dim3(args.strips * 32)};
  if (single) return calls->launch("linear, floats, one token", float_linear_kernel<F, 1>, shape, args);
  calls->launch("linear, floats", float_linear_kernel<F, kFloatTokens>, shape, args);
}

__global__ void __launch_bounds__(256) glu_kernel(const GluArgs a) {
  wait_for_inputs();
  for (uint64_t i = blockIdx.x * 256 + threadIdx.x; i < a.n; i += static_cast<uint64_t>(gridDim.x) * 256) {
    const float up = __ldcg(a.up + i);
    a.out[i] = a.gate ? gated(a.activation, __ldcg(a.gate + i), up) : activate(a.activation, up);
  }
}

}  // namespace

void prepare_quantize(Calls* calls) {
  calls->allow_shared(reinterpret_cast<const void*>(normalise_and_quantize_kernel), kMostShared - 2048);
}

void launch_quantize(Calls* calls, uint32_t n_tokens, const QuantizeArgs& args) {
  if (args.norm.mode == NormMode::kNone) {
    const uint32_t pieces = (args.cols / 8 + kQuantizeThreads - 1) / kQuantizeThreads;
    return calls->launch("quantize", quantize_kernel, {dim3(n_tokens, pieces), dim3(kQuantizeThreads)}, args);
  }
  calls->launch("norm and quantize", normalise_and_quantize_kernel,
                {dim3(n_tokens), dim3(kQuantizeThreads), args.cols * 4}, args);
}

void launch_norm(Calls* calls, uint32_t n_tokens, const NormArgs& args) {
  calls->launch("norm", norm_kernel, {dim3(n_tokens), dim3(256)}, args);
}

void launch_float_linear(Calls* calls, const FloatLinearArgs& args) {
  switch (args.weight.type) {
    case TensorType::kF32:
      return launch_floats<TensorType::kF32>(calls, args);
    case TensorType::kF16:
      return launch_floats<TensorType::kF16>(calls, args);
    default:
      return launch_floats<TensorType::kBF16>(calls, args);
  }
}

void launch_glu(Calls* calls, const GluArgs& args) {
  const uint64_t blocks = (args.n + 255) / 256;
  calls->launch("gate", glu_kernel, {dim3(static_cast<uint32_t>(blocks < 4096 ? blocks : 4096)), dim3(256)},
                args);
}

}  // namespace orcd::cuda
