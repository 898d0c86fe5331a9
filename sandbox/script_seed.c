/*
 * lua_newstate() mixes three addresses and the time into the seed of its hashes; the
 * order of a table's slots, and with it when a table grows and what that costs in
 * fuel, follows the seed. In a cell all four stand still: the state lies at the
 * heap's fixed address, the library's code where the launcher's personality() put
 * it, time() is agon-cell's own, and the local variable whose address counts lies on
 * a stack of our own at a fixed address, however deep the caller is.
 */
#include "sandbox/script_lib.h"

#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { STACK_BYTES = 256 << 10 };

static struct {
    lua_Alloc alloc;
    void *user;
    lua_State *L;
    ucontext_t back, there;
} seed;

static void seed_run(void)
{
    seed.L = lua_newstate(seed.alloc, seed.user);
}

static void *seed_stack(void)
{
    static void *stack;
    if (!stack) {
        void *want = (void *)UINT64_C(0x1ff000000000); // NOLINT(performance-no-int-to-ptr)
        void *p = mmap(want, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
        if (p != want && p != MAP_FAILED)
            munmap(p, STACK_BYTES);
        stack = p == want ? p : NULL;
    }
    return stack;
}

lua_State *agon_script_newstate(lua_Alloc alloc, void *user)
{
    seed.alloc = alloc;
    seed.user = user;
    seed.L = NULL;
    if (getcontext(&seed.there) < 0 || !(seed.there.uc_stack.ss_sp = seed_stack())) {
        seed_run();
        return seed.L;
    }
    seed.there.uc_stack.ss_size = STACK_BYTES;
    seed.there.uc_link = &seed.back;
    makecontext(&seed.there, seed_run, 0);
    return swapcontext(&seed.back, &seed.there) < 0 ? NULL : seed.L;
}
