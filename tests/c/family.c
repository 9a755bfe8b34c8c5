/* The functions of the family: what each returns, refuses, and does to errno. */
#include "check.h"

/* No block can be larger. */
#define TOO_MUCH ((size_t)PTRDIFF_MAX + 1)

typedef void sized_free(void *, size_t);
typedef void aligned_free(void *, size_t, size_t);

static void every_function_is_the_library_s(void)
{
    static const char *const names[] = {
        "malloc", "calloc", "realloc", "free", "posix_memalign", "aligned_alloc", "memalign",
        "valloc", "pvalloc", "malloc_usable_size", "reallocarray",
    };
    Dl_info malloc_is_of, where;
    EXPECT(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &malloc_is_of), "that malloc is found");
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *symbol = dlsym(RTLD_DEFAULT, names[i]);
        EXPECT(symbol && dladdr(symbol, &where), "that %s is found", names[i]);
        EXPECT(strcmp(where.dli_fname, malloc_is_of.dli_fname) == 0,
               "%s of %s, as malloc is (it is of %s)", names[i], malloc_is_of.dli_fname,
               where.dli_fname);
    }
}

static void malloc_of_zero_is_unique_and_can_be_freed(void)
{
    enum { COUNT = 1000 };
    static void *blocks[COUNT];
    for (int i = 0; i < COUNT; i++) {
        blocks[i] = malloc(opaque(0));
        EXPECT(blocks[i], "a block from malloc(0)");
        for (int j = 0; j < i; j++)
            EXPECT(blocks[i] != blocks[j], "another pointer from each malloc(0)");
    }
    for (int i = 0; i < COUNT; i++)
        free(blocks[i]);
    void *made[] = { calloc(0, 8), calloc(8, 0), realloc(NULL, 0), memalign(64, 0), valloc(0),
                     pvalloc(0), aligned_alloc(64, 0) };
    for (size_t i = 0; i < sizeof made / sizeof made[0]; i++) {
        EXPECT(made[i], "a block of no bytes from each function (number %zu)", i);
        free(made[i]);
    }
}

static void null_is_freed_measured_and_grown(void)
{
    free(NULL);
    EXPECT(malloc_usable_size(NULL) == 0, "that NULL has no usable bytes");
    char *block = realloc(NULL, 100);
    EXPECT(block, "that realloc(NULL, 100) allocates");
    fill(block, 0, 100, 1);
    EXPECT(holds(block, 100, 1), "that the block can be used");
    free(block);
    block = reallocarray(NULL, 10, 10);
    EXPECT(block && malloc_usable_size(block) >= 100, "that reallocarray(NULL, 10, 10) allocates");
    free(block);
}

static void realloc_to_zero_frees(void)
{
    for (size_t size = 1; size <= 4 * MIB; size *= 3) {
        void *block = malloc(size);
        EXPECT(block, "a block of %zu", size);
        EXPECT(realloc(block, opaque(0)) == NULL, "NULL from realloc(block, 0), as glibc has it");
    }
    /* A leak of each of these would be 40 GiB. */
    size_t before = resident();
    for (int i = 0; i < 10000; i++) {
        char *block = malloc(4 * MIB);
        EXPECT(block, "4 MiB, as the last were given back");
        block[0] = block[2 * MIB] = 1;
        EXPECT(realloc(block, opaque(0)) == NULL, "NULL from realloc(block, 0)");
    }
    EXPECT(resident() < before + 64 * MIB, "that realloc(block, 0) gives the block back");
}

static void products_that_overflow_are_refused(void)
{
    static const size_t factors[][2] = {
        { SIZE_MAX, 2 }, { 2, SIZE_MAX }, { SIZE_MAX / 2 + 1, 2 }, { SIZE_MAX / 16 + 2, 16 },
        { (size_t)1 << 32, (size_t)1 << 32 }, { ((size_t)1 << 32) + 1, (size_t)1 << 32 },
        { SIZE_MAX, SIZE_MAX },
    };
    char *block = malloc(100);
    fill(block, 0, 100, 3);
    for (size_t i = 0; i < sizeof factors / sizeof factors[0]; i++) {
        size_t count = opaque(factors[i][0]), size = opaque(factors[i][1]);
        errno = 0;
        EXPECT(calloc(count, size) == NULL, "NULL from calloc(%zu, %zu)", count, size);
        EXPECT(errno == ENOMEM, "ENOMEM from calloc(%zu, %zu) (%d)", count, size, errno);
        errno = 0;
        EXPECT(reallocarray(block, count, size) == NULL, "NULL from reallocarray(%zu, %zu)", count,
               size);
        EXPECT(errno == ENOMEM, "ENOMEM from reallocarray(%zu, %zu) (%d)", count, size, errno);
        EXPECT(holds(block, 100, 3), "that a refused reallocarray leaves the block alone");
    }
    free(block);
}

static void more_than_ptrdiff_max_is_refused(void)
{
    static const size_t sizes[] = { TOO_MUCH, TOO_MUCH + 4096, SIZE_MAX - 4096, SIZE_MAX - 16,
                                    SIZE_MAX - 1, SIZE_MAX, PTRDIFF_MAX - 8, PTRDIFF_MAX };
    char *old = malloc(64);
    fill(old, 0, 64, 9);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++) {
        size_t size = opaque(sizes[i]);
        void *untouched = &untouched;
        struct { const char *name; void *block; int error; } asked[8];
        int count = 0;
#define ASK(call)                                                                                  \
    do {                                                                                           \
        errno = 0;                                                                                 \
        asked[count].block = (call);                                                               \
        asked[count].error = errno;                                                                \
        asked[count++].name = #call;                                                               \
    } while (0)
        ASK(malloc(size));
        ASK(calloc(size, 1));
        ASK(calloc(1, size));
        ASK(realloc(old, size));
        ASK(reallocarray(old, size, 1));
        ASK(aligned_alloc(64, size & ~(size_t)63));
        ASK(memalign(4096, size));
        ASK(valloc(size));
        for (int j = 0; j < count; j++) {
            EXPECT(asked[j].block == NULL, "NULL from %s of %zu", asked[j].name, size);
            EXPECT(asked[j].error == ENOMEM, "ENOMEM from %s of %zu (%d)", asked[j].name, size,
                   asked[j].error);
        }
        EXPECT(posix_memalign(&untouched, 64, size) == ENOMEM, "ENOMEM from posix_memalign");
        EXPECT(untouched == &untouched, "that a refused posix_memalign stores nothing");
        EXPECT(holds(old, 64, 9), "that a refused realloc leaves the block alone");
    }
    free(kept(old));
}

static void success_leaves_errno_alone(void)
{
    for (size_t size = 0; size < 300 * MIB; size = size * 3 + 1) {
        void *block = NULL;
        errno = 1234;
        void *plain = malloc(size), *zeroed = calloc(size, 1), *aligned = memalign(256, size);
        EXPECT(posix_memalign(&block, 64, size) == 0, "a block of %zu", size);
        EXPECT(plain && zeroed && aligned, "blocks of %zu", size);
        EXPECT(errno == 1234, "that success leaves errno alone at %zu (%d)", size, errno);
        plain = realloc(plain, size + size / 2 + 1);
        EXPECT(plain && malloc_usable_size(plain) > size, "a larger block than %zu", size);
        EXPECT(errno == 1234, "that realloc leaves errno alone at %zu (%d)", size, errno);
        free(plain);
        free(zeroed);
        free(aligned);
        free(block);
        free(NULL);
        EXPECT(errno == 1234, "that free leaves errno alone at %zu (%d)", size, errno);
    }
}

static void wrong_alignments_are_refused(void)
{
    static const size_t wrong[] = { 0, 1, 2, 3, 4, 7, 12, 24, 48, 100, 4095, 4097, SIZE_MAX };
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        void *untouched = &untouched;
        int error = posix_memalign(&untouched, opaque(wrong[i]), 64);
        EXPECT(error == EINVAL, "EINVAL from posix_memalign at %zu (%d)", wrong[i], error);
        EXPECT(untouched == &untouched, "that a refused posix_memalign stores nothing");
    }
    void *block = NULL;
    EXPECT(posix_memalign(&block, sizeof(void *), 64) == 0, "an alignment of a pointer's size");
    free(block);
}

static void pvalloc_gives_whole_pages(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t size = 1; size < 10 * page; size += 511) {
        char *block = pvalloc(size);
        size_t whole = (size + page - 1) / page * page;
        EXPECT(block && (uintptr_t)block % page == 0, "a page's start from pvalloc(%zu)", size);
        EXPECT(malloc_usable_size(block) >= whole, "whole pages from pvalloc(%zu)", size);
        fill(block, 0, whole, size);
        EXPECT(holds(block, whole, size), "that all of the page can be used");
        free(block);
    }
}

static void what_libc_allocates_can_be_freed(void)
{
    char *copy = strdup("strdup"), *part = strndup("strndup", 4), *printed = NULL, *line = NULL;
    EXPECT(copy && part && strcmp(copy, "strdup") == 0, "a copy");
    EXPECT(asprintf(&printed, "%0300d", 7) == 300, "300 characters from asprintf");
    FILE *file = tmpfile();
    EXPECT(file, "a temporary file");
    for (int i = 0; i < 20000; i++)
        fputc('x', file);
    fputc('\n', file);
    rewind(file);
    size_t size = 0;
    EXPECT(getline(&line, &size, file) == 20001, "20001 characters from getline");
    EXPECT(malloc_usable_size(line) >= 20001, "that the line is a block of this malloc");
    EXPECT(malloc_usable_size(printed) >= 301, "that the print is a block of this malloc");
    fclose(file);
    char *folder = getcwd(NULL, 0), *path = realpath("/proc/self/../self/exe", NULL);
    EXPECT(folder && path, "two paths");
    char *stream = NULL;
    file = open_memstream(&stream, &size);
    for (int i = 0; i < 5000; i++)
        fprintf(file, "%d", i);
    fclose(file);
    EXPECT(size > 5000, "what was written to memory");
    free(copy);
    free(part);
    free(printed);
    free(line);
    free(folder);
    free(path);
    free(stream);
    setenv("CHECK_LONG", "a value that the environment keeps in a block", 1);
    unsetenv("CHECK_LONG");
}

static void sized_frees_free(void)
{
    sized_free *sized = (sized_free *)dlsym(RTLD_DEFAULT, "free_sized");
    aligned_free *aligned = (aligned_free *)dlsym(RTLD_DEFAULT, "free_aligned_sized");
    EXPECT(sized && aligned, "free_sized and free_aligned_sized, as C23 has them");
    size_t before = resident();
    for (size_t i = 0; i < 20000; i++) {
        size_t size = (i * 977) % (256 * KIB) + 1;
        char *plain = malloc(size), *block = aligned_alloc(64, size / 64 * 64 + 64);
        EXPECT(plain && block, "blocks of %zu", size);
        fill(plain, 0, size, i);
        fill(block, 0, size, i);
        sized(plain, size);
        aligned(block, 64, size / 64 * 64 + 64);
    }
    sized(NULL, 0);
    aligned(NULL, 64, 0);
    EXPECT(resident() < before + 64 * MIB, "that sized frees give blocks back");
}

CHECKS(EVERY(every_function_is_the_library_s), EVERY(malloc_of_zero_is_unique_and_can_be_freed),
       EVERY(null_is_freed_measured_and_grown), OURS(realloc_to_zero_frees),
       EVERY(products_that_overflow_are_refused), EVERY(more_than_ptrdiff_max_is_refused),
       EVERY(success_leaves_errno_alone), EVERY(wrong_alignments_are_refused),
       EVERY(pvalloc_gives_whole_pages), EVERY(what_libc_allocates_can_be_freed),
       OURS(sized_frees_free))
