/* libtierpool: the allocator of Tierpool, for C and C++.
 *
 * A program that is linked with -ltierpool (see pkg-config tierpool), or started with
 * LD_PRELOAD=libtierpool.so, has its malloc, calloc, realloc, reallocarray, free, free_sized,
 * free_aligned_sized, posix_memalign, aligned_alloc, memalign, valloc, pvalloc, malloc_usable_size
 * and malloc_trim from here, under their own names and with their own declarations, in <stdlib.h>
 * and <malloc.h>. This header has what goes beyond them. No daemon is needed for any of it.
 *
 * Every function may be called from any thread, and none from a signal handler.
 */
#ifndef TIERPOOL_H
#define TIERPOOL_H

#include <stddef.h>

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
};

/* Counts. Of a process that is busy the figures are of no one moment.
 * `size` is sizeof(struct tierpool_private_stats) as the program was compiled; no more than that is
 * written. Returns 0, or EINVAL where `stats` is null. */
int tierpool_private_stats(struct tierpool_private_stats *stats, size_t size);

/* The version of the library, as "0.1.0". */
const char *tierpool_version(void);

#ifdef __cplusplus
}
#endif

#endif
