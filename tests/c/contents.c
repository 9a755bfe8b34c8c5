/* What blocks hold: all that was asked for, from the first store to the free, and nobody else's. */
#include "check.h"

/* The largest block that contents are followed through. */
#define LARGEST (200 * MIB)

/* Ends the walk over sizes earlier for blocks that are many. */
static size_t count_of(size_t size, size_t budget, size_t count_max)
{
    size_t count = budget / (size + 1);
    return count < 2 ? 2 : count > count_max ? count_max : count;
}

static void every_usable_byte_is_kept_by_realloc(void)
{
    for (size_t size = 0; size < 40 * MIB; size = next_size(size)) {
        char *block = malloc(size), *next = malloc(size < MIB ? size : 1);
        EXPECT(block && next, "blocks of %zu", size);
        size_t usable = malloc_usable_size(block);
        EXPECT(usable >= size, "%zu usable bytes (%zu)", size, usable);
        fill(block, 0, usable, size);
        memset(next, 0xee, size < MIB ? size : 1);
        EXPECT(holds(block, usable, size), "%zu bytes of one's own for %zu", usable, size);
        block = realloc(block, usable + 1 + size / 2);
        EXPECT(block && holds(block, usable, size), "that realloc keeps %zu bytes", usable);
        free(block);
        free(next);
    }
}

static void calloc_is_zero_after_dirty_frees(void)
{
    enum { COUNT = 512 };
    static char *blocks[COUNT];
    for (size_t size = 1; size < 70 * MIB; size = next_size(size)) {
        size_t count = count_of(size, 256 * KIB, COUNT);
        for (int round = 0; round < 2; round++) {
            for (size_t i = 0; i < count; i++) {
                blocks[i] = malloc(size);
                EXPECT(blocks[i], "a block of %zu", size);
                memset(blocks[i], 0xa5, malloc_usable_size(blocks[i]));
            }
            for (size_t i = 0; i < count; i++)
                free(blocks[round ? count - 1 - i : i]);
            for (size_t i = 0; i < count; i++) {
                blocks[i] = i % 2 ? calloc(1, size) : calloc(size, 1);
                EXPECT(blocks[i] && is_zero(blocks[i], size), "zeros from calloc of %zu", size);
                memset(blocks[i], 0x5a, size);
            }
            for (size_t i = 0; i < count; i++)
                free(blocks[i]);
        }
        if (size > 4 * MIB)
            size += size / 3;
    }
}

static void realloc_keeps_contents_as_a_block_grows(void)
{
    char *walls[64] = { NULL };
    size_t size = 1, steps = 0;
    char *block = malloc(size);
    fill(block, 0, size, 5);
    while (size < LARGEST) {
        size_t next = size < 2048 ? size + 3 : size + size / 5;
        block = realloc(block, next);
        EXPECT(block && holds(block, size, 5), "%zu bytes kept in %zu", size, next);
        fill(block, size, next, 5);
        /* Something lies behind the block from time to time, so that it has to move. */
        free(walls[steps % 64]);
        walls[steps % 64] = malloc(next < MIB ? next : 1);
        size = next;
        steps++;
    }
    free(block);
    for (int i = 0; i < 64; i++)
        free(walls[i]);
}

static void realloc_keeps_contents_as_a_block_shrinks(void)
{
    size_t size = LARGEST;
    char *block = malloc(size);
    EXPECT(block, "%zu bytes", size);
    fill(block, 0, size, 6);
    while (size > 1) {
        size_t next = size < 2048 ? size - 3 % size : size - size / 5;
        block = realloc(block, next);
        EXPECT(block && holds(block, next, 6), "%zu bytes of %zu kept", next, size);
        EXPECT(malloc_usable_size(block) >= next, "%zu usable bytes", next);
        size = next;
    }
    free(block);
}

static void realloc_jumps_between_all_sizes(void)
{
    uint64_t state = 99;
    for (int round = 0; round < 3000; round++) {
        size_t from = random_from(&state) % ((size_t)1 << random_from(&state) % 24) + 1;
        size_t to = random_from(&state) % ((size_t)1 << random_from(&state) % 24) + 1;
        size_t least = from < to ? from : to;
        char *block = malloc(from);
        fill(block, 0, from, from);
        block = round % 2 ? realloc(block, to) : reallocarray(block, to, 1);
        EXPECT(block && holds(block, least, from), "%zu bytes kept from %zu to %zu", least, from,
               to);
        fill(block, 0, to, to);
        EXPECT(holds(block, to, to), "%zu bytes of one's own", to);
        free(block);
    }
}

static void live_blocks_do_not_overlap(void)
{
    enum { COUNT = 20000 };
    static struct { char *block; size_t size; } live[COUNT];
    uint64_t state = 424242;
    for (int step = 0; step < 300000; step++) {
        size_t i = random_from(&state) % COUNT;
        size_t size = random_from(&state) % ((size_t)1 << random_from(&state) % 15) + 1;
        if (step % 5000 == 0)
            size += 3 * MIB;
        EXPECT(!live[i].block || holds(live[i].block, live[i].size, i), "that nobody wrote to a "
               "live block of %zu", live[i].size);
        if (live[i].block && step % 3 == 0) {
            live[i].block = realloc(live[i].block, size);
        } else {
            free(live[i].block);
            live[i].block = step % 2 ? malloc(size) : calloc(size, 1);
            EXPECT(step % 2 || is_zero(live[i].block, size), "zeros from calloc of %zu", size);
        }
        EXPECT(live[i].block, "a block of %zu", size);
        live[i].size = size;
        fill(live[i].block, 0, size, i);
    }
    for (size_t i = 0; i < COUNT; i++) {
        EXPECT(!live[i].block || holds(live[i].block, live[i].size, i), "that nobody wrote to it");
        free(live[i].block);
    }
}

static void waste_within_a_block_is_bounded(void)
{
    for (size_t size = 1; size <= 512 * KIB; size += size < 16 * KIB ? 1 : 13) {
        void *block = malloc(size);
        EXPECT(block, "a block of %zu", size);
        size_t usable = malloc_usable_size(block);
        EXPECT(usable <= size + size / 8 + 16, "at most 12.5 %% and 16 bytes more than %zu (%zu)",
               size, usable);
        free(block);
    }
}

CHECKS(EVERY(every_usable_byte_is_kept_by_realloc), EVERY(calloc_is_zero_after_dirty_frees),
       EVERY(realloc_keeps_contents_as_a_block_grows),
       EVERY(realloc_keeps_contents_as_a_block_shrinks), EVERY(realloc_jumps_between_all_sizes),
       EVERY(live_blocks_do_not_overlap), OURS(waste_within_a_block_is_bounded))
