/* Freed memory goes back to the system: a promise of Tierpool's, in this form. */
#include "check.h"
#include <pthread.h>

/* What may stay of 1 GiB that was freed: four times what TIERPOOL_IDLE_MIB is by default, and
 * metadata. It is looked at so often, 10 ms apart: half of what is idle goes back each second. */
#define MAY_STAY (144 * MIB)
#define LOOKS 1500

/* Waits until little is in use; small calls go on meanwhile, as in any program. */
static void falls_to(size_t bound, const char *what)
{
    size_t now = resident();
    for (int i = 0; i < LOOKS && now > bound; i++) {
        for (size_t j = 0; j < 1000; j++)
            free(malloc(j % 700));
        pause_briefly();
        now = resident();
    }
    EXPECT(now <= bound, "at most %zu MiB in use after %s (%zu MiB)", bound / MIB, what, now / MIB);
}

static void touch(char *block, size_t size)
{
    for (size_t i = 0; i < size; i += 4096)
        block[i] = 1;
    block[size - 1] = 1;
}

static void big_blocks_go_back(void)
{
    static const size_t sizes[] = { 256 * MIB, 64 * MIB, 20 * MIB, 2 * MIB, 600 * KIB };
    static char *blocks[2000];
    size_t before = resident();
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t count = GIB / sizes[i];
        for (size_t j = 0; j < count; j++) {
            blocks[j] = malloc(sizes[i]);
            EXPECT(blocks[j], "%zu MiB", sizes[i] / MIB);
            touch(blocks[j], sizes[i]);
        }
        EXPECT(resident() >= before + GIB - 50 * MIB, "that 1 GiB is in use");
        for (size_t j = 0; j < count; j++)
            free(blocks[j]);
        falls_to(before + MAY_STAY, "1 GiB of big blocks");
    }
}

struct node {
    struct node *before;
};

/* So many bytes in blocks of up to 4000, as a list. */
static struct node *nodes_of(size_t bytes)
{
    struct node *last = NULL;
    uint64_t state = 5;
    for (size_t sum = 0; sum < bytes;) {
        size_t size = random_from(&state) % 4000 + sizeof(struct node);
        struct node *next = malloc(size);
        EXPECT(next, "a block");
        touch((char *)next, size);
        next->before = last;
        last = next;
        sum += size;
    }
    return last;
}

static void *free_nodes(void *nodes)
{
    struct node *last = nodes;
    while (last) {
        struct node *before = last->before;
        free(last);
        last = before;
    }
    return NULL;
}

static void *make_nodes(void *unused)
{
    (void)unused;
    return nodes_of(GIB);
}

static void small_blocks_go_back(void)
{
    size_t before = resident();
    free_nodes(nodes_of(GIB));
    falls_to(before + MAY_STAY, "1 GiB of small blocks");
}

static void blocks_of_a_dead_thread_go_back(void)
{
    pthread_t thread;
    void *nodes;
    size_t before = resident();
    EXPECT(pthread_create(&thread, NULL, make_nodes, NULL) == 0, "a thread");
    EXPECT(pthread_join(thread, &nodes) == 0, "its end");
    free_nodes(nodes);
    falls_to(before + MAY_STAY, "1 GiB of a thread's that has ended");
}

static void blocks_freed_elsewhere_go_back(void)
{
    pthread_t thread;
    size_t before = resident();
    struct node *nodes = nodes_of(GIB);
    EXPECT(pthread_create(&thread, NULL, free_nodes, nodes) == 0, "a thread");
    EXPECT(pthread_join(thread, NULL) == 0, "its end");
    /* Whose they were looks when it needs more than it has at hand. */
    free_nodes(nodes_of(128 * MIB));
    falls_to(before + MAY_STAY, "1 GiB that another thread freed");
}

/* The same memory serves sizes one after the other. */
static void memory_of_one_size_serves_another(void)
{
    size_t before = resident();
    for (size_t size = 24; size < 3 * MIB; size *= 3) {
        size_t count = 300 * MIB / size;
        struct node *last = NULL;
        for (size_t i = 0; i < count; i++) {
            struct node *next = malloc(size);
            EXPECT(next, "a block of %zu", size);
            touch((char *)next, size);
            next->before = last;
            last = next;
        }
        EXPECT(resident() < before + 700 * MIB, "that 300 MiB of %zu stay below 700 MiB (%zu)",
               size, (resident() - before) / MIB);
        free_nodes(last);
    }
}

static void a_growing_block_costs_no_more_than_itself(void)
{
    size_t before = resident();
    char *block = NULL;
    for (size_t size = MIB; size <= 400 * MIB; size += size / 4) {
        block = realloc(block, size);
        EXPECT(block, "%zu MiB", size / MIB);
        touch(block, size);
    }
    falls_to(before + 400 * MIB + MAY_STAY, "a block that grew to 400 MiB");
    block = realloc(block, 100);
    EXPECT(block, "100 bytes");
    falls_to(before + MAY_STAY, "a block of 400 MiB that shrank to 100 bytes");
    free(block);
}

CHECKS(OURS(big_blocks_go_back), OURS(small_blocks_go_back), OURS(blocks_of_a_dead_thread_go_back),
       OURS(blocks_freed_elsewhere_go_back), OURS(memory_of_one_size_serves_another),
       OURS(a_growing_block_costs_no_more_than_itself))
