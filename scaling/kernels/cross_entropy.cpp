// Cross-entropy of rows of logits, bf16 or float32, and its gradient: a row stays in cache, e^x is taken once each way, and
// all arithmetic is float32. A target below zero counts for nothing.
#include <limits>

#include "vectors.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

namespace {

constexpr float LEAST = -87.0f;  // e^LEAST is nothing beside the largest term, e^0

inline float single(float x) { return x; }
inline float single(bf16 x) {
  uint32_t bits = uint32_t(x.bits) << 16;
  float y;
  std::memcpy(&y, &bits, 4);
  return y;
}
inline void shorten(float* p, vec x) { store(p, x); }
inline void shorten(bf16* p, vec x) {
#if defined(__AVX512BF16__)
  __m256bh half = _mm512_cvtneps_pbh(reinterpret_cast<__m512>(x));
  std::memcpy(p, &half, sizeof half);
#else
  narrow(p, x);
#endif
}
// The last logits of a row, filled up with `filling`, and back.
template <class T>
inline vec widen_some(const T* p, int64_t n, float filling) {
  vec x = splat(filling);
  for (int64_t k = 0; k < n; k++) x[k] = single(p[k]);
  return x;
}
template <class T>
inline void shorten_some(T* p, int64_t n, vec x) {
  T out[LANES];
  shorten(out, x);
  std::memcpy(p, out, n * sizeof(T));
}
inline float largest(vec x) {
  float y = x[0];
  for (int k = 1; k < LANES; k++) y = y > x[k] ? y : x[k];
  return y;
}
inline float total(vec x) {
  float y = 0.0f;
  for (int k = 0; k < LANES; k++) y += x[k];
  return y;
}
inline vec decayed(vec x) { return exponential_within(maximum(x, splat(LEAST))); }  // e^x of x <= 0; a NaN is lost

template <class T>
void forward(const T* logits, const int64_t* targets, int64_t rows, int64_t vocab, float* nats, float* normalizer) {
  const int64_t whole = vocab / LANES * LANES, left = vocab - whole;
  const float none = -std::numeric_limits<float>::infinity();
  for (int64_t r = 0; r < rows; r++) {
    const T* x = logits + r * vocab;
    vec top = widen_some(x + whole, left, none);
    ivec bad = top != top;
    for (int64_t j = 0; j < whole; j += LANES) {
      vec y = widen(x + j);
      top = maximum(top, y);
      bad |= y != y;
    }
    const float most = largest(top);
    const vec shift = splat(most);
    vec even = vec{}, odd = vec{};
    int64_t j = 0;
    for (; j + 2 * LANES <= whole; j += 2 * LANES) {
      even += decayed(widen(x + j) - shift);
      odd += decayed(widen(x + j + LANES) - shift);
    }
    if (j < whole) even += decayed(widen(x + j) - shift);
    for (int64_t k = 0; k < left; k++) odd[k] += std::exp(single(x[whole + k]) - most);
    float log_sum = most + std::log(total(even + odd));
    for (int k = 0; k < LANES; k++)
      if (bad[k]) log_sum = std::numeric_limits<float>::quiet_NaN();
    normalizer[r] = log_sum;
    nats[r] = targets[r] < 0 ? 0.0f : log_sum - single(x[targets[r]]);
  }
}

template <class T>
void backward(const T* logits, const int64_t* targets, const float* normalizer, const float* grad, int64_t rows,
              int64_t vocab, T* out) {
  const int64_t whole = vocab / LANES * LANES, left = vocab - whole;
  for (int64_t r = 0; r < rows; r++) {
    const T* x = logits + r * vocab;
    T* d = out + r * vocab;
    const int64_t target = targets[r];
    if (target < 0) {
      std::memset(d, 0, vocab * sizeof(T));
      continue;
    }
    const float log_sum = normalizer[r];
    // A row without a loss has no gradient either: NaN, as its normalizer is.
    const vec shift = splat(log_sum), factor = splat(log_sum == log_sum ? grad[r] : log_sum);
    const auto share = [&](vec y) { return decayed(y - shift) * factor; };
    for (int64_t j = 0; j < whole; j += LANES) shorten(d + j, share(widen(x + j)));
    if (left) shorten_some(d + whole, left, share(widen_some(x + whole, left, 0.0f)));
    const int64_t block = target / LANES * LANES, n = block < whole ? LANES : left;
    vec y = share(widen_some(x + block, n, 0.0f));
    y[target - block] -= grad[r];
    shorten_some(d + block, n, y);
  }
}

}  // namespace

extern "C" {

void cross_entropy_forward(int half, const void* logits, const int64_t* targets, int64_t rows, int64_t vocab, float* nats,
                           float* normalizer) {
  if (half) forward(static_cast<const bf16*>(logits), targets, rows, vocab, nats, normalizer);
  else forward(static_cast<const float*>(logits), targets, rows, vocab, nats, normalizer);
}

void cross_entropy_backward(int half, const void* logits, const int64_t* targets, const float* normalizer,
                            const float* grad, int64_t rows, int64_t vocab, void* out) {
  if (half)
    backward(static_cast<const bf16*>(logits), targets, normalizer, grad, rows, vocab, static_cast<bf16*>(out));
  else
    backward(static_cast<const float*>(logits), targets, normalizer, grad, rows, vocab, static_cast<float*>(out));
}
}
