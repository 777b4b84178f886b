// Sixteen float32 lanes at once (eight where the processor's vectors are shorter), and what the kernels do with them: loads and stores of float32 and bf16, e^x.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int LANES = 16;
#else
constexpr int LANES = 8;  // longer ones than the processor's own are kept in memory, at a tenth of the speed
#endif
typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float vec_u __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
typedef uint16_t hvec __attribute__((vector_size(2 * LANES)));
typedef uint16_t hvec_u __attribute__((vector_size(2 * LANES), aligned(2)));
typedef uint8_t bvec __attribute__((vector_size(LANES)));

inline vec splat(float x) { return x - vec{}; }
inline ivec splat(int x) { return x - ivec{}; }
inline vec load(const float* p) { return *reinterpret_cast<const vec_u*>(p); }
inline void store(float* p, vec x) { *reinterpret_cast<vec_u*>(p) = x; }
inline vec maximum(vec a, vec b) { return a > b ? a : b; }

// e^x to about 1e-7 relative for |x| <= 87: 2^n · e^r, |r| <= ln2/2; adding the magic constant rounds to n and leaves n in
// the low bits. A NaN stays one.
inline vec exponential_within(vec x) {
  vec t = x * 1.44269504088896341f + 12582912.0f;
  vec n = t - 12582912.0f;
  vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
  vec p = ((((1.9875691500e-4f * r + 1.3981999507e-3f) * r + 8.3334519073e-3f) * r + 4.1665795894e-2f) * r + 1.6666665459e-1f) * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  return p * reinterpret_cast<vec>((reinterpret_cast<ivec>(t) << 23) + (127 << 23));
}
// The same for x <= 87, exactly 0 below -87 and for a NaN, so that a masked key has no weight at all.
inline vec exponential(vec given) {
  vec p = exponential_within(maximum(given, splat(-87.0f)));
  return given > splat(-87.0f) ? p : vec{};
}

struct bf16 { uint16_t bits; };
inline vec widen(const float* p) { return load(p); }
inline vec widen(const bf16* p) {
  hvec h = *reinterpret_cast<const hvec_u*>(p);
  return reinterpret_cast<vec>(__builtin_convertvector(h, uvec) << 16);
}
inline void narrow(float* p, vec x) { store(p, x); }
inline void narrow(bf16* p, vec x) {  // to nearest, ties to even; a NaN keeps its sign and stays a NaN
  uvec u = reinterpret_cast<uvec>(x);
  uvec rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
  uvec nan = reinterpret_cast<uvec>(x != x);
  *reinterpret_cast<hvec_u*>(p) = __builtin_convertvector((nan & ((u >> 16) | 64)) | (~nan & rounded), hvec);
}

inline int least(int a, int b) { return a < b ? a : b; }
inline int most(int a, int b) { return a > b ? a : b; }

}  // namespace
