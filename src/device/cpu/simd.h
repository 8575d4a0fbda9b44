// How the kernels ask the compiler for what it would not do by itself.
#pragma once

// Where every access is checked, code that is inlined and unrolled takes minutes to compile, and its speed
// does not matter.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define ORCD_INLINE inline
#define ORCD_UNROLL
#else
#define ORCD_INLINE inline __attribute__((always_inline))
#define ORCD_UNROLL _Pragma("GCC unroll 16")
#endif
