// The compiled part of Beast, once.
//
// Beast before Boost 1.86 asserts that five bytes are there when a body that is one empty chunk comes piece
// by piece, where three may be; what it then does with fewer is right (boostorg/beast, pull request 2861). A
// client's bytes must not end a build that has assertions.
#include <boost/version.hpp>
#if BOOST_VERSION < 108600
#define BOOST_DISABLE_ASSERTS
#endif
#include <boost/beast/src.hpp>
