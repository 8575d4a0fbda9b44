// Loading: file -> pinned double buffer -> activations arena -> repacked into the weights arena.
#include <algorithm>

#include "base/error.h"
#include "device/cuda/state.h"
#include "numerics/rope.h"

namespace orcd::cuda {
namespace {

// Two pinned buffers with the device buffers they are copied to; a buffer is free again when its event has
// come.
class Staging {
 public:
  explicit Staging(State& state) : state_(state) {
    uint8_t* arena = static_cast<uint8_t*>(state.arenas[static_cast<int>(memory::Category::kActivations)]);
    for (int i = 0; i < 2; ++i) device_[i] = arena + i * state.plan.staging_bytes;
    try {
      for (int i = 0; i < 2; ++i) {
        host_[i] = static_cast<uint8_t*>(state.calls->host_allocate(&state.ledger, state.plan.staging_bytes));
        free_[i] = state.calls->create_event(false);
      }
    } catch (...) {
      release();
      throw;
    }
  }
  ~Staging() {
    state_.calls->finish();
    release();
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  uint8_t* host() {
    if (used_[at_]) state_.calls->wait_event(free_[at_]);
    return host_[at_];
  }
  const uint8_t* upload(uint64_t bytes) {
    state_.calls->copy_to_device(device_[at_], host_[at_], bytes, "upload weights");
    return device_[at_];
  }
  void next() {
    state_.calls->record(free_[at_]);
    used_[at_] = true;
    at_ ^= 1;
  }

 private:
  void release() noexcept {
    for (int i = 0; i < 2; ++i) {
      state_.calls->destroy_event(free_[i]);
      state_.calls->host_free(&state_.ledger, state_.plan.staging_bytes, host_[i]);
    }
  }
  State& state_;
  uint8_t* host_[2] = {};
  uint8_t* device_[2] = {};
  cudaEvent_t free_[2] = {};
  bool used_[2] = {};
  int at_ = 0;
};

void load_vector(State& state, Staging& staging, model::WeightId id) {
  const model::Weight& weight = state.weight(id);
  const uint64_t bytes = model::row_bytes(weight) * weight.n_experts;
  const uint64_t begin = weight.row_begin * find_format(weight.type)->block_bytes;
  state.program->spec.file->read(*weight.tensor, begin, {staging.host(), bytes});
  launch_widen(state.calls, {staging.upload(bytes), weight.type, weight.cols * weight.n_experts,
                             reinterpret_cast<float*>(state.item(state.plan.weights[id]))});
  staging.next();
}

// One matrix, or one expert's of a weight that holds several.
void load_matrix(State& state, Staging& staging, model::WeightId id, uint64_t expert) {
  const model::Weight& weight = state.weight(id);
  const uint64_t row_bytes = model::row_bytes(weight);
  const uint64_t slab =
      std::max<uint64_t>(state.plan.staging_bytes / row_bytes / kFloatTileRows, 1) * kFloatTileRows;
  for (uint64_t first = 0; first < weight.rows; first += slab) {
    const uint64_t n = std::min(slab, weight.rows - first);
    const uint64_t from = weight.row_begin + expert * weight.rows + first;
    state.program->spec.file->read(*weight.tensor, from * row_bytes, {staging.host(), n * row_bytes});
    RepackArgs args;
    args.raw = staging.upload(n * row_bytes);
    args.row_bytes = row_bytes;
    args.type = weight.type;
    args.first_row = first;
    args.n_rows = n;
    args.to = state.matrix(id);
    args.to_data =
        state.item(state.plan.weights[id]) + expert * packed_bytes(weight.type, weight.rows, weight.cols);
    launch_repack(state.calls, args);
    staging.next();
  }
}

void load_weight(State& state, Staging& staging, model::WeightId id) {
  const model::Weight& weight = state.weight(id);
  if (weight.role == model::WeightRole::kVector) return load_vector(state, staging, id);
  for (uint64_t expert = 0; expert < weight.n_experts; ++expert) load_matrix(state, staging, id, expert);
}

// Of a weight in the file.
uint64_t file_bytes(const model::Weight& weight) {
  return model::row_bytes(weight) * weight.rows * weight.n_experts;
}

void load_rope(State& state, Staging& staging, size_t index) {
  const model::RopeSpec& rope = state.program->ropes[index];
  const numerics::RopeParams params = model::rope_params(rope);
  float* to = state.floats(state.plan.ropes[index]);
  const uint64_t row = uint64_t{rope.n_dims} * 4,
                 slab = std::max<uint64_t>(state.plan.staging_bytes / row, 1);
  for (uint64_t first = 0; first < state.limits.context; first += slab) {
    const uint64_t n = std::min<uint64_t>(slab, state.limits.context - first);
    uint8_t* host = staging.host();
    numerics::rope_table(params, first, n, reinterpret_cast<float*>(host));
    // The tables lie where staging has its device buffers, so they are copied without it.
    state.calls->copy_to_device(to + first * rope.n_dims, host, n * row, "upload RoPE tables");
    staging.next();
  }
}

}  // namespace

std::vector<numerics::Digest> digest_weights(State& state) {
  numerics::Digest* digests = state.as<numerics::Digest>(state.plan.digests);
  const size_t n = state.program->weights.size();
  state.calls->set(digests, 0, n * sizeof(numerics::Digest), "clear digests");
  for (size_t id = 0; id < n; ++id) {
    const uint64_t bytes = state.plan.plan.items()[state.plan.weights[id]].bytes;
    launch_digest(state.calls,
                  {state.as<const uint64_t>(state.plan.weights[id]), (bytes + 7) / 8, digests + id});
  }
  std::vector<numerics::Digest> host(n);
  state.calls->copy_to_host(host.data(), digests, n * sizeof(numerics::Digest), "read digests");
  state.calls->synchronize("digests of the weights");
  return host;
}

std::vector<numerics::Digest> load_weights(State& state, const device::Progress& progress) {
  {
    Staging staging(state);
    uint64_t total = 0, done = 0;
    for (const model::Weight& weight : state.program->weights) total += file_bytes(weight);
    for (model::WeightId id = 0; id < state.program->weights.size(); ++id) {
      load_weight(state, staging, id);
      done += file_bytes(state.weight(id));
      if (progress) progress(done, total);
    }
    state.calls->synchronize("load the weights");
    // What loading left in the activations must not be read as anything.
    const auto category = memory::Category::kActivations;
    state.calls->set(state.arenas[static_cast<int>(category)], 0, state.plan.plan.arena_bytes(category),
                     "clear the activations");
    for (size_t i = 0; i < state.program->ropes.size(); ++i) load_rope(state, staging, i);
    state.calls->synchronize("load the RoPE tables");
  }
  return digest_weights(state);
}

}  // namespace orcd::cuda
