// Vector code behind function pointers: one table per instruction set, chosen by the tier of a Context.
#pragma once
#include <cmath>
#include <cstdint>

#include "runtime/tier.h"
#include "runtime/types.h"

namespace switchyard {

// Opcodes of the elementwise interpreter, in the order that elementwise_opcodes() names.
enum class ElementOp : int {
  kConst,
  kConstI32,
  kAdd,
  kSub,
  kMul,
  kDiv,
  kMax,
  kMin,
  kPow,
  kNeg,
  kAbs,
  kSign,
  kExp,
  kLog,
  kLog1p,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kTanh,
  kErf,
  kSigmoid,
  kSin,
  kCos,
  kFloor,
  kLt,
  kLe,
  kEq,
  kNe,
  kAddI32,
  kSubI32,
  kMulI32,
  kDivI32,
  kModI32,
  kMaxI32,
  kMinI32,
  kLtI32,
  kLeI32,
  kEqI32,
  kNeI32,
  kAnd,
  kOr,
  kXor,
  kNot,
  kSelect,
  kSelectI32,
  kToI32,
  kToF32,
  kCount
};
constexpr int kElementOps = static_cast<int>(ElementOp::kCount);

// How many values share one entry of block_maxima.
constexpr int64_t kMaximumBlock = 256;

// An order of scores: -|(x - top)·rate - centre|.
struct Nearness {
  float top, rate, centre;
  float of(float x) const { return -std::fabs((x - top) * rate - centre); }
};

constexpr int kMaxGemmRows = 14;
constexpr int kMaxGemmVectors = 2;

// c[i][j] (+)= sum over k of a[i·a_row + k·a_k] · b[k·b_k + j], one fused chain per element in rising k. The
// number of rows and of 16-column vectors is fixed by the table's slot; `cols` counts the columns of c that
// exist.
using GemmTile = void (*)(int64_t k, const float* a, int64_t a_row, int64_t a_k, const float* b, int64_t b_k,
                          float* c, int64_t c_row, int cols, bool accumulate);

// Sums are taken in f32 over blocks of 1024 (16 lanes times 4 chains, then a fixed tree) and in f64 over
// blocks: the order depends on the length only.
struct MathTable {
  // Lanes are f32 or i32; out may be one of the inputs. No entry for the two constants.
  void (*op[kElementOps])(void* out, const void* a, const void* b, const void* c, int64_t n);
  void (*fill)(void* out, uint32_t bits, int64_t n);
  // Any dtype to f32 or i32 lanes and back (by DType). bool reads and writes as 0 or 1.
  void (*load[kDTypeCount])(void* lanes, const void* from, int64_t n);
  void (*store[kDTypeCount])(void* to, const void* lanes, int64_t n);

  float (*row_max)(const float* x, int64_t n);  // NaN passes; n >= 1
  float (*row_min)(const float* x, int64_t n);
  double (*row_sum)(const float* x, int64_t n);
  double (*row_sum_squares)(const float* x, int64_t n, float minus);  // of x - minus
  double (*exp_sum)(float* y, const float* x, int64_t n,
                    float max);  // y = exp(x - max) unless null; returns the sum of y
  void (*row_scale)(float* y, const float* x, int64_t n, float scale);
  void (*row_add)(float* y, const float* x, int64_t n, float add);
  void (*row_accumulate)(float* y, const float* x, int64_t n);  // y += x
  // y = (x - mean) · scale · (weight + weight_offset) + bias; weight and bias may be null.
  void (*row_norm)(float* y, const float* x, int64_t n, float mean, float scale, const float* weight,
                   float weight_offset, const float* bias);
  // First index >= from with x > limit, or n.
  int64_t (*next_above)(const float* x, int64_t from, int64_t n, float limit);
  // Scores of a vocabulary. Maxima of blocks of kMaximumBlock (the last may be shorter); returns the largest, NaN
  // passes.
  float (*block_maxima)(float* maxima, const float* x, int64_t n);
  // y = 2^((x - top)·rate) unless null, 0 below 2^-125, and unless null products = y·(x - top), 0 where y is 0; returns the
  // sum of y. top >= x, no NaN.
  double (*weigh)(float* y, float* products, const float* x, int64_t n, float top, float rate);
  // The sum of w·(x - top); where w is 0 a term is 0.
  double (*moment)(const float* w, const float* x, int64_t n, float top);
  // Of falling x[0…n] and their weights w: y[0…n) = w[i] - w[i + 1]. And the sum of |x[i] - x[i + 1]| over i < n.
  void (*drops)(float* y, const float* w, const float* x, int64_t n, float rate);
  double (*bend_sum)(const float* x, int64_t n);
  // The order of thin() and survey() is x, or if not null the nearness of x.
  // w >= 0 becomes -0, which marks what was removed, unless order > limit. Returns the sum of w; `count`: how many stay.
  double (*thin)(float* w, const float* x, const Nearness* nearness, int64_t n, float limit, int64_t* count);
  // Packs order and weights of low < order <= high, in order of places; both with room for 16 more, and they may be x and
  // weights. `above`: the sum of weights of order > high. weights: null (each is 1), or x (packed once), or others.
  int64_t (*survey)(float* kept_order, float* kept_weights, const float* x, const Nearness* nearness, const float* weights,
                    int64_t n, float low, float high, double* above);
  int64_t (*count_above)(const float* x, int64_t n, float limit);
  // values and ids become those of x > limit, in order: from[i], or first + i where `from` is null. They may be x and
  // `from`; each has room for what is kept and, where they are others, 16 more. Returns how many.
  int64_t (*keep_above)(float* values, int32_t* ids, const float* x, const int32_t* from, int32_t first,
                        int64_t n, float limit);
  // Weights and ids of what thin() has left: first + i, in order. values may be w; both with room for 16 more.
  int64_t (*keep_present)(float* values, int32_t* ids, const float* w, int32_t first, int64_t n);
  // Over rows of `stride` floats, for `cols` columns: f64 sums (f32 over blocks of 64 rows), NaN-passing max
  // and min.
  void (*column_sum)(float* y, const float* x, int64_t rows, int64_t stride, int64_t cols);
  void (*column_max)(float* y, const float* x, int64_t rows, int64_t stride, int64_t cols);
  void (*column_min)(float* y, const float* x, int64_t rows, int64_t stride, int64_t cols);
  // Halves of a rotation: y1 = x1·cos - x2·sin, y2 = x2·cos + x1·sin.
  void (*rotate)(float* y1, float* y2, const float* x1, const float* x2, const float* cos, const float* sin,
                 int64_t n);
  // Box-Muller on n pairs of 32-bit words (w[2i], w[2i+1]) in place, written as f32.
  void (*normal)(uint32_t* words, int64_t pairs);

  int gemm_rows;     // largest tile
  int gemm_vectors;  // its width in 16 columns
  GemmTile gemm_packed[kMaxGemmRows]
                      [kMaxGemmVectors];  // a_row = 1, a_k = gemm_rows; b padded to whole vectors
  GemmTile gemm_direct[kMaxGemmRows][kMaxGemmVectors];  // any strides, reads only `cols` columns of b
};

const MathTable& math_table(Tier tier);

// The tables of the tiers (null where the build has none); use math_table().
const MathTable* math_table_scalar();
const MathTable* math_table_avx2();
const MathTable* math_table_avx512();
const MathTable* math_table_neon();

// libm for one lane, compiled without wide instructions.
float lane_pow(float x, float y);
float lane_sin(float x);
float lane_cos(float x);

}  // namespace switchyard
