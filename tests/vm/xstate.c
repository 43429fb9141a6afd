/* Gives linux.uml's ptrace(2) the extended processor state in the size that this machine has.
 *
 * User-Mode Linux before 6.13 keeps it in a buffer of the size that its build knew. Where the
 * processor has more (AMX), reading is cut short and writing fails with EFAULT, because a regset
 * of NT_X86_XSTATE is written whole or not at all (arch/x86/kernel/fpu/regset.c): no program of the
 * guest runs. What is missing is a state that no program here uses: it is written as initial.
 *
 * Preloaded into linux.uml by machine.rs, which compiles it. No guest process has it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

/* More than any processor has, and as many at a time as signal handlers can interrupt each other. */
enum { STATE_BYTES_MAX = 32 << 10, NESTED_MAX = 16 };

/* XSTATE_BV of the header that follows the 512 bytes of FXSAVE; AMX is components 17 and 18. */
enum { XSTATE_BV = 512, HEADER_END = 576 };
#define AMX (UINT64_C(3) << 17)

typedef long ptrace_call(enum __ptrace_request, pid_t, void *, void *);

static ptrace_call *next;
static size_t state_bytes;
static char states[NESTED_MAX][STATE_BYTES_MAX] __attribute__((aligned(64)));
static atomic_flag taken[NESTED_MAX];

/* How long the whole state is here. 0: unknown. */
static size_t ask(pid_t pid)
{
    if (state_bytes == 0) {
        struct iovec all = { states[0], sizeof states[0] };
        if (next(PTRACE_GETREGSET, pid, (void *)(intptr_t)NT_X86_XSTATE, &all) == 0)
            state_bytes = all.iov_len;
    }
    return state_bytes;
}

static long set(pid_t pid, void *what, struct iovec *given, size_t whole)
{
    int slot = 0;
    while (slot < NESTED_MAX && atomic_flag_test_and_set(&taken[slot]))
        slot++;
    if (slot == NESTED_MAX)
        return next(PTRACE_SETREGSET, pid, what, given);
    struct iovec all = { states[slot], whole };
    memcpy(states[slot], given->iov_base, given->iov_len);
    memset(states[slot] + given->iov_len, 0, whole - given->iov_len);
    uint64_t present;
    memcpy(&present, states[slot] + XSTATE_BV, sizeof present);
    present &= ~AMX;
    memcpy(states[slot] + XSTATE_BV, &present, sizeof present);
    long outcome = next(PTRACE_SETREGSET, pid, what, &all);
    atomic_flag_clear(&taken[slot]);
    return outcome;
}

long ptrace(enum __ptrace_request request, ...)
{
    va_list list;
    va_start(list, request);
    pid_t pid = va_arg(list, pid_t);
    void *address = va_arg(list, void *);
    void *data = va_arg(list, void *);
    va_end(list);
    if (next == NULL)
        next = (ptrace_call *)dlsym(RTLD_NEXT, "ptrace");
    if (request == PTRACE_SETREGSET && (intptr_t)address == NT_X86_XSTATE) {
        struct iovec *given = data;
        size_t whole = ask(pid);
        if (given->iov_len >= HEADER_END && given->iov_len < whole)
            return set(pid, address, given, whole);
    }
    return next(request, pid, address, data);
}
