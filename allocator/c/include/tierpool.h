/* libtierpool: the allocator of Tierpool, for C and C++.
 *
 * A program that is linked with -ltierpool (see pkg-config tierpool), or started with
 * LD_PRELOAD=libtierpool.so, has its malloc, calloc, realloc, reallocarray, free, free_sized,
 * free_aligned_sized, posix_memalign, aligned_alloc, memalign, valloc, pvalloc, malloc_usable_size
 * and malloc_trim from here, under their own names and with their own declarations, in <stdlib.h>
 * and <malloc.h>. This header has what goes beyond them: what the private heap has, and the heaps
 * of a pool, which processes share. Only the latter need the daemon.
 *
 * Every function may be called from any thread, and none from a signal handler.
 */
#ifndef TIERPOOL_H
#define TIERPOOL_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What the private heap of this process has, in bytes and numbers. */
struct tierpool_private_stats {
    size_t used_bytes; /* in slabs of blocks, and in larger blocks of up to 32 MiB */
    size_t idle_bytes; /* used by nobody, and not given back to the system */
    size_t runs;       /* blocks of more than 512 KiB, up to 32 MiB */
    size_t run_bytes;  /* what those have together */
    size_t slabs;      /* pages of blocks of one size */
    size_t abandoned;  /* of those, what threads left and nobody took over */
    size_t allocated;  /* blocks of up to 512 KiB that are allocated, or that a thread has ready */
    size_t pool_blocks;    /* of malloc in the heap of TIERPOOL_HEAP, and not of the private one */
    size_t pool_fallbacks; /* private blocks that were given because that heap could not */
};

/* Counts. Of a process that is busy the figures are of no one moment.
 * `size` is sizeof(struct tierpool_private_stats) as the program was compiled; no more than that is
 * written. Returns 0, or EINVAL where `stats` is null. */
int tierpool_private_stats(struct tierpool_private_stats *stats, size_t size);

/* The version of the library, as "0.1.0". */
const char *tierpool_version(void);

/* Heaps of a pool: objects that several processes allocate, reach at the same addresses, and free.
 *
 * Every call from here on answers TIERPOOL_OK, or one of the other codes: then it has changed
 * nothing and written no answer, but where it says otherwise. Pointers are null, which is an error,
 * or valid. A handle is used by any number of threads at a time, and by none once it is closed.
 *
 * Words: a block is PENDING from when it is allocated; it is its process's, and free when that
 * dies. It is PUBLISHED by tierpool_publish or tierpool_link, and then stays until somebody frees
 * it. A CELL is a word in which the address of a block is kept for others: a ROOT, which has a
 * name, or a word in a block, at a multiple of 8. It holds even values, most often a pointer or 0.
 *
 * Threads: each thread that allocates or frees has a part of the heap of its own, up to 128 threads
 * of a process. A block that a live thread allocated is published by that thread; one of a thread
 * that has ended by any thread of the process, with tierpool_publish.
 *
 * Forks: a forked child has nothing of what its parent attached and opened, and each call with such
 * a handle answers TIERPOOL_FORKED. It attaches and opens anew. Blocks are not mapped in it before.
 */
enum tierpool_code {
    TIERPOOL_OK = 0,
    TIERPOOL_INVALID = 1,           /* mend the call: a null pointer, a name, an alignment */
    TIERPOOL_EXHAUSTED = 2,         /* free something, ask for less, or have the quota raised */
    TIERPOOL_TOO_LARGE = 3,         /* ask for 32 MiB at most, at a multiple of 32 MiB at most */
    TIERPOOL_DOUBLE_FREE = 4,       /* it is free already: whoever freed it first had it */
    TIERPOOL_NO_BLOCK = 5,          /* no block of the heap begins there */
    TIERPOOL_NOT_PENDING = 6,       /* it is published already */
    TIERPOOL_NOT_OWNER = 7,         /* another thread allocated it, which has to publish it */
    TIERPOOL_CHANGED = 8,           /* the cell has another value: load it, and decide anew */
    TIERPOOL_NO_CELL = 9,           /* no cell of the heap is there */
    TIERPOOL_ODD_VALUE = 10,        /* cells hold even values */
    TIERPOOL_NO_TIER = 11,          /* the pool has no such tier */
    TIERPOOL_NAME_TAKEN = 12,       /* open what has the name, or choose another one */
    TIERPOOL_NOT_FOUND = 13,        /* nothing has the name, or nothing that you may know of */
    TIERPOOL_NOT_A_HEAP = 14,       /* what has the name is something else */
    TIERPOOL_NOT_PERMITTED = 15,    /* ask the operator */
    TIERPOOL_NOT_SET_UP = 16,       /* somebody is making the heap: open it again in a moment */
    TIERPOOL_TOO_MANY_THREADS = 17, /* 128 threads of this process use the heap */
    TIERPOOL_FORKED = 18,           /* the handle is of the process that forked this one */
    TIERPOOL_UNREACHABLE = 19,      /* no daemon answers; what is held stays usable; retry */
    TIERPOOL_LOST = 20,             /* the session or the heap is gone: close, and attach anew */
    TIERPOOL_DAMAGED = 21           /* somebody writes where he should not: ask the operator */
};

/* The calling thread's last error in words, with what to do next. Empty before the first one. It is
 * good until the next call of this thread that fails. */
const char *tierpool_last_error(void);

/* The name of a code, as "TIERPOOL_OK"; null where there is none. */
const char *tierpool_code_name(int code);

typedef struct tierpool_pool tierpool_pool; /* a session with the daemon */
typedef struct tierpool_heap tierpool_heap; /* a heap that is open */

/* Attaches to the pool of this machine. `socket` is the daemon's session socket, or null for that
 * of TIERPOOL_SOCKET, or else one of the usual places. `tenant` is whom to attach as, or null. */
int tierpool_attach(const char *socket, const char *tenant, tierpool_pool **pool);

/* Gives the handle up. Heaps that were opened with it stay open, and keep the session. */
int tierpool_detach(tierpool_pool *pool);

/* How to make a heap: set `size`, and the rest to 0 for the defaults. */
struct tierpool_heap_options {
    size_t size;              /* sizeof(struct tierpool_heap_options) */
    const char *const *tiers; /* names, `tier_count` of them; null for `ddr` alone */
    const unsigned *shares;   /* how much of the heap lies in each, beside the others; null: all in
                               * the first one that has room */
    size_t tier_count;        /* 8 at most */
    int leased;               /* not 0: the heap is this process's, which alone adds memory to it,
                               * and ends with it. 0: it stays until it is removed */
};

/* Makes a heap, and opens it. `options` may be null. */
int tierpool_heap_create(tierpool_pool *pool, const char *name,
                         const struct tierpool_heap_options *options, tierpool_heap **heap);

/* Opens a heap by its name. */
int tierpool_heap_open(tierpool_pool *pool, const char *name, tierpool_heap **heap);

/* Gives the handle up, in all threads: none is in a call with it, or makes one later. Blocks that
 * this process had not published are free once it has the heap nowhere else. */
int tierpool_heap_close(tierpool_heap *heap);

/* Ends a heap for everybody, and gives its memory back. Who has it open reads zeros from then. */
int tierpool_heap_remove(tierpool_pool *pool, const char *name);

/* A block of `bytes`, pending, at a multiple of `align`: a power of two, or 0 for 16. It holds
 * anything. */
int tierpool_alloc(tierpool_heap *heap, size_t bytes, size_t align, void **block);

/* Publishes a pending block: from now on it outlives this process. */
int tierpool_publish(tierpool_heap *heap, void *block);

/* Frees a block, whoever allocated it; nothing for null. Nobody uses it any more. */
int tierpool_free(tierpool_heap *heap, void *block);

/* The root of this name, of 1 to 48 bytes; it is made, with 0 in it, where there is none. It is
 * good until the heap is closed. */
int tierpool_root(tierpool_heap *heap, const char *name, uint64_t **cell);

/* What a cell holds. What it points to is mapped. Cells are read by this call alone: while one is
 * changed there is a mark in it. */
int tierpool_load(tierpool_heap *heap, const uint64_t *cell, uint64_t *value);

/* Puts `value` into a cell that holds `expected`; TIERPOOL_CHANGED where it holds another one. */
int tierpool_exchange(tierpool_heap *heap, uint64_t *cell, uint64_t expected, uint64_t value);

/* Puts a pending block of this thread's into a cell that holds `expected`, and publishes it: both,
 * or neither where this process dies. */
int tierpool_link(tierpool_heap *heap, uint64_t *cell, uint64_t expected, void *block);

/* Takes a block out of a cell, which holds `value` then, and frees it: both, or neither where this
 * process dies. Nobody uses the block any more, or reaches it but through the cell. Where it
 * answers TIERPOOL_DOUBLE_FREE the block was free although the cell had it; it is out of it then.
 */
int tierpool_retire(tierpool_heap *heap, uint64_t *cell, void *block, uint64_t value);

/* Maps the block at an address that was found in another block, not in a cell. */
int tierpool_resolve(tierpool_heap *heap, void *block);

/* How many bytes a block has: as many as were asked for, or somewhat more. */
int tierpool_usable_bytes(tierpool_heap *heap, void *block, size_t *bytes);

/* Frees what threads that died had not published, and says of how many threads, where `threads` is
 * not null. It happens by itself whenever somebody needs more memory. */
int tierpool_recover(tierpool_heap *heap, size_t *threads);

/* Gives memory without blocks back to the pool, with what this thread keeps ready; says how many
 * chunks of 64 MiB, where `chunks` is not null. Meanwhile no thread passes tierpool_free what is no
 * block. */
int tierpool_trim(tierpool_heap *heap, size_t *chunks);

/* What a heap is made of. */
struct tierpool_heap_stats {
    size_t chunks;             /* of 64 MiB */
    uint64_t metadata_bytes;   /* of them, what is not for blocks */
    size_t frames;             /* of 64 KiB, for blocks */
    size_t free_frames;        /* of those, what nobody has */
    size_t published;          /* blocks of up to 512 KiB that are published */
    size_t pending;            /* and that are not, or that a thread keeps ready */
    size_t runs;               /* larger blocks */
    uint64_t run_bytes;        /* what those have together */
    size_t threads;            /* that use the heap, of all processes */
    size_t dead_threads;       /* that died and are not recovered yet */
    uint64_t recovered_blocks; /* blocks of the dead that were freed since the heap was made */
    uint64_t freed_twice;      /* blocks that two freed in the same moment */
    uint64_t fallbacks;        /* chunks of another tier than the one whose turn it was */
    size_t findings;           /* what does not fit together: 0, while nobody changes the heap */
};

/* Counts, by a look at all of the heap. Exact while nobody changes it. `size` is
 * sizeof(struct tierpool_heap_stats) as the program was compiled; no more than that is written. */
int tierpool_heap_stats(tierpool_heap *heap, struct tierpool_heap_stats *stats, size_t size);

#ifdef __cplusplus
}
#endif

#endif
