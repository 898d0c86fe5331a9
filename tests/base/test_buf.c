#include "base/arena.h"
#include "base/buf.h"
#include "tests/test.h"

#include <stdint.h>

TEST(err_keeps_the_code_and_adds_where)
{
    struct agon_err err = {0};
    EXPECT(agon_fail(&err, AGON_EINPUT, "no column %s", "qty") == AGON_EINPUT);
    EXPECT(agon_err_in(&err, err.code, "env '%s'", "shop") == AGON_EINPUT);
    EXPECT_TEXT(err.text, "env 'shop': no column qty");
    EXPECT_HAS(err.file, "test_buf.c");
    EXPECT(agon_fail(NULL, AGON_ESYS, "unseen") == AGON_ESYS);
}

TEST(err_cuts_a_long_text_and_keeps_its_front)
{
    struct agon_err err = {0};
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    agon_fail(&err, AGON_ESYS, "%s", text);
    for (int i = 0; i < 5; i++)
        agon_err_in(&err, err.code, "%s", text);
    EXPECT(strlen(err.text) == sizeof(err.text) - 1);
    agon_err_in(&err, err.code, "front");
    EXPECT(strncmp(err.text, "front: xxx", 10) == 0);
}

TEST(buf_grows_up_to_its_maximum_and_no_further)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
    for (int i = 0; i < 1000; i++)
        agon_buf_addc(&b, 'a');
    EXPECT(agon_buf_check(&b, "text", NULL) == 0);
    EXPECT(b.size == 1000 && strlen(agon_buf_text(&b)) == 1000);
    struct agon_err err = {0};
    agon_buf_addc(&b, 'b');
    EXPECT(agon_buf_check(&b, "text", &err) == AGON_ENOMEM);
    EXPECT_TEXT(err.text, "text: over 1000 bytes");
}

TEST(buf_failure_sticks_until_reset)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(4);
    agon_buf_adds(&b, "abcdef");
    agon_buf_adds(&b, "x");
    EXPECT(b.size == 0 && b.failed);
    EXPECT(agon_buf_steal(&b) == NULL);
    agon_buf_reset(&b);
    agon_buf_adds(&b, "x");
    EXPECT(!b.failed && agon_str_is(agon_buf_str(&b), "x"));
}

TEST(buf_formats_and_steals)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(SIZE_MAX - 1);
    EXPECT_TEXT(agon_buf_text(&b), "");
    agon_buf_addf(&b, "%d-%s", 7, "x");
    agon_buf_add(&b, "\0y", 2);
    EXPECT(b.size == 5 && memcmp(b.data, "7-x\0y", 6) == 0);
    char *text = agon_buf_steal(&b);
    EXPECT_TEXT(text, "7-x");
    free(text);
    text = agon_buf_steal(&b);
    EXPECT_TEXT(text, ""); /* an empty buffer gives an empty string */
    free(text);
}

TEST(arena_gives_zeroed_aligned_memory_that_does_not_overlap)
{
    struct agon_arena *a AGON_AUTO(agon_arena_freep) = NULL;
    REQUIRE(agon_arena_new(&a, 8 << 20, NULL) == 0);
    unsigned char *items[2000];
    for (size_t i = 0; i < 2000; i++) {
        size_t size = i * 7 % 1999 + 1;
        items[i] = agon_arena_alloc(a, size);
        REQUIRE(items[i] && (uintptr_t)items[i] % 16 == 0);
        for (size_t j = 0; j < size; j++)
            REQUIRE(items[i][j] == 0);
        memset(items[i], (int)(i % 255) + 1, size);
    }
    for (size_t i = 0; i < 2000; i++)
        for (size_t j = 0; j < i * 7 % 1999 + 1; j++)
            REQUIRE(items[i][j] == i % 255 + 1);
}

TEST(arena_ends_at_its_limit)
{
    struct agon_arena *a AGON_AUTO(agon_arena_freep) = NULL;
    REQUIRE(agon_arena_new(&a, 100000, NULL) == 0);
    size_t n = 0;
    while (agon_arena_alloc(a, 100))
        n += 112;
    EXPECT(n <= 100000 && n > 90000);
    EXPECT(agon_arena_alloc(a, SIZE_MAX) == NULL);
    EXPECT(agon_arena_alloc(a, SIZE_MAX - 8) == NULL);
    EXPECT(agon_arena_strdup(a, (struct agon_str){"", SIZE_MAX}) == NULL);
}

TEST(arena_reset_gives_zeroed_memory_again_and_all_of_the_limit)
{
    struct agon_arena *a AGON_AUTO(agon_arena_freep) = NULL;
    REQUIRE(agon_arena_new(&a, 1 << 20, NULL) == 0);
    agon_arena_reset(a); /* fine while empty */
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 9; i++) {
            char *p = agon_arena_alloc(a, 100000);
            REQUIRE(p != NULL);
            for (int j = 0; j < 100000; j++)
                REQUIRE(p[j] == 0);
            memset(p, 'x', 100000);
        }
        agon_arena_reset(a);
    }
    char *copy = agon_arena_strdup(a, agon_str("text"));
    EXPECT_TEXT(copy, "text");
}
