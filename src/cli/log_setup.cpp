#include "cli/log_setup.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/stderr_sink.h"

namespace orcd::cli {
namespace {

const char* level_name(LogLevel level) {
  static constexpr const char* kNames[] = {"debug", "info", "warn", "error"};
  return kNames[static_cast<int>(level)];
}

std::string utc_now() { return utc_text(std::chrono::system_clock::now()); }

// Quoted if it would not read as one word; a job id may hold anything.
std::string word(const std::string& text) {
  bool plain = !text.empty();
  for (const char c : text) plain &= c > ' ' && c != '"' && c != '=' && c != '\\' && c != 0x7f;
  return plain ? text : nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

class StderrLog {
 public:
  StderrLog(LogFormat format, LogContext context, LogLevel least)
      : logger_("orcd",
                std::make_shared<StderrSink>([this](uint64_t n_lines) { return lost_line(n_lines); })),
        format_(format),
        context_(std::move(context)),
        least_(least),
        bar_(format == LogFormat::kText && isatty(STDERR_FILENO)) {
    logger_.set_pattern("%v");
    logger_.set_level(spdlog::level::trace);
    logger_.flush_on(spdlog::level::trace);
  }

  void write(const LogEvent& event) {
    if (bar_ && event.event == "model_load_progress") return draw_bar(event);
    if (event.level < least_) return;
    logger_.info(line_of(event));
  }

 private:
  static std::string field_text(const LogEvent& event, std::string_view name) {
    for (const auto& [key, value] : event.fields)
      if (key == name) return error_value_text(value);
    return {};
  }

  std::string line_of(const LogEvent& event) const {
    return format_ == LogFormat::kJson ? json_line(event) : text_line(event);
  }

  std::string lost_line(uint64_t n_lines) const {
    return line_of(
               {LogLevel::kWarn,
                "error",
                {{"message", std::string("log lines were lost: nobody read stderr")}, {"lines", n_lines}}}) +
           "\n";
  }

  std::string json_line(const LogEvent& event) const {
    nlohmann::ordered_json json = {{"ts", utc_now()},          {"level", level_name(event.level)},
                                   {"event", event.event},     {"worker_id", context_.worker_id},
                                   {"job_id", nullptr},        {"model_ref", context_.model_ref},
                                   {"device", context_.device}};
    for (const auto& [name, value] : event.fields)
      std::visit([&field = json[name]](const auto& v) { field = v; }, value);
    return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  }

  std::string text_line(const LogEvent& event) const {
    std::string line = utc_now() + " " + level_name(event.level) + " " + std::string(event.event);
    const auto add = [&](const std::string& name, const std::string& value) {
      line += " " + name + "=" + word(value);
    };
    if (!context_.worker_id.empty()) add("worker_id", context_.worker_id);
    if (!context_.model_ref.empty()) add("model_ref", context_.model_ref);
    if (!context_.device.empty()) add("device", context_.device);
    for (const auto& [name, value] : event.fields) add(name, error_value_text(value));
    return line;
  }

  static void draw_bar(const LogEvent& event) {
    constexpr int kWidth = 40;
    const int percent = std::atoi(field_text(event, "percent").c_str());
    const int filled = percent * kWidth / 100;
    std::fprintf(stderr, "\rloading [%s%s] %3d %%%s", std::string(static_cast<size_t>(filled), '#').c_str(),
                 std::string(static_cast<size_t>(kWidth - filled), ' ').c_str(), percent,
                 percent >= 100 ? "\n" : "");
    std::fflush(stderr);
  }

  spdlog::logger logger_;
  LogFormat format_;
  LogContext context_;
  LogLevel least_;
  bool bar_;
};

}  // namespace

void install_log(LogFormat format, LogContext context, LogLevel least) {
  auto log = std::make_shared<StderrLog>(format, std::move(context), least);
  set_log_sink([log](const LogEvent& event) { log->write(event); });
}

}  // namespace orcd::cli
