// What the CUDA executor holds: the arenas of the plan, pinned buffers, events, and every pointer into them.
// RAII.
#pragma once

#include <memory>
#include <vector>

#include "device/cuda/calls.h"
#include "device/cuda/layout.h"
#include "device/cuda/linear.h"
#include "device/cuda/ops.h"
#include "device/cuda/plan.h"

namespace orcd::cuda {

// The device's stream and what was read of it once; shared by the device object and its executors. May be
// made and destroyed on any thread, any number of times. fault: from its first call on, for tests.
struct Context {
  explicit Context(uint32_t index, const FaultPlan& fault = {});
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  uint32_t index;
  std::unique_ptr<Calls> calls;
  uint32_t n_sm = 0;
  bool has_clusters = false;  // compute capability 9.0 or more
  PersistentBlocks persistent;
  bool has_wgmma = false;  // compute capability 9.0, and its kernels are wanted
  device::DeviceInfo info;
  std::string pci_bus_id;
};

// The plan with the pinned host buffers that State and loading take.
CudaPlan make_plan(const Context& context, const model::Program& program,
                   const device::ResolvedLimits& limits);

struct State {
  State(std::shared_ptr<Context> context, std::shared_ptr<const model::Program> program,
        const device::ResolvedLimits& limits);
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  uint8_t* item(uint32_t index) const {
    const memory::PlanItem& it = plan.plan.items()[index];
    return static_cast<uint8_t*>(arenas[static_cast<int>(it.category)]) + it.offset;
  }
  template <typename T>
  T* as(uint32_t index) const {
    return reinterpret_cast<T*>(item(index));
  }
  float* floats(uint32_t index) const { return as<float>(index); }
  const model::Weight& weight(model::WeightId id) const { return program->weights[id]; }
  Matrix matrix(model::WeightId id) const;
  const float* vector(model::WeightId id) const;  // nullptr for kNoWeight
  InputNorm input_norm(const model::Norm& norm) const;
  // A step's words, and what the host will read of it; buffer: 0 to kDepth - 1, steps in turn.
  int32_t* device_words(uint32_t buffer) const {
    return as<int32_t>(plan.step) + buffer * plan.layout.n_words;
  }
  StepView step_view(uint32_t buffer) const;
  RowResult* published(uint32_t buffer) const {
    return as<RowResult>(plan.published) + uint64_t{buffer} * limits.logits_rows;
  }
  // Zeroes what kernels leave at zero for the next step: after a step of which only a part ran.
  void clear_between_steps();

  std::shared_ptr<Context> context;
  std::shared_ptr<const model::Program> program;
  device::ResolvedLimits limits;
  CudaPlan plan;
  memory::Ledger ledger;
  Calls* calls;
  void* arenas[memory::kCategoryCount] = {};
  // Pinned, one of each per step in flight.
  int32_t* step_words[kDepth] = {};
  RowResult* results[kDepth] = {};
  float* rows[kDepth] = {};
  SlotState* slots = nullptr;  // [slots] staging of begin_sequence
  uint32_t* seen = nullptr;    // [slots][seen words]
  // Of a step: its words have come, its kernels have run, its results are the host's.
  cudaEvent_t uploaded[kDepth] = {}, ran[kDepth] = {}, done[kDepth] = {};
  std::vector<cudaEvent_t> begun;  // [slots] the slot's staging has been copied

 private:
  void release() noexcept;
  std::vector<void*> pinned_;  // by plan.host_items(); those of loading stay null
};

// The beginning of every block's share of a matrix in block format, `most` bytes in all, for one token in the
// order in which the block's warps will read it, where the launch has so many blocks a multiprocessor.
WeightPrefetch::Piece prefetch_piece(const State& state, model::WeightId id, uint32_t tiles_per_step,
                                     uint32_t blocks_per_sm, uint64_t most);
// Of that: about what the memory reads during a layer's attention, and less than half of L2.
inline constexpr uint64_t kMostPrefetch = 20 << 20;

// Reads, uploads and repacks every weight; fills the RoPE tables. Returns the digest of each weight as it
// lies in VRAM.
std::vector<numerics::Digest> load_weights(State& state, const device::Progress& progress);
std::vector<numerics::Digest> digest_weights(State& state);

}  // namespace orcd::cuda
