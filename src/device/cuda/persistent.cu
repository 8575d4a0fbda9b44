// See persistent.h. Rules N3, N4 and N5, in the same chains as the kernels of a step's launches.
#include <algorithm>

#include "device/cuda/persistent.h"
#include "device/cuda/persistent_attention.cuh"
#include "device/cuda/persistent_linear.cuh"
#include "device/cuda/weight_prefetch.cuh"

namespace orcd::cuda {
namespace {

// What a block has in shared memory besides PersistentShared.
struct BlockShared {
  LayerRing layers;
  // Of the linear stages, and last of the attention.
  uint64_t ready[kLinearStages + 1];
  int32_t page_ids[kPages];
  // What all layers have of attention, and the block of it.
  StepAttention step;
  AttentionItem item;
  bool attends;
  uint32_t first_tag;
  float residual[kMostResiduals];
};

#if __CUDA_ARCH__ >= 900
// One warp has the weights, the pages and the layers' arguments on their way, as soon as what they replace
// has been read. Its first lane starts the copies.
template <uint32_t kDim>
__device__ __forceinline__ void load_layers(const PersistentArgs& a, bool attends, uint32_t kv_head,
                                            BlockShared& block, uint8_t* shared) {
  const bool starts = threadIdx.x % 32 == 0;
  const auto fetch_layer = [&](uint32_t n) {
    if (n < a.n_layers && starts) block.layers.fetch(a, n);
  };
  fetch_layer(0);
  fetch_layer(1);
#pragma unroll 1
  for (uint32_t n = 0; n <= a.n_layers; ++n) {
    const PersistentLayer& layer = block.layers[n];
    const bool is_layer = n < a.n_layers;
    if (is_layer) block.layers.wait(n);
    if (n + 1 == a.n_layers && starts) {
      // The memory has little else to do, and the next launch begins with these.
      for (uint32_t at = 0; at < a.prefetch.bytes; at += kPrefetchChunk) prefetch_chunks(a.prefetch, at);
    }
#pragma unroll 1
    for (uint32_t stage = 0; stage < kLinearStages; ++stage) {
      __syncwarp();
      // The layer before has read its weights of this stage.
      if (n != 0) wait_for_readers(stage);
      // Then nobody reads the arguments of the layer before that.
      if (stage == kQkvStage && n != 0) fetch_layer(n + 1);
      if (is_layer && starts)
        fetch_share(layer.linears[stage], stage, shared + a.shared.slots_at[stage], &block.ready[stage]);
      if (stage == kQkvStage && attends) {
        if (n != 0) {
          __syncwarp();
          wait_for_readers(kLinearStages);
        }
        if (is_layer && starts) {
          fetch_pages<kDim>(a, layer, block.page_ids, kv_head, shared + a.shared.pages_at,
                            &block.ready[kLinearStages]);
        }
      }
    }
  }
}

// What the other warps do: all stages of all layers.
template <uint32_t kDim>
__device__ __forceinline__ void compute_layers(const PersistentArgs& a, BlockShared& block, uint8_t* shared) {
  // The kernel is the step's first: its words are there, and what the step before left.
  const int32_t id = token_id(a);
  const StageShared stage_shared = {shared, a.shared, block.first_tag, block.residual};
  block.layers.wait(0);
  const PersistentLinear& project = block.layers[0].linears[kProjectStage];
  const PersistentShare own = share_of(project, false, blockIdx.x);
  const uint32_t first_row = own.first_tile * kTileRows, rows = project.segments[0].rows;
  begin_residual(a, id, first_row, own.n_tiles == 0 ? 0 : min(own.n_tiles * kTileRows, rows - first_row),
                 block.first_tag, block.residual);
#pragma unroll 1
  for (StagePlace place = {0}; place.index != a.n_layers * kLinearStages; ++place.index) {
    const uint32_t n = place.layer();
    if (place.stage() == kQkvStage) block.layers.wait(n);
    if (place.stage() == kProjectStage && block.attends) {
      compute_sync();  // what attention shares comes where partial results of q, k and v have been read
      auto& of_attention = *reinterpret_cast<AttentionShared*>(shared + a.shared.parts_at);
      attend<kDim>(a, block.layers[n], block.step, block.item, block.page_ids, of_attention,
                   shared + a.shared.pages_at, &block.ready[kLinearStages], n & 1, block.first_tag + n);
      if (block.step.n_splits > 1 && block.item.local_split == 0)
        merge_splits<kDim>(a, block.step, block.item, block.first_tag + place.here().layer());
      tell_loader(kLinearStages);
    }
    if (place.here().index + 1 == a.n_layers * kLinearStages) launch_dependents();
    linear_stage(a, block.layers[place.here().layer()].linears[place.here().stage()], place, block.ready,
                 stage_shared);
  }
  if (blockIdx.x == 0 && threadIdx.x == 0) *a.exchange.epoch = block.first_tag + a.n_layers;
}
#endif

template <uint32_t kDim>
__global__ void __launch_bounds__(kResidentThreads, 1)
    persistent_kernel(const __grid_constant__ PersistentArgs a) {
#if __CUDA_ARCH__ >= 900
  extern __shared__ __align__(128) uint8_t shared[];
  __shared__ __align__(16) uint8_t block_bytes[sizeof(BlockShared)];
  BlockShared& block = *reinterpret_cast<BlockShared*>(block_bytes);
  const uint32_t tid = threadIdx.x;
  if (tid <= kLinearStages) barrier_init(&block.ready[tid]);
  if (tid < LayerRing::kLayers) barrier_init(&block.layers.ready[tid]);
  const StepAttention step = step_attention(a);
  const bool attends = first_item() < step.n_items;
  const AttentionItem item = item_at(step, first_item());
  if (tid == 0) {
    block.step = step;
    block.item = item;
    block.attends = attends;
    block.first_tag = __ldcg(a.exchange.epoch) + 1;
  }
  if (attends && tid < kPages) block.page_ids[tid] = page_id(a, step, item, tid);
  __syncthreads();
  if (tid >= kComputeThreads) {
    load_layers<kDim>(a, attends, item.kv_head, block, shared);
  } else {
    compute_layers<kDim>(a, block, shared);
  }
  __syncthreads();  // nobody leaves before the loading warp has been at the last of its barriers
#endif
}

}  // namespace

PersistentKernel resident_kernel(uint32_t head_dim) {
  return head_dim == 64 ? persistent_kernel<64> : persistent_kernel<128>;
}

}  // namespace orcd::cuda
