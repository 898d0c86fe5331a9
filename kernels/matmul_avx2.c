/* 6 rows x 1 panel: 12 accumulators of the 16 registers. */
#include "kernels/fast.h"
#ifdef AGON_HAVE_X86
#define TILE_ROWS   6
#define TILE_PANELS 1
#define MATMUL_NAME agon_matmul_avx2
#include "kernels/matmul_simd.h"
#endif
