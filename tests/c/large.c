/* Large blocks of malloc that are of a heap of the pool, by TIERPOOL_HEAP. */
#include "check.h"
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <tierpool.h>

static struct tierpool_private_stats stats(void)
{
    struct tierpool_private_stats stats;
    EXPECT(tierpool_private_stats(&stats, sizeof stats) == 0, "the figures");
    return stats;
}

/* There must be so many blocks of the heap. */
static void there_are(size_t count)
{
    EXPECT(stats().pool_blocks == count, "%zu blocks of the heap (%zu)", count,
           stats().pool_blocks);
}

/* Looks from another process: it is a heap like any other. */
static void look_at(char **blocks)
{
    char name[64];
    tierpool_pool *pool;
    tierpool_heap *heap;
    size_t bytes;
    child_alarm();
    EXPECT(tierpool_attach(NULL, NULL, &pool) == 0, "a session: %s", tierpool_last_error());
    snprintf(name, sizeof name, "jobs-%d", getppid());
    EXPECT(tierpool_heap_open(pool, name, &heap) == 0, "%s: %s", name, tierpool_last_error());
    for (int i = 0; i < 2; i++) {
        EXPECT(tierpool_usable_bytes(heap, blocks[i], &bytes) == 0, "a block of the heap");
        EXPECT(bytes >= MIB && holds(blocks[i], MIB, (size_t)i), "what was written into it");
    }
    for (int i = 2; i < 4; i++)
        EXPECT(tierpool_usable_bytes(heap, blocks[i], &bytes) == TIERPOOL_NO_BLOCK, "none of it");
    _exit(0);
}

static void large_blocks_are_of_the_heap(void)
{
    size_t sizes[] = { MIB, 32 * MIB, MIB - 1, 32 * MIB + 1 };
    char *blocks[4];
    for (int i = 0; i < 4; i++) {
        EXPECT((blocks[i] = malloc(sizes[i])), "block %d", i);
        EXPECT(malloc_usable_size(blocks[i]) >= sizes[i], "all of it");
        fill(blocks[i], 0, sizes[i], (size_t)i);
    }
    there_are(2);
    pid_t child = fork();
    if (child == 0)
        look_at(blocks);
    must_end_well(child, "who looks");
    for (int i = 0; i < 4; i++)
        free(blocks[i]);
    there_are(0);
    EXPECT(malloc_trim(0) == 1 && stats().pool_fallbacks == 0, "that the memory goes back");
}

static void a_block_moves_between_the_heaps(void)
{
    size_t sizes[] = { 100,      MIB,      2 * MIB,  3 * MIB, 31 * MIB, 40 * MIB,
                       5 * MIB,  64 * KIB, 10 * MIB, MIB,     100,      33 * MIB,
                       32 * MIB, 200,      8 * MIB,  MIB - 1, MIB };
    size_t old = 50;
    char *block = malloc(old);
    fill(block, 0, old, 7);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        size_t size = sizes[i], kept = old < size ? old : size;
        errno = 42;
        block = realloc(block, size);
        EXPECT(block && errno == 42, "a block of %zu bytes, and no error", size);
        EXPECT(holds(block, kept, 7), "that %zu bytes are kept, from %zu to %zu", kept, old, size);
        EXPECT(malloc_usable_size(block) >= size, "all of %zu", size);
        there_are(size >= MIB && size <= 32 * MIB);
        fill(block, 0, size, 7);
        old = size;
    }
    free(block);
    there_are(0);
    block = realloc(NULL, 2 * MIB);
    there_are(1);
    EXPECT(!realloc(block, 0), "that it is freed");
    there_are(0);
    EXPECT(!realloc(NULL, opaque(SIZE_MAX)) && errno == ENOMEM, "no such block");
}

static void all_of_the_family_gives_them(void)
{
    void *blocks[8];
    for (int round = 0; round < 50; round++) {
        errno = 42;
        blocks[0] = malloc(MIB);
        blocks[1] = calloc(1024, 1024);
        EXPECT(is_zero(blocks[1], MIB), "zeros in round %d", round);
        EXPECT(posix_memalign(&blocks[2], 2 * MIB, MIB) == 0, "an aligned one");
        blocks[3] = aligned_alloc(4096, MIB);
        blocks[4] = memalign(128, MIB + 1);
        blocks[5] = valloc(MIB);
        blocks[6] = pvalloc(MIB - 1);
        blocks[7] = reallocarray(NULL, 1024, 1024);
        there_are(8);
        EXPECT((uintptr_t)blocks[2] % (2 * MIB) == 0, "a multiple of 2 MiB");
        EXPECT((uintptr_t)blocks[3] % 4096 == 0 && (uintptr_t)blocks[5] % 4096 == 0, "pages");
        for (int i = 0; i < 8; i++) {
            EXPECT(blocks[i] && (uintptr_t)blocks[i] % 16 == 0, "block %d", i);
            fill(blocks[i], 0, MIB, (size_t)i);
        }
        for (int i = 0; i < 8; i++) {
            EXPECT(holds(blocks[i], MIB, (size_t)i), "that block %d is kept", i);
            free(blocks[i]);
        }
        there_are(0);
        EXPECT(errno == 42, "no error");
    }
    /* Beyond what the heap gives. */
    EXPECT(posix_memalign(&blocks[0], 128 * MIB, MIB) == 0, "a private one");
    there_are(0);
    free(blocks[0]);
}

static void a_smaller_bound_is_kept(void)
{
    char *small = malloc(64 * KIB - 1), *large = malloc(64 * KIB);
    there_are(1);
    EXPECT(malloc_usable_size(large) >= 64 * KIB, "all of it");
    fill(large, 0, 64 * KIB, 1);
    large = realloc(large, 80 * KIB);
    EXPECT(holds(large, 64 * KIB, 1), "that it is kept");
    there_are(1);
    free(small);
    free(large);
    there_are(0);
}

static char *volatile shared[64];

static void *exchange_blocks(void *seed)
{
    uint64_t state = (uint64_t)(uintptr_t)seed;
    for (int i = 0; i < 2000; i++) {
        size_t bytes = MIB + random_from(&state) % MIB;
        char *block = malloc(bytes);
        EXPECT(block, "a block");
        block[0] = block[bytes - 1] = 1;
        free(__atomic_exchange_n(&shared[random_from(&state) % 64], block, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void threads_free_each_other_s(void)
{
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, exchange_blocks, (void *)(i + 1)) == 0, "one");
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    EXPECT(stats().pool_fallbacks == 0, "that all are of the heap");
    for (size_t i = 0; i < 64; i++)
        free(shared[i]);
    there_are(0);
}

static void *allocate_large(void *unused)
{
    char *blocks[4];
    for (int i = 0; i < 4; i++)
        EXPECT((blocks[i] = malloc(30 * MIB)), "a block");
    for (int i = 0; i < 4; i++)
        free(blocks[i]);
    return unused;
}

static void the_smallest_stack_is_enough_for_large_blocks(void)
{
    pthread_attr_t attributes;
    pthread_t thread;
    pthread_attr_init(&attributes);
    EXPECT(pthread_attr_setstacksize(&attributes, 16 * KIB) == 0, "the smallest stack");
    EXPECT(pthread_create(&thread, &attributes, allocate_large, NULL) == 0, "a thread");
    pthread_join(thread, NULL);
    EXPECT(stats().pool_fallbacks == 0, "that all are of the heap");
}

/* More than the pool has. */
static void a_full_pool_is_told_and_goes_on(void)
{
    char *blocks[20];
    for (int i = 0; i < 20; i++) {
        EXPECT((blocks[i] = malloc(30 * MIB)), "block %d", i);
        blocks[i][0] = (char)i;
    }
    size_t had = stats().pool_blocks;
    EXPECT(had > 0 && had < 20, "some blocks of the heap (%zu)", had);
    EXPECT(stats().pool_fallbacks == 20 - had, "all others counted (%zu)", stats().pool_fallbacks);
    for (int i = 0; i < 20; i++) {
        EXPECT(blocks[i][0] == (char)i, "block %d", i);
        free(blocks[i]);
    }
    there_are(0);
    free(malloc(30 * MIB));
    EXPECT(stats().pool_fallbacks == 20 - had, "room again");
}

static void a_full_pool_refuses_where_that_is_said(void)
{
    char *blocks[20], *more;
    int count = 0;
    errno = 0;
    while (count < 20 && (blocks[count] = malloc(30 * MIB)))
        count++;
    EXPECT(count > 0 && count < 20 && errno == ENOMEM, "no more at some time (%d)", count);
    errno = 0;
    EXPECT(!calloc(30, MIB) && errno == ENOMEM, "no zeros either");
    EXPECT(posix_memalign((void **)&more, 4096, 30 * MIB) == ENOMEM, "no aligned ones either");
    char *small = malloc(1000);
    fill(small, 0, 1000, 3);
    errno = 0;
    EXPECT(!realloc(small, 30 * MIB) && errno == ENOMEM, "that it cannot grow");
    EXPECT(holds(small, 1000, 3), "that it is as it was");
    free(blocks[--count]);
    EXPECT((blocks[count] = malloc(30 * MIB)), "one for one that was freed");
    EXPECT(stats().pool_fallbacks == 0, "no private ones");
}

static void without_a_daemon_all_is_private(void)
{
    char *blocks[100];
    for (int i = 0; i < 100; i++)
        EXPECT((blocks[i] = malloc(MIB)), "block %d", i);
    EXPECT(stats().pool_fallbacks == 100, "that all are counted (%zu)", stats().pool_fallbacks);
    there_are(0);
    blocks[0] = realloc(blocks[0], 10 * MIB);
    EXPECT(blocks[0], "that it grows");
    for (int i = 0; i < 100; i++)
        free(blocks[i]);
}

static void without_a_daemon_all_is_refused_where_that_is_said(void)
{
    errno = 0;
    EXPECT(!malloc(MIB) && errno == ENOMEM, "no block");
    char *small = malloc(MIB - 1);
    EXPECT(small, "a small one");
    free(small);
}

static void a_child_has_none_of_them(void)
{
    char *block = malloc(2 * MIB);
    fill(block, 0, 2 * MIB, 5);
    there_are(1);
    pid_t child = fork();
    if (child == 0) {
        child_alarm();
        EXPECT(malloc_usable_size(block) == 0, "nothing of it");
        errno = 0;
        EXPECT(!realloc(block, 100) && errno == ENOMEM, "that it cannot be moved");
        EXPECT(!realloc(block, 3 * MIB) && errno == ENOMEM, "that it cannot be moved");
        free(block);
        char *mine = calloc(2, MIB);
        EXPECT(mine && is_zero(mine, 2 * MIB), "a private one");
        EXPECT((mine = realloc(mine, 4 * MIB)), "a larger one");
        EXPECT(stats().pool_fallbacks > 0, "that it is counted");
        free(mine);
        malloc_trim(0);
        exit(0);
    }
    must_end_well(child, "the child");
    EXPECT(holds(block, 2 * MIB, 5), "that the parent's is as it was");
    EXPECT(malloc_usable_size(block) >= 2 * MIB, "all of it");
    free(block);
    there_are(0);
}

static void *churn_large(void *stop)
{
    while (!__atomic_load_n((int *)stop, __ATOMIC_ACQUIRE))
        free(malloc(MIB));
    return NULL;
}

/* A child must not wait for what other threads of its parent were in. */
static void children_are_forked_while_threads_allocate(void)
{
    int stop = 0;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++)
        EXPECT(pthread_create(&threads[i], NULL, churn_large, &stop) == 0, "a thread");
    for (int i = 0; i < 200; i++) {
        pid_t child = fork();
        if (child == 0) {
            child_alarm();
            free(malloc(MIB));
            _exit(0);
        }
        must_end_well(child, "a child");
    }
    __atomic_store_n(&stop, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    there_are(0);
}

/* What a program leaves that executes another one has the name that the other one wants. */
static void a_program_that_is_executed_has_a_heap(void)
{
    char *block = malloc(2 * MIB);
    there_are(1);
    EXPECT(block, "a block");
    if (getenv("CHECK_EXECUTED"))
        return;
    setenv("CHECK_EXECUTED", "1", 1);
    pid_t child = fork();
    if (child == 0) {
        execl("/proc/self/exe", "large", "a_program_that_is_executed_has_a_heap", NULL);
        _exit(3);
    }
    must_end_well(child, "the program that was forked and executed");
    execl("/proc/self/exe", "large", "a_program_that_is_executed_has_a_heap", NULL);
    EXPECT(0, "that it is executed");
}

/* Ends by SIGABRT. */
static void a_double_free_ends_it(void)
{
    char *block = kept(malloc(2 * MIB));
    free(block);
    free(block);
}

/* Ends by SIGABRT. */
static void a_pointer_into_a_block_ends_it(void)
{
    char *block = kept(malloc(2 * MIB));
    free(block + 65536);
}

/* Says so when it has a block, and waits until its input ends. */
static void a_block_is_held(void)
{
    char *block = kept(malloc(2 * MIB)), byte;
    there_are(1);
    dprintf(1, "ready\n");
    EXPECT(read(0, &byte, 1) == 0, "the end");
    free(block);
}

/* The daemon is killed once it says that it is ready. What it holds stays usable. */
static void a_dead_daemon_is_done_without(void)
{
    char *block = kept(malloc(2 * MIB)), byte, *more[8];
    fill(block, 0, 2 * MIB, 9);
    there_are(1);
    dprintf(1, "ready\n");
    EXPECT(read(0, &byte, 1) == 0, "the end of the daemon");
    for (int i = 0; i < 8; i++) {
        EXPECT((more[i] = malloc(30 * MIB)), "block %d", i);
        fill(more[i], 0, MIB, (size_t)i);
    }
    EXPECT(stats().pool_fallbacks > 0, "private blocks, which are counted");
    EXPECT(holds(block, 2 * MIB, 9), "that what was held is usable");
    for (int i = 0; i < 8; i++) {
        EXPECT(holds(more[i], MIB, (size_t)i), "block %d", i);
        free(more[i]);
    }
    free(block);
    there_are(0);
}

CHECKS(OURS(large_blocks_are_of_the_heap), OURS(a_block_moves_between_the_heaps),
       OURS(all_of_the_family_gives_them), OURS(a_smaller_bound_is_kept),
       OURS(threads_free_each_other_s), OURS(the_smallest_stack_is_enough_for_large_blocks),
       OURS(a_full_pool_is_told_and_goes_on), OURS(a_full_pool_refuses_where_that_is_said),
       OURS(without_a_daemon_all_is_private),
       OURS(without_a_daemon_all_is_refused_where_that_is_said), OURS(a_child_has_none_of_them),
       OURS(children_are_forked_while_threads_allocate),
       OURS(a_program_that_is_executed_has_a_heap), OURS(a_double_free_ends_it),
       OURS(a_pointer_into_a_block_ends_it), OURS(a_block_is_held),
       OURS(a_dead_daemon_is_done_without))
