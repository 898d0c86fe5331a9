/* 3 rows x 1 panel of 4 vectors: 12 accumulators of the 16 registers; 6 where there are 32. */
#include "kernels/fast.h"
#define AGON_SIMD_PORTABLE
#ifdef AGON_HAVE_X86
#define TILE_ROWS 3
#else
#define TILE_ROWS 6
#endif
#define TILE_PANELS 1
#define MATMUL_NAME agon_matmul_portable
#include "kernels/matmul_simd.h"
