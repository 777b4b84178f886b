// The recurrence of one LSTM layer over time, forward and backward, a few windows at a time (Hochreiter and Schmidhuber
// 1997; forget gate of Gers et al. 2000).
//
//   [i f g o] = x_t + W h_(t-1) + b,   c_t = σ(f) c_(t-1) + σ(i) tanh(g),   h_t = σ(o) tanh(c_t),   h = c = 0 before t = 0
//
// x is the layer's input product, which is one large product over all steps and not done here; nor is W's gradient.
// The sixteen lanes are hidden units: a tile holds all four gates of its units, so that products and gate arithmetic of
// a step never leave the registers. Four windows share every load of a weight. Sums and states are float32; operands of
// the product have the tensors' type, in bf16 by the processor's own dot product where it has one. All is time-major: a
// step's windows lie side by side. Not thread-parallel: one trial, one core.
#include "vectors.h"
#if defined(__AVX512F__)
#include <immintrin.h>
#endif

namespace {

constexpr int GATES = 4;

// Zeros, on whole cache lines: a vector that straddles two of them takes two loads.
template <class E>
struct Lines {
  std::vector<vec> data;
  explicit Lines(size_t n) : data(n * sizeof(E) / sizeof(vec) + 1) {}
  E* at(size_t i = 0) { return reinterpret_cast<E*>(data.data()) + i; }
};

// The operands of a product: `E` is what they are kept as, of which a 32-bit lane holds PER along the summed dimension.
template <class T>
struct Operand;
template <>
struct Operand<float> {
  typedef float E;
  static constexpr int PER = 1;
  static vec add(vec sum, vec a, vec b) { return sum + a * b; }
  static void put(E* p, vec x) { store(p, x); }
  static E one(float x) { return x; }
};
#if defined(__AVX512BF16__)
template <>
struct Operand<bf16> {
  typedef bf16 E;
  static constexpr int PER = 2;
  static vec add(vec sum, vec a, vec b) {
    return reinterpret_cast<vec>(_mm512_dpbf16_ps(reinterpret_cast<__m512>(sum), reinterpret_cast<__m512bh>(a), reinterpret_cast<__m512bh>(b)));
  }
  static void put(E* p, vec x) { narrow(p, x); }
  static E one(bf16 x) { return x; }
};
#else
template <>
struct Operand<bf16> : Operand<float> {
  static void put(E* p, vec x) {
    bf16 rounded[LANES];
    narrow(rounded, x);
    store(p, widen(rounded));
  }
  static E one(bf16 x) { uint32_t u = uint32_t(x.bits) << 16; float f; memcpy(&f, &u, 4); return f; }
};
#endif

template <class E>
inline vec lanes(const E* p) { vec x; memcpy(&x, p, sizeof x); return x; }
template <class E>
inline vec everywhere(const E* p) { int32_t w; memcpy(&w, p, sizeof w); return reinterpret_cast<vec>(splat(w)); }

// The first n lanes of a vector in memory; the others read as zero and are not written.
template <class T>
inline vec read(const T* p, int n) {
  if (n == LANES) return widen(p);
  T all[LANES] = {};
  for (int i = 0; i < n; i++) all[i] = p[i];
  return widen(all);
}
template <class T>
inline void write(T* p, vec x, int n) {
  if (n == LANES) return narrow(p, x);
  T all[LANES];
  narrow(all, x);
  for (int i = 0; i < n; i++) p[i] = all[i];
}
#if defined(__AVX512BW__) && defined(__AVX512VL__)
template <>
inline vec read(const float* p, int n) { return reinterpret_cast<vec>(_mm512_maskz_loadu_ps(__mmask16((1u << n) - 1), p)); }
template <>
inline vec read(const bf16* p, int n) {
  hvec h = reinterpret_cast<hvec>(_mm256_maskz_loadu_epi16(__mmask16((1u << n) - 1), p));
  return reinterpret_cast<vec>(__builtin_convertvector(h, uvec) << 16);
}
template <>
inline void write(float* p, vec x, int n) { _mm512_mask_storeu_ps(p, __mmask16((1u << n) - 1), reinterpret_cast<__m512>(x)); }
template <>
inline void write(bf16* p, vec x, int n) {
  bf16 all[LANES];
  narrow(all, x);
  _mm256_mask_storeu_epi16(p, __mmask16((1u << n) - 1), _mm256_loadu_si256(reinterpret_cast<const __m256i*>(all)));
}
#endif

inline vec sigmoid(vec x) {  // a NaN stays one, so that a diverged run is seen: both choices take x where they compare false
  vec y = splat(-87.0f) > x ? splat(-87.0f) : x;
  y = splat(87.0f) < y ? splat(87.0f) : y;
  return 1.0f / (1.0f + exponential_within(-y));
}
inline vec tanh_of(vec x) { return 2.0f * sigmoid(2.0f * x) - 1.0f; }

// sum[r][v] = Σ_k x[r][k] · weights[k][v]; as many sums at once as keep two multiply-add units of latency four busy.
template <class T, int R, int NV, class E = typename Operand<T>::E>
inline void product(const E* weights, const E* x, int row, int terms, vec (&sum)[R][NV]) {
  typedef Operand<T> O;
  constexpr int U = R * NV >= 12 ? 1 : R * NV >= 6 ? 2 : 4;
  vec part[U][R][NV] = {};
  for (int k = 0; k < terms; k += U * O::PER)
#pragma GCC unroll 4
    for (int u = 0; u < U; u++, weights += NV * LANES * O::PER) {
      vec w[NV];
#pragma GCC unroll 4
      for (int v = 0; v < NV; v++) w[v] = lanes(weights + v * LANES * O::PER);
#pragma GCC unroll 4
      for (int r = 0; r < R; r++) {
        vec given = everywhere(x + r * row + k + u * O::PER);
#pragma GCC unroll 4
        for (int v = 0; v < NV; v++) part[u][r][v] = O::add(part[u][r][v], w[v], given);
      }
    }
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++) {
      sum[r][v] = part[0][r][v];
      for (int u = 1; u < U; u++) sum[r][v] += part[u][r][v];
    }
}

struct Shape {
  int64_t steps, batch;
  int width, tiles;
  Shape(const int64_t* given) : steps(given[0]), batch(given[1]), width(int(given[2])), tiles((width + LANES - 1) / LANES) {}
  int padded() const { return tiles * LANES; }
  int in_tile(int j) const { return least(LANES, width - j * LANES); }
};

// Weights as `product` reads them: of(k, v, lane) for each of `terms` summed elements, NV vectors of results.
template <class T, class F, class E = typename Operand<T>::E>
void lay_out(E* to, int terms, int n_vectors, F of) {
  constexpr int PER = Operand<T>::PER;
  for (int k = 0; k < terms; k += PER)
    for (int v = 0; v < n_vectors; v++)
      for (int lane = 0; lane < LANES; lane++)
        for (int p = 0; p < PER; p++) *to++ = of(k + p, v, lane);
}

template <class T, int R>
void forward(const Shape& s, int64_t first, const typename Operand<T>::E* weights, const float* bias, const T* given, T* out, float* gates, float* cells) {
  typedef typename Operand<T>::E E;
  int D = s.width, P = s.padded();
  Lines<E> state(2 * R * P);
  Lines<float> cell(R * P);
  for (int64_t t = 0; t < s.steps; t++) {
    const E* before = state.at((t & 1) * R * P);
    E* after = state.at((~t & 1) * R * P);
    int64_t at = t * s.batch + first;
    for (int j = 0; j < s.tiles; j++) {
      int n = s.in_tile(j), unit = j * LANES;
      vec sum[R][GATES];
      product<T, R, GATES>(weights + int64_t(j) * P * GATES * LANES, before, P, P, sum);
      for (int r = 0; r < R; r++) {
        for (int g = 0; g < GATES; g++) sum[r][g] += read(given + ((at + r) * GATES + g) * D + unit, n) + load(bias + g * P + unit);
        vec i = sigmoid(sum[r][0]), f = sigmoid(sum[r][1]), g = tanh_of(sum[r][2]), o = sigmoid(sum[r][3]);
        float* kept = cell.at(r * P + unit);
        vec c = f * load(kept) + i * g, h = o * tanh_of(c);
        store(kept, c);
        Operand<T>::put(after + r * P + unit, h);
        write(out + (at + r) * D + unit, h, n);
        if (!gates) continue;
        float* to = gates + (at + r) * GATES * D + unit;
        write(to, i, n), write(to + D, f, n), write(to + 2 * D, g, n), write(to + 3 * D, o, n);
        write(cells + (at + r) * D + unit, c, n);
      }
    }
  }
}

template <class T, int R, int NV, class E>
void hand_back(const E* weights, const E* d_gates, int P, float* d_state) {
  vec sum[R][NV];
  product<T, R, NV>(weights, d_gates, GATES * P, GATES * P, sum);
  for (int r = 0; r < R; r++)
    for (int v = 0; v < NV; v++) store(d_state + r * P + v * LANES, sum[r][v]);
}

template <class T, int R>
void backward(const Shape& s, int64_t first, const typename Operand<T>::E* weights, const float* gates, const float* cells, const T* d_out, T* d_given, float* d_bias) {
  typedef typename Operand<T>::E E;
  int D = s.width, P = s.padded();
  Lines<E> d_gates(R * GATES * P);
  Lines<float> d_state(R * P), d_cell(R * P);
  for (int64_t t = s.steps - 1; t >= 0; t--) {
    int64_t at = t * s.batch + first;
    for (int j = 0; j < s.tiles; j++) {
      int n = s.in_tile(j), unit = j * LANES;
      for (int r = 0; r < R; r++) {
        const float* from = gates + (at + r) * GATES * D + unit;
        vec i = read(from, n), f = read(from + D, n), g = read(from + 2 * D, n), o = read(from + 3 * D, n);
        vec squashed = tanh_of(read(cells + (at + r) * D + unit, n));
        vec earlier = t ? read(cells + (at + r - s.batch) * D + unit, n) : vec{};
        vec dh = read(d_out + (at + r) * D + unit, n) + load(d_state.at(r * P + unit));
        float* carried = d_cell.at(r * P + unit);
        vec dc = load(carried) + dh * o * (1.0f - squashed * squashed);
        store(carried, dc * f);
        vec d[GATES] = {dc * g * i * (1.0f - i), dc * earlier * f * (1.0f - f), dc * i * (1.0f - g * g), dh * squashed * o * (1.0f - o)};
        for (int q = 0; q < GATES; q++) {
          Operand<T>::put(d_gates.at((r * GATES + q) * P + unit), d[q]);
          write(d_given + ((at + r) * GATES + q) * D + unit, d[q], n);
          store(d_bias + q * P + unit, load(d_bias + q * P + unit) + d[q]);
        }
      }
    }
    for (int j = 0; t && j < s.tiles; j += 4) {
      const E* w = weights + int64_t(j) * LANES * GATES * P;
      float* to = d_state.at(j * LANES);
      switch (least(4, s.tiles - j)) {
        case 4: hand_back<T, R, 4>(w, d_gates.at(), P, to); break;
        case 3: hand_back<T, R, 3>(w, d_gates.at(), P, to); break;
        case 2: hand_back<T, R, 2>(w, d_gates.at(), P, to); break;
        default: hand_back<T, R, 1>(w, d_gates.at(), P, to);
      }
    }
  }
}

// Calls one<R>(first window) for windows in fours and the rest.
#define BY_FOURS(call)                                          \
  for (int64_t first = 0; first < s.batch; first += 4)          \
    switch (least(4, int(s.batch - first))) {                   \
      case 4: call(4); break;                                   \
      case 3: call(3); break;                                   \
      case 2: call(2); break;                                   \
      default: call(1);                                         \
    }

template <class T>
void run_forward(const Shape& s, const T* given, const float* bias, const T* recurrent, T* out, float* gates, float* cells) {
  typedef Operand<T> O;
  int D = s.width, P = s.padded();
  Lines<typename O::E> weights(size_t(GATES) * P * P);
  Lines<float> padded_bias(GATES * P);
  for (int g = 0; g < GATES; g++) memcpy(padded_bias.at(g * P), bias + g * D, sizeof(float) * D);
  for (int j = 0; j < s.tiles; j++)
    lay_out<T>(weights.at() + int64_t(j) * P * GATES * LANES, P, GATES, [&](int k, int g, int lane) {
      int unit = j * LANES + lane;
      return unit < D && k < D ? O::one(recurrent[(int64_t(g) * D + unit) * D + k]) : typename O::E{};
    });
#define CALL(R) forward<T, R>(s, first, weights.at(), padded_bias.at(), given, out, gates, cells)
  BY_FOURS(CALL)
#undef CALL
}

template <class T>
void run_backward(const Shape& s, const T* recurrent, const float* gates, const float* cells, const T* d_out, T* d_given, float* d_bias) {
  typedef Operand<T> O;
  int D = s.width, P = s.padded();
  Lines<typename O::E> weights(size_t(GATES) * P * P);
  Lines<float> padded_bias(GATES * P);
  for (int j = 0; j < s.tiles; j += 4)
    lay_out<T>(weights.at() + int64_t(j) * LANES * GATES * P, GATES * P, least(4, s.tiles - j), [&](int k, int v, int lane) {
      int unit = (j + v) * LANES + lane, g = k / P;
      return unit < D && k - g * P < D ? O::one(recurrent[(int64_t(g) * D + k - g * P) * D + unit]) : typename O::E{};
    });
#define CALL(R) backward<T, R>(s, first, weights.at(), gates, cells, d_out, d_given, padded_bias.at())
  BY_FOURS(CALL)
#undef CALL
  for (int g = 0; g < GATES; g++) memcpy(d_bias + g * D, padded_bias.at(g * P), sizeof(float) * D);
}

}  // namespace

// `half`: tensors are bf16, else float32. `shape` is T, B, D. Time-major: given and d_given (T, B, 4·D), out and d_out
// (T, B, D), of the tensors' type, as is recurrent (4·D, D); bias and d_bias (4·D), gates (T, B, 4·D) and cells (T, B, D)
// float32. gates and cells are null where no gradient will be asked for.
extern "C" void lstm_forward(int half, const int64_t* shape, const void* given, const float* bias, const void* recurrent, void* out, float* gates, float* cells) {
  Shape s(shape);
  if (half) run_forward(s, static_cast<const bf16*>(given), bias, static_cast<const bf16*>(recurrent), static_cast<bf16*>(out), gates, cells);
  else run_forward(s, static_cast<const float*>(given), bias, static_cast<const float*>(recurrent), static_cast<float*>(out), gates, cells);
}

extern "C" void lstm_backward(int half, const int64_t* shape, const void* recurrent, const float* gates, const float* cells, const void* d_out, void* d_given, float* d_bias) {
  Shape s(shape);
  if (half) run_backward(s, static_cast<const bf16*>(recurrent), gates, cells, static_cast<const bf16*>(d_out), static_cast<bf16*>(d_given), d_bias);
  else run_backward(s, static_cast<const float*>(recurrent), gates, cells, static_cast<const float*>(d_out), static_cast<float*>(d_given), d_bias);
}
