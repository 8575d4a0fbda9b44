// The persistent kernel through which weights stream (persistent.h), to each warp those that it works on, of
// all stages and layers. Rules N3, N4 and N5, in the same chains as the kernels of a step's launches.
#include "device/cuda/persistent.h"
#include "device/cuda/persistent_attention.cuh"
#include "device/cuda/persistent_stream_sets.cuh"
#include "device/cuda/persistent_stream_stages.cuh"

namespace orcd::cuda {
namespace {

#if __CUDA_ARCH__ >= 900
// Arguments of the layer to come are there, and those of the layer before are not read any more. Nobody tells
// of a layer before all have told of the one before. The head counts as one.
__device__ __forceinline__ void begin_layer(const PersistentArgs& a, StreamBlock& block, uint32_t n) {
  if (n + 1 < a.n_entries) block.layers.wait(n + 1);
  if (n != 0) barrier_wait(&block.layer_begun, (n - 1) & 1);
  __syncwarp();
  if ((thread_here() & 31) == 0) barrier_arrive(&block.layer_begun);
}

// The block's items of a layer's attention.
template <uint32_t kDim>
__device__ __forceinline__ void attention_stage(const PersistentArgs& a, StreamBlock& block, uint8_t* shared,
                                                uint32_t n, const Slots& slots) {
  auto& of_attention = *reinterpret_cast<AttentionShared*>(shared + a.stream.row_at);
  const StepAttention& step = block.step;
  const PersistentLayer& layer = block.layers[n];
  const uint32_t tag = block.first_tag + n;
  uint8_t* const pages =
      shared + (a.stream.pages_beside ? (slots.slot() ^ 1) * kTokenWarps * a.stream.slot_bytes : 0);
#pragma unroll 1
  for (uint32_t i = 0; i < block.n_own; ++i) {
    const AttentionItem item = block.own[i];
    // Behind a barrier since what was there has been read.
    if (thread_here() == kComputeThreads - 32)
      fetch_pages<kDim>(a, layer, block.page_ids[i], item.kv_head, pages, &block.pages_ready);
    attend<kDim>(a, layer, step, item, block.page_ids[i], of_attention, pages, &block.pages_ready,
                 (n * block.n_own + i) & 1, tag);
  }
  // The loading warps have seen that the attention before this one was over. All tell them, since racecheck
  // does not follow what others have read to the arrival of one behind their barrier.
  if (thread_here() == 0) barrier_wait(&block.layer_begun, n & 1);
  barrier_arrive(&block.attention_over);
  const AttentionItem item = block.own[0];
  if (step.n_splits > 1 && item.local_split == 0) merge_splits<kDim>(a, step, item, tag);
  compute_sync();  // as at the end of a linear stage
}
#endif

template <uint32_t kDim>
__global__ void __launch_bounds__(kStreamThreads, 1) stream_kernel(const __grid_constant__ PersistentArgs a) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ __align__(16) uint8_t block_bytes[sizeof(StreamBlock)];
  StreamBlock& block = *reinterpret_cast<StreamBlock*>(block_bytes);
  const uint32_t tid = threadIdx.x;
  if (tid == kComputeThreads) {
    // Nothing can begin before the first layers' arguments are there.
    for (uint32_t n = 0; n < LayerRing::kLayers; ++n) barrier_init(&block.layers.ready[n]);
    for (uint32_t n = 0; n < min(2u, a.n_entries); ++n) fetch_entry(a, block, n);
  }
  if (tid < kTokenWarps * kMostSlots) {
    barrier_init(&block.set_ready[0][0] + tid);
    barrier_init(&block.set_read[0][0] + tid, 32);
  }
  if (tid == 0) {
    barrier_init(&block.layer_begun, kComputeWarps + kLoadingWarps);
    barrier_init(&block.attention_over, kComputeThreads);
    barrier_init(&block.pages_ready);
  }
  __syncthreads();
  if (tid >= kComputeThreads) {
    load_sets(a, block, shared);
    return;
  }
  // The kernel is the step's first: its words are there, and what the step before left.
  const int32_t id = token_id(a);
  if (tid < kMostItems * kPages) {
    const StepAttention step = step_attention(a);
    const uint32_t n_own = items_of_block(step), own = tid / kPages;
    if (tid == 0) {
      block.step = step;
      block.n_own = n_own;
      block.first_tag = __ldcg(a.exchange.epoch) + 1;
    }
    if (own < n_own) {
      const AttentionItem item = item_at(step, first_item() + own * gridDim.x);
      block.own[own] = item;
      block.page_ids[own][tid % kPages] = page_id(a, step, item, tid % kPages);
    }
  }
  compute_sync();
  Slots slots = {0};
  block.layers.wait(0);
  const StageShare& own = block.share(0, kProjectStage);
  begin_residual(a, id, own.first_row, own.n_rows, block.first_tag, block.residual);
#pragma unroll 1
  for (StagePlace place = {0}; place.index != a.n_stages; ++place.index) {
    if (place.stage() == kQkvStage) begin_layer(a, block, place.here().layer());
    if (place.stage() == kProjectStage && block.n_own != 0)
      attention_stage<kDim>(a, block, shared, place.here().layer(), slots);
    stream_stage(a, block, shared, place, slots);
  }
  if (blockIdx.x == 0 && thread_here() == 0) *a.exchange.epoch = block.first_tag + a.n_layers;
#endif
}

}  // namespace

PersistentKernel streamed_kernel(uint32_t head_dim) {
  return head_dim == 64 ? stream_kernel<64> : stream_kernel<128>;
}

}  // namespace orcd::cuda
