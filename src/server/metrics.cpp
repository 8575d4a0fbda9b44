#include "server/metrics.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>

#include <array>
#include <mutex>

namespace orcd::server {
namespace {

using prometheus::Counter;
using prometheus::Gauge;
using prometheus::Histogram;
using Buckets = Histogram::BucketBoundaries;

constexpr int kOutcomeCount = 5;

// The buckets of vLLM's histograms, so that its dashboards fit.
const Buckets kFirstTokenSeconds = {0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1,  0.25,  0.5,   0.75,
                                    1.0,   2.5,   5.0,  7.5,  10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0};
const Buckets kInterTokenSeconds = {0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2,  0.3,  0.4, 0.5,
                                    0.75, 1.0,   2.5,  5.0,   7.5, 10.0, 20.0, 40.0, 80.0};
const Buckets kRequestSeconds = {0.3,  0.5,  0.8,  1.0,  1.5,   2.0,   2.5,   5.0,   10.0,   15.0,  20.0,
                                 30.0, 40.0, 50.0, 60.0, 120.0, 240.0, 480.0, 960.0, 1920.0, 7680.0};
const Buckets kDurationMs = {10,   25,    50,    100,   250,    500,    1000,  2500,
                             5000, 10000, 25000, 50000, 100000, 250000, 500000};

void raise_to(Counter& counter, double value) {
  if (value > counter.Value()) counter.Increment(value - counter.Value());
}

}  // namespace

const char* outcome_name(Outcome outcome) {
  static constexpr std::array<const char*, kOutcomeCount> kNames = {"ok", "error", "cancelled", "timeout",
                                                                    "rejected"};
  return kNames[static_cast<size_t>(outcome)];
}

Outcome outcome_of(const Error& error) {
  switch (error.code()) {
    case ErrorCode::kCancelled:
      return Outcome::kCancelled;
    case ErrorCode::kInferenceTimeout:
      return Outcome::kTimeout;
    case ErrorCode::kInvalidRequest:
    case ErrorCode::kNotFound:
    case ErrorCode::kOverloaded:
    case ErrorCode::kShuttingDown:
      return Outcome::kRejected;
    default:
      return Outcome::kError;
  }
}

struct Metrics::Impl {
  prometheus::Registry registry;
  std::mutex scrape;

  Counter& counter(const char* name, const char* help, const prometheus::Labels& labels = {}) {
    return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
  }
  Gauge& gauge(const char* name, const char* help, const prometheus::Labels& labels = {}) {
    return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
  }
  Histogram& histogram(const char* name, const char* help, const Buckets& buckets) {
    return prometheus::BuildHistogram().Name(name).Help(help).Register(registry).Add({}, buckets);
  }
  using Outcomes = std::array<Counter*, kOutcomeCount>;
  Outcomes outcomes(const char* name, const char* help) {
    Outcomes out{};
    for (int i = 0; i < kOutcomeCount; ++i)
      out[static_cast<size_t>(i)] =
          &counter(name, help, {{"outcome", outcome_name(static_cast<Outcome>(i))}});
    return out;
  }

  Outcomes requests = outcomes("worker_orcd_requests_total", "Requests by outcome.");
  Outcomes worker_requests = outcomes("worker_requests_total", "Requests by outcome.");
  Histogram& first_token = histogram("worker_orcd_time_to_first_token_seconds",
                                     "From arrival to the first token, of each choice.", kFirstTokenSeconds);
  Histogram& inter_token = histogram("worker_orcd_inter_token_latency_seconds",
                                     "Between two tokens of a request.", kInterTokenSeconds);
  Histogram& end_to_end = histogram("worker_orcd_e2e_request_latency_seconds",
                                    "From arrival to the end, of each choice.", kRequestSeconds);
  Histogram& queue =
      histogram("worker_orcd_request_queue_time_seconds", "Waiting before the first step.", kRequestSeconds);
  Histogram& prefill =
      histogram("worker_orcd_request_prefill_time_seconds", "Processing the prompt.", kRequestSeconds);
  Histogram& decode =
      histogram("worker_orcd_request_decode_time_seconds", "Generating tokens.", kRequestSeconds);
  Histogram& duration_ms =
      histogram("worker_inference_duration_ms", "From arrival to the end, of each choice, in milliseconds.",
                kDurationMs);
  Counter& prompt_tokens = counter("worker_orcd_prompt_tokens_total", "Prompt tokens processed.");
  Counter& generation_tokens = counter("worker_orcd_generation_tokens_total", "Tokens generated.");
  Counter& tokens_generated = counter("worker_tokens_generated_total", "Tokens generated.");
  Counter& prefix_queries =
      counter("worker_orcd_prefix_cache_queries_total", "Prompt tokens looked up in the prefix cache.");
  Counter& prefix_hits =
      counter("worker_orcd_prefix_cache_hits_total", "Prompt tokens found in the prefix cache.");
  Counter& preemptions = counter("worker_orcd_num_preemptions_total",
                                 "Sequences that gave up their KV pages, to be computed again.");
  Counter& busy_seconds = counter("worker_orcd_engine_busy_seconds_total", "Time the engine spent in steps.");
  Gauge& running = gauge("worker_orcd_num_requests_running", "Requests in the running batch.");
  Gauge& waiting = gauge("worker_orcd_num_requests_waiting", "Requests waiting for a slot.");
  Gauge& kv_usage = gauge("worker_orcd_kv_cache_usage_perc", "Share of KV pages in use; 1 is all.");
  Gauge& kv_pages_used = gauge("worker_orcd_kv_pages_used", "KV pages in use.");
  Gauge& kv_pages_total = gauge("worker_orcd_kv_pages_total", "KV pages there are.");
  Gauge& healthy = gauge("worker_orcd_healthy", "1 while the worker can serve.");
  Gauge& vram_bytes = gauge("worker_vram_bytes", "Bytes the device allocator has handed out.");
  Gauge& uptime = gauge("worker_uptime_seconds", "Since the process started.");
  std::array<Gauge*, memory::kCategoryCount> vram_by_category = [this] {
    std::array<Gauge*, memory::kCategoryCount> gauges{};
    for (int i = 0; i < memory::kCategoryCount; ++i) {
      const std::string name(memory::category_name(static_cast<memory::Category>(i)));
      gauges[static_cast<size_t>(i)] =
          &gauge("worker_orcd_vram_bytes", "Bytes by category.", {{"category", name}});
    }
    return gauges;
  }();
};

Metrics::Metrics() : impl_(std::make_unique<Impl>()) {}
Metrics::~Metrics() = default;

void Metrics::request_ended(Outcome outcome) {
  impl_->requests[static_cast<size_t>(outcome)]->Increment();
  impl_->worker_requests[static_cast<size_t>(outcome)]->Increment();
}

void Metrics::first_token(double seconds) { impl_->first_token.Observe(seconds); }
void Metrics::inter_token(double seconds) { impl_->inter_token.Observe(seconds); }

void Metrics::finished(const engine::EndEvent& end, double seconds) {
  impl_->end_to_end.Observe(seconds);
  impl_->duration_ms.Observe(seconds * 1e3);
  impl_->queue.Observe(end.queue_ms / 1e3);
  impl_->prefill.Observe(end.prefill_ms / 1e3);
  impl_->decode.Observe(end.decode_ms / 1e3);
}

std::string Metrics::text(const engine::Engine* engine, double uptime_seconds, bool healthy) {
  std::lock_guard lock(impl_->scrape);
  Impl& m = *impl_;
  m.uptime.Set(uptime_seconds);
  m.healthy.Set(healthy ? 1 : 0);
  if (engine) {
    const engine::EngineStats stats = engine->stats();
    m.running.Set(stats.running);
    m.waiting.Set(stats.waiting);
    m.kv_pages_used.Set(static_cast<double>(stats.kv_pages_used));
    m.kv_pages_total.Set(static_cast<double>(stats.kv_pages_total));
    m.kv_usage.Set(stats.kv_pages_total
                       ? static_cast<double>(stats.kv_pages_used) / static_cast<double>(stats.kv_pages_total)
                       : 0);
    raise_to(m.prompt_tokens, static_cast<double>(stats.prompt_tokens));
    raise_to(m.generation_tokens, static_cast<double>(stats.tokens_generated));
    raise_to(m.tokens_generated, static_cast<double>(stats.tokens_generated));
    raise_to(m.prefix_queries, static_cast<double>(stats.prefix_queries));
    raise_to(m.prefix_hits, static_cast<double>(stats.prefix_hits));
    raise_to(m.preemptions, static_cast<double>(stats.n_preemptions));
    raise_to(m.busy_seconds, stats.busy_seconds);
    m.vram_bytes.Set(static_cast<double>(engine->ledger().total_bytes()));
    for (int i = 0; i < memory::kCategoryCount; ++i)
      m.vram_by_category[static_cast<size_t>(i)]->Set(
          static_cast<double>(engine->ledger().bytes(static_cast<memory::Category>(i))));
  }
  return prometheus::TextSerializer().Serialize(m.registry.Collect());
}

}  // namespace orcd::server
