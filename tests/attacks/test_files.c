/* G: checkpoints, environments and crawled documents made by others. Each is refused in one line
 * that names the file, or read without harm; nothing hangs, and nothing outside is touched. */
#include "base/file.h"
#include "base/json.h"
#include "base/store.h"
#include "envs/env.h"
#include "model/config.h"
#include "model/local.h"
#include "model/safetensors.h"
#include "model/tokenizer.h"
#include "synth/retrieval/document.h"
#include "synth/retrieval/import.h"
#include "synth/retrieval/robots.h"
#include "tests/attacks/battery.h"
#include "tests/model/random_checkpoint.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct agon_err err;

static const struct random_checkpoint tiny = {.seed = 5,
                                              .n_vocab = 300,
                                              .hidden = 40,
                                              .n_layers = 2,
                                              .n_heads = 2,
                                              .q_lora = 24,
                                              .kv_lora = 20,
                                              .nope = 10,
                                              .rope = 6,
                                              .v = 14,
                                              .index_heads = 2,
                                              .index_dim = 8,
                                              .index_topk = 8,
                                              .window = 256,
                                              .dense = 50,
                                              .n_dense = 1,
                                              .expert = 18,
                                              .n_experts = 4,
                                              .top_k = 2,
                                              .n_shared = 1,
                                              .n_group = 1,
                                              .topk_group = 1,
                                              .dtype = AGON_F32,
                                              .n_shards = 1};

/* A fresh folder with a checkpoint in it. */
static const char *checkpoint(void)
{
    static char dir[4000];
    snprintf(dir, sizeof(dir), "%s", test_path("checkpoint"));
    EXPECT(agon_dir_remove(dir, &err) == 0);
    if (!EXPECT(random_checkpoint_write(dir, &tiny, &err) == 0))
        printf("# %s\n", err.text);
    return dir;
}

static const char *in(const char *dir, const char *name)
{
    static char path[4096];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static void put(const char *dir, const char *name, struct agon_str content)
{
    EXPECT(agon_file_write(in(dir, name), content, false, &err) == 0);
}

/* One line that names what is wrong. */
static void expect_line(int r, const char *part)
{
    EXPECT(r < 0);
    EXPECT_HAS(err.text, part);
    EXPECT(!strchr(err.text, '\n'));
}

static int open_tokenizer(const char *dir)
{
    struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
    err.text[0] = '\0';
    return agon_tokenizer_load(&t, dir, 300, &err);
}

static int open_tensors(const char *dir)
{
    struct agon_tensors *t AGON_AUTO(agon_tensors_freep) = NULL;
    err.text[0] = '\0';
    return agon_tensors_open(&t, dir, &err);
}

static int open_config(const char *dir)
{
    struct agon_config config;
    err.text[0] = '\0';
    return agon_config_load(&config, dir, &err);
}

/* ---- G2: files that change under the reader ------------------------------------------ */

/* Each tensor is read; how many were. */
static int read_all(const struct agon_tensors *t, int *ret_n)
{
    int r = 0;
    for (size_t i = 0; i < agon_tensors_count(t) && !r; i++) {
        const struct agon_tensor *tensor = agon_tensors_at(t, i);
        void *data = malloc(tensor->size + 1);
        r = data ? agon_tensor_read(t, tensor, data, &err) : AGON_ENOMEM;
        free(data);
        *ret_n += r == 0;
    }
    return r;
}

ATTACK(G2_safetensors_shrink_while_they_are_read)
{
    const char *dir = checkpoint();
    struct agon_tensors *t AGON_AUTO(agon_tensors_freep) = NULL;
    struct stat st;
    int n = 0;
    REQUIRE(agon_tensors_open(&t, dir, &err) == 0);
    REQUIRE(stat(in(dir, "model.safetensors"), &st) == 0);
    REQUIRE(truncate(in(dir, "model.safetensors"), st.st_size / 2) == 0);
    expect_line(read_all(t, &n), "truncated at byte"); /* no SIGBUS: nothing is mapped */
    EXPECT_HAS(err.text, "model.safetensors: tensor '");
    EXPECT(n < (int)agon_tensors_count(t));
    REQUIRE(truncate(in(dir, "model.safetensors"), 0) == 0);
    expect_line(read_all(t, &n), "truncated at byte");
}

ATTACK(G2_safetensors_are_replaced_while_they_are_read)
{
    const char *dir = checkpoint();
    struct agon_tensors *t AGON_AUTO(agon_tensors_freep) = NULL;
    int n = 0;
    REQUIRE(agon_tensors_open(&t, dir, &err) == 0);
    put(dir, "model.safetensors", agon_str("something else")); /* a rename: the old file stays */
    EXPECT(read_all(t, &n) == 0 && n == (int)agon_tensors_count(t));
    EXPECT(unlink(in(dir, "model.safetensors")) == 0);
    EXPECT(read_all(t, &n) == 0);
    expect_line(open_tensors(dir), "model.safetensors");
}

/* ---- G3: sizes ------------------------------------------------------------------------ */

/* A sparse file of a gigabyte and some. */
static void huge(const char *dir, const char *name)
{
    int fd = open(in(dir, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    EXPECT(fd >= 0 && ftruncate(fd, (off_t)1200 << 20) == 0);
    (void)close(fd);
}

ATTACK(G3_files_of_a_gigabyte)
{
    const char *dir = checkpoint();
    b->seconds_max = 60;
    huge(dir, "config.json");
    expect_line(open_config(dir), "config.json: over 4194304 bytes");
    huge(dir, "tokenizer.json");
    expect_line(open_tokenizer(dir), "tokenizer.json: over 134217728 bytes");
    huge(dir, "model.safetensors"); /* a header of 0 bytes, it says */
    expect_line(open_tensors(dir), "model.safetensors: header");
    huge(dir, "model.safetensors.index.json");
    expect_line(open_tensors(dir), "model.safetensors.index.json: over 67108864 bytes");
}

ATTACK(G3_what_stands_there_is_no_file)
{
    const char *dir = checkpoint();
    static const char *const names[] = {"config.json", "tokenizer.json", "model.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        int (*const opens[])(const char *) = {open_config, open_tokenizer, open_tensors};
        EXPECT(unlink(in(dir, names[i])) == 0 && mkfifo(in(dir, names[i]), 0600) == 0);
        expect_line(opens[i](dir), "not a regular file");
        EXPECT(unlink(in(dir, names[i])) == 0 && symlink("/dev/zero", in(dir, names[i])) == 0);
        expect_line(opens[i](dir), "not a regular file");
        EXPECT(unlink(in(dir, names[i])) == 0 && mkdir(in(dir, names[i]), 0700) == 0);
        expect_line(opens[i](dir), names[i]);
        EXPECT(rmdir(in(dir, names[i])) == 0 && symlink(names[i], in(dir, names[i])) == 0);
        expect_line(opens[i](dir), names[i]); /* a link to itself */
    }
}

/* ---- G3: tokenizer.json ---------------------------------------------------------------- */

/* The byte vocabulary with more entries, merges, added tokens and a pattern. */
static void tokenizer_put(const char *dir, const char *vocab, const char *merges, const char *added,
                          const char *pattern)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    agon_buf_addf(&b,
                  "{\"added_tokens\": [%s], \"pre_tokenizer\": {\"type\": \"Sequence\", "
                  "\"pretokenizers\": [{\"type\": \"Split\", \"pattern\": {\"Regex\": ",
                  added);
    agon_json_dump_string(&b, agon_str(pattern));
    agon_buf_adds(&b,
                  "}, \"behavior\": \"Isolated\", \"invert\": false}, {\"type\": \"ByteLevel\", "
                  "\"add_prefix_space\": false, \"use_regex\": false}]}, \"model\": "
                  "{\"type\": \"BPE\", \"vocab\": {");
    for (int byte = 0; byte < 256; byte++) {
        agon_buf_adds(&b, byte ? ", \"" : "\"");
        byte_alphabet_add(&b, (unsigned char)byte);
        agon_buf_addf(&b, "\": %d", byte);
    }
    agon_buf_addf(&b, "%s}, \"merges\": [%s]}}", vocab, merges);
    put(dir, "tokenizer.json", agon_buf_str(&b));
}

ATTACK(G3_tokenizers_that_lie)
{
    const char *dir = checkpoint();
    static const struct {
        const char *vocab, *merges, *added, *pattern, *reason;
    } cases[] = {
        {", \"ab\": 2147483648", "", "", "x", "its id is not from 0 to 299"},
        {", \"ab\": 4294967296", "", "", "x", "its id is not from 0 to 299"},
        {", \"ab\": -1", "", "", "x", "its id is not from 0 to 299"},
        {", \"ab\": 256.0", "", "", "x", "its id is not from 0 to 299"},
        {", \"ab\": \"256\"", "", "", "x", "its id is not from 0 to 299"},
        {", \"ab\": 9223372036854775808", "", "", "x", "does not fit 64 bits"},
        {", \"ab\": 97", "", "", "x", "same id 97"},
        {", \"ab\": 256, \"ab\": 257", "", "", "x", "duplicate key"},
        {", \"ab\": 257", "", "", "x", "no token has the id 256"},
        {", \"\": 256", "", "", "x", "0 bytes"},
        {", \"\xff\": 256", "", "", "x", "invalid UTF-8"},
        {", \"\\ud800\": 256", "", "", "x", "half of a surrogate pair"},
        {"", "\"a zz\"", "", "x", "not in the vocabulary"},
        {"", "\"a b\"", "", "x", "not in the vocabulary"},
        {", \"ab\": 256", "\"ab \"", "", "x", "not in the vocabulary"},
        {", \"ab\": 256", "[\"a\", \"b\", \"c\"]", "", "x", "no pair of tokens"},
        {", \"ab\": 256", "\"a b\", \"a b\"", "", "x", "stands there twice"},
        {", \"ab\": 256", "{\"a\": \"b\"}", "", "x", "no pair of tokens"},
        {"", "", "{\"id\": 256, \"content\": \"\"}", "x", "0 bytes"},
        {"", "", "{\"id\": 256}", "x", "0 bytes"},
        {"", "", "7", "x", "its id is not from 0"},
        {"", "", "{\"id\": 256, \"content\": \"<a>\", \"lstrip\": \"no\"}", "x",
         "lstrip: neither true nor false"},
        {"", "", "{\"id\": 256, \"content\": \"<a>\"}, {\"id\": 257, \"content\": \"<a>\"}", "x",
         "stands there twice"},
        {"", "", "", "(", "pattern '('"},
        {"", "", "", "(?<=a+)b", "pattern '(?<=a+)b'"},
        {"", "", "", "\\Gx", "\\G is not supported"},
        {"", "", "", "(*LIMIT_MATCH=1)a", "(*VERB) is not supported"},
        {"", "", "", "a\\C", "pattern 'a\\C'"},
        {"", "", "", "((((((a{1,200}){1,200}){1,200}){1,200}){1,200}){1,200})", "pattern '(((((("},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        tokenizer_put(dir, cases[i].vocab, cases[i].merges, cases[i].added, cases[i].pattern);
        int r = open_tokenizer(dir);
        if (r == 0)
            printf("# case %zu: %s\n", i, cases[i].reason);
        expect_line(r, cases[i].reason);
        EXPECT_HAS(err.text, "tokenizer.json");
    }
}

/* Merges only make longer tokens out of shorter ones, so that no order of them is a cycle. */
ATTACK(G3_merges_that_would_go_round)
{
    const char *dir = checkpoint();
    tokenizer_put(dir, ", \"aa\": 256, \"aaa\": 257, \"aaaa\": 258",
                  "\"aa aa\", \"aaa a\", \"a aaa\", \"aa a\", \"a aa\", \"a a\"", "", "a+");
    struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(1 << 20);
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(2 << 20);
    struct agon_buf back AGON_AUTO(agon_buf_deinit) = AGON_BUF(2 << 20);
    REQUIRE(agon_tokenizer_load(&t, dir, 300, &err) == 0);
    while (text.size < 1 << 20)
        agon_buf_adds(&text, "aaaaaaaaaaaaaaaa");
    EXPECT(agon_tokenizer_encode(t, agon_buf_str(&text), false, &ids, &err) == 0);
    EXPECT(agon_tokenizer_decode(t, ids.data, ids.n, &back, &err) == 0);
    EXPECT(agon_str_equal(agon_buf_str(&text), agon_buf_str(&back)));
}

/* Plain text that spells an added token stays what its characters are: the loader refuses merges
 * that lead there, and the pre-tokenizer cannot make one piece of it either. */
ATTACK(G3_bpe_that_leads_to_a_control_token)
{
    const char *dir = checkpoint();
    tokenizer_put(dir, ", \"<t\": 256, \"<th\": 257, \"<th>\": 258", "\"< t\", \"<t h\", \"<th >\"",
                  "{\"id\": 258, \"content\": \"<th>\"}", "<th>|.");
    expect_line(open_tokenizer(dir), "plain text could spell it");
    tokenizer_put(dir, ", \"<t\": 256, \"<th\": 257", "\"< t\", \"<t h\"",
                  "{\"id\": 258, \"content\": \"<th>\"}", "<th>|.");
    struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(16);
    REQUIRE(agon_tokenizer_load(&t, dir, 300, &err) == 0);
    EXPECT(agon_tokenizer_encode(t, agon_str("<th>"), false, &ids, &err) == 0);
    EXPECT(ids.n == 2 && ids.data[0] == 257 && ids.data[1] == '>');
}

/* PCRE2 limits the steps of a match, not the number of starts that fail: this took hours. */
ATTACK(G3_patterns_that_never_end)
{
    static const char *const patterns[] = {"(?:\\p{L}\\p{L})+[bc]", "(?:a|d)*[bc]", "(a*)*[bc]",
                                           "(a|aa)+$b"};
    const char *dir = checkpoint();
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(2 << 20);
    b->seconds_max = 120; /* 5 s of CPU time for the first; others end on PCRE2's own limits */
    while (text.size < 1000000)
        agon_buf_adds(&text, "aaaaaaaaaaaaaaaa");
    for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns); i++) {
        struct agon_tokenizer *t AGON_AUTO(agon_tokenizer_freep) = NULL;
        struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(2 << 20);
        tokenizer_put(dir, "", "", "", patterns[i]);
        REQUIRE(agon_tokenizer_load(&t, dir, 300, &err) == 0);
        err.text[0] = '\0';
        int r = agon_tokenizer_encode(t, agon_buf_str(&text), false, &ids, &err);
        if (r != 0) /* PCRE2 may see that nothing can match */
            expect_line(r, "tokenizer: a pattern");
    }
}

/* Processor seconds to encode so many bytes of `unit` and an end that does not fit it. */
static double encode_seconds(const struct agon_tokenizer *t, const char *unit, size_t size)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(4 << 20);
    struct agon_ids ids AGON_AUTO(agon_ids_deinit) = AGON_IDS(4 << 20);
    struct timespec begin, end;
    while (text.size < size)
        agon_buf_adds(&text, unit);
    agon_buf_adds(&text, "x");
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &begin); /* there is one */
    if (!EXPECT(agon_tokenizer_encode(t, agon_buf_str(&text), false, &ids, &err) == 0))
        printf("# '%s': %s\n", unit, err.text);
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    return (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) * 1e-9;
}

/* Sixteen times the text takes far less than 256 times the time; with V3.2's pattern and with one
 * that cuts nothing, so that BPE meets the megabyte in one piece. */
ATTACK(G3_tokenizing_is_near_linear)
{
    static const char *const units[] = {" ",
                                        "a",
                                        "ab",
                                        "aab",
                                        "\n",
                                        " \n",
                                        "1",
                                        "<",
                                        "é",
                                        "中",
                                        "\xcc\x81",
                                        "a1 ",
                                        "\t ",
                                        "'s",
                                        "<｜",
                                        "\xf0\x9f\x98\x80",
                                        "aaaaaaaaaaaaaaab"};
    const char *dir = checkpoint();
    struct agon_tokenizer *t[2] = {NULL, NULL};
    struct agon_buf json AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 24);
    b->seconds_max = 120;
    tokenizer_json_add(&json, 1500, false, 7);
    REQUIRE(agon_tokenizer_parse(&t[0], agon_buf_str(&json), 1 << 16, &err) == 0);
    tokenizer_put(dir, ", \"aa\": 256, \"ab\": 257, \"aaaa\": 258, \"aaab\": 259, \"ba\": 260",
                  "\"a b\", \"b a\", \"a a\", \"aa aa\", \"aa ab\"", "", "(?s).+");
    REQUIRE(agon_tokenizer_load(&t[1], dir, 300, &err) == 0);
    for (int k = 0; k < 2; k++) {
        for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
            double few = 0, many = 0;
            bool linear = false; /* once in five: what else runs here slows one of the two down */
            for (int tries = 0; tries < 5 && !linear; tries++) {
                few = encode_seconds(t[k], units[i], 1 << 16);
                many = encode_seconds(t[k], units[i], 1 << 20);
                linear = many < 64 * few + 0.1;
            }
            if (!EXPECT(linear))
                printf("# '%s': %.4f s, then %.4f s\n", units[i], few, many);
        }
        agon_tokenizer_free(t[k]);
    }
}

/* ---- G4: templates --------------------------------------------------------------------- */

ATTACK(G4_a_chat_template_is_never_read)
{
    const char *dir = checkpoint();
    struct agon_model *m AGON_AUTO(agon_model_freep) = NULL;
    struct agon_model_options o = {0};
    put(dir, "tokenizer_config.json",
        agon_str("{\"chat_template\": \"{{ ''.__class__.__mro__[1].__subclasses__() }}{% for x in "
                 "range(10**9) %}{% endfor %}\"}"));
    put(dir, "chat_template.jinja", agon_str("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}"));
    char spec[4096];
    snprintf(spec, sizeof(spec), "local:%s", dir);
    if (!EXPECT(agon_model_open(&m, spec, &o, &err) == 0))
        printf("# %s\n", err.text);
}

/* ---- G6: paths --------------------------------------------------------------------------- */

ATTACK(G6_an_index_leads_nowhere_else)
{
    static const char *const names[] = {
        "../../etc/passwd",    "/etc/passwd", "..",        ".", "", "a/b",
        "./model.safetensors", ".hidden",     "a\\u0000b", "1"};
    const char *dir = checkpoint();
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        char text[200];
        snprintf(text, sizeof(text), "{\"weight_map\": {\"a\": %s%s%s}}",
                 names[i][0] == '1' ? "" : "\"", names[i], names[i][0] == '1' ? "" : "\"");
        put(dir, "model.safetensors.index.json", agon_str(text));
        expect_line(open_tensors(dir), "model.safetensors.index.json");
        EXPECT(!strstr(err.text, "root:")); /* nothing of what lies there is told */
    }
}

ATTACK(G6_an_environment_is_read_beneath_its_folder)
{
    static const char *const texts[][2] = {
        {"env.json",
         "{\"id\": \"a\", \"family\": \"g\", \"category\": \"c\", \"format_version\": 1}"},
        {"tools.lua", ""}};
    static const char *const links[][2] = {{"tools.lua", "/etc/passwd"},
                                           {"world.sql", "/etc/passwd"},
                                           {"tasks", "/etc"},
                                           {"tools.lua", "../../../../../etc/passwd"},
                                           {"env.json", "/dev/zero"}};
    char dir[4000];
    snprintf(dir, sizeof(dir), "%s", test_path("linked"));
    for (size_t i = 0; i < sizeof(links) / sizeof(*links); i++) {
        struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
        EXPECT(agon_dir_remove(dir, &err) == 0 && agon_dir_make(dir, &err) == 0);
        for (size_t k = 0; k < 2; k++)
            put(dir, texts[k][0], agon_str(texts[k][1]));
        (void)unlink(in(dir, links[i][0])); /* it may not be there */
        EXPECT(symlink(links[i][1], in(dir, links[i][0])) == 0);
        expect_line(agon_env_load(&e, dir, &err), "environment '");
    }
}

/* Names come out of a folder as they are; one that could steer a terminal is not told. */
ATTACK(G6_a_task_with_a_name_that_no_task_has)
{
    static const char *const names[] = {"..x", "t1 l1", "T1", "t1\n", "\x1b[2J", "t1_l1;x", "\xff"};
    char dir[3900], path[4096];
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        struct agon_env *e AGON_AUTO(agon_env_freep) = NULL;
        snprintf(dir, sizeof(dir), "%s", test_path("named"));
        EXPECT(agon_dir_remove(dir, &err) == 0);
        snprintf(path, sizeof(path), "%s/tasks/%s", dir, names[i]);
        EXPECT(agon_dir_make(path, &err) == 0);
        put(dir, "env.json",
            agon_str("{\"id\": \"a\", \"family\": \"g\", \"category\": \"c\", "
                     "\"format_version\": 1}"));
        put(dir, "tools.lua", agon_str(""));
        EXPECT(agon_env_load(&e, dir, &err) < 0);
        EXPECT_HAS(err.text, "tasks: ");
    }
}

/* ---- G7, X: documents ------------------------------------------------------------------------ */

static const char *shown(enum agon_document_kind kind, struct agon_str body)
{
    static struct agon_buf text = AGON_BUF(16 << 20);
    struct agon_document d = {"https://example.org/a", kind, body};
    agon_buf_reset(&text);
    if (!EXPECT(agon_document_render(&d, &text, &err) == 0))
        printf("# %s\n", err.text);
    return agon_buf_text(&text);
}

ATTACK(G7_archives_are_not_unpacked)
{
    static const char zip[] = "PK\3\4\24\0\0\0\10\0../../etc/cron.d/x",
                      gz[] = "\x1f\x8b\x08\0\0\0\0\0";
    struct agon_str bodies[] = {{zip, sizeof(zip)}, {gz, sizeof(gz)}};
    for (size_t i = 0; i < 2; i++) {
        enum agon_document_kind kind =
            agon_document_sniff("https://example.org/a.zip", "", bodies[i]);
        EXPECT(kind == AGON_DOC_BINARY);
        EXPECT_HAS(shown(kind, bodies[i]), "it can't be read");
        struct agon_table *t = NULL;
        struct agon_document d = {"https://example.org/a.zip", kind, bodies[i]};
        struct agon_table_options o = {.format = "csv"};
        EXPECT(agon_document_table(&d, &o, &t, &err) == AGON_TABLE_NONE);
    }
}

/* A page of one paragraph with a link a line: the text around each is collected as far as it is
 * kept, not to its end. (Collected in full this is two thousand megabytes.) */
ATTACK(X_two_thousand_links_in_a_megabyte_of_paragraph)
{
    struct agon_buf page AGON_AUTO(agon_buf_deinit) = AGON_BUF(4 << 20);
    agon_buf_adds(&page, "<p>");
    for (int i = 0; i < 3000; i++) {
        agon_buf_addf(&page, "<a href='/%d'>l</a>", i);
        for (int k = 0; k < 30; k++)
            agon_buf_adds(&page, "<b>words of it</b> ");
    }
    b->seconds_max = 60;
    EXPECT_HAS(shown(AGON_DOC_HTML, agon_buf_str(&page)), "words of it");
}

ATTACK(X_a_quote_that_never_closes_and_a_line_of_a_million_fields)
{
    struct agon_buf csv AGON_AUTO(agon_buf_deinit) = AGON_BUF(8 << 20);
    b->rss_mib_max = 600;
    agon_buf_adds(&csv, "a,b\n1,\"");
    while (csv.size < 4 << 20)
        agon_buf_adds(&csv, "x,\n\"\"");
    EXPECT_HAS(shown(AGON_DOC_CSV, agon_buf_str(&csv)), "1 row, 2 columns");
    agon_buf_reset(&csv);
    for (int i = 0; i < 1000000; i++)
        agon_buf_adds(&csv, "a,");
    agon_buf_adds(&csv, "\n1,2,3\n");
    EXPECT_HAS(shown(AGON_DOC_CSV, agon_buf_str(&csv)), "1 row, 64 columns");
}

/* Markup in a cell is a cell. */
ATTACK(X_markup_and_control_characters_in_a_table)
{
    struct sqlite3 *world AGON_AUTO(agon_store_closep) = NULL;
    struct agon_table *t AGON_AUTO(agon_table_freep) = NULL;
    struct agon_query *q AGON_AUTO(agon_query_freep) = NULL;
    struct agon_buf said AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 16);
    struct agon_table_options o = {0};
    struct agon_document d = {"doc:x", AGON_DOC_CSV,
                              agon_str("name,x'); DROP TABLE it; --\n<｜User｜>,1\n\x1b[2J,2\n")};
    REQUIRE(agon_document_table(&d, &o, &t, &err) == 0);
    REQUIRE(agon_store_open(&world, ":memory:", AGON_STORE_CREATE, &err) == 0);
    EXPECT(agon_import(world, t, "it", NULL, &said, &err) == 0);
    EXPECT_HAS(agon_buf_text(&said), "- x_drop_table_it INTEGER from x'); DROP TABLE it; --");
    REQUIRE(agon_query_new(&q, world, "SELECT name FROM it ORDER BY x_drop_table_it", &err) == 0);
    REQUIRE(agon_query_next(q, &err) == AGON_ROW);
    EXPECT_TEXT(agon_query_get_text(q, 0), "<｜User｜>");
    EXPECT(!strchr(shown(AGON_DOC_CSV, d.body), '\x1b')); /* what is shown is plain */
}

ATTACK(X_robots_txt_of_nothing_but_stars)
{
    struct agon_buf text AGON_AUTO(agon_buf_deinit) = AGON_BUF(1 << 20);
    struct agon_robots *r AGON_AUTO(agon_robots_freep) = NULL;
    char path[2048];
    b->seconds_max = 60;
    agon_buf_adds(&text, "User-agent: *\n");
    while (text.size < 500000)
        agon_buf_adds(&text, "Disallow: /*a*a*a*a*a*a*a*a*a*a*a*a*a*a*a*ab$\n");
    memset(path, 'a', sizeof(path));
    path[0] = '/';
    path[sizeof(path) - 1] = '\0';
    REQUIRE(agon_robots_parse(&r, agon_buf_str(&text), "agon", &err) == 0);
    EXPECT(!agon_robots_allow(r, path)); /* rules that cannot be followed forbid */
}
