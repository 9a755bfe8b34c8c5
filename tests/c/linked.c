/* Libraries that allocate as they come, as they go, and around a fork. */
#include "check.h"
#include <pthread.h>

extern int early_handled[3];
extern void early_watch_again(void);

static int is_over;

static void *churn(void *argument)
{
    uint64_t state = (uint64_t)(uintptr_t)argument;
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        size_t size = random_from(&state) % ((size_t)1 << random_from(&state) % 18);
        free(malloc(size));
        free(calloc(1, size));
    }
    return NULL;
}

static void handlers_of_fork_allocate(void)
{
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++)
        EXPECT(pthread_create(&threads[i], NULL, churn, (void *)(i + 1)) == 0, "a thread");
    for (int i = 0; i < 100; i++) {
        if (i == 50)
            early_watch_again();
        pid_t child = fork();
        EXPECT(child >= 0, "a child");
        if (child == 0) {
            child_alarm();
            EXPECT(early_handled[2] > 0, "that the child's handler ran");
            free(malloc(100));
            _exit(0);
        }
        must_end_well(child, "a child with handlers");
    }
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    EXPECT(early_handled[0] == 150 && early_handled[1] == 150, "handlers at each of 100 forks");
}

typedef void *make_block(size_t);
typedef int whole(void);

static void open_and_close(size_t round)
{
    void *library = dlopen(getenv("CHECK_MODULE"), RTLD_NOW | RTLD_LOCAL);
    EXPECT(library, "the library: %s", dlerror());
    make_block *make = (make_block *)dlsym(library, "module_block");
    whole *is_whole = (whole *)dlsym(library, "module_is_whole");
    EXPECT(make && is_whole, "its functions");
    EXPECT(is_whole(), "that the library's blocks are whole");
    char *block = make(round * 100 + 1);
    EXPECT(block && block[0] == 42 && block[round * 100] == 42, "a block of the library's");
    EXPECT(dlclose(library) == 0, "that the library is closed");
    EXPECT(block[round * 100] == 42, "that the block outlives the library");
    free(block);
    free(strdup("after it"));
}

static void libraries_come_and_go(void)
{
    for (size_t i = 0; i < 300; i++)
        open_and_close(i);
}

static void *open_and_close_often(void *unused)
{
    for (size_t i = 0; i < 100; i++)
        open_and_close(i);
    return unused;
}

static void threads_open_and_close_libraries(void)
{
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, open_and_close_often, NULL) == 0, "a thread");
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
}

static void a_failed_dlopen_leaves_its_message(void)
{
    for (int i = 0; i < 1000; i++) {
        EXPECT(!dlopen("/nowhere/at/all.so", RTLD_NOW), "that it is not there");
        const char *why = dlerror();
        EXPECT(why && strstr(why, "all.so"), "a message that names it");
    }
}

CHECKS(EVERY(handlers_of_fork_allocate), EVERY(libraries_come_and_go),
       EVERY(threads_open_and_close_libraries), EVERY(a_failed_dlopen_leaves_its_message))
