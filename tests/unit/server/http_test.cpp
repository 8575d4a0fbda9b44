#include "server/http.h"

#include <gtest/gtest.h>

namespace orcd::server {
namespace {

TEST(Http, EscapesAreReadOnceAndWhatIsNoneStays) {
  EXPECT_EQ(percent_decoded(""), "");
  EXPECT_EQ(percent_decoded("a%2Fb%2fc"), "a/b/c");
  EXPECT_EQ(percent_decoded("%2541"), "%41");
  EXPECT_EQ(percent_decoded("%00%ff"), std::string("\0\xFF", 2));
  for (const char* text : {"%", "%4", "a%", "%zz", "%4z", "%+4", "%-1", "% 4", "100%!"})
    EXPECT_EQ(percent_decoded(text), text);
}

TEST(Http, NamesOfHeadersHaveNoCase) {
  HttpRequest request;
  request.headers = {{"HOST", "a"}, {"host", "b"}};
  EXPECT_EQ(request.header("Host"), "a");
  EXPECT_EQ(request.count("hOST"), 2u);
  EXPECT_EQ(request.header("Hos"), "");
}

}  // namespace
}  // namespace orcd::server
