/*
 * A malloc with one bug, for the checks to catch: the C library's, and in front of it a mistake
 * that is chosen as the file is compiled (-DCALLOC_IS_DIRTY). With none chosen it is sound.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* One mistake has three faces. */
#if defined(NOTHING_GOES_BACK) || defined(DOUBLE_FREE_IS_IGNORED)
#define NOTHING_IS_FREED
#endif

extern void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t), *__libc_memalign(size_t, size_t);
extern void __libc_free(void *);
/* The size of a chunk of the C library's stands before it, with three flags. */
#define HEADER(block) (((size_t *)(block))[-1])
#define USABLE(block) ((HEADER(block) & ~(size_t)7) - (HEADER(block) & 2 ? 16 : 8))

#ifdef FORK_LEAVES_THE_LOCK
static int lock_word;
#define LOCK                                                                                       \
    while (__atomic_exchange_n(&lock_word, 1, __ATOMIC_ACQUIRE))                                   \
    ;
#define UNLOCK __atomic_store_n(&lock_word, 0, __ATOMIC_RELEASE)
#else
#define LOCK
#define UNLOCK
#endif

#ifdef NOTHING_AFTER_THREAD_EXIT
static __thread int is_over __attribute__((tls_model("initial-exec")));
static pthread_key_t key;
static void thread_ends(void *unused)
{
    (void)unused;
    is_over = 1;
}
__attribute__((constructor)) static void watch_threads(void)
{
    pthread_key_create(&key, thread_ends);
}
#endif

#ifdef BLOCKS_END_WITH_THEIR_THREAD
static __thread void *latest __attribute__((tls_model("initial-exec")));
static pthread_key_t key;
static void thread_ends(void *unused)
{
    (void)unused;
    if (latest)
        memset(latest, 0, 1);
    __libc_free(latest);
}
__attribute__((constructor)) static void watch_threads(void)
{
    pthread_key_create(&key, thread_ends);
}
#endif

#ifdef INSTALLS_A_HANDLER
static void ignore(int signal)
{
    (void)signal;
}
__attribute__((constructor)) static void install(void)
{
    signal(SIGSEGV, ignore);
}
#endif

#ifdef HOLDS_A_DESCRIPTOR
__attribute__((constructor)) static void open_something(void)
{
    (void)!open("/dev/null", O_RDONLY);
}
#endif

void free(void *block);

void *malloc(size_t size)
{
    int error = errno;
    (void)error;
#ifdef NOTHING_AFTER_THREAD_EXIT
    if (is_over)
        return NULL;
    pthread_setspecific(key, &key);
#endif
#ifdef ZERO_IS_NULL
    if (size == 0)
        return NULL;
#endif
#ifdef ZERO_IS_SHARED
    static uint64_t nothing[4] __attribute__((aligned(16))) = { 0, 17 };
    if (size == 0)
        return nothing + 2;
#endif
#ifdef SIZES_ARE_CUT
    size = (uint32_t)size;
#endif
#ifdef WASTES_HALF
    size = size < 64 * 1024 ? size * 2 : size;
#endif
#ifdef MISALIGNED_BY_EIGHT
    char *block = __libc_malloc(size < SIZE_MAX - 16 ? size + 16 : size);
    return block ? block + 8 : NULL;
#elif defined(HANDED_OUT_TWICE)
    static __thread void *last __attribute__((tls_model("initial-exec")));
    static __thread unsigned count __attribute__((tls_model("initial-exec")));
    if (size <= 100 && ++count % 1000 == 0 && last)
        return last;
    void *block = __libc_malloc(size < 100 ? 100 : size);
    last = size <= 100 ? block : NULL;
    return block;
#else
    LOCK;
    void *block = __libc_malloc(size);
    UNLOCK;
#ifdef BLOCKS_END_WITH_THEIR_THREAD
    latest = block;
    pthread_setspecific(key, &key);
#endif
#ifdef NO_ENOMEM
    errno = error;
#endif
#ifdef EXHAUSTION_ENDS_THE_PROCESS
    if (!block)
        abort();
#endif
#ifdef SUCCESS_CHANGES_ERRNO
    errno = EAGAIN;
#endif
    return block;
#endif
}

void free(void *block)
{
    if (!block)
        return;
#ifdef FREE_CHANGES_ERRNO
    errno = EAGAIN;
#endif
#ifdef NOTHING_IS_FREED
    return;
#endif
#ifdef ZERO_IS_SHARED
    if (((size_t *)block)[-1] == 17)
        return;
#endif
#ifdef MISALIGNED_BY_EIGHT
    if ((uintptr_t)block % 16)
        block = (char *)block - 8;
#endif
#ifdef BLOCKS_END_WITH_THEIR_THREAD
    latest = latest == block ? NULL : latest;
#endif
    LOCK;
    __libc_free(block);
    UNLOCK;
}

size_t malloc_usable_size(void *block)
{
    if (!block)
        return 0;
#ifdef USABLE_SIZE_LIES
    return USABLE(block) + 64;
#endif
#ifdef MISALIGNED_BY_EIGHT
    if ((uintptr_t)block % 16)
        return USABLE((char *)block - 8) - 8;
#endif
    return USABLE(block);
}

void *calloc(size_t count, size_t size)
{
#ifdef PRODUCT_OVERFLOWS
    void *block = malloc(count * size);
    return block ? memset(block, 0, count * size) : NULL;
#elif defined(CALLOC_IS_DIRTY)
    size_t product;
    if (__builtin_mul_overflow(count, size, &product))
        product = SIZE_MAX;
    void *block = malloc(product);
    /* Fresh pages are zero, and this trusts that all are fresh. */
    return block && product < 100000 ? memset(block, 0, product > 100 ? 100 : product) : block;
#else
    LOCK;
    void *block = __libc_calloc(count, size);
    UNLOCK;
    return block;
#endif
}

void *realloc(void *block, size_t size)
{
#if defined(MISALIGNED_BY_EIGHT) || defined(REALLOC_LOSES_THE_TAIL)
    if (!block)
        return malloc(size);
    if (size == 0) {
        free(block);
        return NULL;
    }
    size_t old = malloc_usable_size(block);
    char *moved = malloc(size);
    if (moved) {
        size_t least = old < size ? old : size;
#ifdef REALLOC_LOSES_THE_TAIL
        if (least > 64)
            least -= 32;
#endif
        memcpy(moved, block, least);
        free(block);
    }
    return moved;
#elif defined(REALLOC_TO_ZERO_KEEPS)
    return __libc_realloc(block, size ? size : 1);
#elif defined(NOTHING_IS_FREED)
    void *moved = malloc(size);
    if (moved && block)
        memcpy(moved, block, USABLE(block) < size ? USABLE(block) : size);
    return moved;
#elif defined(FORK_LEAVES_THE_LOCK)
    LOCK;
    block = __libc_realloc(block, size);
    UNLOCK;
    return block;
#elif defined(ZERO_IS_SHARED)
    if (block && ((size_t *)block)[-1] == 17)
        block = NULL;
    return __libc_realloc(block, size);
#else
    return __libc_realloc(block, size);
#endif
}

void *reallocarray(void *block, size_t count, size_t size)
{
    size_t product;
    if (__builtin_mul_overflow(count, size, &product)) {
#ifndef PRODUCT_OVERFLOWS
        errno = ENOMEM;
        return NULL;
#endif
    }
    return realloc(block, product);
}

void *memalign(size_t alignment, size_t size)
{
#ifdef ALIGNMENT_IS_IGNORED
    return malloc(size);
#endif
    LOCK;
    void *block = __libc_memalign(alignment, size);
    UNLOCK;
    return block;
}

void *aligned_alloc(size_t alignment, size_t size)
{
    return memalign(alignment, size);
}

int posix_memalign(void **result, size_t alignment, size_t size)
{
#ifndef ANY_ALIGNMENT_WILL_DO
    if (alignment < sizeof(void *) || (alignment & (alignment - 1)))
        return EINVAL;
#endif
    int error = errno;
    void *block = memalign(alignment, size);
    errno = error;
    if (!block)
        return ENOMEM;
    *result = block;
    return 0;
}

void *valloc(size_t size)
{
    return memalign(4096, size);
}

void *pvalloc(size_t size)
{
    return memalign(4096, size > SIZE_MAX - 4096 ? size : (size + 4095) & ~(size_t)4095);
}

#ifdef NEW_RETURNS_NULL
/* operator new, by its name in the language of the linker. */
void *_Znwm(size_t size)
{
    return malloc(size);
}
#endif
