#include "base/opt.h"
#include "tests/test.h"

struct options {
    bool quiet;
    int64_t threads, seed;
    double temperature;
    const char *model;
    struct agon_opt_list docs;
};

static const struct agon_opt table[] = {
    {"quiet", 'q', AGON_OPT_FLAG, offsetof(struct options, quiet), 0, 0, NULL, "print less"},
    {"threads", 'j', AGON_OPT_INT, offsetof(struct options, threads), 1, 64, "N", "worker threads"},
    {"seed", 0, AGON_OPT_INT, offsetof(struct options, seed), 0, 0, "N", "seed"},
    {"temperature", 't', AGON_OPT_REAL, offsetof(struct options, temperature), 0, 2, "T",
     "sampling temperature"},
    {"model", 0, AGON_OPT_TEXT, offsetof(struct options, model), 0, 0, "SPEC", "which model"},
    {"docs", 0, AGON_OPT_LIST, offsetof(struct options, docs), 0, 0, "DIR", "documents"},
    {0},
};
static const struct options defaults = {.threads = 2, .temperature = 0.5, .model = "local:x"};

/* Split at spaces; returns what agon_opt_parse() returns. */
static int parse(const char *line, struct options *o, char *args, struct agon_err *err)
{
    static char copy[1000];
    char *argv[100] = {copy};
    int argc = 0, n_args = 0;
    snprintf(copy, sizeof(copy), "agon %s", line);
    for (char *p = strtok(copy, " "); p; p = strtok(NULL, " "))
        argv[argc++] = p;
    argv[argc] = NULL;
    *o = defaults;
    int r = agon_opt_parse(table, o, argc, argv, &n_args, err);
    args[0] = '\0';
    for (int i = 1; !r && i <= n_args; i++)
        sprintf(args + strlen(args), "%s ", argv[i]);
    return r;
}

TEST(options_and_arguments_mix)
{
    struct options o;
    char args[100];
    EXPECT(parse("one -qj4 --temperature=0.25 two --seed -5 --docs a --docs b -- -x", &o, args,
                 NULL) == 0);
    EXPECT(o.quiet && o.threads == 4 && o.temperature == 0.25 && o.seed == -5);
    EXPECT(o.docs.n == 2);
    EXPECT_TEXT(o.docs.items[1], "b");
    EXPECT_TEXT(o.model, "local:x");
    EXPECT_TEXT(args, "one two -x ");
    EXPECT(parse("", &o, args, NULL) == 0 && o.threads == 2);
    EXPECT_TEXT(args, "");
}

TEST(bad_options_say_what_is_wrong)
{
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"--threads x", "--threads: 'x' is not a whole number from 1 to 64"},
        {"--threads 0", "--threads: '0' is not a whole number from 1 to 64"},
        {"-j 65", "--threads: '65' is not a whole number from 1 to 64"},
        {"-j 4x", "--threads: '4x'"},
        {"-j 1.5", "--threads: '1.5'"},
        {"-j=4", "--threads: '=4'"},
        {"--seed 99999999999999999999", "--seed: '99999999999999999999' is not a whole number"},
        {"--temperature nan", "--temperature: 'nan' is not a number from 0 to 2"},
        {"-t 2.1", "--temperature: '2.1' is not a number from 0 to 2"},
        {"-t 0x1", "--temperature: '0x1'"},
        {"-t 1e999", "--temperature: '1e999'"},
        {"--model", "--model: needs SPEC"},
        {"-j", "--threads: needs N"},
        {"--quiet=yes", "--quiet=yes: takes no value"},
        {"--nonsense", "--nonsense: no such option"},
        {"-x", "-x: no such option"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o;
        char args[100];
        struct agon_err err = {0};
        EXPECT(parse(cases[i].line, &o, args, &err) == AGON_EINPUT);
        EXPECT_HAS(err.text, cases[i].text);
    }
}

TEST(a_list_has_an_end)
{
    struct options o;
    char args[100], line[1000] = "";
    for (int i = 0; i <= AGON_OPT_LIST_MAX; i++)
        strcat(line, "--docs d ");
    struct agon_err err = {0};
    EXPECT(parse(line, &o, args, &err) == AGON_EINPUT);
    EXPECT_HAS(err.text, "--docs: given over 32 times");
}

TEST(help_lists_every_option_with_its_default)
{
    struct options o;
    char args[100];
    EXPECT(parse("--threads 3 --help", &o, args, NULL) == AGON_OPT_HELP);
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(10000);
    agon_opt_help(&b, table, &defaults, "usage: agon synth CATEGORY", "Makes environments.");
    EXPECT_TEXT(agon_buf_text(&b), "usage: agon synth CATEGORY\n"
                                   "Makes environments.\n"
                                   "\n"
                                   "  -q, --quiet          print less\n"
                                   "  -j, --threads N      worker threads (2)\n"
                                   "      --seed N         seed (0)\n"
                                   "  -t, --temperature T  sampling temperature (0.5)\n"
                                   "      --model SPEC     which model (local:x)\n"
                                   "      --docs DIR       documents (may be repeated)\n"
                                   "      --help           show this text\n");
}

TEST(a_dump_loads_back)
{
    struct options o, again = {0};
    char args[100];
    REQUIRE(parse("-q -j 7 --docs a --docs b -t 1 --model m", &o, args, NULL) == 0);
    json_auto_t *dump = agon_opt_dump(table, &o);
    REQUIRE(dump != NULL);
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(10000);
    agon_json_dump(&b, dump);
    EXPECT_TEXT(agon_buf_text(&b),
                "{\"quiet\": true, \"threads\": 7, \"seed\": 0, \"temperature\": 1.0, "
                "\"model\": \"m\", \"docs\": [\"a\", \"b\"]}");
    REQUIRE(agon_opt_load(table, &again, dump, NULL) == 0);
    EXPECT(again.quiet && again.threads == 7 && again.temperature == 1 && again.docs.n == 2);
    EXPECT_TEXT(again.model, "m");
}

TEST(a_configuration_is_held_to_the_same_ranges)
{
    static const char *const cases[] = {
        "{\"threads\": 0}",    "{\"threads\": 1.0}", "{\"threads\": \"2\"}", "{\"quiet\": 1}",
        "{\"docs\": [1]}",     "{\"thread\": 1}",    "{\"model\": true}",    "[]",
        "{\"temperature\": 3}"};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options o = defaults;
        json_auto_t *object = NULL;
        REQUIRE(agon_json_parse(&object, agon_str(cases[i]), NULL) == 0);
        if (!EXPECT(agon_opt_load(table, &o, object, NULL) == AGON_EINPUT))
            printf("# %s\n", cases[i]);
        EXPECT(o.threads == 2 && o.docs.n == 0);
    }
}
