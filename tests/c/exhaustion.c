/* What happens where the kernel gives no more memory: NULL and ENOMEM, and the process goes on. */
#include "check.h"
#include <pthread.h>
#include <sys/resource.h>

/* The address space of a process that is limited from its start. */
#define LIMIT (GIB)
/* Without a limit that works, a loop ends here. */
#define BLOCKS_MAX ((size_t)4 << 20)

static void limit(size_t bytes)
{
    struct rlimit limit = { bytes, bytes };
    EXPECT(setrlimit(RLIMIT_AS, &limit) == 0, "a limit of the address space");
}

/* Allocates blocks of `size`, each pointing to the one before, until there is none: the last. */
static void **all_of(size_t size)
{
    void **last = NULL, **next;
    size_t count = 0;
    for (;; last = next, count++) {
        errno = 0;
        next = malloc(size);
        if (!next)
            break;
        *next = last;
        EXPECT(count < BLOCKS_MAX / (size / 64 + 1) * 16, "an end of memory (%zu blocks of %zu)",
               count, size);
    }
    EXPECT(errno == ENOMEM, "ENOMEM where no block of %zu is left (%d)", size, errno);
    return last;
}

static size_t free_all(void **last)
{
    size_t count = 0;
    while (last) {
        void **before = *last;
        free(last);
        last = before;
        count++;
    }
    return count;
}

/* All functions, while there is no memory. */
static void refuse_all(void)
{
    size_t size = 64 * MIB;
    void *untouched = &untouched;
    char *old = malloc(10);
    EXPECT(malloc(size) == NULL && errno == ENOMEM, "ENOMEM from malloc (%d)", errno);
    errno = 0;
    EXPECT(calloc(1, size) == NULL && errno == ENOMEM, "ENOMEM from calloc (%d)", errno);
    errno = 0;
    EXPECT(memalign(MIB, size) == NULL && errno == ENOMEM, "ENOMEM from memalign (%d)", errno);
    errno = 0;
    EXPECT(realloc(NULL, size) == NULL && errno == ENOMEM, "ENOMEM from realloc (%d)", errno);
    EXPECT(posix_memalign(&untouched, 4096, size) == ENOMEM, "ENOMEM from posix_memalign");
    EXPECT(untouched == &untouched, "that a refused posix_memalign stores nothing");
    if (old) {
        memcpy(old, "unharmed", 9);
        errno = 0;
        EXPECT(realloc(old, size) == NULL && errno == ENOMEM, "ENOMEM from realloc (%d)", errno);
        EXPECT(strcmp(old, "unharmed") == 0, "that a refused realloc leaves the block alone");
        free(kept(old));
    }
}

static void exhaust(void)
{
    static const size_t sizes[] = { 32 * MIB, MIB, 100 * KIB, 4000, 200, 64 };
    size_t first[6];
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 6; i++) {
            void **last = all_of(sizes[i]);
            if (i == 0)
                refuse_all();
            size_t count = free_all(last);
            EXPECT(count > 0, "at least one block of %zu", sizes[i]);
            if (round == 0)
                first[i] = count;
            else
                EXPECT(count >= first[i] / 4, "as much as before: %zu blocks of %zu (%zu)",
                       first[i], sizes[i], count);
        }
    }
    char *block = calloc(1, MIB);
    EXPECT(block && is_zero(block, MIB), "that the process goes on");
    free(block);
}

/* Sets a limit below what is in use, and allocates 512 MiB. What a library has reserved before is
 * its own: so each answer is right but a wrong one. */
static void a_limit_set_later_harms_nothing(void)
{
    enum { COUNT = 64 };
    char *blocks[COUNT];
    char *old = malloc(100);
    fill(old, 0, 100, 1);
    free_all(all_of(PTRDIFF_MAX / 2));
    limit(64 * MIB);
    for (size_t i = 0; i < COUNT; i++) {
        errno = 0;
        blocks[i] = i % 2 ? malloc(8 * MIB) : calloc(8, MIB);
        EXPECT(blocks[i] || errno == ENOMEM, "a block, or ENOMEM (%d)", errno);
        if (!blocks[i])
            continue;
        EXPECT(i % 2 || is_zero(blocks[i], 64 * KIB), "zeros");
        fill(blocks[i], 0, 64 * KIB, i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT(!blocks[i] || holds(blocks[i], 64 * KIB, i), "contents");
        free(blocks[i]);
    }
    errno = 0;
    char *grown = realloc(old, 2 * MIB);
    EXPECT(grown || errno == ENOMEM, "a larger block, or ENOMEM (%d)", errno);
    EXPECT(holds(grown ? grown : kept(old), 100, 1), "what it held");
    free(grown ? grown : kept(old));
    char *block = malloc(1000);
    EXPECT(block, "that the process goes on");
    free(block);
}

static void *exhaust_in_a_thread(void *unused)
{
    for (size_t size = 4 * MIB; size > 30 * KIB; size /= 3)
        free_all(all_of(size));
    return unused;
}

static void run_out_together(void)
{
    enum { THREADS = 4 };
    pthread_t threads[THREADS];
    int count = 0;
    /* The first may have left nothing for the stack of the last. */
    while (count < THREADS
           && pthread_create(&threads[count], NULL, exhaust_in_a_thread, NULL) == 0)
        count++;
    EXPECT(count > 0, "a thread");
    for (int i = 0; i < count; i++)
        pthread_join(threads[i], NULL);
    char *block = malloc(MIB);
    EXPECT(block, "that the process goes on");
    free(block);
}

/* A thread that has never allocated comes when nothing is left. */
static void *first_call(void *unused)
{
    char *block = malloc(50);
    if (block)
        fill(block, 0, 50, 1);
    free(block);
    return unused;
}

static void start_without_memory(void)
{
    pthread_t threads[8];
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 256 * KIB);
    for (int round = 0; round < 20; round++) {
        int count = 0;
        void **big = all_of(MIB), **small = all_of(4000);
        /* Room for a stack or two. */
        if (big) {
            void **before = *big;
            free(big);
            big = before;
        }
        while (count < 8 && pthread_create(&threads[count], &attributes, first_call, NULL) == 0)
            count++;
        for (int i = 0; i < count; i++)
            pthread_join(threads[i], NULL);
        free_all(big);
        free_all(small);
    }
    first_call(NULL);
}

/* Runs this program anew, with a limit from its start. */
static void run_anew(const char *what)
{
    pid_t child = fork();
    EXPECT(child >= 0, "a child");
    if (child == 0) {
        char *arguments[] = { "/proc/self/exe", (char *)(uintptr_t)what, NULL };
        child_alarm();
        limit(LIMIT);
        execv(arguments[0], arguments);
        _exit(6);
    }
    must_end_well(child, "a process of 1 GiB of addresses");
}

static void a_limit_from_the_start_is_kept(void)
{
    run_anew("--exhaust");
}

static void threads_run_out_together(void)
{
    run_anew("--run-out-together");
}

static void a_new_thread_finds_no_memory(void)
{
    run_anew("--start-without-memory");
}

/* Does what a process with a limit was started for. */
static int within_the_limit(const char *what)
{
    child_alarm();
    must_be_loaded();
    if (strcmp(what, "--exhaust") == 0)
        exhaust();
    else if (strcmp(what, "--run-out-together") == 0)
        run_out_together();
    else
        start_without_memory();
    return 0;
}

int main(int argc, char **argv)
{
    static const struct check_case cases[] = {
        EVERY(a_limit_from_the_start_is_kept), EVERY(a_limit_set_later_harms_nothing),
        EVERY(threads_run_out_together), EVERY(a_new_thread_finds_no_memory),
    };
    if (argc == 2 && strncmp(argv[1], "--", 2) == 0 && strcmp(argv[1], "--list") != 0)
        return within_the_limit(argv[1]);
    return check_main(cases, sizeof cases / sizeof cases[0], argc, argv);
}
