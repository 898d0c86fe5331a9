#pragma once
/*
 * Errors: what failed, in words fit for the user, plus a code fit for a branch.
 *
 * A function that can fail returns int and takes a `struct agon_err *err` last:
 *     0   it worked; every ret_* argument has been written
 *    <0   an AGON_E* code; err says why, ret_* arguments are untouched
 *    >0   an outcome that this one function documents (a row, a rejected
 *         sample); no error, never passed further up
 * err may be NULL where only the code matters. Nothing here allocates, so
 * running out of memory is reported the same way as anything else.
 */

#ifdef __cplusplus
extern "C" { /* nvcc compiles .cu files as C++ */
#endif

#define AGON_MUST_USE     __attribute__((warn_unused_result))
#define AGON_PRINTF(f, a) __attribute__((format(printf, f, a)))

enum agon_code {
    AGON_OK = 0,
    AGON_ENOMEM = -1,  /* no memory, or a stated limit was reached */
    AGON_EINPUT = -2,  /* bytes from outside break their format */
    AGON_ESYS = -3,    /* a system call failed; errno is in the message */
    AGON_ESTORE = -4,  /* SQLite */
    AGON_ESCRIPT = -5, /* Lua */
    AGON_EDEVICE = -6, /* CUDA */
    AGON_EMODEL = -7,  /* a model's server, program or recording failed */
};

struct agon_err {
    int code;
    const char *file; /* where it was first raised */
    int line;
    char text[512]; /* "env 'shop': tool 'refund': bad argument" */
};

/* Fill err and return code: return agon_fail(err, AGON_EINPUT, "..."). */
#define agon_fail(err, code, ...) agon_err_set(err, code, __FILE__, __LINE__, __VA_ARGS__)

int agon_err_set(struct agon_err *err, int code, const char *file, int line, const char *fmt, ...)
    AGON_PRINTF(5, 6);

/* Put "context: " before the text already in err, and return its code. */
int agon_err_in(struct agon_err *err, int code, const char *fmt, ...) AGON_PRINTF(3, 4);

#ifdef __cplusplus
}
#endif
