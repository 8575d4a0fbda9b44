#include "server/request_parser.h"

#include <algorithm>
#include <boost/beast/core/string.hpp>
#include <boost/beast/http/error.hpp>

namespace orcd::server {

namespace http = boost::beast::http;

namespace {

constexpr size_t kFieldBytes = 4;  // ": " and the end of the line
constexpr uint64_t kReservedBodyBytes = 64 * 1024;

std::string text_of(boost::beast::string_view text) { return {text.data(), text.size()}; }

bool same_text(std::string_view a, std::string_view b) {
  return boost::beast::iequals({a.data(), a.size()}, {b.data(), b.size()});
}

// "http://host:1/path" -> "host:1" and "/path"; a target in another form stays, without a host.
std::string take_authority(std::string* target) {
  constexpr std::string_view kScheme = "http://";
  if (!same_text(std::string_view(*target).substr(0, kScheme.size()), kScheme)) return {};
  const size_t end = std::min(target->find_first_of("/?", kScheme.size()), target->size());
  std::string authority = target->substr(kScheme.size(), end - kScheme.size());
  if (authority.empty()) return {};  // stays as it is, and nothing is there
  *target = target->substr(end);
  if (!target->starts_with('/')) target->insert(0, "/");
  return authority;
}

}  // namespace

RequestParser::RequestParser(uint32_t max_header_bytes, uint64_t max_body_bytes)
    : header_bytes_left_(max_header_bytes), max_body_bytes_(max_body_bytes) {
  header_limit(max_header_bytes);
  body_limit(max_body_bytes);
}

bool RequestParser::expects_continue() const {
  return is_http_1_1_ && same_text(request_.header("expect"), "100-continue");
}

HttpRequest RequestParser::take() {
  // The target's authority replaces the Host, of which there must be one all the same (RFC 9112, 3.2).
  std::string authority = take_authority(&request_.path);
  const size_t n_hosts = request_.count("host");
  if (!authority.empty() && (n_hosts == 1 || (n_hosts == 0 && !is_http_1_1_))) {
    std::erase_if(request_.headers, [](const auto& field) { return same_text(field.first, "host"); });
    request_.headers.emplace_back("Host", std::move(authority));
  }
  const size_t question = request_.path.find('?');
  if (question != std::string::npos) {
    request_.query = request_.path.substr(question + 1);
    request_.path.resize(question);
  }
  return std::move(request_);
}

void RequestParser::spend(size_t n_bytes, ParseError& error) {
  if (n_bytes > header_bytes_left_) {
    error = http::error::header_limit;
  } else {
    header_bytes_left_ -= n_bytes;
  }
}

void RequestParser::on_request_impl(Verb, Text method, Text target, int version, ParseError& error) {
  spend(method.size() + target.size(), error);
  is_http_1_1_ = version >= 11;
  request_.method = text_of(method);
  request_.path = text_of(target);  // with the query until take()
}

void RequestParser::on_response_impl(int, Text, int, ParseError& error) { error = http::error::bad_method; }

// One Content-Length of digits, or one Transfer-Encoding "chunked": everything else may read differently to a
// proxy in front of the worker, who then takes the end of one request for the beginning of another.
void RequestParser::check_length_field(Field field, Text value, ParseError& error) {
  if (field == Field::content_length) {
    const bool is_number = std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; });
    if (has_length_) error = http::error::multiple_content_length;
    if (!is_number) error = http::error::bad_content_length;
    has_length_ = true;
  }
  if (field == Field::transfer_encoding) {
    if (has_encoding_ || !is_http_1_1_ || !same_text({value.data(), value.size()}, "chunked"))
      error = http::error::bad_transfer_encoding;
    has_encoding_ = true;
  }
}

void RequestParser::on_field_impl(Field field, Text name, Text value, ParseError& error) {
  spend(name.size() + value.size() + kFieldBytes, error);
  if (error || header_done_) return;  // a trailer must not pass for a header: nobody reads it
  check_length_field(field, value, error);
  request_.headers.emplace_back(text_of(name), text_of(value));
}

void RequestParser::on_header_impl(ParseError&) { header_done_ = true; }

void RequestParser::on_body_init_impl(const boost::optional<uint64_t>& length, ParseError&) {
  // A length is only a claim: what is reserved for it must not cost much.
  request_.body.reserve(std::min({length.value_or(0), max_body_bytes_, kReservedBodyBytes}));
}

size_t RequestParser::on_body_impl(Text piece, ParseError&) {
  request_.body.append(piece.data(), piece.size());
  return piece.size();
}

void RequestParser::on_chunk_header_impl(uint64_t, Text extensions, ParseError& error) {
  spend(extensions.size(), error);
}

size_t RequestParser::on_chunk_body_impl(uint64_t, Text piece, ParseError& error) {
  return on_body_impl(piece, error);
}

void RequestParser::on_finish_impl(ParseError&) {}

}  // namespace orcd::server
