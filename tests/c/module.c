/* A library that programs open and close: it allocates as it comes and as it goes. */
#include <stdlib.h>
#include <string.h>

static char *words[64];

__attribute__((constructor)) static void comes(void)
{
    for (size_t i = 0; i < 64; i++) {
        words[i] = malloc(i * 50 + 1);
        if (words[i])
            memset(words[i], (int)i, i * 50 + 1);
    }
}

__attribute__((destructor)) static void goes(void)
{
    char *last = strdup("allocated by a destructor");
    for (size_t i = 0; i < 64; i++)
        free(words[i]);
    free(last);
}

/* A block of `size` bytes, all of them 42, which outlives the library. */
void *module_block(size_t size)
{
    void *block = malloc(size);
    return block ? memset(block, 42, size) : NULL;
}

/* Whether the library's own blocks are as it left them. */
int module_is_whole(void)
{
    for (size_t i = 0; i < 64; i++)
        if (!words[i] || words[i][0] != (char)i || words[i][i * 50] != (char)i)
            return 0;
    return 1;
}
