/* Where blocks lie: at a multiple of 16 at least, and of what was asked for. */
#include "check.h"

#define LARGEST (64 * MIB)

static int is_at(const void *block, size_t alignment)
{
    return (uintptr_t)block % alignment == 0;
}

/* What a type of `size` bytes may need: peers give less than 16 below that size. */
static void check_plain(size_t size, size_t alignment)
{
    void *blocks[] = { malloc(size), calloc(1, size), realloc(NULL, size), realloc(malloc(1), size),
                       reallocarray(NULL, 1, size) };
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        EXPECT(blocks[i] && is_at(blocks[i], alignment),
               "a block of %zu at a multiple of %zu (%p, function %zu)", size, alignment, blocks[i],
               i);
    for (size_t i = 0; i < sizeof blocks / sizeof blocks[0]; i++)
        free(blocks[i]);
}

static void every_size_is_aligned_for_every_type(void)
{
    for (size_t size = 16; size <= 4096; size++)
        for (int i = 0; i < 5; i++)
            check_plain(size, 16);
    uint64_t state = 88172645463325252u;
    for (int i = 0; i < 400; i++)
        check_plain(random_from(&state) % (64 * MIB) + 4096, 16);
}

static void the_smallest_sizes_are_aligned_too(void)
{
    for (int i = 0; i < 100; i++)
        for (size_t size = 1; size < 16; size++)
            check_plain(size, 16);
    void *empty = malloc(0);
    EXPECT(is_at(empty, 16), "a block of nothing at a multiple of 16");
    free(empty);
}

/* One block by each of the functions, in use all at once, grown, shrunk and freed. */
static void check_requested(size_t alignment, size_t size)
{
    size_t whole = (size + alignment - 1) / alignment * alignment;
    void *blocks[4] = { NULL };
    int error = alignment < sizeof(void *) ? 0 : posix_memalign(&blocks[0], alignment, size);
    EXPECT(error == 0, "%zu bytes at a multiple of %zu (%d)", size, alignment, error);
    blocks[1] = aligned_alloc(alignment, whole);
    blocks[2] = memalign(alignment, size);
    blocks[3] = memalign(alignment, size / 2 + 1);
    size_t sizes[4] = { alignment < sizeof(void *) ? 0 : size, size, size, size / 2 + 1 };
    for (size_t i = 0; i < 4; i++) {
        EXPECT(blocks[i] || (i == 0 && sizes[0] == 0), "%zu bytes at %zu", size, alignment);
        EXPECT(is_at(blocks[i], alignment), "%zu bytes at a multiple of %zu (%p)", size, alignment,
               blocks[i]);
        EXPECT(malloc_usable_size(blocks[i]) >= sizes[i], "%zu usable bytes", sizes[i]);
        fill(blocks[i], 0, sizes[i], alignment + i);
    }
    for (size_t i = 0; i < 4; i++)
        EXPECT(holds(blocks[i], sizes[i], alignment + i), "that aligned blocks do not overlap");
    for (size_t i = 0; i < 4; i++) {
        size_t next = i % 2 ? sizes[i] * 2 + 1 : sizes[i] / 2 + 1;
        size_t least = next < sizes[i] ? next : sizes[i];
        blocks[i] = realloc(blocks[i], next);
        EXPECT(blocks[i], "%zu bytes by realloc", next);
        EXPECT(holds(blocks[i], least, alignment + i), "that realloc keeps an aligned block");
        free(blocks[i]);
    }
}

static void requested_alignments_are_kept(void)
{
    static const size_t sizes[] = { 0, 1, 15, 16, 17, 64, 100, 1000, 4096, 5000, 70000, 600000 };
    for (size_t alignment = 1; alignment <= LARGEST; alignment *= 2) {
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            for (int again = 0; again < 3; again++)
                check_requested(alignment, sizes[i]);
    }
    for (size_t alignment = 16; alignment <= LARGEST; alignment *= 4)
        check_requested(alignment, 40 * MIB + 5);
}

static void many_aligned_blocks_live_at_once(void)
{
    enum { COUNT = 2000 };
    static void *blocks[COUNT];
    uint64_t state = 7;
    for (int round = 0; round < 5; round++) {
        for (size_t i = 0; i < COUNT; i++) {
            size_t alignment = (size_t)16 << random_from(&state) % 10;
            size_t size = random_from(&state) % 6000 + 16;
            blocks[i] = memalign(alignment, size);
            EXPECT(blocks[i] && is_at(blocks[i], alignment), "a multiple of %zu", alignment);
            EXPECT(malloc_usable_size(blocks[i]) >= size, "%zu usable bytes", size);
            fill(blocks[i], 0, 8, i);
            fill((char *)blocks[i] + size - 8, 0, 8, i);
        }
        for (size_t i = 0; i < COUNT; i++) {
            EXPECT(holds(blocks[i], 8, i), "that aligned blocks do not overlap");
            free(blocks[i]);
        }
    }
}

static void valloc_gives_pages(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t size = 0; size < 3 * MIB; size = size * 2 + 1) {
        char *block = valloc(size);
        EXPECT(block && is_at(block, page), "%zu bytes at a page's start", size);
        fill(block, 0, size, size);
        EXPECT(holds(block, size, size), "that they can be used");
        free(block);
    }
}

CHECKS(EVERY(every_size_is_aligned_for_every_type), OURS(the_smallest_sizes_are_aligned_too),
       EVERY(requested_alignments_are_kept), EVERY(many_aligned_blocks_live_at_once),
       EVERY(valloc_gives_pages))
