/* A list that processes share: each of them puts numbers into it, and any other reads and takes
 * them. It needs the daemon.
 *
 * cc shared_list.c $(pkg-config --cflags --libs tierpool) -o shared_list
 * ./shared_list put 1 2 3 && ./shared_list list && ./shared_list take && ./shared_list remove
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <tierpool.h>

/* Pointers are the same in every process. */
struct node {
    struct node *next;
    long number;
};

static void must(int code)
{
    if (code != TIERPOOL_OK) {
        fprintf(stderr, "shared_list: %s\n", tierpool_last_error());
        exit(1);
    }
}

static struct node *first_of(tierpool_heap *heap, uint64_t *root)
{
    uint64_t value;
    must(tierpool_load(heap, root, &value));
    return (struct node *)(uintptr_t)value;
}

/* The block is in the list and outlives this process, or neither. */
static void put(tierpool_heap *heap, uint64_t *root, long number)
{
    void *block;
    must(tierpool_alloc(heap, sizeof(struct node), 0, &block));
    struct node *node = block;
    node->number = number;
    int code;
    do {
        node->next = first_of(heap, root);
        code = tierpool_link(heap, root, (uintptr_t)node->next, node);
    } while (code == TIERPOOL_CHANGED);
    must(code);
}

/* The list is read while nobody takes from it. */
static void list(tierpool_heap *heap, uint64_t *root)
{
    for (struct node *node = first_of(heap, root); node; node = node->next) {
        must(tierpool_resolve(heap, node));
        printf("%ld\n", node->number);
    }
}

/* Nobody else takes meanwhile: whoever freed the block first would have it. */
static void take(tierpool_heap *heap, uint64_t *root)
{
    struct node *node;
    while ((node = first_of(heap, root)) != NULL) {
        long number = node->number;
        int code = tierpool_retire(heap, root, node, (uintptr_t)node->next);
        if (code == TIERPOOL_CHANGED)
            continue; /* somebody has put another one before it */
        must(code);
        printf("%ld\n", number);
    }
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: shared_list put NUMBER... | list | take | remove\n");
        return 2;
    }
    tierpool_pool *pool;
    tierpool_heap *heap;
    uint64_t *root;
    must(tierpool_attach(NULL, NULL, &pool));
    if (strcmp(argv[1], "remove") == 0) {
        must(tierpool_heap_remove(pool, "numbers"));
        return 0;
    }
    int code = tierpool_heap_open(pool, "numbers", &heap);
    if (code == TIERPOOL_NOT_FOUND)
        code = tierpool_heap_create(pool, "numbers", NULL, &heap);
    must(code);
    must(tierpool_root(heap, "list", &root));
    if (strcmp(argv[1], "put") == 0)
        for (int i = 2; i < argc; i++)
            put(heap, root, atol(argv[i]));
    else if (strcmp(argv[1], "list") == 0)
        list(heap, root);
    else
        take(heap, root);
    must(tierpool_heap_close(heap));
    must(tierpool_detach(pool));
    return 0;
}
