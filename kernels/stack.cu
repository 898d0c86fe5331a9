/*
 * The layers of a small model: see cuda_stack.h.
 *
 * Rows do not meet but through the cache, where each reads what was stored before. So a cluster of
 * blocks takes some rows (16, 32 or 64) through all layers, and waits for no other: a stage ends in
 * the cluster's own barrier, which costs a fraction of a launch. Within a stage the blocks share
 * out the outputs of a product (queries: by 16 outputs; experts: by group and 8 inner values), or
 * the rows (selection and attention), or do the same work side by side where that is less than to
 * wait (norms, router). Activations go through L2. Weights go from L2 to registers, packed as the
 * tensor cores want them, the first of a stage while the barrier is under way.
 *
 * Order of sums, which a row's place does not change: k ascends by 16, in products to the residual
 * stream and from it in two halves; positions are in N_LISTS lists by page; experts ascend, the
 * shared one first.
 *
 * Floor, embedded model (22M parameters, 1,000 rows over 1,100 positions): 40 MB of weights through
 * L2 for each of 16 clusters, 60 GFLOP, half of them attention: some 0.2 ms.
 */
#include "kernels/check.cuh"
#include "kernels/stack_attend.cuh"
#include "kernels/stack_experts.cuh"

enum {
    SHARED_MAX = 227 << 10,
    CLUSTERS_AT_ONCE = 15, /* of 8 blocks, on an H200 */
};

/* ---- from the residual stream ------------------------------------------------------- */

template <int MT>
static __device__ __forceinline__ void stage_input(const struct agon_stack &p,
                                                   const struct agon_stack_layer &l,
                                                   const struct stack_place &at,
                                                   const struct stack_buffers &b, bool first)
{
    struct halves h = halves_of(at, l.input, b.ld_input, p.hidden);
    struct stream<1> s = {
    };
    halves_begin(s, h, stack_warp());
    if (!first)
        cluster_wait();
    int stride = p.hidden * 2 + 16, ld = halves_ld(h.n_tiles);
    float *halves = (float *)(stack_room() + MT * 16 * stride);
    for (int base = stack_warp(); base < at.n_rows; base += 2 * STACK_WARPS) {
        float4 v[2][HIDDEN_FLOATS4] = {};
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (base + i * STACK_WARPS < at.n_rows)
                row_load(v[i], p.x + (size_t)(at.row0 + base + i * STACK_WARPS) * p.hidden,
                         p.hidden);
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (base + i * STACK_WARPS < at.n_rows) {
                row_norm(v[i], l.attention_norm, p.hidden, p.eps);
                row_store(stack_room() + (base + i * STACK_WARPS) * stride, v[i], p.hidden);
            }
    }
    __syncthreads();
    halves_multiply<MT>(halves, ld, s, h, mma_address(stack_room()), stride);
    __syncthreads();
    int n = min(h.n_tiles * 8, b.ld_input - h.first * 8);
    for (int i = stack_thread(); i < at.n_rows * n; i += STACK_THREADS) {
        int r = i / n, c = i % n;
        b.input[(size_t)(at.row0 + r) * b.ld_input + h.first * 8 + c] =
            halves[r * ld + c] + halves[(MT * 16 + r) * ld + c];
    }
}

/* ---- queries and the cache ---------------------------------------------------------- */

static __device__ __forceinline__ void rotate(float *low, float *high, float a, float b, float c,
                                              float s)
{
    *low = a * c - b * s;
    *high = a * s + b * c;
}

/* The q latents of all rows, normed, to `to`. */
static __device__ __forceinline__ void norm_latents(const struct agon_stack &p,
                                                    const struct agon_stack_layer &l,
                                                    const struct stack_place &at,
                                                    const struct stack_buffers &b, char *to,
                                                    int stride)
{
    enum { PAIRS = STACK_Q_MAX / 64 };
    for (int r = stack_warp(); r < at.n_rows; r += STACK_WARPS) {
        const float *from = b.input + (size_t)(at.row0 + r) * b.ld_input;
        float2 v[PAIRS] = {};
        float square = 0;
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
            if (i * 64 < p.q_lora) {
                v[i] = __ldcg((const float2 *)(from + i * 64) + stack_lane());
                square += v[i].x * v[i].x + v[i].y * v[i].y;
            }
        float factor = 1 / sqrtf(warp_sum(square) / p.q_lora + p.latent_eps);
#pragma unroll
        for (int i = 0; i < PAIRS; i++)
            if (i * 64 < p.q_lora) {
                float2 w = ((const float2 *)(l.q_norm + i * 64))[stack_lane()];
                ((uint32_t *)(to + r * stride + i * 128))[stack_lane()] =
                    bf16_pack(w.x * (v[i].x * factor), w.y * (v[i].y * factor));
            }
    }
}

/* A row's entry and index key to the cache: a warp. */
static __device__ void store_row(const struct agon_stack &p, const struct agon_stack_layer &l,
                                 const struct stack_buffers &b, int layer, int row)
{
    int lane = stack_lane(), sequence = p.store[row];
    if (sequence < 0)
        return;
    int position = p.rows.row_position[row];
    int page = p.rows.pages[(size_t)sequence * p.rows.ld_pages + position / AGON_CUDA_PAGE];
    size_t slot = (size_t)page * AGON_CUDA_PAGE + position % AGON_CUDA_PAGE;
    const float *x = b.input + (size_t)row * b.ld_input + p.q_lora;
    const float *cosine = p.cosine + (size_t)row * AGON_STACK_ROPE / 2;
    const float *sine = p.sine + (size_t)row * AGON_STACK_ROPE / 2;
    uint32_t *entry = (uint32_t *)(p.latents + layer * p.latent_layer_bytes) + slot * ENTRY / 2;
    float *key = (float *)(p.keys + layer * p.keys_layer_bytes) + slot * INDEX_DIM;

    float2 v[2], w;
    float square = 0;
    for (int i = 0; i < 2; i++) {
        v[i] = __ldcg((const float2 *)x + i * 32 + lane);
        square += v[i].x * v[i].x + v[i].y * v[i].y;
    }
    float factor = 1 / sqrtf(warp_sum(square) / KV + p.latent_eps);
    for (int i = 0; i < 2; i++) {
        w = ((const float2 *)l.kv_norm)[i * 32 + lane];
        entry[i * 32 + lane] = bf16_pack(w.x * (v[i].x * factor), w.y * (v[i].y * factor));
    }
    if (lane < AGON_STACK_ROPE / 2) {
        float2 pe = __ldcg((const float2 *)(x + KV) + lane);
        rotate(&w.x, &w.y, pe.x, pe.y, cosine[lane], sine[lane]);
        entry[KV / 2 + lane] = bf16_pack(w.x, w.y);
    }

    float from = __ldcg(x + ENTRY + lane), mean = warp_sum(from) / INDEX_DIM;
    float scatter = warp_sum((from - mean) * (from - mean)) / INDEX_DIM;
    from =
        l.index_norm[lane] * ((from - mean) / sqrtf(scatter + p.latent_eps)) + l.index_bias[lane];
    int distance = p.index_interleaved ? 1 : AGON_STACK_ROPE / 2;
    float other = __shfl_xor_sync(~0u, from, distance);
    if (lane < AGON_STACK_ROPE) {
        int pair = p.index_interleaved ? lane / 2 : lane % (AGON_STACK_ROPE / 2);
        from = lane & distance ? other * sine[pair] + from * cosine[pair]
                               : from * cosine[pair] - other * sine[pair];
    }
    key[lane] = from;
}

/* 16 outputs of queries, of all rows: entries of heads, then index queries. */
template <int MT>
static __device__ void put_queries(const struct agon_stack &p, const struct stack_place &at,
                                   const struct stack_buffers &b, float (&acc)[2][MT][4], int unit)
{
    int column = 2 * (stack_lane() % 4), n_head = p.n_heads * (ENTRY / 16);
    bool index = unit >= n_head;
    bool turned =
        index ? (unit - n_head) % (INDEX_DIM / 16) == 0 : unit % (ENTRY / 16) == ENTRY / 16 - 1;
    bool apart = index && !p.index_interleaved; /* pairs are half the width apart */
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
            int r = m * 16 + stack_lane() / 4 + 8 * half;
            if (r >= at.n_rows)
                continue;
            size_t row = (size_t)(at.row0 + r);
            float *low = &acc[0][m][2 * half], *high = &acc[1][m][2 * half];
            const float *cosine = p.cosine + row * AGON_STACK_ROPE / 2;
            const float *sine = p.sine + row * AGON_STACK_ROPE / 2;
            if (turned && apart) {
                for (int i = 0; i < 2; i++)
                    rotate(&low[i], &high[i], low[i], high[i], cosine[column + i],
                           sine[column + i]);
            } else if (turned) {
                int i = stack_lane() % 4;
                rotate(&low[0], &low[1], low[0], low[1], cosine[i], sine[i]);
                rotate(&high[0], &high[1], high[0], high[1], cosine[4 + i], sine[4 + i]);
            }
            if (index) {
                float *to =
                    b.index_query + row * p.index_heads * INDEX_DIM + (unit - n_head) * 16 + column;
                *(float2 *)to = make_float2(low[0], low[1]);
                *(float2 *)(to + 8) = make_float2(high[0], high[1]);
            } else {
                uint32_t *to = (uint32_t *)(b.query + row * stack_width(p) + unit * 16 + column);
                to[0] = bf16_pack(low[0], low[1]);
                to[4] = bf16_pack(high[0], high[1]);
            }
        }
}

template <int MT>
static __device__ __forceinline__ void stage_query(const struct agon_stack &p,
                                                   const struct agon_stack_layer &l,
                                                   const struct stack_place &at,
                                                   const struct stack_buffers &b, int layer,
                                                   bool first)
{
    int n_units = p.n_heads * (ENTRY / 16) + p.index_heads * (INDEX_DIM / 16);
    int n_steps = p.q_lora / 32, stride = p.q_lora * 2 + 16, step = at.size * STACK_WARPS;
    int unit = at.rank + at.size * stack_warp();
    size_t ld = (size_t)n_steps * 32;
    const uint4 *w = (const uint4 *)l.query + stack_lane();
    struct stream<2> s = {
    };
    if (unit < n_units)
        stream_load<2>(s, w + 2 * ld * unit, ld, 0, n_steps);
    if (!first)
        cluster_wait();
    norm_latents(p, l, at, b, stack_room(), stride);
    __syncthreads();
    uint32_t a[MT];
    rows_in_order<MT>(a, mma_address(stack_room()), stride);
    for (; unit < n_units; unit += step) {
        float acc[2][MT][4] = {};
        multiply<MT, 2>(acc, s, a, MT, w + 2 * ld * unit, ld, 0, n_steps,
                        unit + step < n_units ? w + 2 * ld * (unit + step) : NULL, 0, n_steps);
        put_queries<MT>(p, at, b, acc, unit);
    }
    for (int i = STACK_WARPS - 1 - stack_warp(); i < at.n_own; i += STACK_WARPS)
        store_row(p, l, b, layer, at.own0 + i);
}

/* ---- attention ---------------------------------------------------------------------- */

template <int MT>
static __device__ __forceinline__ void stage_attend(const struct agon_stack &p,
                                                    const struct stack_place &at,
                                                    const struct stack_buffers &b, int layer,
                                                    bool first)
{
    struct own_rows *own = (struct own_rows *)stack_room();
    char *room = stack_room() + (sizeof(*own) + 127) / 128 * 128;
    if (!first)
        cluster_wait();
    own_init(own, p, at, b);
    select_rows(own, p, at, p.keys + layer * p.keys_layer_bytes, (uint32_t *)room);
    __syncthreads();
    attend_rows(own, p, at, b, p.latents + layer * p.latent_layer_bytes, room);
}

/* ---- to the residual stream --------------------------------------------------------- */

template <int MT>
static __device__ __forceinline__ void stage_output(const struct agon_stack &p,
                                                    const struct agon_stack_layer &l,
                                                    const struct stack_place &at,
                                                    const struct stack_buffers &b, bool first)
{
    int k = p.n_heads * KV, stride = k * 2 + 16;
    struct halves h = halves_of(at, l.output, p.hidden, k);
    struct stream<1> s = {
    };
    halves_begin(s, h, stack_warp());
    if (!first)
        cluster_wait();
    int ld = halves_ld(h.n_tiles), n = h.n_tiles * 8;
    float *halves = (float *)(stack_room() + MT * 16 * stride);
    rows_copy(stack_room(), stride, b.attended + (size_t)at.row0 * k, at.n_rows, k);
    mma_copies_wait<0>();
    __syncthreads();
    halves_multiply<MT>(halves, ld, s, h, mma_address(stack_room()), stride);
    __syncthreads();
    for (int i = stack_thread(); i < at.n_rows * n; i += STACK_THREADS) {
        int r = i / n, c = i % n;
        float *x = p.x + (size_t)(at.row0 + r) * p.hidden + h.first * 8 + c;
        *x = __ldcg(x) + (halves[r * ld + c] + halves[(MT * 16 + r) * ld + c]);
    }
}

/* ---- the head ----------------------------------------------------------------------- */

template <int MT>
static __device__ __forceinline__ void stage_head(const struct agon_stack &p,
                                                  const struct stack_place &at, bool first)
{
    int n_units = p.n_vocab / 16, n_steps = p.hidden / 32, stride = p.hidden * 2 + 16;
    int step = at.size * STACK_WARPS, lane = stack_lane();
    int unit = at.rank + at.size * stack_warp();
    size_t ld = (size_t)n_steps * 32;
    const uint4 *w = (const uint4 *)p.head + lane;
    struct stream<2> s = {
    };
    if (unit < n_units)
        stream_load<2>(s, w + 2 * ld * unit, ld, 0, n_steps);
    if (!first)
        cluster_wait();
    for (int r = stack_warp(); r < at.n_rows; r += STACK_WARPS) {
        float4 v[HIDDEN_FLOATS4] = {};
        int row = p.logit_rows ? p.logit_rows[at.row0 + r] : at.row0 + r;
        row_load(v, p.x + (size_t)row * p.hidden, p.hidden);
        row_norm(v, p.norm, p.hidden, p.eps);
        row_store(stack_room() + r * stride, v, p.hidden);
    }
    __syncthreads();
    uint32_t a[MT];
    rows_in_order<MT>(a, mma_address(stack_room()), stride);
    for (; unit < n_units; unit += step) {
        float acc[2][MT][4] = {};
        multiply<MT, 2>(acc, s, a, MT, w + 2 * ld * unit, ld, 0, n_steps,
                        unit + step < n_units ? w + 2 * ld * (unit + step) : NULL, 0, n_steps);
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int r = m * 16 + lane / 4 + 8 * half;
                if (r >= at.n_rows)
                    continue;
                float *to = p.logits + (size_t)(at.row0 + r) * p.n_vocab + unit * 16 + lane % 4 * 2;
                *(float2 *)to = make_float2(acc[0][m][2 * half], acc[0][m][2 * half + 1]);
                *(float2 *)(to + 8) = make_float2(acc[1][m][2 * half], acc[1][m][2 * half + 1]);
            }
    }
}

/* ---- all of it ---------------------------------------------------------------------- */

static __host__ __device__ inline size_t bytes_up(size_t bytes)
{
    return (bytes + 255) / 256 * 256;
}

static __host__ __device__ inline size_t buffers_of(struct stack_buffers *b,
                                                    const struct agon_stack &p, int n_rows)
{
    char *at = (char *)p.scratch;
    size_t rows = ((size_t)n_rows + STACK_ROWS_MAX - 1) / STACK_ROWS_MAX * STACK_ROWS_MAX;
    b->ld_input = p.q_lora + ENTRY + INDEX_DIM + p.index_heads;
    b->input = (float *)at;
    at += bytes_up(rows * b->ld_input * sizeof(float));
    b->index_query = (float *)at;
    at += bytes_up(rows * p.index_heads * INDEX_DIM * sizeof(float));
    b->query = (uint16_t *)at;
    at += bytes_up(rows * p.n_heads * ENTRY * sizeof(uint16_t));
    b->attended = (uint16_t *)at;
    at += bytes_up(rows * p.n_heads * KV * sizeof(uint16_t));
    b->act = (uint16_t *)at;
    at += bytes_up(rows * p.pairs_max * p.inner_max * sizeof(uint16_t));
    return (size_t)(at - (char *)p.scratch);
}

static __device__ __forceinline__ void block_init(struct stack_block *block,
                                                  const struct agon_stack &p, int n_each)
{
    struct stack_place at;
    at.rank = cluster_rank();
    at.size = cluster_size();
    at.row0 = cluster_number() * n_each;
    at.n_rows = min(n_each, p.rows.n_rows - at.row0);
    int own_most = (n_each + at.size - 1) / at.size;
    at.own0 = at.row0 + at.rank * own_most;
    at.n_own = max(0, min(own_most, at.row0 + at.n_rows - at.own0));
    block->at = at;
    buffers_of(&block->buffers, p, p.rows.n_rows);
    block->buffers.act += (size_t)at.row0 * p.pairs_max * p.inner_max;
}

template <int MT>
static __global__ void __launch_bounds__(STACK_THREADS, 1)
    stack_kernel(const __grid_constant__ struct agon_stack p, int n_each, int begin, int end)
{
    struct stack_block *block = (struct stack_block *)cluster_shared();
    const struct stack_place &at = block->at;
    const struct stack_buffers &b = block->buffers;
    const struct agon_stack_layer &l = block->layer;
    if (stack_thread() == 0)
        block_init(block, p, n_each);
    __syncthreads();
    depends_wait();
    int head = p.n_layers * AGON_STACK_STAGES;
    bool any = false;
    for (int r = stack_thread(); r < at.n_rows; r += STACK_THREADS)
        any |= begin == head || row_is(p, at.row0 + r) || p.store[at.row0 + r] >= 0;
    if (!__syncthreads_or(any))
        return; /* all blocks of the cluster */
    for (int stage = begin; stage < end; stage++) {
        int layer = stage / AGON_STACK_STAGES;
        bool first = stage == begin;
        if (stage == head) {
            stage_head<MT>(p, at, first);
            break;
        }
        if (first || stage % AGON_STACK_STAGES == 0) {
            __syncthreads();
            if (stack_thread() < sizeof(block->layer) / sizeof(uint32_t))
                ((uint32_t *)&block->layer)[stack_thread()] =
                    ((const uint32_t *)&p.layers[layer])[stack_thread()];
            __syncthreads();
        }
        switch (stage % AGON_STACK_STAGES) {
        case AGON_STACK_INPUT: stage_input<MT>(p, l, at, b, first); break;
        case AGON_STACK_QUERY: stage_query<MT>(p, l, at, b, layer, first); break;
        case AGON_STACK_ATTEND: stage_attend<MT>(p, at, b, layer, first); break;
        case AGON_STACK_OUTPUT: stage_output<MT>(p, l, at, b, first); break;
        case AGON_STACK_UP:
            if (!first)
                cluster_wait();
            stage_up<MT>(&block->routes, p, l, at, b.act);
            break;
        case AGON_STACK_DOWN:
            if (!first)
                cluster_wait();
            stage_down<MT>(&block->routes, p, l, at, b.act);
            break;
        }
        if (stage + 1 < end)
            cluster_arrive();
    }
}

/* ---- launches ----------------------------------------------------------------------- */

static size_t most(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Shared memory of the stages, for 16 mt rows a cluster. */
static size_t shared_bytes(const struct agon_stack *p, int mt, int n_max)
{
    size_t rows = (size_t)mt * 16, own = rows / STACK_CLUSTER, k = (size_t)p->n_heads * KV;
    size_t heads = (own * p->n_heads + 15) / 16 * 16;
    size_t pages = (size_t)agon_ceil_div(n_max, AGON_CUDA_PAGE);
    int tiles_x = agon_ceil_div(p->hidden / 8, STACK_CLUSTER);
    int tiles_input = agon_ceil_div(
        agon_ceil_div(p->q_lora + ENTRY + INDEX_DIM + p->index_heads, 8), STACK_CLUSTER);
    size_t halves = 2 * rows * halves_ld(tiles_x > tiles_input ? tiles_x : tiles_input) * 4;
    size_t attend = most(own * pages * AGON_CUDA_PAGE * sizeof(uint32_t),
                         most(N_LISTS * 2 * TILE_BYTES + heads * TILE_STRIDE,
                              N_LISTS * heads * (KV + 2) * sizeof(float)));
    size_t bytes = rows * (p->hidden * 2 + 16) + halves;
    bytes = most(bytes, rows * (p->q_lora * 2 + 16));
    bytes = most(bytes, (sizeof(struct own_rows) + 127) / 128 * 128 + attend);
    bytes = most(bytes, rows * (k * 2 + 16) + halves);
    bytes = most(bytes, rows * p->pairs_max * (p->inner_max * 2 + 16) + halves);
    return (sizeof(struct stack_block) + 127) / 128 * 128 + bytes;
}

extern "C" bool agon_stack_does(const struct agon_stack *p)
{
    return p->hidden % 128 == 0 && p->hidden <= STACK_HIDDEN_MAX && p->n_vocab % 16 == 0 &&
           p->q_lora % 64 == 0 && p->q_lora <= STACK_Q_MAX && p->n_heads > 0 &&
           p->n_heads <= AGON_STACK_HEADS_MAX && p->index_heads > 0 &&
           p->index_heads <= INDEX_HEADS_MAX && p->index_heads % 2 == 0 && p->inner_max <= 256 &&
           p->n_experts <= STACK_EXPERTS_MAX && p->top_k <= STACK_TOPK_MAX && p->n_shared <= 1 &&
           p->rows.n_max <= AGON_STACK_WINDOW_MAX &&
           shared_bytes(p, 5, AGON_STACK_WINDOW_MAX) <= SHARED_MAX;
}

extern "C" size_t agon_stack_scratch(const struct agon_stack *p, int n_rows)
{
    struct stack_buffers ignored;
    return buffers_of(&ignored, *p, n_rows);
}

template <int MT>
static int launch(const struct agon_stack *p, int n_each, int begin, int end, void *stream,
                  struct agon_err *err)
{
    size_t bytes = shared_bytes(p, MT, p->rows.n_max);
    unsigned n_clusters = (unsigned)agon_ceil_div(p->rows.n_rows, n_each);
    AGON_CUDA(err, "layers",
              cudaFuncSetAttribute(stack_kernel<MT>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   SHARED_MAX));
    AGON_CUDA(err, "layers: launch",
              launch_clusters(stack_kernel<MT>, n_clusters, STACK_CLUSTER, STACK_THREADS, bytes,
                              stream, *p, n_each, begin, end));
    return 0;
}

extern "C" int agon_stack_cuda(const struct agon_stack *p, int begin, int end, void *stream,
                               struct agon_err *err)
{
    if (!agon_stack_does(p) || begin < 0 || end > agon_stack_head(p) + 1)
        return agon_fail(err, AGON_EINPUT, "layers: %d of %d values, %d heads, stages %d to %d",
                         p->n_layers, p->hidden, p->n_heads, begin, end);
    if (p->rows.n_rows <= 0 || begin >= end)
        return 0;
    /* As few rows a cluster as let all of them run at once. */
    int n_each = agon_ceil_div(p->rows.n_rows, CLUSTERS_AT_ONCE);
    if (n_each <= 16)
        return launch<1>(p, 16, begin, end, stream, err);
    if (n_each <= 32)
        return launch<2>(p, n_each, begin, end, stream, err);
    return launch<5>(p, n_each < STACK_ROWS_MAX ? n_each : STACK_ROWS_MAX, begin, end, stream, err);
}
