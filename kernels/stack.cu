/*
 * The layers of a small model: see cuda_stack.h. A stage is a launch; blocks share out its rows and
 * its outputs. Weights are packed as the tensor cores want them, and the first of a stage come from
 * L2 while the stage before still runs (launch.cuh).
 *
 * Order of sums, which neither a row's place nor how many there are changes: k is cut in
 * STACK_WARPS parts, in products to the residual stream and from it; positions are in lists by
 * page; a row's experts ascend, the shared one first.
 *
 * Floor, embedded model (22M parameters, 1,000 rows over 1,100 positions): 40 MB of weights through
 * L2 for every 64 rows, 60 GFLOP, half of them attention: some 0.2 ms. At 100 rows, 50 launches:
 * some 0.1 ms.
 */
#include "kernels/check.cuh"
#include "kernels/stack_attend.cuh"
#include "kernels/stack_pair.cuh"

enum { QUERY_RANKS = 8, HEAD_RANKS = 16, HEAD_CHUNK = 4, QUERY_STEPS = 8 };

/* The id that row r begins with, and its position. */
static __device__ __forceinline__ int2 begin_row(const struct agon_stack &p, int r)
{
    if (!p.slots)
        return make_int2(p.ids[r], p.rows.row_position[r]);
    const struct agon_cuda_slot *slot = &p.slots[r];
    int state = slot->state, id = slot->id, position = slot->position - 1;
    bool runs = r < *p.n_slots && state == AGON_SLOT_RUNNING;
    int2 row = runs ? make_int2(id, position) : make_int2(0, 0);
    if (threadIdx.x == 0) {
        p.ids[r] = row.x;
        p.slot_position[r] = row.y;
        p.slot_sequence[r] = runs ? r : -1;
    }
    return row;
}

/* Rows as they come from the embedding, published, and their angles: a block a row. */
static __global__ void __launch_bounds__(STACK_THREADS)
    begin_kernel(const __grid_constant__ struct agon_stack p,
                 const __grid_constant__ struct stack_buffers b,
                 const __grid_constant__ struct agon_stack_layer l)
{
    struct publisher f;
    int part = half_warp() % STACK_PARTS, row = blockIdx.x;
    size_t at = (size_t)row * p.hidden;
    float2 v = make_float2(0, 0);
    publisher_init(&f, p, l.attention_norm, NULL, part);
    depends_wait();
    if (!p.table.data) {
        if (f.mine)
            v = __ldcg((const float2 *)(p.x + at + f.column));
    } else {
        int2 begin = begin_row(p, row);
        if (f.mine && begin.x >= 0 && begin.x < p.table.n)
            v = make_float2(matrix_at(p.table, begin.x, f.column),
                            matrix_at(p.table, begin.x, f.column + 1));
        if (f.mine)
            *(float2 *)(p.x + at + f.column) = v;
        if (threadIdx.x < AGON_STACK_ROPE / 2) {
            double angle = (double)begin.y * p.inv_freq[threadIdx.x];
            p.cosine[row * (AGON_STACK_ROPE / 2) + threadIdx.x] = (float)cos(angle);
            p.sine[row * (AGON_STACK_ROPE / 2) + threadIdx.x] = (float)sin(angle);
        }
    }
    publish(f, p, b, row, part, v, true);
}

/* ---- from the residual stream ------------------------------------------------------- */

/* Blocks of many rows have two parts, each by warps of its own: their rows, which cost more than
 * the weights, are fetched half as often. */
template <int MT> struct part_block {
    static constexpr int PARTS = MT == 4 ? 2 : 1, THREADS = PARTS * STACK_THREADS;
};

template <int MT>
static __device__ __forceinline__ struct stack_place part_place(const struct agon_stack &p,
                                                                int n_each)
{
    struct stack_place at = stack_place(p, n_each);
    at.rank = blockIdx.y * part_block<MT>::PARTS + stack_warp() / STACK_WARPS;
    at.half %= 2 * STACK_WARPS;
    return at;
}

/* Where the warps of this one's part leave what they find. */
template <int MT> static __device__ __forceinline__ float *part_found(char *rows)
{
    return (float *)rows +
           (size_t)(stack_warp() / STACK_WARPS) * STACK_WARPS * MT * 16 * PARTIAL_LD;
}

/*
 * Rows to shared memory, a group of copies for each of this warp's steps. A warp needs but its own
 * columns, so it waits for nobody, but for the one with the same columns of the other part.
 */
template <int MT>
static __device__ __forceinline__ void part_rows(char *rows, int stride, const uint16_t *from,
                                                 const struct part_product &t,
                                                 const struct stack_place &at)
{
    enum { MATES = part_block<MT>::PARTS * 32, CHUNKS = 4 }; /* of a step: 32 columns */
    int mate = stack_warp() / STACK_WARPS * 32 + stack_lane(), k = t.n_steps * 32;
    uint32_t to = mma_address(rows);
#pragma unroll 1
    for (int i = 0; i < PART_STEPS_MAX; i++) {
        int step = t.begin + i, n = step < t.end ? at.n_rows * CHUNKS : 0;
#pragma unroll 1
        for (int task = mate; task < n; task += MATES) {
            int r = task / CHUNKS, chunk = step * CHUNKS + task % CHUNKS;
            mma_copy16(to + r * stride + chunk * 16, from + (size_t)(at.row0 + r) * k + chunk * 8,
                       true);
        }
        mma_copies_end();
    }
}

/* acc += those rows by this warp's part. */
template <bool HALF, int MT>
static __device__ __forceinline__ void part_multiply(
    float (&acc)[STACK_PART_TILES][MT][4], const struct held<STACK_PART_TILES, PART_STEPS_MAX> &h,
    const struct part_product &t, const char *rows, int stride)
{
    enum { MATES = part_block<MT>::PARTS * 32 };
    uint32_t a[MT];
    rows_in_order<MT>(a, mma_address(rows), stride);
#pragma unroll
    for (int i = 0; i < PART_STEPS_MAX; i++) {
        i == 0 ? mma_copies_wait<2>() : i == 1 ? mma_copies_wait<1>() : mma_copies_wait<0>();
        if (MATES > 32)
            barrier_some(1 + stack_warp() % STACK_WARPS, MATES);
        else
            __syncwarp();
        held_multiply_step<HALF>(acc, h, a, i, t.begin, t.end);
    }
}
static_assert(PART_STEPS_MAX == 3, "as many groups of copies are waited for");

template <int MT>
static __global__ void __launch_bounds__(part_block<MT>::THREADS, 2 / part_block<MT>::PARTS)
    input_kernel(const __grid_constant__ struct agon_stack p,
                 const __grid_constant__ struct stack_buffers b,
                 const __grid_constant__ struct agon_stack_layer l, int n_each)
{
    float *factor = (float *)block_shared();
    char *rows = block_shared() + bytes_up(STACK_ROWS_MAX * sizeof(float));
    struct stack_place at = part_place<MT>(p, n_each);
    struct part_product t = part_product_of(l.input, b.ld_input, p.hidden, at.rank);
    struct held<STACK_PART_TILES, PART_STEPS_MAX> h;
    float acc[STACK_PART_TILES][MT][4] = {};
    int stride = p.hidden * 2 + 16, c = t.first + 2 * half_lane();
    bool mine = 2 * half_lane() < t.n_tiles * 8 && c < b.ld_input, is_q = mine && c < p.q_lora;
    held_load(h, t.w, (size_t)t.n_steps * 32, t.n_tiles, t.begin, t.end);
    float2 w = is_q ? *(const float2 *)(l.q_norm + c) : make_float2(0, 0);
    depends_wait();
    part_rows<MT>(rows, stride, b.x, t, at);
    factors_make(factor, at, b.squares, b.ld_rows, NULL, p.hidden, p.eps);
    part_multiply<false>(acc, h, t, rows, stride);
    __syncthreads(); /* the rows give way to what the warps have found */
    part_put<MT>((float *)rows, acc);
    __syncthreads();
#pragma unroll 1
    for (int i = 0; i < MT; i++) {
        int r = at.half + 16 * i;
        size_t row = (size_t)(at.row0 + r);
        bool there = r < at.n_rows;
        float2 v = make_float2(0, 0);
        if (mine && there) {
            v = part_sum(part_found<MT>(rows), MT * 16, r, half_lane());
            v = make_float2(v.x * factor[r], v.y * factor[r]);
            if (is_q)
                *(uint32_t *)(b.q + row * p.q_lora + c) = half_pack(v.x * w.x, v.y * w.y);
            else
                *(float2 *)(b.input + row * b.ld_input + c) = v;
        }
        float squares = half_sum(is_q ? v.x * v.x + v.y * v.y : 0);
        if (half_lane() == 0 && there)
            b.q_squares[(size_t)at.rank * b.ld_rows + row] = squares;
    }
}

/* Shared memory of rows of k values and their factors. */
static size_t rows_bytes(int mt, int k)
{
    return bytes_up(STACK_ROWS_MAX * sizeof(float)) + (size_t)mt * 16 * (k * 2 + 16);
}

/* The same, or what the warps find of parts of a product. */
static size_t part_bytes(int mt, int n_parts, int k)
{
    size_t found = (size_t)n_parts * STACK_WARPS * mt * 16 * PARTIAL_LD * sizeof(float);
    size_t parts = bytes_up(STACK_ROWS_MAX * sizeof(float)) + found, rows = rows_bytes(mt, k);
    return rows > parts ? rows : parts;
}

/* ---- queries and the cache ---------------------------------------------------------- */

static __device__ __forceinline__ void rotate(float *low, float *high, float a, float b, float c,
                                              float s)
{
    *low = a * c - b * s;
    *high = a * s + b * c;
}

/* Where a row's entry and index key go, what they are multiplied by, what they are made of: a
 * lane's. */
struct stored {
    bool there;
    size_t slot;
    float2 kv_norm[2];
    float key_norm, key_bias;
    float2 entry_turn, key_turn; /* cosine, sine */
    float2 latent[2], rope;
    float key;
};

/* Nothing of the launch before is read. */
static __device__ __forceinline__ void stored_begin(struct stored *to, const struct agon_stack &p,
                                                    const struct agon_stack_layer &l, int row,
                                                    bool there)
{
    int lane = stack_lane(), sequence = there ? p.store[row] : -1;
    to->there = sequence >= 0;
    if (!to->there)
        return;
    int position = p.rows.row_position[row];
    int page = p.rows.pages[(size_t)sequence * p.rows.ld_pages + position / AGON_CUDA_PAGE];
    int turned = lane % AGON_STACK_ROPE;
    int pair = p.index_interleaved ? turned / 2 : turned % (AGON_STACK_ROPE / 2);
    const float *cosine = p.cosine + (size_t)row * AGON_STACK_ROPE / 2;
    const float *sine = p.sine + (size_t)row * AGON_STACK_ROPE / 2;
    to->slot = (size_t)page * AGON_CUDA_PAGE + position % AGON_CUDA_PAGE;
    for (int i = 0; i < 2; i++)
        to->kv_norm[i] = ((const float2 *)l.kv_norm)[i * 32 + lane];
    to->key_norm = l.index_norm[lane];
    to->key_bias = l.index_bias[lane];
    to->entry_turn =
        make_float2(cosine[lane % (AGON_STACK_ROPE / 2)], sine[lane % (AGON_STACK_ROPE / 2)]);
    to->key_turn = make_float2(cosine[pair], sine[pair]);
}

/* What the launch before has left of the row. */
static __device__ __forceinline__ void stored_load(struct stored *to, const struct agon_stack &p,
                                                   const struct stack_buffers &b, int row)
{
    int lane = stack_lane();
    const float *x = b.input + (size_t)row * b.ld_input + p.q_lora;
    if (!to->there)
        return;
    to->key = __ldcg(x + ENTRY + lane);
    for (int i = 0; i < 2; i++)
        to->latent[i] = __ldcg((const float2 *)x + i * 32 + lane);
    to->rope = __ldcg((const float2 *)(x + KV) + lane % (AGON_STACK_ROPE / 2));
}

/* A row's entry and index key to the cache: a warp. */
static __device__ __forceinline__ void store_row(const struct agon_stack &p,
                                                 const struct stored &row, int layer)
{
    int lane = stack_lane();
    uint16_t *page = (uint16_t *)(p.latents + layer * p.latent_layer_bytes) +
                     row.slot / AGON_CUDA_PAGE * AGON_CUDA_PAGE * ENTRY;
    int entry = (int)(row.slot % AGON_CUDA_PAGE);
    if (!row.there)
        return;
    float2 w;
    float from = row.key, square = 0;
    for (int i = 0; i < 2; i++)
        square += row.latent[i].x * row.latent[i].x + row.latent[i].y * row.latent[i].y;
    float mean = warp_sum(from) / INDEX_DIM;
    float factor = rsqrtf(warp_sum(square) / KV + p.latent_eps);
    for (int i = 0; i < 2; i++)
        *(uint32_t *)(page + agon_stack_entry_at(entry, 2 * (i * 32 + lane))) =
            bf16_pack(row.kv_norm[i].x * (row.latent[i].x * factor),
                      row.kv_norm[i].y * (row.latent[i].y * factor));
    rotate(&w.x, &w.y, row.rope.x, row.rope.y, row.entry_turn.x, row.entry_turn.y);
    if (lane < AGON_STACK_ROPE / 2)
        *(uint32_t *)(page + agon_stack_entry_at(entry, KV + 2 * lane)) = bf16_pack(w.x, w.y);

    float scatter = warp_sum((from - mean) * (from - mean)) / INDEX_DIM;
    from = row.key_norm * ((from - mean) * rsqrtf(scatter + p.latent_eps)) + row.key_bias;
    int distance = p.index_interleaved ? 1 : AGON_STACK_ROPE / 2;
    float other = __shfl_xor_sync(~0u, from, distance);
    if (lane < AGON_STACK_ROPE)
        from = lane & distance ? other * row.key_turn.y + from * row.key_turn.x
                               : from * row.key_turn.x - other * row.key_turn.y;
    index_key_put(p.keys + layer * p.keys_layer_bytes, row.slot, from);
}

/* Angles of a block's rows: cosines, then sines, [rows][rope / 2] in shared memory. */
enum { HALF_ROPE = AGON_STACK_ROPE / 2 };
static_assert(HALF_ROPE % 4 == 0, "a row's are copied by 16 bytes");

static __device__ __forceinline__ void angles_copy(float *to, const struct agon_stack &p,
                                                   const struct stack_place &at)
{
    int n = at.n_rows * HALF_ROPE / 4;
    for (int i = threadIdx.x; i < 2 * n; i += blockDim.x) {
        bool sine = i >= n;
        int chunk = sine ? i - n : i;
        const float *from = (sine ? p.sine : p.cosine) + (size_t)at.row0 * HALF_ROPE + chunk * 4;
        mma_copy16(mma_address(to + sine * STACK_ROWS_MAX * HALF_ROPE + chunk * 4), from, true);
    }
}

/*
 * 16 outputs of queries, of all rows: entries of heads, then index queries. A warp; `room` is its
 * own, where they lie by rows, of which a lane then takes a half.
 */
enum { QUERY_ROOM_LD = 24 }; /* floats: four rows lie in different banks */

template <int MT>
static __device__ __forceinline__ void put_queries(
    const struct agon_stack &p, const struct stack_place &at, const struct stack_buffers &b,
    float *room, const float (&acc)[2][MT][4], const float *factor, const float *angles, int unit)
{
    int lane = stack_lane(), high = lane % 2, n_head = p.n_heads * (ENTRY / 16);
    bool index = unit >= n_head;
    bool turned =
        index ? (unit - n_head) % (INDEX_DIM / 16) == 0 : unit % (ENTRY / 16) == ENTRY / 16 - 1;
    bool apart = index && !p.index_interleaved; /* pairs are half the width apart */
#pragma unroll
    for (int m = 0; m < MT; m++)
#pragma unroll
        for (int i = 0; i < 4; i++) {
            float *to = room + (m * 16 + lane / 4 + i / 2 * 8) * QUERY_ROOM_LD + 2 * (lane % 4);
            *(float2 *)(to + i % 2 * 8) =
                make_float2(acc[i % 2][m][i / 2 * 2], acc[i % 2][m][i / 2 * 2 + 1]);
        }
    __syncwarp();
#pragma unroll 1
    for (int r = lane / 2; r < at.n_rows; r += 16) {
        const float *mine = room + r * QUERY_ROOM_LD + high * 8;
        const float *other = room + r * QUERY_ROOM_LD + (1 - high) * 8;
        const float *cosine = angles + r * HALF_ROPE, *sine = cosine + STACK_ROWS_MAX * HALF_ROPE;
        float v[8], by = factor[r];
        size_t row = (size_t)(at.row0 + r);
#pragma unroll
        for (int i = 0; i < 8; i++)
            v[i] = mine[i] * by;
        if (turned && apart) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                float u = other[i] * by;
                v[i] = high ? u * sine[i] + v[i] * cosine[i] : v[i] * cosine[i] - u * sine[i];
            }
        } else if (turned) {
#pragma unroll
            for (int i = 0; i < 4; i++)
                rotate(&v[2 * i], &v[2 * i + 1], v[2 * i], v[2 * i + 1], cosine[high * 4 + i],
                       sine[high * 4 + i]);
        }
        if (index) {
            float4 *to = (float4 *)(b.index_query + row * p.index_heads * INDEX_DIM +
                                    (unit - n_head) * 16 + high * 8);
            __stcg(to, make_float4(v[0], v[1], v[2], v[3]));
            __stcg(to + 1, make_float4(v[4], v[5], v[6], v[7]));
        } else {
            uint4 *to = (uint4 *)(b.query + row * p.n_heads * ENTRY + unit * 16 + high * 8);
            __stcg(to, make_uint4(bf16_pack(v[0], v[1]), bf16_pack(v[2], v[3]),
                                  bf16_pack(v[4], v[5]), bf16_pack(v[6], v[7])));
        }
    }
    __syncwarp();
}

/* The first half of the warps multiplies, the others store the rows. */
enum { QUERY_THREADS = 2 * STACK_THREADS };

template <int MT>
static __global__ void __launch_bounds__(QUERY_THREADS, 1)
    query_kernel(const __grid_constant__ struct agon_stack p,
                 const __grid_constant__ struct stack_buffers b,
                 const __grid_constant__ struct agon_stack_layer l, int layer, int n_each)
{
    float *factor = (float *)block_shared();
    float *angles = (float *)(block_shared() + bytes_up(STACK_ROWS_MAX * sizeof(float)));
    float *room = angles + 2 * STACK_ROWS_MAX * HALF_ROPE;
    char *rows = (char *)(room + STACK_WARPS * MT * 16 * QUERY_ROOM_LD);
    struct stack_place at = stack_place(p, n_each);
    bool stores = stack_warp() >= STACK_WARPS;
    int n_units = stores ? 0 : p.n_heads * (ENTRY / 16) + p.index_heads * (INDEX_DIM / 16);
    int n_steps = p.q_lora / 32, stride = p.q_lora * 2 + 16, step = at.size * STACK_WARPS;
    int unit = at.rank + at.size * (stack_warp() % STACK_WARPS);
    size_t ld = (size_t)n_steps * 32;
    const uint4 *w = (const uint4 *)l.query + stack_lane();
    struct held<2, QUERY_STEPS> h;
    uint32_t a[MT];
    held_load(h, w + 2 * ld * unit, ld, unit < n_units ? 2 : 0, 0, n_steps);
    rows_in_order<MT>(a, mma_address(rows), stride);
    int own = at.row0 + unit; /* the row that this warp stores */
    struct stored stored;
    static_assert(QUERY_RANKS * STACK_WARPS >= STACK_ROWS_MAX, "a row a warp");
    stored_begin(&stored, p, l, own, stores && unit < at.n_rows);
    angles_copy(angles, p, at);
    depends_wait();
    rows_copy(rows, stride, b.q, NULL, at.row0, at.n_rows, p.q_lora);
    stored_load(&stored, p, b, own);
    factors_make(factor, at, b.q_squares, b.ld_rows, NULL, p.q_lora, p.latent_eps);
    mma_copies_wait<0>();
    __syncthreads();
    if (stores)
        store_row(p, stored, layer);
    room += (stack_warp() % STACK_WARPS) * MT * 16 * QUERY_ROOM_LD;
    for (; unit < n_units; unit += step) {
        float acc[2][MT][4] = {};
        held_multiply<true>(acc, h, a, MT, 0, n_steps);
        if (unit + step < n_units)
            held_load(h, w + 2 * ld * (unit + step), ld, 2, 0, n_steps);
        put_queries<MT>(p, at, b, room, acc, factor, angles, unit);
    }
}

static size_t query_bytes(int mt, int k)
{
    size_t room = (size_t)STACK_WARPS * mt * 16 * QUERY_ROOM_LD;
    return rows_bytes(mt, k) + (room + 2 * STACK_ROWS_MAX * HALF_ROPE) * sizeof(float);
}

/* ---- to the residual stream --------------------------------------------------------- */

template <int MT>
static __global__ void __launch_bounds__(part_block<MT>::THREADS, 2 / part_block<MT>::PARTS)
    output_kernel(const __grid_constant__ struct agon_stack p,
                  const __grid_constant__ struct stack_buffers b,
                  const __grid_constant__ struct agon_stack_layer l, int n_each)
{
    char *rows = block_shared() + bytes_up(STACK_ROWS_MAX * sizeof(float));
    struct stack_place at = part_place<MT>(p, n_each);
    int k = p.n_heads * KV, stride = k * 2 + 16;
    struct part_product t = part_product_of(l.output, p.hidden, k, at.rank);
    struct held<STACK_PART_TILES, PART_STEPS_MAX> h;
    struct residual<MT> x;
    float acc[STACK_PART_TILES][MT][4] = {};
    held_load(h, t.w, (size_t)t.n_steps * 32, t.n_tiles, t.begin, t.end);
    residual_begin(x, p, at, l.mlp_norm, l.router);
    depends_wait();
    part_rows<MT>(rows, stride, b.attended, t, at);
    part_multiply<true>(acc, h, t, rows, stride);
    __syncthreads(); /* the rows give way to what the warps have found */
    part_put<MT>((float *)rows, acc);
    __syncthreads();
    residual_put(x, p, at, b, [&](int row, int pair) {
        return part_sum(part_found<MT>(rows), MT * 16, row, pair);
    });
}

/* ---- the head ----------------------------------------------------------------------- */

template <int MT>
static __global__ void __launch_bounds__(STACK_THREADS, 2)
    head_kernel(const __grid_constant__ struct agon_stack p,
                const __grid_constant__ struct stack_buffers b, int n_each)
{
    float *factor = (float *)block_shared();
    char *rows = block_shared() + bytes_up(STACK_ROWS_MAX * sizeof(float));
    struct stack_place at = stack_place(p, n_each);
    int n_units = p.n_vocab / 16, n_steps = p.hidden / 32, stride = p.hidden * 2 + 16;
    int step = at.size * STACK_WARPS, lane = stack_lane();
    size_t ld = (size_t)n_steps * 32;
    const uint4 *w = (const uint4 *)p.head + lane;
    int unit = at.rank + at.size * stack_warp();
    struct held<2, HEAD_CHUNK> next;
    uint32_t a[MT];
    held_load(next, w + 2 * ld * unit, ld, unit < n_units ? 2 : 0, 0, n_steps);
    depends_wait();
    rows_copy(rows, stride, b.x, p.logit_rows, at.row0, at.n_rows, p.hidden);
    factors_make(factor, at, b.squares, b.ld_rows, p.logit_rows, p.hidden, p.eps);
    rows_in_order<MT>(a, mma_address(rows), stride);
    mma_copies_wait<0>();
    __syncthreads();
    for (; unit < n_units; unit += step) {
        float acc[2][MT][4] = {};
        held_stream(acc, next, w, ld, n_steps, a, MT, unit, unit + step, n_units);
#pragma unroll
        for (int m = 0; m < MT; m++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                int r = m * 16 + lane / 4 + 8 * half;
                if (r >= at.n_rows)
                    continue;
                float *to = p.logits + (size_t)(at.row0 + r) * p.n_vocab + unit * 16 + lane % 4 * 2;
                float by = factor[r];
                *(float2 *)to = make_float2(acc[0][m][2 * half] * by, acc[0][m][2 * half + 1] * by);
                *(float2 *)(to + 8) =
                    make_float2(acc[1][m][2 * half] * by, acc[1][m][2 * half + 1] * by);
            }
    }
}

/* ---- launches ----------------------------------------------------------------------- */

extern "C" bool agon_stack_does(const struct agon_stack *p)
{
    int n_input = p->q_lora + ENTRY + INDEX_DIM + p->index_heads, ignored;
    return p->hidden % 128 == 0 && p->hidden <= STACK_HIDDEN_MAX && p->n_vocab % 16 == 0 &&
           p->q_lora % 64 == 0 && p->q_lora <= STACK_Q_MAX && p->n_heads > 0 &&
           p->n_heads <= AGON_STACK_HEADS_MAX && p->index_heads > 0 && p->index_heads % 2 == 0 &&
           p->index_heads <= INDEX_HEADS_MAX && 16 % p->index_heads == 0 &&
           n_input <= STACK_PARTS * STACK_PART_TILES * 8 && p->inner_max <= STACK_INNER_MAX &&
           p->n_experts <= STACK_EXPERTS_MAX && p->top_k <= STACK_TOPK_MAX && p->n_shared <= 1 &&
           p->rows.n_max <= AGON_STACK_WINDOW_MAX &&
           down_bytes(p->pairs_max, p->inner_max) <= STACK_SHARED_MAX &&
           attend_kernel_bytes(&ignored, p, STACK_OWN_MAX, AGON_STACK_WINDOW_MAX) <=
               STACK_SHARED_MAX;
}

extern "C" size_t agon_stack_scratch(const struct agon_stack *p)
{
    struct stack_buffers ignored;
    return stack_buffers(&ignored, *p);
}

template <class... Parameters, class... Arguments>
static int launch_stage(struct agon_err *err, void (*kernel)(Parameters...), dim3 grid,
                        unsigned n_threads, size_t bytes, void *stream, Arguments &&...arguments)
{
    AGON_CUDA(err, "layers",
              cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                   STACK_SHARED_MAX));
    AGON_CUDA(err, "layers: launch",
              launch_overlapping(kernel, grid, n_threads, bytes, stream,
                                 std::forward<Arguments>(arguments)...));
    return 0;
}

static struct stack_buffers buffers_of(const struct agon_stack *p)
{
    struct stack_buffers b;
    (void)stack_buffers(&b, *p);
    return b;
}

static int launch_attend(const struct agon_stack *p, int layer, void *stream, struct agon_err *err)
{
    enum { MULTIPROCESSORS = 132 };
    int n_each = agon_ceil_div(p->rows.n_rows, MULTIPROCESSORS);
    n_each = n_each < STACK_OWN_MAX ? n_each : STACK_OWN_MAX;
    int scores_at;
    size_t bytes = attend_kernel_bytes(&scores_at, p, n_each, p->rows.n_max);
    return launch_stage(err, attend_kernel, dim3(agon_ceil_div(p->rows.n_rows, n_each)),
                        ATTEND_THREADS, bytes, stream, *p, buffers_of(p), layer, n_each, scores_at);
}

/* How many tiles a layer has at most: each expert's last may be of one row. */
static int layer_tiles(const struct agon_stack *p, const struct agon_stack_layer *l)
{
    int n = p->rows.n_rows, whole = agon_ceil_div(n, UP_ROWS);
    return l->router ? p->n_shared * whole + (n * p->top_k + p->n_experts * (UP_ROWS - 1)) / UP_ROWS
                     : l->n_groups * whole;
}

template <int TILES>
static int launch_up_tiles(const struct agon_stack *p, const struct agon_stack_layer *l,
                           int n_tiles, void *stream, struct agon_err *err)
{
    dim3 grid((unsigned)agon_ceil_div(l->inner / 8, TILES), (unsigned)n_tiles);
    return launch_stage(err, up_kernel<TILES>, grid, STACK_THREADS, up_bytes(p, TILES), stream, *p,
                        buffers_of(p), *l);
}

static int launch_up(const struct agon_stack *p, const struct agon_stack_layer *l, void *stream,
                     struct agon_err *err)
{
    int n = p->rows.n_rows, r;
    if (n <= UP_ROWS)
        return launch_up_tiles<UP_WHOLE>(p, l, l->n_groups, stream, err);
    if ((r = launch_stage(err, route_kernel, dim3((unsigned)(2 * agon_ceil_div(n, 2 * ROUTE_ROWS))),
                          32, 0, stream, *p, buffers_of(p), *l)))
        return r;
    if (pair_does(p, l))
        return launch_stage(err, pair_kernel, dim3((unsigned)(PAIR_BLOCKS * pairs_of(p, l))),
                            STACK_THREADS, pair_bytes(p, l->inner), stream, *p, buffers_of(p), *l,
                            (int)(l - p->layers));
    int most = layer_tiles(p, l);
    int parts = agon_ceil_div(l->inner / 8, UP_MANY);
    bool fewer = agon_ceil_div(l->inner / 8, UP_MANY + 1) < parts;
    return n <= UP_FEW_ROWS ? launch_up_tiles<UP_FEW>(p, l, most, stream, err)
           : fewer          ? launch_up_tiles<UP_MANY + 1>(p, l, most, stream, err)
                            : launch_up_tiles<UP_MANY>(p, l, most, stream, err);
}

static int launch_down(const struct agon_stack *p, const struct agon_stack_layer *l, void *stream,
                       struct agon_err *err)
{
    int n = p->rows.n_rows, r;
    if (n <= UP_ROWS)
        return launch_stage(
            err, down_kernel, dim3((unsigned)agon_ceil_div(n, DOWN_ROWS), STACK_PARTS),
            DOWN_THREADS, down_bytes(layer_slots(*p, *l), l->inner), stream, *p, buffers_of(p), *l);
    dim3 grid((unsigned)(p->hidden / DOWN_COLUMNS), (unsigned)layer_tiles(p, l));
    bool pairs = pair_does(p, l);
    if (!pairs && (r = launch_stage(err, down_tile_kernel, grid, STACK_THREADS, down_tile_bytes(l),
                                    stream, *p, buffers_of(p), *l)))
        return r;
    return launch_stage(err, combine_kernel,
                        dim3((unsigned)(agon_ceil_div(n, COMBINE_ROWS) + pairs)), COMBINE_THREADS,
                        COMBINE_BYTES, stream, *p, buffers_of(p), *l, (int)(l - p->layers));
}

template <int MT>
static int launch_one(const struct agon_stack *p, int number, void *stream, struct agon_err *err)
{
    int layer = number / AGON_STACK_STAGES, n_each = 16 * MT;
    unsigned groups = (unsigned)agon_ceil_div(p->rows.n_rows, n_each);
    const struct agon_stack_layer *l = &p->layers[layer];
    const int n_parts = part_block<MT>::PARTS, part_threads = part_block<MT>::THREADS;
    dim3 parts(groups, STACK_PARTS), blocks(groups, STACK_PARTS / n_parts);
    if (number == agon_stack_head(p))
        return launch_stage(err, head_kernel<MT>, dim3(groups, HEAD_RANKS), STACK_THREADS,
                            rows_bytes(MT, p->hidden), stream, *p, buffers_of(p), n_each);
    switch (number % AGON_STACK_STAGES) {
    case AGON_STACK_INPUT:
        return launch_stage(err, input_kernel<MT>, blocks, part_threads,
                            part_bytes(MT, n_parts, p->hidden), stream, *p, buffers_of(p), *l,
                            n_each);
    case AGON_STACK_QUERY:
        return launch_stage(err, query_kernel<MT>, dim3(groups, QUERY_RANKS), QUERY_THREADS,
                            query_bytes(MT, p->q_lora), stream, *p, buffers_of(p), *l, layer,
                            n_each);
    case AGON_STACK_ATTEND: return launch_attend(p, layer, stream, err);
    case AGON_STACK_OUTPUT:
        return launch_stage(err, output_kernel<MT>, blocks, part_threads,
                            part_bytes(MT, n_parts, p->n_heads * KV), stream, *p, buffers_of(p), *l,
                            n_each);
    case AGON_STACK_UP: return launch_up(p, l, stream, err);
    default: return launch_down(p, l, stream, err);
    }
}

extern "C" int agon_stack_cuda(const struct agon_stack *p, int begin, int end, void *stream,
                               struct agon_err *err)
{
    if (!agon_stack_does(p) || begin < 0 || end > agon_stack_head(p) + 1)
        return agon_fail(err, AGON_EINPUT, "layers: %d of %d values, %d heads, stages %d to %d",
                         p->n_layers, p->hidden, p->n_heads, begin, end);
    int n = p->rows.n_rows, r = 0;
    if (n <= 0 || begin >= end)
        return 0;
    if (begin == 0)
        r = launch_stage(err, begin_kernel, dim3((unsigned)n), STACK_THREADS, 0, stream, *p,
                         buffers_of(p), p->layers[0]);
    for (int stage = begin; stage < end && r == 0; stage++)
        r = n <= 128   ? launch_one<1>(p, stage, stream, err)
            : n <= 256 ? launch_one<2>(p, stage, stream, err)
                       : launch_one<4>(p, stage, stream, err);
    return r;
}

/* ---- masks as lists ------------------------------------------------------------------ */

/* A warp a row. */
static __global__ void list_kernel(int32_t *selected, int32_t *n_selected, int k,
                                   const uint64_t *mask, int ld_mask)
{
    depends_wait();
    int lane = stack_lane(), n = 0;
    selected += (size_t)blockIdx.x * k;
    for (int word = 0; word < 2 * ld_mask; word++) {
        uint32_t bits = ((const uint32_t *)(mask + (size_t)blockIdx.x * ld_mask))[word];
        int at = n + __popc(bits & ((1U << lane) - 1));
        if ((bits >> lane & 1) && at < k)
            selected[at] = word * 32 + lane;
        n += __popc(bits);
    }
    for (int i = n + lane; i < k; i += 32)
        selected[i] = -1;
    if (lane == 0)
        n_selected[blockIdx.x] = min(n, k);
}

extern "C" int agon_stack_list_cuda(int32_t *selected, int32_t *n_selected, int k,
                                    const uint64_t *mask, int ld_mask, int n_rows, void *stream,
                                    struct agon_err *err)
{
    if (n_rows <= 0)
        return 0;
    AGON_CUDA(err, "selections as lists",
              launch_overlapping(list_kernel, (unsigned)n_rows, 32, 0, stream, selected, n_selected,
                                 k, mask, ld_mask));
    return 0;
}
