/*
 * Blocks freed twice, and pointers that are none: the process ends with SIGABRT, and the standard
 * error says what happened and to which pointer. A promise of Tierpool's, in this form.
 *
 * A block freed twice is seen where it is the one before, or where its thread has freed more of its
 * size since than it keeps at hand.
 */
#include "check.h"
#include <ctype.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

static int told;

/* Says to the case which pointer is about to be misused; the case looks for it in the message. */
static void *misused(void *pointer)
{
    EXPECT(write(told, &pointer, sizeof pointer) == sizeof pointer, "that the pointer is told");
    return kept(pointer);
}

/* What a child does that is to end by SIGABRT: it leaves nothing behind. */
static void is_to_abort(void)
{
    struct rlimit none = { 0, 0 };
    setrlimit(RLIMIT_CORE, &none);
    child_alarm();
}

/* Runs `body` in a child, which must end as it should; `word` or `other` must be in its message. */
static void ends(void (*body)(void), const char *word, const char *other)
{
    int errors[2], pointers[2], status;
    char said[4096], hex[32];
    void *pointer = NULL;
    EXPECT(pipe(errors) == 0 && pipe(pointers) == 0, "two pipes");
    pid_t child = fork();
    EXPECT(child >= 0, "a child");
    if (child == 0) {
        is_to_abort();
        dup2(errors[1], 2);
        told = pointers[1];
        close(errors[0]);
        body();
        _exit(0);
    }
    close(errors[1]);
    close(pointers[1]);
    EXPECT(read(pointers[0], &pointer, sizeof pointer) == sizeof pointer, "a pointer");
    size_t length = 0;
    ssize_t got;
    while ((got = read(errors[0], said + length, sizeof said - 1 - length)) > 0)
        length += (size_t)got;
    said[length] = 0;
    EXPECT(waitpid(child, &status, 0) == child, "the child's end");
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT,
           "SIGABRT (status %#x), with a message (%.200s)", (unsigned)status, said);
    for (size_t i = 0; i < length; i++)
        said[i] = (char)tolower((unsigned char)said[i]);
    EXPECT(strstr(said, word) || strstr(said, other), "`%s` or `%s` in the message (%.200s)", word,
           other, said);
    snprintf(hex, sizeof hex, "%lx", (unsigned long)(uintptr_t)pointer);
    EXPECT(strstr(said, hex), "the pointer %s in the message (%.200s)", hex, said);
    close(errors[0]);
    close(pointers[0]);
}

#define TWICE "double free", "double free"
/* A block whose memory has gone back is none any more. */
#define TWICE_OR_NONE "double free", "invalid"
#define NONE "invalid", "invalid"

/* More than the blocks of a size that a thread keeps at hand. */
enum { AT_HAND = 80 };

/* A block of `size` that was freed, between many others: it is not at hand. */
static void *freed(size_t size)
{
    void *block = malloc(size), *others[2 * AT_HAND];
    for (int i = 0; i < 2 * AT_HAND; i++)
        others[i] = malloc(size);
    for (int i = 0; i < AT_HAND; i++)
        free(others[i]);
    free(block);
    for (int i = AT_HAND; i < 2 * AT_HAND; i++)
        free(others[i]);
    return kept(block);
}

static void free_twice(size_t size)
{
    free(misused(freed(size)));
}

static void small_twice(void)
{
    free_twice(40);
}

static void medium_twice(void)
{
    free_twice(20 * KIB);
}

static void large_twice(void)
{
    free_twice(2 * MIB);
}

static void huge_twice(void)
{
    free_twice(100 * MIB);
}

static void at_once_twice(void)
{
    void *block = malloc(64);
    free(block);
    free(misused(block));
}

static void aligned_at_once_twice(void)
{
    void *block = memalign(4096, 64);
    free(block);
    free(misused(block));
}

/* It was freed first, and many others after it. */
static void long_after_twice(void)
{
    void *block = malloc(200), *others[2 * AT_HAND];
    for (int i = 0; i < 2 * AT_HAND; i++)
        others[i] = malloc(200);
    free(block);
    for (int i = 0; i < 2 * AT_HAND; i++)
        free(others[i]);
    free(misused(block));
}

static void *free_it(void *block)
{
    free(block);
    return NULL;
}

static void twice_by_two_threads(void)
{
    pthread_t thread;
    void *block = freed(100);
    EXPECT(pthread_create(&thread, NULL, free_it, misused(block)) == 0, "a thread");
    pthread_join(thread, NULL);
}

static void twice_by_another_thread(void)
{
    pthread_t thread;
    void *block = malloc(100);
    EXPECT(pthread_create(&thread, NULL, free_it, block) == 0, "a thread");
    pthread_join(thread, NULL);
    free(misused(block));
    /* Whose it was looks when it needs more than it has at hand. */
    for (int i = 0; i < 10000; i++)
        if (malloc(100) == NULL)
            return;
}

static void twice_by_realloc(void)
{
    free(realloc(misused(freed(100)), 5000));
}

static void a_double_free_is_named(void)
{
    ends(small_twice, TWICE_OR_NONE);
    ends(medium_twice, TWICE_OR_NONE);
    ends(large_twice, TWICE_OR_NONE);
    ends(huge_twice, TWICE_OR_NONE);
}

static void a_double_free_at_once_is_named(void)
{
    ends(at_once_twice, TWICE);
    ends(aligned_at_once_twice, TWICE);
}

static void a_double_free_long_after_is_named_where_all_are_checked(void)
{
    ends(long_after_twice, TWICE);
}

static void a_double_free_by_another_thread_is_named(void)
{
    ends(twice_by_two_threads, TWICE);
}

static void a_double_free_after_another_thread_s_is_named_where_all_are_checked(void)
{
    ends(twice_by_another_thread, TWICE);
}

static void a_realloc_of_a_freed_block_is_named(void)
{
    ends(twice_by_realloc, TWICE_OR_NONE);
}

static void inside_small(void)
{
    char *block = malloc(1000);
    free(misused(block + 16));
}

static void inside_medium(void)
{
    char *block = malloc(40 * KIB);
    free(misused(block + 4096));
}

static void inside_large(void)
{
    char *block = malloc(3 * MIB);
    free(misused(block + MIB));
}

static void inside_huge(void)
{
    char *block = malloc(100 * MIB);
    free(misused(block + 50 * MIB));
}

static void one_off(void)
{
    char *block = malloc(64);
    free(misused(block + 1));
}

static void an_interior_pointer_is_named(void)
{
    ends(inside_small, NONE);
    ends(inside_medium, NONE);
    ends(inside_large, NONE);
    ends(inside_huge, NONE);
    ends(one_off, NONE);
}

static void of_the_stack(void)
{
    char local[64];
    free(misused(local));
}

static void of_the_program(void)
{
    static char global[64];
    free(misused(global));
}

static void of_a_mapping(void)
{
    char *map = mmap(NULL, MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    free(misused(map + 64));
}

static void of_nowhere(void)
{
    free(misused((void *)(uintptr_t)0x123456789a0));
}

static void of_no_address(void)
{
    free(misused((void *)(uintptr_t)0xfedcba9876543210));
}

static void realloc_of_the_stack(void)
{
    char local[64];
    free(realloc(misused(local), 1000));
}

static void a_pointer_that_is_no_block_is_named(void)
{
    ends(of_the_stack, NONE);
    ends(of_the_program, NONE);
    ends(of_a_mapping, NONE);
    ends(of_nowhere, NONE);
    ends(of_no_address, NONE);
    ends(realloc_of_the_stack, NONE);
}

static void twice_without_standard_error(void)
{
    void *block = freed(64);
    close(2);
    misused(block);
    free(kept(block));
}

/* Where nobody listens, the end is the same. */
static void a_double_free_ends_a_process_without_standard_error(void)
{
    int pointers[2], status;
    EXPECT(pipe(pointers) == 0, "a pipe");
    told = pointers[1];
    pid_t child = fork();
    EXPECT(child >= 0, "a child");
    if (child == 0) {
        is_to_abort();
        twice_without_standard_error();
        _exit(0);
    }
    EXPECT(waitpid(child, &status, 0) == child, "the child's end");
    EXPECT(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "SIGABRT (%#x)", (unsigned)status);
}

CHECKS(OURS(a_double_free_is_named), OURS(a_double_free_at_once_is_named),
       OURS(a_double_free_long_after_is_named_where_all_are_checked),
       OURS(a_double_free_by_another_thread_is_named),
       OURS(a_double_free_after_another_thread_s_is_named_where_all_are_checked),
       OURS(a_realloc_of_a_freed_block_is_named), OURS(an_interior_pointer_is_named),
       OURS(a_pointer_that_is_no_block_is_named),
       OURS(a_double_free_ends_a_process_without_standard_error))
