#include "numerics/rope.h"

#include <limits>
#include <vector>

namespace orcd::numerics {
namespace {

// A value as an unevaluated sum: |low| is at most half a unit of high's last place (Dekker 1971).
struct Pair {
  double high, low;
};

// Exact a + b for any magnitudes (Knuth, TAOCP 2, 4.2.2).
Pair two_sum(double a, double b) {
  const double sum = a + b, b_part = sum - a;
  return {sum, (a - (sum - b_part)) + (b - b_part)};
}

// Exact a * b.
Pair two_product(double a, double b) {
  const double product = a * b;
  return {product, __builtin_fma(a, b, -product)};
}

Pair multiply(Pair a, Pair b) {
  const Pair p = two_product(a.high, b.high);
  return two_sum(p.high, p.low + (a.high * b.low + a.low * b.high));
}

Pair add(Pair a, Pair b) {
  const Pair s = two_sum(a.high, b.high);
  return two_sum(s.high, s.low + (a.low + b.low));
}

uint64_t double_bits(double x) {
  uint64_t u;
  memcpy(&u, &x, 8);
  return u;
}

double bits_double(uint64_t u) {
  double x;
  memcpy(&x, &u, 8);
  return x;
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

// Nearest integer, ties to even. REQUIRES |x| < 2^51.
double round_even_f64(double x) {
  constexpr double kMagic = 6755399441055744.0;  // 1.5 * 2^52
  return (x + kMagic) - kMagic;
}

// ln 2 = kLn2High + kLn2Low; the high part has 42 bits, so that k * kLn2High is exact for |k| < 2^11.
constexpr double kLn2High = 0x1.62e42fefa3800p-1, kLn2Low = 0x1.ef35793c76730p-45;

// e^(x.high + x.low): x = n ln2 + r with |r| <= ln2 / 2, Taylor series of r to the 13th power.
double exp_pair(Pair x) {
  if (x.high != x.high) return x.high;
  if (x.high > 709.8) return kInfinity;
  if (x.high < -745.2) return 0.0;
  const double n = round_even_f64(x.high * 0x1.71547652b82fep+0);
  const Pair tail = two_product(n, kLn2Low);
  Pair r = two_sum(x.high - n * kLn2High, -tail.high);
  r = two_sum(r.high, r.low + (x.low - tail.low));
  constexpr double kCoefficients[] = {
      1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
      1.0 / 5040.0,       1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,      1.0 / 6.0,      0.5};
  double p = 0.0;
  for (const double c : kCoefficients) p = p * r.high + c;
  // 1 + r + r^2 p; the derivative carries r.low.
  const double square = r.high * r.high * p;
  const Pair sum = two_sum(1.0, r.high);
  const double y = sum.high + (sum.low + (square + r.low * (1.0 + r.high)));
  // Two factors, so that results below the normal range are rounded once.
  const int64_t exponent = static_cast<int64_t>(n);
  const int64_t half = exponent / 2;
  return y * bits_double(static_cast<uint64_t>(half + 1023) << 52) *
         bits_double(static_cast<uint64_t>(exponent - half + 1023) << 52);
}

// ln x for finite x > 0: x = 2^k m with m in [sqrt(1/2), sqrt(2)), ln m = 2 atanh((m - 1) / (m + 1)). The
// first two terms of the series are kept as pairs: the relative error is below 2^-62.
Pair log_pair(double x) {
  int64_t k = 0;
  if (x < 0x1p-1022) {
    x *= 0x1p54;
    k = -54;
  }
  uint64_t bits = double_bits(x);
  k += static_cast<int64_t>(bits >> 52) - 1023;
  bits = (bits & 0xfffffffffffffull) | 0x3ff0000000000000ull;
  double m = bits_double(bits);
  if (m >= 0x1.6a09e667f3bcdp+0) {
    m *= 0.5;
    ++k;
  }
  const double numerator = m - 1.0;  // exact
  const Pair denominator = two_sum(m, 1.0);
  const double quotient = numerator / denominator.high;
  const double remainder = __builtin_fma(-quotient, denominator.high, numerator) - quotient * denominator.low;
  const Pair s = {quotient, remainder / denominator.high};
  const Pair square = multiply(s, s);
  double p = 0.0;
  for (int odd = 25; odd >= 5; odd -= 2) p = p * square.high + 1.0 / odd;
  // atanh(s) = s + s^3 (1/3 + s^2 p)
  const Pair third = {0x1.5555555555555p-2, 0x1.5555555555555p-56};
  const Pair series = add(third, {square.high * p, 0.0});
  const Pair atanh = add(s, multiply(multiply(s, square), series));
  const double kd = static_cast<double>(k);
  const Pair tail = two_product(kd, kLn2Low);
  Pair result = add({kd * kLn2High, 0.0}, tail);
  return add(result, {2.0 * atanh.high, 2.0 * atanh.low});
}

// pi / 2 = kPi2A + kPi2B + kPi2C to 159 bits.
constexpr double kPi2A = 0x1.921fb54442d18p+0, kPi2B = 0x1.1a62633145c07p-54, kPi2C = -0x1.f1976b7ed8fbcp-110;

struct SinCos {
  double sine, cosine;
};

// x = n pi/2 + r with |r| <= pi/4: pi/2 in three parts (Cody & Waite 1980) with exact products, 159 bits in
// all; Taylor series of r.
SinCos sin_cos(double x) {
  if (!(x < 0x1p30 && x > -0x1p30)) return {kNan, kNan};
  const double n = round_even_f64(x * 0x1.45f306dc9c883p-1);
  const Pair p1 = two_product(n, kPi2A), p2 = two_product(n, kPi2B);
  const Pair a = two_sum(x - p1.high, -p1.low);  // the subtraction is exact (Sterbenz)
  const Pair b = two_sum(a.high, -p2.high);
  const Pair r = two_sum(b.high, ((a.low + b.low) - p2.low) - n * kPi2C);

  const double z = r.high * r.high;
  constexpr double kSine[] = {-1.0 / 121645100408832000.0,
                              1.0 / 355687428096000.0,
                              -1.0 / 1307674368000.0,
                              1.0 / 6227020800.0,
                              -1.0 / 39916800.0,
                              1.0 / 362880.0,
                              -1.0 / 5040.0,
                              1.0 / 120.0,
                              -1.0 / 6.0};
  constexpr double kCosine[] = {
      -1.0 / 6402373705728000.0, 1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0,
      -1.0 / 3628800.0,          1.0 / 40320.0,          -1.0 / 720.0,         1.0 / 24.0};
  double ps = 0.0, pc = 0.0;
  for (const double c : kSine) ps = ps * z + c;
  for (const double c : kCosine) pc = pc * z + c;
  // sin(h + l) = h + (h^3 ps + l (1 - h^2 / 2)); cos(h + l) = 1 - h^2 / 2 + (h^4 pc - h l)
  const double sine = r.high + (r.high * z * ps + r.low * (1.0 - 0.5 * z));
  const Pair square = two_product(r.high, r.high);
  const Pair leading = two_sum(1.0, -0.5 * square.high);
  const double cosine = leading.high + (leading.low + (z * z * pc - (0.5 * square.low + r.high * r.low)));
  switch (static_cast<int64_t>(n) & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

// The dimension whose wavelength turns `rotations` times within the original context (Peng et al. 2023,
// section 3.2).
double yarn_dimension(const RopeParams& params, double rotations) {
  constexpr double kTwoPi = 4.0 * kPi2A;
  return params.n_dims * log_f64(params.yarn_original_ctx / (rotations * kTwoPi)) /
         (2.0 * log_f64(params.base));
}

double floor_f64(double x) {
  const double rounded = round_even_f64(x);
  return rounded > x ? rounded - 1.0 : rounded;
}

}  // namespace

double exp_f64(double x) { return exp_pair({x, 0.0}); }

double log_f64(double x) {
  if (x != x || x == kInfinity) return x;
  if (x == 0.0) return -kInfinity;
  if (x < 0.0) return kNan;
  const Pair result = log_pair(x);
  return result.high + result.low;
}

double pow_f64(double base, double exponent) {
  if (exponent == 0.0 || base == 1.0) return 1.0;
  if (!(base > 0.0)) return base == 0.0 ? (exponent > 0.0 ? 0.0 : kInfinity) : kNan;
  if (base == kInfinity) return exponent > 0.0 ? kInfinity : (exponent < 0.0 ? 0.0 : kNan);
  const double estimate = exponent * log_f64(base);
  // Where the products below would overflow, the result already has.
  if (!(estimate < 1000.0 && estimate > -1000.0)) return exp_f64(estimate);
  return exp_pair(multiply(log_pair(base), {exponent, 0.0}));
}

double sin_f64(double x) { return sin_cos(x).sine; }
double cos_f64(double x) { return sin_cos(x).cosine; }

void rope_table(const RopeParams& params, uint64_t first, uint64_t n_positions, float* table) {
  const uint32_t n_pairs = params.n_dims / 2;
  double low = 0.0, high = 0.0;
  const bool yarn = params.yarn_factor > 0.0;
  if (yarn) {
    low = yarn_dimension(params, params.yarn_beta_fast);
    high = yarn_dimension(params, params.yarn_beta_slow);
    if (params.yarn_rounded) {
      low = floor_f64(low);
      high = -floor_f64(-high);
    }
    low = low > 0.0 ? low : 0.0;
    high = high < params.n_dims - 1.0 ? high : params.n_dims - 1.0;
  }
  const double width = high - low > 0.001 ? high - low : 0.001;
  std::vector<double> frequencies(n_pairs);
  for (uint32_t pair = 0; pair < n_pairs; ++pair) {
    double frequency = pow_f64(params.base, -2.0 * pair / params.n_dims);
    if (!params.freq_factors.empty()) frequency = frequency / static_cast<double>(params.freq_factors[pair]);
    if (yarn) {
      // 0: as trained (fast dimensions); 1: interpolated (slow ones).
      const double ramp = (pair - low) / width;
      const double share = ramp < 0.0 ? 0.0 : (ramp > 1.0 ? 1.0 : ramp);
      frequency = frequency * (1.0 - share) + frequency / params.yarn_factor * share;
    }
    frequencies[pair] = frequency * params.scale;
  }
  const double magnitude = params.yarn_attention_factor;
  for (uint64_t i = 0; i < n_positions; ++i) {
    float* out = table + i * params.n_dims;
    for (uint32_t pair = 0; pair < n_pairs; ++pair) {
      const SinCos value = sin_cos(static_cast<double>(first + i) * frequencies[pair]);
      out[2 * pair] = static_cast<float>(value.cosine * magnitude);
      out[2 * pair + 1] = static_cast<float>(value.sine * magnitude);
    }
  }
}

}  // namespace orcd::numerics
