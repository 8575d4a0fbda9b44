// A device that a user names, and the executor that walks a program on it. The engine thread owns both,
// alone.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "memory/ledger.h"
#include "memory/plan.h"
#include "model/program.h"
#include "numerics/digest.h"
#include "sampling/params.h"

namespace orcd::device {

struct DeviceInfo {
  std::string name;         // "cpu", "cuda:0": what the user wrote
  std::string description;  // "Intel Xeon ..., AVX-512 VNNI, 2 threads"
  std::string isa;          // cpu: "scalar" | "avx2" | "avx512"; cuda: "sm_90"
  uint64_t total_bytes = 0;
  uint64_t free_bytes = 0;             // when asked
  uint64_t driver_overhead_bytes = 0;  // context and modules, measured; 0 on the cpu
  uint64_t reserved_bytes = 0;         // of the free bytes, what a plan leaves to the driver
  uint32_t n_threads = 0;              // cpu
  int cuda_runtime_version = 0;        // 13000; 0 on the cpu
  // cuda: local memory (spilled registers, stacks) of the kernel that needs most; 0 is what we want.
  uint64_t local_bytes_per_thread = 0;
  uint32_t n_kernels = 0;
  std::string refusal;  // in a list of devices: why this one cannot be used; "" if it can
};

// What another witness than the device's runtime says of its memory (NVML for cuda).
struct DriverMemory {
  std::string source;
  std::string reason;  // why there is no answer; "" if there is one
  std::string driver_version;
  uint64_t total_bytes = 0, free_bytes = 0, used_bytes = 0;  // by all processes
  std::optional<uint64_t> process_bytes;                     // by this one, where the driver can say
};

// Sizes that the user or the defaults fix before planning.
struct Limits {
  uint32_t context = 0;  // positions per sequence; 0 = the model's context_length capped by the KV that fits
  uint32_t slots = 4;    // sequences in flight
  uint32_t batch_tokens = 0;    // tokens in one step, all sequences together; 0 = what suits the device
  uint32_t logits_rows = 0;     // rows of logits in one step; 0 = slots
  uint64_t kv_cache_bytes = 0;  // 0 = what slots * context needs, or what the budget leaves
  uint64_t budget_bytes = 0;    // 0 = the device's free bytes
};

// Limits with every zero replaced, and the number of KV pages they give.
struct ResolvedLimits {
  uint32_t context, slots, batch_tokens, logits_rows, kv_pages;
};

enum class LogitsMode : uint8_t { kNone, kLast, kAll };

// What one sequence does in a step. Spans must live until collect() of that step returns.
struct SequenceStep {
  uint32_t slot = 0;  // 0..slots-1: the sequence's state on the device
  uint32_t first_position = 0;
  std::span<const int32_t> tokens;  // empty: one token, the slot's last sampled one
  std::span<const uint32_t> pages;  // page ids for positions 0 .. first_position + n_tokens - 1
  LogitsMode logits = LogitsMode::kNone;
  bool sample = false;     // draw the slot's next token from the last row; REQUIRES logits != kNone
  bool want_rows = false;  // the caller reads the logits rows themselves (perplexity, logprobs)
};

struct SequenceResult {
  uint32_t slot;
  int32_t token = -1;              // sampled, or -1
  bool non_finite = false;         // a NaN or +Inf in the logits: the model is broken; token is -1
  numerics::Digest logits_digest;  // of this step's rows in order (LogitsMode kLast / kAll)
  std::span<const float> rows;     // [n_rows, n_vocab] if want_rows; valid until the next submit()
};

// Runs steps in order. Not thread-safe: one thread calls it. Nothing is allocated on the device after
// construction.
class Executor {
 public:
  virtual ~Executor() = default;

  // Starts a sequence in a slot: its sampling parameters and the tokens that the repetition penalty has seen
  // (the prompt). Also called after preemption, with all tokens so far.
  virtual void begin_sequence(uint32_t slot, const sampling::SamplingParams& params,
                              std::span<const int32_t> seen) = 0;

  // Enqueues one step over several sequences; at most one step may be uncollected per pipeline_depth().
  // REQUIRES sum of tokens <= batch_tokens, sum of logits rows <= logits_rows, each slot at most once.
  virtual void submit(std::span<const SequenceStep> steps) = 0;
  // Blocks until the oldest submitted step is done. Results are in the order of its steps.
  virtual std::span<const SequenceResult> collect() = 0;
  virtual uint32_t pipeline_depth() const = 0;  // cpu 1, cuda 2
  // true after an error that the device does not survive in this process: every later call throws too. Any
  // other error leaves an executor that runs the next step with the same bits. Thread-safe.
  virtual bool lost() const { return false; }

  virtual const memory::Plan& plan() const = 0;
  virtual const memory::Ledger& ledger() const = 0;
  virtual const ResolvedLimits& limits() const = 0;

  struct Residency {
    std::string arena;         // category name
    std::string pointer_type;  // "device" | "host"
    uint64_t bytes;
    numerics::Digest digest, expected;
    std::string first_mismatch;  // tensor name, "" when equal
    bool in_place = true;        // the pointer is of the type that this device must have
    bool holds() const { return in_place && digest == expected; }
  };
  // Digests of the weights, recomputed where they lie. Call between steps.
  virtual std::vector<Residency> check_residency() = 0;
};

using Progress = std::function<void(uint64_t done_bytes, uint64_t total_bytes)>;

class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual uint64_t free_bytes() const = 0;
  virtual std::optional<DriverMemory> driver_memory() const { return std::nullopt; }
  // Pure arithmetic: nothing is allocated. Throws INSUFFICIENT_VRAM (required, available, device, model,
  // max_context).
  virtual ResolvedLimits resolve(const model::Program& program, const Limits& limits) const = 0;
  virtual memory::Plan plan(const model::Program& program, const ResolvedLimits& limits) const = 0;
  // Allocates the plan's arenas, loads and repacks the weights. On any throw everything is freed.
  virtual std::unique_ptr<Executor> load(std::shared_ptr<const model::Program> program,
                                         const ResolvedLimits& limits, const Progress& progress) = 0;
  // Measured read-only bandwidth in bytes/s over a buffer of `bytes` (0: a default far over the caches).
  virtual double measure_read_bandwidth(uint64_t bytes = 0) = 0;
};

struct DeviceRequest {
  std::string name;        // "cpu", "cuda:N"
  uint32_t n_threads = 0;  // cpu: 0 = one per available core
};

// Opens the device by name; throws INVALID_REQUEST for an unknown name, CUDA_ERROR with the reason if it
// cannot be used. There is no default device.
std::unique_ptr<Device> open_device(const DeviceRequest& request);

// The devices of this machine by index: "cpu", then "cuda:0", "cuda:1", ... Counting and naming touch none.
uint32_t device_count();
std::string device_name(uint32_t index);
// REQUIRES index < device_count(). Opens the device; where it cannot be used, `refusal` says why. What
// opening a GPU takes of its memory (driver_overhead_bytes) stays taken until the process ends.
DeviceInfo device_info(uint32_t index);
std::vector<DeviceInfo> list_devices();
// Why there are no CUDA devices; "" if there are some.
std::string why_no_cuda();

}  // namespace orcd::device
