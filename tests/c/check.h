/*
 * What all programs of checks share.
 *
 * A program is a table of cases. `PROGRAM --list` prints their names; `PROGRAM NAME` runs one, in a
 * process of its own, and ends with 0 where all was as expected, with 77 where the case is a
 * promise of Tierpool's alone and another allocator is loaded, and with anything else otherwise.
 * What was expected and did not come is told on the standard output.
 *
 * Nothing here allocates: what is checked is the allocator.
 *
 * Environment: CHECK_LIBRARY is the library that was preloaded, and a process in which malloc comes
 * from anywhere else fails; CHECK_OURS is set where that library is Tierpool's.
 */
#ifndef CHECK_H
#define CHECK_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define KIB ((size_t)1024)
#define MIB (KIB * 1024)
#define GIB (MIB * 1024)

/* How long a process may take before it is taken for hung, in seconds: far more than it needs. */
#define PATIENCE 240
/* The same for a child, of which a case has many. CHECK_PATIENCE is another number of seconds. */
#define CHILD_PATIENCE 60
/* How a case ends that another allocator has not promised. */
#define NOT_PROMISED 77

struct check_case {
    const char *name;
    void (*run)(void);
    int is_ours;
};

/* A promise that every malloc of this system makes, and one that only Tierpool makes. */
#define EVERY(function) { #function, function, 0 }
#define OURS(function) { #function, function, 1 }

UNUSED __attribute__((format(printf, 4, 5)))
static void check_failed(const char *file, int line, const char *condition,
                         const char *expected, ...)
{
    char text[640];
    const char *name = strrchr(file, '/');
    int used = snprintf(text, sizeof text, "%s:%d: expected ", name ? name + 1 : file, line);
    va_list arguments;
    va_start(arguments, expected);
    used += vsnprintf(text + used, sizeof text - (size_t)used - 1, expected, arguments);
    va_end(arguments);
    if (used > 500)
        used = 500;
    used += snprintf(text + used, sizeof text - (size_t)used, "; found the contrary of `%s`\n",
                     condition);
    if (used > (int)sizeof text - 1)
        used = (int)sizeof text - 1;
    if (write(1, text, (size_t)used) < 0)
        _exit(2);
    _exit(1);
}

/* Ends the process unless `condition` holds, and tells what was expected in words. */
#define EXPECT(condition, ...)                                                                     \
    do {                                                                                           \
        if (!(condition))                                                                          \
            check_failed(__FILE__, __LINE__, #condition, __VA_ARGS__);                             \
    } while (0)

/* A number that the compiler does not know, so that it neither warns of it nor computes with it. */
UNUSED static size_t opaque(size_t number)
{
    volatile size_t unknown = number;
    return unknown;
}

/* A block that the compiler must take for used. */
UNUSED static void *kept(void *block)
{
    void *volatile seen = block;
    return seen;
}

/* Numbers at random, the same in each run. */
UNUSED static uint64_t random_from(uint64_t *state)
{
    uint64_t x = *state;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    return *state = x;
}

/* Eight bytes of the contents that `seed` names. */
UNUSED static inline uint64_t content(size_t index, size_t seed)
{
    return (index / 8 + seed + 1) * 0x9e3779b97f4a7c15u;
}

/* Writes contents to the bytes `from..to` of a block. */
UNUSED static void fill(void *block, size_t from, size_t to, size_t seed)
{
    unsigned char *bytes = (unsigned char *)block;
    for (size_t i = from; i < to;) {
        uint64_t word = content(i, seed);
        size_t part = i % 8, count = to - i < 8 - part ? to - i : 8 - part;
        if (count == 8)
            memcpy(bytes + i, &word, 8);
        else
            memcpy(bytes + i, (unsigned char *)&word + part, count);
        i += count;
    }
}

/* Whether the first `count` bytes of a block hold what `fill` wrote. */
UNUSED static int holds(const void *block, size_t count, size_t seed)
{
    const unsigned char *bytes = (const unsigned char *)block;
    uint64_t wrong = 0, found, word;
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        memcpy(&found, bytes + i, 8);
        wrong |= found ^ content(i, seed);
    }
    word = content(i, seed);
    return wrong == 0 && memcmp(bytes + i, &word, count - i) == 0;
}

/* Whether the first `count` bytes of a block are zero. */
UNUSED static int is_zero(const void *block, size_t count)
{
    const unsigned char *bytes = (const unsigned char *)block;
    /* Each byte is that before it, and the first is zero. */
    return count == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, count - 1) == 0);
}

/* The next size to try: each one to 1 KiB, then one before, at and after each eighth or so. */
UNUSED static size_t next_size(size_t size)
{
    if (size < 1024)
        return size + 1;
    switch (size & 7) {
    case 7:
        return size + 1;
    case 0:
        return size + 1;
    default:
        return ((size + size / 12) | 7);
    }
}

/* The memory of this process that is in use, in bytes. */
UNUSED static size_t resident(void)
{
    char text[128];
    unsigned long total, pages;
    int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
    ssize_t got = file < 0 ? -1 : read(file, text, sizeof text - 1);
    EXPECT(got > 0, "that /proc tells of this process");
    close(file);
    text[got] = 0;
    EXPECT(sscanf(text, "%lu %lu", &total, &pages) == 2, "two numbers in /proc/self/statm");
    return pages * (size_t)sysconf(_SC_PAGESIZE);
}

/* Lets others run for a moment, where no event tells of what is waited for. */
UNUSED static void pause_briefly(void)
{
    struct timespec moment = { 0, 10 * 1000 * 1000 };
    nanosleep(&moment, NULL);
}

/* Ends this process, which is a child of the case's, where it hangs. */
UNUSED static void child_alarm(void)
{
    const char *patience = getenv("CHECK_PATIENCE");
    alarm(patience ? (unsigned)atoi(patience) : CHILD_PATIENCE);
}

/* Waits for a child, which must end well. */
UNUSED static void must_end_well(pid_t child, const char *who)
{
    int status = -1;
    pid_t got;
    do
        got = waitpid(child, &status, 0);
    while (got < 0 && errno == EINTR);
    EXPECT(got == child, "that %s can be waited for (%s)", who, strerror(errno));
    EXPECT(!(WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM), "that %s does not hang", who);
    EXPECT(!WIFSIGNALED(status), "that no signal ends %s (signal %d)", who, WTERMSIG(status));
    EXPECT(WEXITSTATUS(status) == 0, "that %s ends with 0 (%d)", who, WEXITSTATUS(status));
}

/* Ends the process unless malloc is the library's that was to be loaded. */
UNUSED static void must_be_loaded(void)
{
    const char *library = getenv("CHECK_LIBRARY");
    if (!library)
        return;
    Dl_info where;
    void *symbol = dlsym(RTLD_DEFAULT, "malloc");
    EXPECT(symbol && dladdr(symbol, &where) && where.dli_fname, "that malloc is found");
    EXPECT(strcmp(where.dli_fname, library) == 0, "malloc of %s (it is of %s)", library,
           where.dli_fname);
}

/* What `main` of each program does. */
UNUSED static int check_main(const struct check_case *cases, size_t count, int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (size_t i = 0; i < count; i++)
            dprintf(1, "%s\n", cases[i].name);
        return 0;
    }
    alarm(PATIENCE);
    must_be_loaded();
    for (size_t i = 0; argc == 2 && i < count; i++) {
        if (strcmp(argv[1], cases[i].name) != 0)
            continue;
        if (cases[i].is_ours && !getenv("CHECK_OURS")) {
            dprintf(1, "a promise of Tierpool's, not of every malloc\n");
            return NOT_PROMISED;
        }
        cases[i].run();
        dprintf(1, "ok\n");
        return 0;
    }
    dprintf(1, "usage: %s --list | CASE\n", argv[0]);
    return 2;
}

#define CHECKS(...)                                                                                \
    int main(int argc, char **argv)                                                                \
    {                                                                                              \
        static const struct check_case cases[] = { __VA_ARGS__ };                                  \
        return check_main(cases, sizeof cases / sizeof cases[0], argc, argv);                      \
    }

#endif
