/* UTF-8 and printable text: see text.h. */
#include "base/text.h"

int32_t agon_utf8_next(struct agon_str s, size_t *pos)
{
    const unsigned char *p = (const unsigned char *)s.data + *pos;
    size_t left = s.size - *pos;
    *pos += 1;
    if (p[0] < 0x80)
        return p[0];

    int n = p[0] >= 0xF0 ? 3 : p[0] >= 0xE0 ? 2 : 1; /* continuation bytes */
    if (p[0] < 0xC2 || p[0] > 0xF4 || left < (size_t)n + 1)
        return -1;
    int32_t code = p[0] & (0x3F >> n);
    for (int i = 1; i <= n; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return -1;
        code = code << 6 | (p[i] & 0x3F);
    }
    static const int32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (code < least[n] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF))
        return -1;
    *pos += (size_t)n;
    return code;
}

void agon_utf8_add(struct agon_buf *b, uint32_t code)
{
    if (code < 0x80) {
        agon_buf_addc(b, (char)code);
        return;
    }
    int n = code >= 0x10000 ? 3 : code >= 0x800 ? 2 : 1;
    static const unsigned char lead[] = {0, 0xC0, 0xE0, 0xF0};
    char bytes[4];
    bytes[0] = (char)(lead[n] | code >> (6 * n));
    for (int i = 1; i <= n; i++)
        bytes[i] = (char)(0x80 | (code >> (6 * (n - i)) & 0x3F));
    agon_buf_add(b, bytes, (size_t)n + 1);
}

bool agon_utf8_valid(struct agon_str s)
{
    for (size_t pos = 0; pos < s.size;) {
        uint64_t eight; /* most text is ASCII */
        while (s.size - pos >= sizeof(eight)) {
            memcpy(&eight, s.data + pos, sizeof(eight));
            if (eight & UINT64_C(0x8080808080808080))
                break;
            pos += sizeof(eight);
        }
        while (pos < s.size && (unsigned char)s.data[pos] < 0x80)
            pos++;
        if (pos < s.size && agon_utf8_next(s, &pos) < 0)
            return false;
    }
    return true;
}

struct agon_str agon_utf8_cut(struct agon_str s, size_t size_max)
{
    if (s.size <= size_max)
        return s;
    size_t size = size_max;
    /* At most three continuation bytes precede the cut; more is no UTF-8 anyway. */
    for (int i = 0; i < 3 && size > 0 && ((unsigned char)s.data[size] & 0xC0) == 0x80; i++)
        size--;
    return (struct agon_str){s.data, size};
}

static bool code_is_unsafe(int32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x200E || c == 0x200F ||
           (c >= 0x2028 && c <= 0x202E) || (c >= 0x2066 && c <= 0x2069);
}

void agon_text_add_plain(struct agon_buf *b, struct agon_str s, bool keep_lines)
{
    for (size_t pos = 0; pos < s.size;) {
        size_t from = pos;
        int32_t code = agon_utf8_next(s, &pos);
        if (code == '\n' || code == '\t')
            agon_buf_addc(b, keep_lines ? (char)code : ' ');
        else if (code_is_unsafe(code))
            agon_buf_addc(b, '?');
        else
            agon_buf_add(b, s.data + from, pos - from);
    }
}
