/* What stands around the exchange of rows among devices, against loops on the host. */
#include "kernels/cuda_exchange.h"
#include "tests/gpu/gpu.h"

TEST(choices_of_others_are_nobodys_and_their_vectors_zeros)
{
    enum { N_CHOICES = 777, WIDTH = 301, LD = 310, FIRST = 5, HERE = 4 };
    static int32_t ids[N_CHOICES], local[N_CHOICES], pair_of[N_CHOICES], each[N_CHOICES];
    static float y[N_CHOICES * LD], wide[N_CHOICES * WIDTH];
    int n_pairs = 0, n_bad = 0;
    REQUIRE_GPU();
    for (int i = 0; i < N_CHOICES; i++) {
        ids[i] = i % 13 - 1; /* -1 .. 11: nobody's, others', ours 5 .. 8 */
        pair_of[i] = ids[i] >= FIRST && ids[i] < FIRST + HERE ? N_CHOICES - 1 - n_pairs++ : -1;
    }
    for (int i = 0; i < N_CHOICES * LD; i++)
        y[i] = (float)(i % 8191) - 4000.5F;
    GPU_AUTO d_ids = gpu_upload(ids, sizeof(ids)), d_pair_of = gpu_upload(pair_of, sizeof(pair_of));
    GPU_AUTO d_y = gpu_upload(y, sizeof(y)), d_local = gpu_poisoned(sizeof(local), 0xff);
    GPU_AUTO d_wide = gpu_poisoned(sizeof(wide), 0xff), d_each = gpu_poisoned(sizeof(each), 0xff);
    REQUIRE(agon_cuda_exchange_local(d_local.p, d_ids.p, N_CHOICES, FIRST, HERE, NULL, &err) == 0);
    REQUIRE(agon_cuda_exchange_spread(d_wide.p, d_y.p, LD, d_pair_of.p, d_local.p, HERE, WIDTH,
                                      N_CHOICES, NULL, &err) == 0);
    REQUIRE(agon_cuda_exchange_count(d_each.p, N_CHOICES, NULL, &err) == 0);
    gpu_download(local, &d_local);
    gpu_download(wide, &d_wide);
    gpu_download(each, &d_each);
    for (int i = 0; i < N_CHOICES; i++) {
        bool ours = pair_of[i] >= 0;
        n_bad += local[i] != (ours ? ids[i] - FIRST : HERE) || each[i] != i;
        for (int j = 0; j < WIDTH; j++)
            n_bad += wide[i * WIDTH + j] != (ours ? y[pair_of[i] * LD + j] : 0);
    }
    EXPECT(n_bad == 0);
}
