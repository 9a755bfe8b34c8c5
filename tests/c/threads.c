/* Threads that allocate and free each other's blocks, and that come and go. */
#include "check.h"
#include <limits.h>
#include <pthread.h>

enum { SLOTS = 4096, THREADS_MAX = 8 };

/* A block and its length, in words that any thread takes and puts. */
static void *slots[SLOTS];

static void start(pthread_t *thread, void *(*body)(void *), void *argument)
{
    int error = pthread_create(thread, NULL, body, argument);
    EXPECT(error == 0, "one more thread (%s)", strerror(error));
}

static void join(pthread_t thread)
{
    EXPECT(pthread_join(thread, NULL) == 0, "that the thread is joined");
}

/* A block that tells its own size and seed, with contents behind. */
static void *labelled(size_t size, size_t seed, int how)
{
    size_t whole = size + 16, *label;
    label = how % 3 == 0 ? calloc(1, whole) : how % 3 == 1 ? malloc(whole) : memalign(64, whole);
    EXPECT(label, "a block of %zu", whole);
    label[0] = size;
    label[1] = seed;
    fill(label + 2, 0, size, seed);
    return label;
}

static void free_labelled(void *block)
{
    size_t *label = block;
    if (!block)
        return;
    EXPECT(holds(label + 2, label[0], label[1]), "that nobody wrote to a live block of %zu",
           label[0]);
    /* So that a second owner of the bytes finds them changed. */
    memset(label, 0xdd, label[0] + 16);
    free(block);
}

struct exchanger {
    uint64_t state;
    int steps;
};

/* Puts a block of its own where another thread's may lie, and frees that one. */
static void *exchange(void *argument)
{
    struct exchanger *own = argument;
    for (int i = 0; i < own->steps; i++) {
        uint64_t drawn = random_from(&own->state);
        size_t size = random_from(&own->state) % ((size_t)1 << drawn % 14);
        if (drawn % 1009 == 0)
            size += 700 * KIB;
        void *block = labelled(size, (size_t)drawn, i);
        if (drawn % 5 == 0) {
            size_t *grown = realloc(block, size + 16 + drawn % 3000);
            EXPECT(grown && holds(grown + 2, size, (size_t)drawn), "that realloc keeps %zu", size);
            block = grown;
        }
        void **slot = &slots[random_from(&own->state) % SLOTS];
        free_labelled(__atomic_exchange_n(slot, block, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static void threads_free_each_other_s_blocks(void)
{
    for (int count = 1; count <= THREADS_MAX; count++) {
        pthread_t threads[THREADS_MAX];
        struct exchanger own[THREADS_MAX];
        for (int i = 0; i < count; i++) {
            own[i] = (struct exchanger){ 1 + (uint64_t)i * 7919 + (uint64_t)count, 120000 / count };
            start(&threads[i], exchange, &own[i]);
        }
        for (int i = 0; i < count; i++)
            join(threads[i]);
    }
    for (int i = 0; i < SLOTS; i++)
        free_labelled(slots[i]);
}

/* All blocks are made by one thread and freed by the other, in batches. */
enum { BATCH = 512, BATCHES = 4000 };

static void *batch[BATCH];
static pthread_barrier_t turn;

static void *produce(void *unused)
{
    (void)unused;
    for (int i = 0; i < BATCHES; i++) {
        for (size_t j = 0; j < BATCH; j++) {
            batch[j] = malloc(16 + (j * 37 + (size_t)i) % 500);
            EXPECT(batch[j], "a block");
            *(size_t *)batch[j] = j ^ (size_t)i;
        }
        pthread_barrier_wait(&turn);
        pthread_barrier_wait(&turn);
    }
    return NULL;
}

static void a_producer_s_blocks_come_back_to_it(void)
{
    pthread_t producer;
    size_t before = resident();
    pthread_barrier_init(&turn, NULL, 2);
    start(&producer, produce, NULL);
    for (int i = 0; i < BATCHES; i++) {
        pthread_barrier_wait(&turn);
        for (size_t j = 0; j < BATCH; j++) {
            EXPECT(*(size_t *)batch[j] == (j ^ (size_t)i), "the producer's word");
            free(batch[j]);
        }
        pthread_barrier_wait(&turn);
    }
    join(producer);
    EXPECT(resident() < before + 64 * MIB, "that 0.5 GiB of small blocks in turn stay small");
}

static void *leave_blocks(void *argument)
{
    void **left = argument;
    for (size_t i = 0; i < 64; i++)
        left[i] = labelled(i * i, i, (int)i);
    return NULL;
}

static void a_thread_s_blocks_outlive_it(void)
{
    static void *left[64][64];
    for (int round = 0; round < 20; round++) {
        pthread_t threads[64];
        for (int i = 0; i < 64; i++)
            start(&threads[i], leave_blocks, left[i]);
        for (int i = 0; i < 64; i++)
            join(threads[i]);
        for (int i = 63; i >= 0; i--)
            for (int j = 0; j < 64; j++)
                free_labelled(left[i][j]);
    }
}

static void *allocate_and_end(void *argument)
{
    void *blocks[50];
    size_t seed = (size_t)argument;
    for (size_t i = 0; i < 50; i++)
        blocks[i] = labelled(i * 40, seed + i, (int)i);
    for (size_t i = 0; i < 50; i++)
        if (i != 7 || seed % 2 == 0)
            free_labelled(blocks[i]);
    /* Half of the threads leave a block behind, which the main thread frees. */
    return seed % 2 ? blocks[7] : NULL;
}

static void twenty_thousand_short_threads_stay_small(void)
{
    size_t early = 0;
    for (size_t i = 0; i < 20000; i++) {
        pthread_t thread;
        void *left;
        start(&thread, allocate_and_end, (void *)i);
        EXPECT(pthread_join(thread, &left) == 0, "that the thread is joined");
        free_labelled(left);
        if (i == 500)
            early = resident();
    }
    EXPECT(resident() < early + 32 * MIB, "that threads which ended cost nothing (%zu KiB to %zu)",
           early / KIB, resident() / KIB);
}

static pthread_key_t keys[3];
static int destructions;

/* Each key comes back until the system gives up, and so runs after any key of the library's. */
static void destroy(void *value)
{
    size_t *label = value;
    size_t key = label[1];
    free_labelled(value);
    void *blocks[20];
    for (size_t i = 0; i < 20; i++)
        blocks[i] = labelled(i * 100, i, (int)i);
    for (size_t i = 0; i < 20; i++)
        free_labelled(blocks[i]);
    __atomic_add_fetch(&destructions, 1, __ATOMIC_RELAXED);
    pthread_setspecific(keys[key], labelled(80, key, 1));
}

static void *set_keys(void *unused)
{
    for (size_t i = 0; i < 3; i++)
        pthread_setspecific(keys[i], labelled(80 + i, i, 1));
    return unused;
}

static void destructors_of_keys_allocate(void)
{
    for (int i = 0; i < 3; i++)
        EXPECT(pthread_key_create(&keys[i], destroy) == 0, "a key");
    for (int i = 0; i < 500; i++) {
        pthread_t thread;
        start(&thread, set_keys, NULL);
        join(thread);
    }
    int expected = 500 * 3 * PTHREAD_DESTRUCTOR_ITERATIONS;
    EXPECT(destructions == expected, "%d destructions (%d)", expected, destructions);
}

static void *churn_little(void *unused)
{
    struct exchanger own = { 77, 300 };
    exchange(&own);
    return unused;
}

static void the_smallest_stack_is_enough(void)
{
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    size_t least = (size_t)sysconf(_SC_THREAD_STACK_MIN);
    /* A page and a half for the check itself, on top of what the system needs. */
    EXPECT(pthread_attr_setstacksize(&attributes, least + 8 * KIB) == 0, "a small stack");
    for (int i = 0; i < 200; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, &attributes, churn_little, NULL) == 0, "a thread");
        join(thread);
    }
    for (int i = 0; i < SLOTS; i++)
        free_labelled(__atomic_exchange_n(&slots[i], NULL, __ATOMIC_ACQ_REL));
}

static void *wait_to_be_cancelled(void *unused)
{
    void *block = labelled(5000, 1, 1);
    pthread_cleanup_push(free_labelled, block);
    for (;;)
        pause_briefly();
    pthread_cleanup_pop(1);
    return unused;
}

static void a_cancelled_thread_frees(void)
{
    for (int i = 0; i < 100; i++) {
        pthread_t thread;
        start(&thread, wait_to_be_cancelled, NULL);
        pthread_cancel(thread);
        join(thread);
    }
}

CHECKS(EVERY(threads_free_each_other_s_blocks), EVERY(a_producer_s_blocks_come_back_to_it),
       EVERY(a_thread_s_blocks_outlive_it), EVERY(twenty_thousand_short_threads_stay_small),
       EVERY(destructors_of_keys_allocate), EVERY(the_smallest_stack_is_enough),
       EVERY(a_cancelled_thread_frees))
