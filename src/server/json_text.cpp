#include "server/json_text.h"

#include <nlohmann/json.hpp>

namespace orcd::server {

std::string dump(const nlohmann::ordered_json& json) {
  return json.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace orcd::server
