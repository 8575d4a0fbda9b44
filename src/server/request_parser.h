// Bytes of one HTTP/1.1 request to an HttpRequest. Beast reads the grammar; what is kept, the caps, and that
// a request has only one reading of where it ends (RFC 9112, sections 6 and 11.2) are decided here.
#pragma once

#include <boost/beast/http/basic_parser.hpp>
#include <cstdint>

#include "server/http.h"

namespace orcd::server {

class RequestParser : public boost::beast::http::basic_parser<true> {
 public:
  // The header may have so many bytes, and so may what chunked bodies carry beside the body: extensions,
  // trailers.
  RequestParser(uint32_t max_header_bytes, uint64_t max_body_bytes);

  // After the header.
  bool is_http_1_1() const { return is_http_1_1_; }
  bool expects_continue() const;
  // After the whole request, once. The Host of a target in absolute form stands for the field of that name.
  HttpRequest take();

 private:
  using Verb = boost::beast::http::verb;
  using Field = boost::beast::http::field;
  using Text = boost::beast::string_view;
  using ParseError = boost::beast::error_code;

  void on_request_impl(Verb, Text method, Text target, int version, ParseError& error) override;
  void on_response_impl(int, Text, int, ParseError& error) override;
  void on_field_impl(Field field, Text name, Text value, ParseError& error) override;
  void on_header_impl(ParseError& error) override;
  void on_body_init_impl(const boost::optional<uint64_t>& length, ParseError& error) override;
  size_t on_body_impl(Text piece, ParseError& error) override;
  void on_chunk_header_impl(uint64_t size, Text extensions, ParseError& error) override;
  size_t on_chunk_body_impl(uint64_t remain, Text piece, ParseError& error) override;
  void on_finish_impl(ParseError& error) override;

  void spend(size_t n_bytes, ParseError& error);
  void check_length_field(Field field, Text value, ParseError& error);

  HttpRequest request_;
  uint64_t header_bytes_left_, max_body_bytes_;
  bool is_http_1_1_ = true, header_done_ = false;
  bool has_length_ = false, has_encoding_ = false;
};

}  // namespace orcd::server
