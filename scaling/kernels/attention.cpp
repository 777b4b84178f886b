// Attention over short sequences, forward and backward, one head of one window at a time, all of it in cache.
//
//   S = scale · rot(Q) rot(K)ᵀ + bias,   P = softmax over the keys that a query may see,   O = (P ∘ kept) V
//
// `kept` is 1 / (1 - dropout) or 0 where there is dropout, else 1.
// Probabilities are never stored: the backward pass recomputes them from each row's maximum and sum, as Dao et al. 2022
// (arXiv 2205.14135) do. LANES queries lie in the lanes of a vector, so that maxima and sums over keys need no step
// across lanes, and every product is a broadcast times a vector. Keys that no query of a block may see are skipped.
// Arithmetic is float32 whatever the type of the tensors. Not thread-parallel: one trial, one core. HEAD_WIDTH is given on
// the compiler's command line, one library a width, so that every inner loop has a known length.
#include <utility>

#include "vectors.h"

namespace {

constexpr int WIDTH = HEAD_WIDTH, HALF = WIDTH / 2;
constexpr int STRIDE = (WIDTH + LANES - 1) / LANES * LANES;  // floats from row to row of a head in scratch
constexpr int TILE = 8;  // independent sums at once: what keeps two multiply-add units of latency four busy
constexpr float NEVER = -1e30f;

template <int... I>
constexpr ivec counted(std::integer_sequence<int, I...>) { return ivec{I...}; }
constexpr ivec LANE = counted(std::make_integer_sequence<int, LANES>());

inline vec select(ivec mask, vec a, vec b) { return reinterpret_cast<vec>((mask & reinterpret_cast<ivec>(a)) | (~mask & reinterpret_cast<ivec>(b))); }

inline float widen_one(const float* p) { return *p; }
inline float widen_one(const bf16* p) { uint32_t u = uint32_t(p->bits) << 16; float f; memcpy(&f, &u, 4); return f; }
inline void narrow_one(float* p, float x) { *p = x; }
inline void narrow_one(bf16* p, float x) { bf16 all[LANES]; narrow(all, splat(x)); *p = all[0]; }

template <int D, int... I>
inline void exchange(vec& a, vec& b, std::integer_sequence<int, I...>) {
  vec low = __builtin_shufflevector(a, b, (I & D ? LANES + I - D : I)...);
  vec high = __builtin_shufflevector(a, b, (I & D ? LANES + I : I + D)...);
  a = low, b = high;
}
template <int D>
inline void transpose(vec* x) {  // blocks of D lanes, then smaller ones
  for (int i = 0; i < LANES; i++)
    if (!(i & D)) exchange<D>(x[i], x[i + D], std::make_integer_sequence<int, LANES>());
  if constexpr (D > 1) transpose<D / 2>(x);
}

struct Rules {  // which keys a query may see, and what is added to its score
  int causal, window;      // window 0: all; w: |query - key| < w
  const int64_t* prefix;   // (B) keys below it are seen by all; null: none
  const int64_t* lengths;  // (B) keys from it on are padding; null: none
  const float* bias;       // (H, queries + keys - 1), read at query - key + keys - 1; null: none
  const uint8_t* kept;     // (B, H, keys, queries) 1 where a weight stays, 0 where it is dropped; null: all stay
  float factor;            // of the weights that stay
};
struct Shape { int64_t batch, heads, queries, keys; };
struct Reach { int first, last, free_from, free_to; };  // keys to look at; from free_from to free_to all are seen

inline int padded(int n) { return (n + LANES - 1) / LANES * LANES; }

inline Reach reach(const Rules& rules, const Shape& shape, int b, int block) {
  int keys = int(shape.keys), top = least(block + LANES, int(shape.queries));
  int prefix = rules.prefix ? int(rules.prefix[b]) : 0;
  Reach r{0, keys, 0, keys};
  if (rules.causal) r.last = most(top, prefix), r.free_to = most(block + 1, prefix);
  if (rules.window > 0) {
    if (!prefix) r.first = most(0, block - rules.window + 1);
    r.free_from = most(0, top - rules.window);
    if (!rules.causal) r.last = least(r.last, top - 1 + rules.window), r.free_to = least(r.free_to, block + rules.window);
  }
  r.last = least(least(r.last, keys), rules.lengths ? int(rules.lengths[b]) : keys);
  r.free_to = least(r.free_to, r.last);
  return r;
}

// Bias and masks on the scores (keys, LANES) of the queries from `block` on.
inline void restrict_to(const Rules& rules, const Shape& shape, int b, int h, int block, const Reach& r, float* s) {
  if (rules.bias) {
    int span = int(shape.queries + shape.keys) - 1, n = least(LANES, int(shape.queries) - block);
    const float* row = rules.bias + int64_t(h) * span + block + int(shape.keys) - 1;
    for (int j = r.first; j < r.last; j++) {
      if (n == LANES) store(s + j * LANES, load(s + j * LANES) + load(row - j));
      else for (int i = 0; i < n; i++) s[j * LANES + i] += row[i - j];
    }
  }
  int prefix = rules.prefix ? int(rules.prefix[b]) : 0;
  ivec query = LANE + block;
  for (int j = r.first; j < r.last; j++) {
    if (j >= r.free_from && j < r.free_to) { j = r.free_to - 1; continue; }
    ivec seen = splat(j < prefix ? -1 : 0), near = splat(-1);
    if (rules.causal) near &= query >= splat(j);
    if (rules.window > 0) near &= (query - j < splat(rules.window)) & (j - query < splat(rules.window));
    store(s + j * LANES, select(seen | near, load(s + j * LANES), splat(NEVER)));
  }
}

// What dropout multiplies the weights of one key by, for the queries from `block` on.
inline vec kept_of(const Rules& rules, const Shape& shape, int b, int h, int block, int key) {
  const uint8_t* from = rules.kept + ((b * shape.heads + h) * shape.keys + key) * shape.queries + block;
  bvec some = {};
  int n = least(LANES, int(shape.queries) - block);
  if (n == LANES) memcpy(&some, from, LANES);
  else memcpy(&some, from, size_t(n));
  return __builtin_convertvector(__builtin_convertvector(some, ivec), vec) * rules.factor;
}

template <class T>
void read(const T* from, float* to) {
  int k = 0;
  for (; k + LANES <= WIDTH; k += LANES) store(to + k, widen(from + k));
  for (; k < WIDTH; k++) to[k] = widen_one(from + k);
}
template <class T>
void write(const float* from, T* to) {
  int k = 0;
  for (; k + LANES <= WIDTH; k += LANES) narrow(to + k, load(from + k));
  for (; k < WIDTH; k++) narrow_one(to + k, from[k]);
}
// Rotates a row by its position's angles; `sign` -1 rotates back.
inline void turn(float* __restrict x, const float* __restrict c, const float* __restrict s, float sign) {
  for (int k = 0; k < HALF; k++) {
    float a = x[k], b = x[HALF + k];
    x[k] = a * c[k] - sign * b * s[k];
    x[HALF + k] = b * c[k] + sign * a * s[k];
  }
}
template <class T>
void unpack(const T* from, int64_t row, int n, const float* cos, const float* sin, float factor, float* to) {
  for (int i = 0; i < n; i++, from += row, to += STRIDE) {
    read(from, to);
    if (cos) turn(to, cos + i * HALF, sin + i * HALF, 1.0f);
    if (factor != 1.0f)
      for (int k = 0; k < WIDTH; k++) to[k] *= factor;
  }
}
template <class T>
void pack(float* from, int n, const float* cos, const float* sin, float factor, T* to, int64_t row) {
  for (int i = 0; i < n; i++, from += STRIDE, to += row) {
    if (cos) turn(from, cos + i * HALF, sin + i * HALF, -1.0f);
    if (factor != 1.0f)
      for (int k = 0; k < WIDTH; k++) from[k] *= factor;
    write(from, to);
  }
}

// (LANES, STRIDE) rows to (STRIDE, LANES) columns, and back.
inline void columns_of(const float* rows, float* out) {
  for (int p = 0; p < STRIDE; p += LANES) {
    vec x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = load(rows + i * STRIDE + p);
    transpose<LANES / 2>(x);
    for (int i = 0; i < LANES; i++) store(out + (p + i) * LANES, x[i]);
  }
}
inline void rows_of(const float* columns, float* out) {
  for (int p = 0; p < STRIDE; p += LANES) {
    vec x[LANES];
    for (int i = 0; i < LANES; i++) x[i] = load(columns + (p + i) * LANES);
    transpose<LANES / 2>(x);
    for (int i = 0; i < LANES; i++) store(out + i * STRIDE + p, x[i]);
  }
}

// out[j][lane] = Σ_k keys[j][k] · columns[k][lane]
inline void scores(const float* keys, const float* columns, int first, int last, float* out) {
  int j = first;
  for (; j + TILE <= last; j += TILE) {
    vec sum[TILE] = {};
    const float* r = keys + int64_t(j) * STRIDE;
    for (int k = 0; k < WIDTH; k++) {
      vec x = load(columns + k * LANES);
      for (int t = 0; t < TILE; t++) sum[t] += r[t * STRIDE + k] * x;
    }
    for (int t = 0; t < TILE; t++) store(out + (j + t) * LANES, sum[t]);
  }
  for (; j < last; j++) {
    vec sum = {};
    for (int k = 0; k < WIDTH; k++) sum += keys[int64_t(j) * STRIDE + k] * load(columns + k * LANES);
    store(out + j * LANES, sum);
  }
}

// out[k][lane] = Σ_j keys[j][k] · weights[j][lane]
template <int AT_ONCE>
inline void combine_some(const float* keys, const float* weights, int first, int last, float* out) {
  vec sum[AT_ONCE] = {};
  for (int j = first; j < last; j++) {
    vec x = load(weights + j * LANES);
    const float* r = keys + int64_t(j) * STRIDE;
    for (int t = 0; t < AT_ONCE; t++) sum[t] += r[t] * x;
  }
  for (int t = 0; t < AT_ONCE; t++) store(out + t * LANES, sum[t]);
}
inline void combine(const float* keys, const float* weights, int first, int last, float* out) {
  constexpr int REST = WIDTH % LANES;
  int k = 0;
  for (; k + LANES <= WIDTH; k += LANES) combine_some<LANES>(keys + k, weights, first, last, out + k * LANES);
  if constexpr (REST != 0) combine_some<REST>(keys + k, weights, first, last, out + k * LANES);
}

// sums[j][:] += Σ_lane weights[j][lane] · rows[lane][:]
template <int PARTS>
inline void spread_parts(const float* weights, const float* rows, int first, int last, float* sums) {
  constexpr int AT_ONCE = PARTS == 1 ? 8 : 4;
  int j = first;
  for (; j + AT_ONCE <= last; j += AT_ONCE) {
    vec sum[AT_ONCE][PARTS];
    for (int t = 0; t < AT_ONCE; t++)
      for (int p = 0; p < PARTS; p++) sum[t][p] = load(sums + int64_t(j + t) * STRIDE + p * LANES);
    for (int i = 0; i < LANES; i++)
      for (int p = 0; p < PARTS; p++) {
        vec x = load(rows + i * STRIDE + p * LANES);
        for (int t = 0; t < AT_ONCE; t++) sum[t][p] += weights[(j + t) * LANES + i] * x;
      }
    for (int t = 0; t < AT_ONCE; t++)
      for (int p = 0; p < PARTS; p++) store(sums + int64_t(j + t) * STRIDE + p * LANES, sum[t][p]);
  }
  for (; j < last; j++)
    for (int p = 0; p < PARTS; p++) {
      vec sum = load(sums + int64_t(j) * STRIDE + p * LANES);
      for (int i = 0; i < LANES; i++) sum += weights[j * LANES + i] * load(rows + i * STRIDE + p * LANES);
      store(sums + int64_t(j) * STRIDE + p * LANES, sum);
    }
}
inline void spread(const float* weights, const float* rows, int first, int last, float* sums) {
  constexpr int PARTS = STRIDE / LANES;
  for (int p = 0; p + 2 <= PARTS; p += 2) spread_parts<2>(weights, rows + p * LANES, first, last, sums + p * LANES);
  if constexpr (PARTS % 2 == 1) spread_parts<1>(weights, rows + (PARTS - 1) * LANES, first, last, sums + (PARTS - 1) * LANES);
}

struct Scratch {
  std::vector<float> data;
  size_t used = 0;
  void reset(size_t floats) {
    if (data.size() < floats + LANES) data.assign(floats + LANES, 0.0f);
    used = (LANES - (reinterpret_cast<uintptr_t>(data.data()) / 4) % LANES) % LANES;  // whole cache lines
  }
  float* take(size_t floats) { float* p = data.data() + used; used += (floats + LANES - 1) / LANES * LANES; return p; }
  float* zeros(size_t floats) { float* p = take(floats); memset(p, 0, floats * sizeof(float)); return p; }
};
thread_local Scratch scratch;

template <class T>
struct Tensors {  // q (B, queries, ...), k and v (B, keys, ...): rows of tokens `row` elements apart, heads WIDTH apart
  const T *q, *k, *v;
  int64_t q_row, kv_row;
  const float *cos, *sin;  // (max(queries, keys), HALF), or null
};

template <class T>
void forward(const Shape& s, const Rules& rules, const Tensors<T>& x, T* out, float* stats) {
  int nq = padded(int(s.queries)), queries = int(s.queries), keys = int(s.keys);
  float scale = 1.0f / std::sqrt(float(WIDTH));
  scratch.reset(size_t(nq + 2 * keys + LANES) * STRIDE + size_t(keys + 2 * STRIDE) * LANES + 8 * LANES);
  float *Q = scratch.zeros(size_t(nq) * STRIDE), *K = scratch.zeros(size_t(keys) * STRIDE), *V = scratch.zeros(size_t(keys) * STRIDE);
  float *P = scratch.take(keys * LANES), *QT = scratch.take(STRIDE * LANES), *OT = scratch.take(STRIDE * LANES), *O = scratch.take(STRIDE * LANES);
  for (int64_t b = 0; b < s.batch; b++)
    for (int64_t h = 0; h < s.heads; h++) {
      unpack(x.q + b * queries * x.q_row + h * WIDTH, x.q_row, queries, x.cos, x.sin, scale, Q);
      unpack(x.k + b * keys * x.kv_row + h * WIDTH, x.kv_row, keys, x.cos, x.sin, 1.0f, K);
      unpack(x.v + b * keys * x.kv_row + h * WIDTH, x.kv_row, keys, nullptr, nullptr, 1.0f, V);
      for (int block = 0; block < queries; block += LANES) {
        Reach r = reach(rules, s, int(b), block);
        columns_of(Q + block * STRIDE, QT);
        scores(K, QT, r.first, r.last, P);
        restrict_to(rules, s, int(b), int(h), block, r, P);
        vec top = splat(NEVER), sum = {};
        for (int j = r.first; j < r.last; j++) top = maximum(top, load(P + j * LANES));
        for (int j = r.first; j < r.last; j++) {
          vec e = exponential(load(P + j * LANES) - top);
          store(P + j * LANES, rules.kept ? e * kept_of(rules, s, int(b), int(h), block, j) : e);
          sum += e;
        }
        combine(V, P, r.first, r.last, OT);
        vec inverse = 1.0f / maximum(sum, splat(1e-30f));
        for (int c = 0; c < STRIDE; c++) store(OT + c * LANES, load(OT + c * LANES) * inverse);
        rows_of(OT, O);
        float* stat = stats + ((b * s.heads + h) * nq + block) * 2;
        store(stat, top), store(stat + LANES, inverse);
        for (int i = 0; i < least(LANES, queries - block); i++) write(O + i * STRIDE, out + ((b * queries + block + i) * s.heads + h) * WIDTH);
      }
    }
}

template <class T>
void backward(const Shape& s, const Rules& rules, const Tensors<T>& x, const float* stats, const T* dout, T* dq, T* dk, T* dv, float* dbias) {
  int nq = padded(int(s.queries)), queries = int(s.queries), keys = int(s.keys);
  float scale = 1.0f / std::sqrt(float(WIDTH));
  size_t rows_q = size_t(nq) * STRIDE, rows_k = size_t(keys) * STRIDE, block_floats = size_t(keys) * LANES;
  scratch.reset(3 * rows_q + 4 * rows_k + 2 * block_floats + 3 * size_t(STRIDE) * LANES + 16 * LANES);
  float *Q = scratch.zeros(rows_q), *DO = scratch.zeros(rows_q), *DQ = scratch.zeros(rows_q);
  float *K = scratch.zeros(rows_k), *V = scratch.zeros(rows_k), *DK = scratch.take(rows_k), *DV = scratch.take(rows_k);
  float *P = scratch.take(block_floats), *DS = scratch.take(block_floats);
  float *QT = scratch.take(STRIDE * LANES), *DOT = scratch.take(STRIDE * LANES), *DQT = scratch.take(STRIDE * LANES);
  for (int64_t b = 0; b < s.batch; b++)
    for (int64_t h = 0; h < s.heads; h++) {
      int64_t qo = b * queries * x.q_row + h * WIDTH, ko = b * keys * x.kv_row + h * WIDTH, o_row = s.heads * WIDTH;
      unpack(x.q + qo, x.q_row, queries, x.cos, x.sin, scale, Q);
      unpack(x.k + ko, x.kv_row, keys, x.cos, x.sin, 1.0f, K);
      unpack(x.v + ko, x.kv_row, keys, nullptr, nullptr, 1.0f, V);
      unpack(dout + (b * queries * s.heads + h) * WIDTH, o_row, queries, nullptr, nullptr, 1.0f, DO);
      memset(DK, 0, sizeof(float) * rows_k);
      memset(DV, 0, sizeof(float) * rows_k);
      for (int block = 0; block < queries; block += LANES) {
        Reach r = reach(rules, s, int(b), block);
        columns_of(Q + block * STRIDE, QT);
        columns_of(DO + block * STRIDE, DOT);
        const float* stat = stats + ((b * s.heads + h) * nq + block) * 2;
        vec top = load(stat), inverse = load(stat + LANES), delta = {};
        scores(K, QT, r.first, r.last, P);
        restrict_to(rules, s, int(b), int(h), block, r, P);
        scores(V, DOT, r.first, r.last, DS);
        for (int j = r.first; j < r.last; j++) {
          vec p = exponential(load(P + j * LANES) - top) * inverse;
          store(P + j * LANES, p);
          if (rules.kept) store(DS + j * LANES, load(DS + j * LANES) * kept_of(rules, s, int(b), int(h), block, j));
          delta += p * load(DS + j * LANES);
        }
        for (int j = r.first; j < r.last; j++) store(DS + j * LANES, load(P + j * LANES) * (load(DS + j * LANES) - delta));
        if (rules.kept)
          for (int j = r.first; j < r.last; j++) store(P + j * LANES, load(P + j * LANES) * kept_of(rules, s, int(b), int(h), block, j));
        if (dbias) {
          int n = least(LANES, queries - block);
          float* row = dbias + h * (queries + keys - 1) + block + keys - 1;
          for (int j = r.first; j < r.last; j++) {
            if (n == LANES) store(row - j, load(row - j) + load(DS + j * LANES));
            else for (int i = 0; i < n; i++) row[i - j] += DS[j * LANES + i];
          }
        }
        spread(P, DO + block * STRIDE, r.first, r.last, DV);
        spread(DS, Q + block * STRIDE, r.first, r.last, DK);
        combine(K, DS, r.first, r.last, DQT);
        rows_of(DQT, DQ + block * STRIDE);
      }
      pack(DQ, queries, x.cos, x.sin, scale, dq + qo, x.q_row);
      pack(DK, keys, x.cos, x.sin, 1.0f, dk + ko, x.kv_row);
      pack(DV, keys, nullptr, nullptr, 1.0f, dv + ko, x.kv_row);
    }
}

template <class T>
Tensors<T> tensors(const void* q, int64_t q_row, const void* k, const void* v, int64_t kv_row, const float* cos, const float* sin) {
  return {static_cast<const T*>(q), static_cast<const T*>(k), static_cast<const T*>(v), q_row, kv_row, cos, sin};
}

}  // namespace

// `half`: tensors are bf16, else float32. `shape` is B, H, queries, keys. `stats` is (B, H, queries rounded up
// to 16, 2) floats, of which eight lanes use fewer. Pointers that may be null: prefix, lengths, bias, cos, sin, dbias,
// kept.
extern "C" void attention_forward(int half, const int64_t* shape, int causal, int window, const int64_t* prefix, const int64_t* lengths,
                                  const float* bias, const uint8_t* kept, float factor, const void* q, int64_t q_row, const void* k, const void* v, int64_t kv_row,
                                  const float* cos, const float* sin, void* out, float* stats) {
  Shape s{shape[0], shape[1], shape[2], shape[3]};
  Rules rules{causal, window, prefix, lengths, bias, kept, factor};
  if (half) forward(s, rules, tensors<bf16>(q, q_row, k, v, kv_row, cos, sin), static_cast<bf16*>(out), stats);
  else forward(s, rules, tensors<float>(q, q_row, k, v, kv_row, cos, sin), static_cast<float*>(out), stats);
}

extern "C" void attention_backward(int half, const int64_t* shape, int causal, int window, const int64_t* prefix, const int64_t* lengths,
                                   const float* bias, const uint8_t* kept, float factor, const void* q, int64_t q_row, const void* k, const void* v, int64_t kv_row,
                                   const float* cos, const float* sin, const float* stats, const void* dout, void* dq, void* dk,
                                   void* dv, float* dbias) {
  Shape s{shape[0], shape[1], shape[2], shape[3]};
  Rules rules{causal, window, prefix, lengths, bias, kept, factor};
  if (half)
    backward(s, rules, tensors<bf16>(q, q_row, k, v, kv_row, cos, sin), stats, static_cast<const bf16*>(dout), static_cast<bf16*>(dq),
             static_cast<bf16*>(dk), static_cast<bf16*>(dv), dbias);
  else
    backward(s, rules, tensors<float>(q, q_row, k, v, kv_row, cos, sin), stats, static_cast<const float*>(dout),
             static_cast<float*>(dq), static_cast<float*>(dk), static_cast<float*>(dv), dbias);
}
