/* 12 rows x 2 panels: 24 accumulators of the 32 registers. */
#include "kernels/fast.h"
#ifdef AGON_HAVE_X86
#define AGON_SIMD_AVX512
#define TILE_ROWS   12
#define TILE_PANELS 2
#define MATMUL_NAME agon_matmul_avx512
#include "kernels/matmul_simd.h"
#endif
