#include <cstdio>
#include <nlohmann/json.hpp>

#include "base/units.h"
#include "cli/commands.h"
#include "cli/session.h"
#include "engine/plan_report.h"

namespace orcd::cli {
namespace {

using engine::PlanReport;

nlohmann::ordered_json driver_json(const std::optional<device::DriverMemory>& driver) {
  if (!driver) return nullptr;
  nlohmann::ordered_json json = {{"source", driver->source}};
  if (!driver->reason.empty()) {
    json["reason"] = driver->reason;
    return json;
  }
  json["total_bytes"] = driver->total_bytes;
  json["free_bytes"] = driver->free_bytes;
  json["used_bytes"] = driver->used_bytes;
  json["process_bytes"] = driver->process_bytes ? nlohmann::ordered_json(*driver->process_bytes) : nullptr;
  return json;
}

void print_json(const PlanReport& report, const std::string& model) {
  nlohmann::ordered_json items = nlohmann::ordered_json::array();
  for (const memory::PlanItem& item : report.plan.items())
    items.push_back({{"name", item.name},
                     {"category", memory::category_name(item.category)},
                     {"bytes", item.bytes},
                     {"offset", item.offset}});
  nlohmann::ordered_json categories;
  for (int i = 0; i < memory::kCategoryCount; ++i) {
    const auto category = static_cast<memory::Category>(i);
    categories[std::string(memory::category_name(category))] = report.plan.arena_bytes(category);
  }
  nlohmann::ordered_json host_items = nlohmann::ordered_json::array();
  for (const memory::HostItem& item : report.plan.host_items())
    host_items.push_back({{"name", item.name}, {"bytes", item.bytes}, {"until_ready", item.until_ready}});
  const nlohmann::ordered_json json = {{"device", report.device.name},
                                       {"model", model},
                                       {"total_bytes", report.plan.total_bytes()},
                                       {"free_bytes", report.device.free_bytes},
                                       {"available_bytes", report.available},
                                       {"device_total_bytes", report.device.total_bytes},
                                       {"driver_overhead_bytes", report.device.driver_overhead_bytes},
                                       {"fits", report.fits},
                                       {"max_context", report.max_context},
                                       {"context", report.limits.context},
                                       {"slots", report.limits.slots},
                                       {"kv_pages", report.limits.kv_pages},
                                       {"categories", categories},
                                       {"items", std::move(items)},
                                       {"pinned_host_bytes", report.plan.host_bytes()},
                                       {"pinned_host_peak_bytes", report.plan.host_peak_bytes()},
                                       {"pinned_host_items", std::move(host_items)},
                                       {"driver_memory", driver_json(report.driver)}};
  std::printf("%s\n", json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace).c_str());
}

void print_table(const PlanReport& report, const std::string& model) {
  std::printf("%-44s %-12s %16s\n", "item", "category", "bytes");
  for (const memory::PlanItem& item : report.plan.items())
    std::printf("%-44s %-12s %16llu\n", item.name.c_str(),
                std::string(memory::category_name(item.category)).c_str(),
                static_cast<unsigned long long>(item.bytes));
  std::printf("\n%-44s %-12s %16s\n", "arena", "", "bytes");
  for (int i = 0; i < memory::kCategoryCount; ++i) {
    const auto category = static_cast<memory::Category>(i);
    std::printf("%-44s %-12s %16llu\n", std::string(memory::category_name(category)).c_str(), "",
                static_cast<unsigned long long>(report.plan.arena_bytes(category)));
  }
  std::printf("%-44s %-12s %16llu\n\n", "total", "",
              static_cast<unsigned long long>(report.plan.total_bytes()));
  for (const memory::HostItem& item : report.plan.host_items())
    std::printf("%-44s %-12s %16llu\n", item.name.c_str(), item.until_ready ? "pinned, load" : "pinned",
                static_cast<unsigned long long>(item.bytes));
  if (!report.plan.host_items().empty())
    std::printf("%-44s %-12s %16llu\n\n", "pinned host memory at ready", "",
                static_cast<unsigned long long>(report.plan.host_bytes()));
  if (report.device.driver_overhead_bytes != 0)
    std::printf("driver (context, code), beside the plan: %s\n",
                format_bytes(report.device.driver_overhead_bytes).c_str());
  if (report.driver)
    std::printf("%s: %s\n", report.driver->source.c_str(),
                report.driver->reason.empty() ? (format_bytes(report.driver->free_bytes) + " free of " +
                                                 format_bytes(report.driver->total_bytes))
                                                    .c_str()
                                              : report.driver->reason.c_str());
  std::printf("model %s on %s: %s of %s available, %s\n", model.c_str(), report.device.name.c_str(),
              format_bytes(report.plan.total_bytes()).c_str(), format_bytes(report.available).c_str(),
              report.fits ? "fits" : "does not fit");
  std::printf("context %u, slots %u, %u KV pages; largest context that fits %u\n", report.limits.context,
              report.limits.slots, report.limits.kv_pages, report.max_context);
}

}  // namespace

int plan(const Options& options) {
  const Model model = open_model(options.model, options.tokenizer_file);
  const auto device = open_device(options);
  const PlanReport report = engine::make_plan_report(*model.program, *device, limits_of(options));
  options.json ? print_json(report, model_name(options.model))
               : print_table(report, model_name(options.model));
  return 0;  // a plan that does not fit is an answer too: `fits`; doctor and serve fail
}

}  // namespace orcd::cli
