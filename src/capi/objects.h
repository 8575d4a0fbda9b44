// What the handles name: a context, a model with its device and engine, a generation with what its reader has
// yet to take.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "capi/registry.h"
#include "engine/session.h"

namespace orcd::capi {

class Context : public Object {
 public:
  static constexpr Kind kKind = Kind::kContext;
  void close() noexcept override { closed_ = true; }
  bool closed() const { return closed_; }

 private:
  std::atomic<bool> closed_ = false;
};

// Thread-safe: what is not const here guards itself.
class Model : public Object {
 public:
  static constexpr Kind kKind = Kind::kModel;
  Model(engine::Session session, engine::EngineOptions options, std::string name);
  void close() noexcept override;

  const std::string& name() const { return name_; }
  const engine::Model& parts() const { return session_.model; }
  const tokenizer::Tokenizer& tokenizer() const { return *session_.model.tokenizer; }
  const device::Device& device() const { return *session_.device; }
  engine::Engine& engine() { return *engine_; }

  // Why it takes no new work; "" if it does.
  std::string unhealthy_reason() const;
  // Throws if a residency check has failed, which is for ever. What the engine cannot take it refuses itself.
  void need_resident() const;
  void mark_not_resident(const std::string& reason);

 private:
  const std::string name_;
  engine::Session session_;
  std::unique_ptr<engine::Engine> engine_;
  mutable std::mutex mutex_;
  std::string not_resident_;
};

// A piece of an answer: a token and its text, or text alone (ORCD_NO_TOKEN).
struct Piece {
  int32_t id;
  uint32_t index;
  std::string text;
};

class Generation : public Object {
 public:
  static constexpr Kind kKind = Kind::kGeneration;
  explicit Generation(std::unique_ptr<engine::Generation> stream) : stream_(std::move(stream)) {}
  void close() noexcept override { cancel(); }
  void cancel() noexcept { stream_->cancel(); }

  // The reader's turn: one thread at a time.
  class Turn;
  // Waits for the turn until the deadline; null if it has not come by then.
  std::unique_ptr<Turn> turn_until(std::chrono::steady_clock::time_point deadline);
  // Whether everything was read, up to the end or the error: these change no more, and need no turn.
  bool read_to_the_end() const;
  const std::optional<engine::EndEvent>& end() const { return end_; }
  const std::optional<Error>& error() const { return error_; }

 private:
  void take(engine::Event event);

  std::unique_ptr<engine::Generation> stream_;
  mutable std::mutex mutex_;
  std::condition_variable turn_ended_;
  bool taken_ = false, read_to_the_end_ = false;
  // Of the thread whose turn it is.
  std::optional<Piece> piece_;
  uint32_t n_tokens_ = 0;
  std::optional<engine::EndEvent> end_;
  std::optional<Error> error_;
};

class Generation::Turn {
 public:
  explicit Turn(Generation* generation) : generation_(generation) {}
  ~Turn();
  Turn(const Turn&) = delete;
  Turn& operator=(const Turn&) = delete;

  // The piece that comes next; it stays next until drop(). Null when there is none by the deadline, or ever:
  // see end(). Throws the error that the generation ended with, after its last piece.
  const Piece* peek(std::chrono::steady_clock::time_point deadline);
  void drop();

 private:
  Generation* generation_;
};

}  // namespace orcd::capi
