#include "base/text.h"
#include "tests/test.h"

static const struct {
    const char *text;
    bool valid;
} utf8_cases[] = {
    {"", true},
    {"plain", true},
    {"\xC2\x80 \xDF\xBF \xE0\xA0\x80 \xED\x9F\xBF \xEE\x80\x80 \xEF\xBF\xBF", true},
    {"\xF0\x90\x80\x80 \xF4\x8F\xBF\xBF", true},
    {"\xF4\x90\x80\x80", false}, /* beyond U+10FFFF */
    {"\xF5\x80\x80\x80", false},
    {"\xC0\x80", false}, /* overlong */
    {"\xC1\xBF", false},
    {"\xE0\x9F\xBF", false},
    {"\xF0\x8F\xBF\xBF", false},
    {"\xED\xA0\x80", false}, /* a surrogate */
    {"\xED\xBF\xBF", false},
    {"\x80", false},  /* continuation alone */
    {"a\xC2", false}, /* cut short */
    {"\xE2\x82", false},
    {"\xF0\x9F\x98", false},
    {"\xC2 ", false},
    {"\xFE", false},
};

TEST(utf8_is_what_rfc_3629_says)
{
    for (size_t i = 0; i < sizeof(utf8_cases) / sizeof(utf8_cases[0]); i++)
        if (agon_utf8_valid(agon_str(utf8_cases[i].text)) != utf8_cases[i].valid)
            EXPECT_TEXT("misjudged", utf8_cases[i].text);
    EXPECT(agon_utf8_valid((struct agon_str){"a\0b", 3}));
}

TEST(every_code_point_reads_back)
{
    struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(8);
    for (int32_t code = 0; code <= 0x10FFFF; code++) {
        if (code >= 0xD800 && code < 0xE000)
            continue;
        agon_buf_reset(&b);
        agon_utf8_add(&b, (uint32_t)code);
        size_t pos = 0;
        REQUIRE(agon_utf8_next(agon_buf_str(&b), &pos) == code && pos == b.size);
    }
}

TEST(cut_splits_no_sequence)
{
    struct agon_str s = agon_str("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80z");
    static const size_t sizes[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11};
    for (size_t max = 0; max < sizeof(sizes) / sizeof(sizes[0]); max++)
        EXPECT(agon_utf8_cut(s, max).size == sizes[max]);
}

TEST(plain_text_cannot_steer_a_terminal)
{
    static const struct {
        const char *in, *line, *lines;
    } cases[] = {
        {"caf\xC3\xA9 \xF0\x9F\x98\x80", "caf\xC3\xA9 \xF0\x9F\x98\x80",
         "caf\xC3\xA9 \xF0\x9F\x98\x80"},
        {"a\n\tb", "a  b", "a\n\tb"},
        {"\x1B[2J\r\a\x7F", "?[2J???", "?[2J???"},
        {"\xC2\x9B"
         "31m",
         "?31m", "?31m"}, /* C1: CSI */
        {"x\xE2\x80\xAE"
         "gpj",
         "x?gpj", "x?gpj"},                       /* right-to-left override */
        {"\xE2\x81\xA6\xE2\x80\xA8", "??", "??"}, /* isolate, line separator */
        {"\xFF"
         "a\xE2\x82",
         "?a??", "?a??"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct agon_buf b AGON_AUTO(agon_buf_deinit) = AGON_BUF(1000);
        agon_text_add_plain(&b, agon_str(cases[i].in), false);
        EXPECT_TEXT(agon_buf_text(&b), cases[i].line);
        agon_buf_reset(&b);
        agon_text_add_plain(&b, agon_str(cases[i].in), true);
        EXPECT_TEXT(agon_buf_text(&b), cases[i].lines);
    }
}
