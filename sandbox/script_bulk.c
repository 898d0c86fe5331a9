/*
 * Work of stock Lua whose size is the script's choice but whose price is one VM
 * instruction: comparing long strings, reading numerals out of long strings, writing
 * numbers, remainders of floats far apart, finding captured variables. None of it calls back into
 * code of ours, so the linker sends it through here (--wrap, see meson.build; that is why liblua is
 * linked statically), where the running script is charged for it.
 *
 * Nothing can be raised here, since the VM has not saved its state. Fuel only falls
 * below zero: from then on the work is no longer done, its result does not matter any
 * more, and the next charge, at the latest the end of the entry, says "ran out of fuel".
 */
#include "sandbox/script_lib.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    UNIT = 32,          /* a unit of fuel is worth 30 ns: so many bytes at 1 ns each */
    PIECE_BYTES = 4,    /* what a call alone is worth */
    LONG = 1024,        /* from here on, comparing for equality counts */
    EQUAL_BYTES = 8,    /* bytes compared for equality in the time of one that is ordered */
    NUMERAL_LONG = 200, /* no numeral that means anything is as long */
    NUMERAL_BYTES = 4,  /* a byte of a numeral takes 4 ns */
    EXPONENTS = 2,      /* fmod() shifts two bits a nanosecond */
    EXPONENTS_LONG = 64,
    NUMBER_BYTES = 32,  /* the text of a number takes 30 ns and more, that of 1e300 a microsecond */
    CAPTURE_BYTES = 64, /* Lua looks for a captured variable in a list of up to 200 */
    TAG_AT = 8,         /* in a TValue, after the value */
    TAG_FLOAT = 0x13,
};

struct TString;
struct TValue;
struct UpVal;
int __real_strcoll(const char *a, const char *b);
int __real_luaS_eqlngstr(struct TString *a, struct TString *b);
size_t __real_luaO_str2num(const char *s, struct TValue *ret);
double __real_fmod(double a, double b);
void __real_luaO_tostring(lua_State *L, struct TValue *v);
struct UpVal *__real_luaF_findupval(lua_State *L, void *level);
void __real_luaC_step(lua_State *L);
void __real_luaC_fullgc(lua_State *L, int emergency);
unsigned __real_luaS_hashlongstr(struct TString *s);
int __wrap_strcoll(const char *a, const char *b);
int __wrap_luaS_eqlngstr(struct TString *a, struct TString *b);
size_t __wrap_luaO_str2num(const char *s, struct TValue *ret);
double __wrap_fmod(double a, double b);
void __wrap_luaO_tostring(lua_State *L, struct TValue *v);
struct UpVal *__wrap_luaF_findupval(lua_State *L, void *level);
void __wrap_luaC_step(lua_State *L);
void __wrap_luaC_fullgc(lua_State *L, int emergency);
unsigned __wrap_luaS_hashlongstr(struct TString *s);

static struct agon_script *running;

struct agon_script *agon_script_running(struct agon_script *s)
{
    struct agon_script *before = running;
    running = s;
    return before;
}

bool agon_script_bulk(size_t bytes)
{
    struct agon_script *s = running;
    if (!s)
        return true;
    size_t all = s->bulk + bytes;
    s->fuel -= (int64_t)(all / UNIT);
    s->bulk = all % UNIT;
    return s->fuel >= 0;
}

/* Lua compares strings piece by piece, each up to the next NUL; the locale is C. */
int __wrap_strcoll(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] == b[n] && a[n])
        n++;
    if (!agon_script_bulk(PIECE_BYTES + n))
        return -1; /* ends a comparison of many pieces, too */
    return (int)(unsigned char)a[n] - (int)(unsigned char)b[n];
}

/*
 * The length of a long string: all of 5.4 has it after a pointer, four bytes and a hash.
 * A test compares strings of each kind (X11), so that another Lua would not pass unseen.
 */
static size_t long_string_size(const struct TString *s)
{
    size_t size;
    memcpy(&size, (const char *)s + 16, sizeof(size));
    return size;
}

int __wrap_luaS_eqlngstr(struct TString *a, struct TString *b)
{
    size_t n = long_string_size(a);
    if (n >= LONG && a != b && n == long_string_size(b) && !agon_script_bulk(n / EQUAL_BYTES))
        return 0;
    return __real_luaS_eqlngstr(a, b);
}

size_t __wrap_luaO_str2num(const char *s, struct TValue *ret)
{
    size_t n = strlen(s);
    if (n > NUMERAL_LONG && !agon_script_bulk(n * NUMERAL_BYTES))
        return 0; /* no numeral */
    return __real_luaO_str2num(s, ret);
}

static int exponent_of(double x)
{
    int e = 0;
    if (isfinite(x))
        (void)frexp(x, &e);
    return e;
}

double __wrap_fmod(double a, double b)
{
    int high = exponent_of(a), low = exponent_of(b);
    if (high - low > EXPONENTS_LONG && !agon_script_bulk((size_t)(high - low) / EXPONENTS))
        return 0;
    return __real_fmod(a, b);
}

void __wrap_luaO_tostring(lua_State *L, struct TValue *v)
{
    double x = 0;
    if (((const unsigned char *)v)[TAG_AT] == TAG_FLOAT)
        memcpy(&x, v, sizeof(x));
    (void)agon_script_bulk(NUMBER_BYTES + (size_t)abs(exponent_of(x))); /* its text is needed */
    __real_luaO_tostring(L, v);
}

struct UpVal *__wrap_luaF_findupval(lua_State *L, void *level)
{
    (void)agon_script_bulk(CAPTURE_BYTES); /* the variable is needed */
    return __real_luaF_findupval(L, level);
}

/* ---- what writes to strings and code: the collector, which marks them and links others past those
 * it frees, and the first look for a long string in a table ---- */

static void stir(lua_State *L)
{
    if (running && running->L == L) /* or it is no state of ours */
        agon_heap_stir(&running->heap);
}

void __wrap_luaC_step(lua_State *L)
{
    stir(L);
    __real_luaC_step(L);
}

void __wrap_luaC_fullgc(lua_State *L, int emergency)
{
    stir(L);
    __real_luaC_fullgc(L, emergency);
}

unsigned __wrap_luaS_hashlongstr(struct TString *s)
{
    if (running)
        agon_heap_stir(&running->heap);
    return __real_luaS_hashlongstr(s);
}
