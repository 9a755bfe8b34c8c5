/* The calls of heaps that processes share, as C sees them. TIERPOOL_SOCKET names the daemon. */
#include "check.h"
#include <pthread.h>
#include <tierpool.h>

struct node {
    struct node *next;
    long number;
};

#define COUNT 1000

static tierpool_pool *pool;
static tierpool_heap *heap;

#define GOOD(call)                                                                                 \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        EXPECT(code_ == TIERPOOL_OK, "that %s does it (%s)", #call, tierpool_last_error());        \
    } while (0)

/* A call must answer this code, and leave words that name it. */
#define ANSWERS(code, call)                                                                        \
    do {                                                                                           \
        int code_ = (call);                                                                        \
        EXPECT(code_ == (code), "%s of %s (it is %s: %s)", #code, #call,                           \
               tierpool_code_name(code_), tierpool_last_error());                                  \
        EXPECT(strstr(tierpool_last_error(), #code), "words that name %s: %s", #code,              \
               tierpool_last_error());                                                             \
    } while (0)

static void attach(void)
{
    GOOD(tierpool_attach(NULL, "a", &pool));
}

static void create(void)
{
    attach();
    GOOD(tierpool_heap_create(pool, "jobs", NULL, &heap));
}

static void end(void)
{
    GOOD(tierpool_heap_close(heap));
    GOOD(tierpool_heap_remove(pool, "jobs"));
    GOOD(tierpool_detach(pool));
}

static struct tierpool_heap_stats stats(void)
{
    struct tierpool_heap_stats stats;
    GOOD(tierpool_recover(heap, NULL));
    GOOD(tierpool_heap_stats(heap, &stats, sizeof stats));
    EXPECT(stats.findings == 0, "a heap that is whole (%zu findings)", stats.findings);
    return stats;
}

static void every_code_has_its_name(void)
{
#define NAMED(code)                                                                                \
    EXPECT(strcmp(tierpool_code_name(code), #code) == 0, "%s (it is %s)", #code,                   \
           tierpool_code_name(code))
    NAMED(TIERPOOL_OK);
    NAMED(TIERPOOL_INVALID);
    NAMED(TIERPOOL_EXHAUSTED);
    NAMED(TIERPOOL_TOO_LARGE);
    NAMED(TIERPOOL_DOUBLE_FREE);
    NAMED(TIERPOOL_NO_BLOCK);
    NAMED(TIERPOOL_NOT_PENDING);
    NAMED(TIERPOOL_NOT_OWNER);
    NAMED(TIERPOOL_CHANGED);
    NAMED(TIERPOOL_NO_CELL);
    NAMED(TIERPOOL_ODD_VALUE);
    NAMED(TIERPOOL_NO_TIER);
    NAMED(TIERPOOL_NAME_TAKEN);
    NAMED(TIERPOOL_NOT_FOUND);
    NAMED(TIERPOOL_NOT_A_HEAP);
    NAMED(TIERPOOL_NOT_PERMITTED);
    NAMED(TIERPOOL_NOT_SET_UP);
    NAMED(TIERPOOL_TOO_MANY_THREADS);
    NAMED(TIERPOOL_FORKED);
    NAMED(TIERPOOL_UNREACHABLE);
    NAMED(TIERPOOL_LOST);
    NAMED(TIERPOOL_DAMAGED);
    EXPECT(!tierpool_code_name(TIERPOOL_DAMAGED + 1), "no code after the last one");
    EXPECT(!tierpool_code_name(-1), "no code before the first one");
}

/* Links a list of COUNT blocks, and leaves as many that are pending. */
static void link_list(void)
{
    uint64_t *root;
    attach();
    GOOD(tierpool_heap_open(pool, "jobs", &heap));
    GOOD(tierpool_root(heap, "list", &root));
    struct node *next = NULL;
    for (long number = 0; number < COUNT; number++) {
        void *block, *pending;
        GOOD(tierpool_alloc(heap, sizeof(struct node), 0, &block));
        GOOD(tierpool_alloc(heap, 40, 64, &pending));
        EXPECT((uintptr_t)pending % 64 == 0, "a block at a multiple of 64");
        *(struct node *)block = (struct node){ next, number };
        GOOD(tierpool_link(heap, root, (uintptr_t)next, block));
        next = block;
    }
    _exit(0);
}

static void a_list_is_linked_by_one_process_and_retired_by_another(void)
{
    create();
    GOOD(tierpool_heap_close(heap));
    GOOD(tierpool_detach(pool));
    pid_t child = fork();
    if (child == 0)
        link_list();
    must_end_well(child, "the process that links");
    uint64_t *root, value;
    attach();
    GOOD(tierpool_heap_open(pool, "jobs", &heap));
    GOOD(tierpool_root(heap, "list", &root));
    while (stats().pending != 0)
        pause_briefly();
    EXPECT(stats().published == COUNT, "the blocks of the list (%zu)", stats().published);
    for (long number = COUNT - 1; number >= 0; number--) {
        GOOD(tierpool_load(heap, root, &value));
        struct node *node = (struct node *)(uintptr_t)value;
        EXPECT(node && node->number == number, "number %ld", number);
        GOOD(tierpool_retire(heap, root, node, (uintptr_t)node->next));
    }
    GOOD(tierpool_load(heap, root, &value));
    EXPECT(value == 0, "an empty list");
    size_t chunks;
    GOOD(tierpool_trim(heap, &chunks));
    EXPECT(chunks > 0 && stats().chunks == 0, "that all its memory is back (%zu)", chunks);
    end();
}

static void null_pointers_are_refused(void)
{
    create();
    uint64_t *root, value;
    size_t bytes;
    void *block;
    GOOD(tierpool_root(heap, "list", &root));
    GOOD(tierpool_alloc(heap, 100, 0, &block));
    ANSWERS(TIERPOOL_INVALID, tierpool_attach(NULL, NULL, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_detach(NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_create(NULL, "x", NULL, &heap));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_create(pool, NULL, NULL, &heap));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_create(pool, "x", NULL, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_open(NULL, "jobs", &heap));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_open(pool, NULL, &heap));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_open(pool, "jobs", NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_close(NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_remove(NULL, "jobs"));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_remove(pool, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_alloc(NULL, 1, 0, &block));
    ANSWERS(TIERPOOL_INVALID, tierpool_alloc(heap, 1, 0, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_publish(NULL, block));
    ANSWERS(TIERPOOL_INVALID, tierpool_publish(heap, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_free(NULL, block));
    ANSWERS(TIERPOOL_INVALID, tierpool_root(NULL, "x", &root));
    ANSWERS(TIERPOOL_INVALID, tierpool_root(heap, NULL, &root));
    ANSWERS(TIERPOOL_INVALID, tierpool_root(heap, "x", NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_load(NULL, root, &value));
    ANSWERS(TIERPOOL_INVALID, tierpool_load(heap, NULL, &value));
    ANSWERS(TIERPOOL_INVALID, tierpool_load(heap, root, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_exchange(NULL, root, 0, 2));
    ANSWERS(TIERPOOL_INVALID, tierpool_exchange(heap, NULL, 0, 2));
    ANSWERS(TIERPOOL_INVALID, tierpool_link(NULL, root, 0, block));
    ANSWERS(TIERPOOL_INVALID, tierpool_link(heap, NULL, 0, block));
    ANSWERS(TIERPOOL_INVALID, tierpool_link(heap, root, 0, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_retire(NULL, root, block, 0));
    ANSWERS(TIERPOOL_INVALID, tierpool_retire(heap, NULL, block, 0));
    ANSWERS(TIERPOOL_INVALID, tierpool_retire(heap, root, NULL, 0));
    ANSWERS(TIERPOOL_INVALID, tierpool_resolve(NULL, block));
    ANSWERS(TIERPOOL_INVALID, tierpool_resolve(heap, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_usable_bytes(NULL, block, &bytes));
    ANSWERS(TIERPOOL_INVALID, tierpool_usable_bytes(heap, NULL, &bytes));
    ANSWERS(TIERPOOL_INVALID, tierpool_usable_bytes(heap, block, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_recover(NULL, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_trim(NULL, NULL));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_stats(heap, NULL, 1));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_stats(NULL, (void *)&bytes, 1));
    GOOD(tierpool_free(heap, NULL));
    GOOD(tierpool_free(heap, block));
    end();
}

static void misuse_of_blocks_is_answered(void)
{
    create();
    size_t sizes[] = { 24, 5000, 100 * KIB, 2 * MIB };
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        void *block;
        size_t bytes;
        GOOD(tierpool_alloc(heap, sizes[i], 0, &block));
        GOOD(tierpool_usable_bytes(heap, block, &bytes));
        EXPECT(bytes >= sizes[i], "room for %zu bytes (%zu)", sizes[i], bytes);
        fill(block, 0, bytes, i);
        EXPECT(holds(block, bytes, i), "that the block holds what was written");
        GOOD(tierpool_publish(heap, block));
        ANSWERS(TIERPOOL_NOT_PENDING, tierpool_publish(heap, block));
        ANSWERS(TIERPOOL_NO_BLOCK, tierpool_free(heap, (char *)block + 8));
        GOOD(tierpool_free(heap, block));
        int code = tierpool_free(heap, block);
        EXPECT(code == TIERPOOL_DOUBLE_FREE || code == TIERPOOL_NO_BLOCK, "no second free (%s)",
               tierpool_code_name(code));
    }
    void *block, *kept;
    GOOD(tierpool_alloc(heap, 64, 0, &kept));
    GOOD(tierpool_alloc(heap, 64, 0, &block));
    GOOD(tierpool_free(heap, block));
    ANSWERS(TIERPOOL_DOUBLE_FREE, tierpool_free(heap, block));
    ANSWERS(TIERPOOL_NO_BLOCK, tierpool_free(heap, &block));
    ANSWERS(TIERPOOL_NO_BLOCK, tierpool_resolve(heap, &block));
    block = NULL;
    ANSWERS(TIERPOOL_TOO_LARGE, tierpool_alloc(heap, 32 * MIB + 1, 0, &block));
    ANSWERS(TIERPOOL_TOO_LARGE, tierpool_alloc(heap, opaque(SIZE_MAX), 0, &block));
    ANSWERS(TIERPOOL_TOO_LARGE, tierpool_alloc(heap, opaque(SIZE_MAX), 64, &block));
    ANSWERS(TIERPOOL_INVALID, tierpool_alloc(heap, 1, 24, &block));
    ANSWERS(TIERPOOL_INVALID, tierpool_alloc(heap, 1, 3, &block));
    EXPECT(!block, "that no answer was written");
    GOOD(tierpool_free(heap, kept));
    end();
}

static void misuse_of_cells_is_answered(void)
{
    create();
    uint64_t *root, value;
    void *block, *other;
    GOOD(tierpool_root(heap, "list", &root));
    GOOD(tierpool_alloc(heap, 64, 0, &block));
    GOOD(tierpool_alloc(heap, 64, 0, &other));
    uint64_t mine = 0;
    ANSWERS(TIERPOOL_NO_CELL, tierpool_load(heap, &mine, &value));
    ANSWERS(TIERPOOL_NO_CELL, tierpool_load(heap, (uint64_t *)((char *)root + 4), &value));
    ANSWERS(TIERPOOL_NO_CELL, tierpool_link(heap, &mine, 0, block));
    ANSWERS(TIERPOOL_ODD_VALUE, tierpool_exchange(heap, root, 0, 3));
    ANSWERS(TIERPOOL_CHANGED, tierpool_link(heap, root, 2, block));
    GOOD(tierpool_link(heap, root, 0, block));
    ANSWERS(TIERPOOL_NOT_PENDING, tierpool_link(heap, root, (uintptr_t)block, block));
    ANSWERS(TIERPOOL_CHANGED, tierpool_retire(heap, root, other, 0));
    ANSWERS(TIERPOOL_CHANGED, tierpool_exchange(heap, root, 0, 2));
    GOOD(tierpool_retire(heap, root, block, 0));
    GOOD(tierpool_exchange(heap, root, 0, 42));
    GOOD(tierpool_load(heap, root, &value));
    EXPECT(value == 42, "the value that was put there");
    ANSWERS(TIERPOOL_INVALID, tierpool_root(heap, "", &root));
    char name[50];
    memset(name, 'n', 49);
    name[49] = 0;
    ANSWERS(TIERPOOL_INVALID, tierpool_root(heap, name, &root));
    ANSWERS(TIERPOOL_INVALID, tierpool_root(heap, "\xff", &root));
    GOOD(tierpool_free(heap, other));
    end();
}

static void heaps_are_named_and_placed(void)
{
    attach();
    struct newer {
        struct tierpool_heap_options known;
        size_t unknown;
    } newer = { .known = { .size = sizeof newer }, .unknown = 1 };
    const char *tiers[] = { "ddr", "nowhere" };
    unsigned shares[] = { 3 };
    struct tierpool_heap_options options = { sizeof options, tiers, shares, 1, 1 };
    ANSWERS(TIERPOOL_NOT_FOUND, tierpool_heap_open(pool, "jobs", &heap));
    ANSWERS(TIERPOOL_NOT_FOUND, tierpool_heap_remove(pool, "jobs"));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_create(pool, "a:b", NULL, &heap));
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_create(pool, "jobs", &newer.known, &heap));
    newer.unknown = 0;
    GOOD(tierpool_heap_create(pool, "jobs", &newer.known, &heap));
    end();
    attach();
    options.tier_count = 2;
    options.shares = NULL;
    ANSWERS(TIERPOOL_NO_TIER, tierpool_heap_create(pool, "jobs", &options, &heap));
    options.tiers = NULL;
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_create(pool, "jobs", &options, &heap));
    options.size = 3;
    ANSWERS(TIERPOOL_INVALID, tierpool_heap_create(pool, "jobs", &options, &heap));
    options = (struct tierpool_heap_options){ sizeof options, tiers, shares, 1, 1 };
    GOOD(tierpool_heap_create(pool, "jobs", &options, &heap));
    tierpool_heap *again;
    ANSWERS(TIERPOOL_NAME_TAKEN, tierpool_heap_create(pool, "jobs", &options, &again));
    GOOD(tierpool_heap_open(pool, "jobs", &again));
    void *block;
    GOOD(tierpool_alloc(heap, 100, 0, &block));
    GOOD(tierpool_resolve(again, block));
    GOOD(tierpool_publish(heap, block));
    GOOD(tierpool_free(again, block));
    GOOD(tierpool_heap_close(again));
    /* It is leased, and nobody has it any more. */
    GOOD(tierpool_heap_close(heap));
    ANSWERS(TIERPOOL_NOT_FOUND, tierpool_heap_open(pool, "jobs", &heap));
    GOOD(tierpool_detach(pool));
}

static void a_heap_without_room_says_so_and_goes_on(void)
{
    create();
    void *blocks[64];
    size_t count = 0;
    int code;
    while ((code = tierpool_alloc(heap, 30 * MIB, 0, &blocks[count])) == TIERPOOL_OK) {
        count++;
        EXPECT(count < 64, "that the pool is full at some time");
    }
    ANSWERS(TIERPOOL_EXHAUSTED, tierpool_alloc(heap, 30 * MIB, 0, &blocks[count]));
    GOOD(tierpool_free(heap, blocks[--count]));
    GOOD(tierpool_alloc(heap, 30 * MIB, 0, &blocks[count]));
    end();
}

static void a_daemon_that_is_not_there_is_told(void)
{
    ANSWERS(TIERPOOL_UNREACHABLE, tierpool_attach("/nowhere/at/all.sock", NULL, &pool));
    EXPECT(strstr(tierpool_last_error(), "/nowhere/at/all.sock"), "words that name the socket");
}

static void a_forked_child_is_told_and_attaches_anew(void)
{
    create();
    uint64_t *root, value;
    void *block;
    GOOD(tierpool_root(heap, "list", &root));
    GOOD(tierpool_alloc(heap, 64, 0, &block));
    GOOD(tierpool_link(heap, root, 0, block));
    pid_t child = fork();
    if (child == 0) {
        child_alarm();
        size_t bytes;
        void *mine = NULL;
        ANSWERS(TIERPOOL_FORKED, tierpool_alloc(heap, 64, 0, &mine));
        ANSWERS(TIERPOOL_FORKED, tierpool_publish(heap, block));
        ANSWERS(TIERPOOL_FORKED, tierpool_free(heap, block));
        ANSWERS(TIERPOOL_FORKED, tierpool_free(heap, NULL));
        ANSWERS(TIERPOOL_FORKED, tierpool_load(heap, root, &value));
        ANSWERS(TIERPOOL_FORKED, tierpool_exchange(heap, root, 0, 2));
        ANSWERS(TIERPOOL_FORKED, tierpool_link(heap, root, 0, block));
        ANSWERS(TIERPOOL_FORKED, tierpool_retire(heap, root, block, 0));
        ANSWERS(TIERPOOL_FORKED, tierpool_root(heap, "list", &root));
        ANSWERS(TIERPOOL_FORKED, tierpool_resolve(heap, block));
        ANSWERS(TIERPOOL_FORKED, tierpool_usable_bytes(heap, block, &bytes));
        ANSWERS(TIERPOOL_FORKED, tierpool_recover(heap, NULL));
        ANSWERS(TIERPOOL_FORKED, tierpool_trim(heap, NULL));
        ANSWERS(TIERPOOL_FORKED, tierpool_heap_stats(heap, (void *)&bytes, 1));
        ANSWERS(TIERPOOL_FORKED, tierpool_heap_close(heap));
        ANSWERS(TIERPOOL_FORKED, tierpool_heap_open(pool, "jobs", &heap));
        ANSWERS(TIERPOOL_FORKED, tierpool_heap_create(pool, "other", NULL, &heap));
        ANSWERS(TIERPOOL_FORKED, tierpool_heap_remove(pool, "jobs"));
        ANSWERS(TIERPOOL_FORKED, tierpool_detach(pool));
        attach();
        GOOD(tierpool_heap_open(pool, "jobs", &heap));
        GOOD(tierpool_root(heap, "list", &root));
        GOOD(tierpool_load(heap, root, &value));
        EXPECT(value == (uintptr_t)block, "what the parent put there");
        GOOD(tierpool_retire(heap, root, block, 0));
        exit(0);
    }
    must_end_well(child, "the child");
    GOOD(tierpool_load(heap, root, &value));
    EXPECT(value == 0, "that the child took it");
    end();
}

static pthread_barrier_t barrier;
#define THREADS 4

/* Leaves one block pending, keeps one for as long as the barrier lasts, and frees the rest. */
static void *work(void *place)
{
    void **answers = (void **)place;
    GOOD(tierpool_alloc(heap, 48, 0, &answers[0]));
    GOOD(tierpool_alloc(heap, 48, 0, &answers[1]));
    for (int i = 0; i < 2000; i++) {
        void *block;
        GOOD(tierpool_alloc(heap, 16 + (size_t)i, 0, &block));
        if (i % 2)
            GOOD(tierpool_publish(heap, block));
        GOOD(tierpool_free(heap, block));
    }
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    GOOD(tierpool_free(heap, answers[1]));
    return NULL;
}

static void threads_have_parts_of_their_own(void)
{
    create();
    pthread_t threads[THREADS];
    void *answers[THREADS][2];
    pthread_barrier_init(&barrier, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++)
        EXPECT(pthread_create(&threads[i], NULL, work, answers[i]) == 0, "a thread");
    pthread_barrier_wait(&barrier);
    EXPECT(stats().threads >= THREADS, "a part for each (%zu)", stats().threads);
    for (int i = 0; i < THREADS; i++)
        ANSWERS(TIERPOOL_NOT_OWNER, tierpool_publish(heap, answers[i][0]));
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    EXPECT(stats().threads <= 2, "that they gave their parts up (%zu)", stats().threads);
    for (int i = 0; i < THREADS; i++) {
        GOOD(tierpool_publish(heap, answers[i][0]));
        GOOD(tierpool_free(heap, answers[i][0]));
    }
    end();
}

static void *allocate_one(void *place)
{
    void *block;
    *(int *)place = tierpool_alloc(heap, 48, 0, &block);
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    return NULL;
}

static void one_thread_too_many_is_told(void)
{
    create();
    enum { MOST = 128 };
    pthread_t threads[MOST + 1];
    int codes[MOST + 1], refused = 0;
    pthread_barrier_init(&barrier, NULL, MOST + 2);
    for (int i = 0; i <= MOST; i++)
        EXPECT(pthread_create(&threads[i], NULL, allocate_one, &codes[i]) == 0, "a thread");
    pthread_barrier_wait(&barrier);
    for (int i = 0; i <= MOST; i++)
        refused += codes[i] == TIERPOOL_TOO_MANY_THREADS;
    EXPECT(refused == 1, "that one is refused (%d)", refused);
    pthread_barrier_wait(&barrier);
    for (int i = 0; i <= MOST; i++)
        pthread_join(threads[i], NULL);
    void *block;
    GOOD(tierpool_alloc(heap, 48, 0, &block));
    end();
}

static void *close_while_others_have_it(void *unused)
{
    void *block;
    GOOD(tierpool_alloc(heap, 48, 0, &block));
    pthread_barrier_wait(&barrier);
    pthread_barrier_wait(&barrier);
    /* Another heap, whose handle may be where that of the first one was. */
    GOOD(tierpool_alloc(heap, 48, 0, &block));
    GOOD(tierpool_publish(heap, block));
    return unused;
}

static void a_heap_is_closed_for_all_threads(void)
{
    pthread_t thread;
    attach();
    struct tierpool_heap_options options = { .size = sizeof options, .leased = 1 };
    pthread_barrier_init(&barrier, NULL, 2);
    GOOD(tierpool_heap_create(pool, "jobs", &options, &heap));
    EXPECT(pthread_create(&thread, NULL, close_while_others_have_it, NULL) == 0, "a thread");
    pthread_barrier_wait(&barrier);
    GOOD(tierpool_heap_close(heap));
    ANSWERS(TIERPOOL_NOT_FOUND, tierpool_heap_open(pool, "jobs", &heap));
    GOOD(tierpool_heap_create(pool, "jobs", NULL, &heap));
    pthread_barrier_wait(&barrier);
    pthread_join(thread, NULL);
    EXPECT(stats().published == 1, "the block of the second heap");
    end();
}

CHECKS(OURS(every_code_has_its_name), OURS(a_list_is_linked_by_one_process_and_retired_by_another),
       OURS(null_pointers_are_refused), OURS(misuse_of_blocks_is_answered),
       OURS(misuse_of_cells_is_answered), OURS(heaps_are_named_and_placed),
       OURS(a_heap_without_room_says_so_and_goes_on), OURS(a_daemon_that_is_not_there_is_told),
       OURS(a_forked_child_is_told_and_attaches_anew), OURS(threads_have_parts_of_their_own),
       OURS(one_thread_too_many_is_told), OURS(a_heap_is_closed_for_all_threads))
