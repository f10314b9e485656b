/* What surrounds an integer product, in one pass each: float rows to the grid, and products back to floats.
 *
 * The same arithmetic as in grid.py and linear.py, in the same order, so that integers are the same to the bit.
 * Matrices are row-major and without gaps. The compiler makes vector instructions of the loops. For that it may take
 * floats to be finite, so that NaN is looked for in their bits; it may not reorder them.
 *
 * Integers are unsigned, 128 more than elsewhere: what oneDNN is fast for.
 */

#ifdef __AVX512F__ /* unasked, GCC takes half of the width */
#pragma GCC target("prefer-vector-width=512")
#endif

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define STEPS 254
#define LOWEST (-128)
#define SHIFT 128
#define INFINITE 0x7f800000 /* the bits of infinity; those of NaN are more */
#define ALONE 16384         /* so few values are not worth a second thread */

/* Before a loop over the rows of (n, k): shared out among so many threads. */
#define PRAGMA(text) _Pragma(#text)
#define OVER_ROWS_AND(more) PRAGMA(omp parallel for schedule(static) num_threads(threads) if (n * k > ALONE) more)
#define OVER_ROWS OVER_ROWS_AND()

typedef struct { float low, high; int32_t bits; } Range; /* bits: of the largest magnitude */
typedef struct { float scale, zero; } Grid;

/* Rounded once, where the CPU can. Torch's operators do the same, but for the last few values of a row. */
#ifdef __FP_FAST_FMAF
#define MULTIPLY_ADD(a, b, c) fmaf(a, b, c)
#else
#define MULTIPLY_ADD(a, b, c) ((a) * (b) + (c))
#endif

static Range range_of(const float *row, int64_t k) {
  float low = 0, high = 0; /* the grid holds 0 */
  int32_t bits = 0;
#pragma omp simd reduction(min : low) reduction(max : high, bits)
  for (int64_t j = 0; j < k; j++) {
    int32_t magnitude;
    memcpy(&magnitude, row + j, sizeof magnitude);
    magnitude &= INT32_MAX;
    low = row[j] < low ? row[j] : low;
    high = row[j] > high ? row[j] : high;
    bits = magnitude > bits ? magnitude : bits;
  }
  return (Range){low, high, bits};
}

static Grid grid_of(Range range) {
  if (range.bits >= INFINITE) return (Grid){NAN, NAN};
  float scale = range.high / STEPS - range.low / STEPS; /* no overflow on the way */
  scale = scale > FLT_MIN ? scale : FLT_MIN;
  return (Grid){scale, LOWEST - nearbyintf(range.low * (1 / scale))};
}

/* The nearest integers; beyond the ends, the end. What NaN becomes is of no importance. */
static void to_grid(const float *row, int64_t k, Grid grid, int highest, uint8_t *q) {
  float times = 1 / grid.scale;
#pragma omp simd
  for (int64_t j = 0; j < k; j++) {
    float step = nearbyintf(row[j] * times + grid.zero);
    step = step > LOWEST ? step : LOWEST;
    step = step < highest ? step : highest;
    q[j] = (uint8_t)((int32_t)step + SHIFT);
  }
}

/* x (n, k) to q (n, k), with a scale (n) and a zero (n) for each row; NaN for a row with NaN or infinity. */
void affine_rows(const float *x, int64_t n, int64_t k, uint8_t *q, float *scale, float *zero, int threads) {
  OVER_ROWS
  for (int64_t i = 0; i < n; i++) {
    Grid grid = grid_of(range_of(x + i * k, k));
    to_grid(x + i * k, k, grid, INT8_MAX, q + i * k);
    scale[i] = grid.scale;
    zero[i] = grid.zero;
  }
}

/* x (n, k) to q (n, k) with one scale and zero (1 each) for all rows. */
void affine_tensor(const float *x, int64_t n, int64_t k, uint8_t *q, float *scale, float *zero, int threads) {
  float low = 0, high = 0;
  int32_t bits = 0;
  OVER_ROWS_AND(reduction(min : low) reduction(max : high, bits))
  for (int64_t i = 0; i < n; i++) {
    Range range = range_of(x + i * k, k);
    low = range.low < low ? range.low : low;
    high = range.high > high ? range.high : high;
    bits = range.bits > bits ? range.bits : bits;
  }
  Grid grid = grid_of((Range){low, high, bits});
  OVER_ROWS
  for (int64_t i = 0; i < n; i++) to_grid(x + i * k, k, grid, INT8_MAX, q + i * k);
  *scale = grid.scale;
  *zero = grid.zero;
}

/* x (n, k) to q (n, k) on a grid that is given, scale and zero (1 each). Returns whether there is NaN or infinity in x. */
int fixed_rows(const float *x, int64_t n, int64_t k, uint8_t *q, const float *scale, const float *zero, int threads) {
  Grid grid = {*scale, *zero};
  int32_t bits = 0;
  OVER_ROWS_AND(reduction(max : bits))
  for (int64_t i = 0; i < n; i++) {
    int32_t largest = range_of(x + i * k, k).bits;
    bits = largest > bits ? largest : bits;
    to_grid(x + i * k, k, grid, LOWEST + STEPS, q + i * k);
  }
  return bits >= INFINITE;
}

/* y (n, k), the product of the integers with a weight, becomes (y - zero * sums) * scale + bias. */
void finish_rows(float *y, int64_t n, int64_t k, const float *scale, const float *zero, const float *sums,
                 const float *bias, int threads) {
  OVER_ROWS
  for (int64_t i = 0; i < n; i++) {
    float *row = y + i * k, times = scale[i], less = -zero[i];
#pragma omp simd
    for (int64_t j = 0; j < k; j++) row[j] = MULTIPLY_ADD(MULTIPLY_ADD(less, sums[j], row[j]), times, bias[j]);
  }
}
