#include "capi/objects.h"

#include <utility>

namespace orcd::capi {

Model::Model(engine::Session session, engine::EngineOptions options, std::string name)
    : name_(std::move(name)),
      session_(std::move(session)),
      engine_(engine::start_engine(&session_, options)) {}

void Model::close() noexcept {}  // its calls end by themselves, those of its generations by theirs

std::string Model::unhealthy_reason() const {
  const engine::EngineStats stats = engine_->stats();
  if (!stats.healthy) return stats.unhealthy_reason.empty() ? "the engine failed" : stats.unhealthy_reason;
  std::lock_guard lock(mutex_);
  return not_resident_;
}

void Model::need_resident() const {
  std::lock_guard lock(mutex_);
  if (not_resident_.empty()) return;
  throw Error(ErrorCode::kInternal, "the model is not healthy and takes no new generations",
              {{"reason", not_resident_}}, "unload it and load it again");
}

void Model::mark_not_resident(const std::string& reason) {
  std::lock_guard lock(mutex_);
  if (not_resident_.empty()) not_resident_ = reason;
}

std::unique_ptr<Generation::Turn> Generation::turn_until(std::chrono::steady_clock::time_point deadline) {
  std::unique_lock lock(mutex_);
  if (!turn_ended_.wait_until(lock, deadline, [&] { return !taken_; })) return nullptr;
  auto turn = std::make_unique<Turn>(this);
  taken_ = true;
  return turn;
}

bool Generation::read_to_the_end() const {
  std::lock_guard lock(mutex_);
  return read_to_the_end_;
}

Generation::Turn::~Turn() {
  {
    std::lock_guard lock(generation_->mutex_);
    generation_->taken_ = false;
    generation_->read_to_the_end_ =
        !generation_->piece_ && (generation_->end_.has_value() || generation_->error_.has_value());
  }
  generation_->turn_ended_.notify_one();
}

void Generation::take(engine::Event event) {
  if (auto* token = std::get_if<engine::TokenEvent>(&event)) {
    piece_ = Piece{token->id, token->index, std::move(token->text)};
    n_tokens_ = token->index + 1;
  } else if (auto* end = std::get_if<engine::EndEvent>(&event)) {
    if (!end->tail.empty()) piece_ = Piece{ORCD_NO_TOKEN, n_tokens_, std::move(end->tail)};
    end_ = std::move(*end);
  } else if (auto* failed = std::get_if<engine::ErrorEvent>(&event)) {
    error_ = std::move(failed->error);
  }
}

const Piece* Generation::Turn::peek(std::chrono::steady_clock::time_point deadline) {
  Generation& g = *generation_;
  while (!g.piece_ && !g.end_ && !g.error_) {
    std::optional<engine::Event> event = g.stream_->channel().pop_until(deadline);
    if (!event) return nullptr;
    g.take(std::move(*event));
  }
  if (g.piece_) return &*g.piece_;
  if (g.error_) throw Error(*g.error_);
  return nullptr;
}

void Generation::Turn::drop() { generation_->piece_.reset(); }

}  // namespace orcd::capi
