/*
 * A library that the program `linked` brings along. Its constructor may run before that of a
 * preloaded library, and so its handlers of fork may run while that one's locks are held.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

int early_handled[3];

static void allocate(int which)
{
    char *blocks[50];
    for (size_t i = 0; i < 50; i++) {
        blocks[i] = malloc(i * 100 + 1);
        if (!blocks[i])
            abort();
        memset(blocks[i], 1, i * 100 + 1);
    }
    free(calloc(3, 100000));
    for (size_t i = 0; i < 50; i++)
        free(blocks[i]);
    early_handled[which]++;
}

static void before(void)
{
    allocate(0);
}

static void in_parent(void)
{
    allocate(1);
}

static void in_child(void)
{
    allocate(2);
}

__attribute__((constructor)) static void watch_forks(void)
{
    if (pthread_atfork(before, in_parent, in_child))
        abort();
}

/* Registers the same handlers once more, later than all others. */
void early_watch_again(void)
{
    watch_forks();
}
