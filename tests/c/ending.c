/* How a process begins and ends: before main, after it, and without its standard files. */
#include "check.h"
#include <dirent.h>
#include <pthread.h>

extern char **environ;

static char *before_main;
static size_t order;

__attribute__((constructor(101))) static void first_of_all(void)
{
    before_main = malloc(1000);
    if (before_main)
        fill(before_main, 0, 1000, 11);
    free(calloc(7, 3000));
    order = 1;
}

static void what_a_constructor_allocates_is_whole(void)
{
    EXPECT(order == 1 && before_main, "a block from before main");
    EXPECT(holds(before_main, 1000, 11), "that it holds what was written");
    before_main = realloc(before_main, 100000);
    EXPECT(before_main && holds(before_main, 1000, 11), "that it grows");
    free(before_main);
}

static char *at_the_end;

static void allocate_at_the_end(void)
{
    char *blocks[100];
    for (size_t i = 0; i < 100; i++) {
        blocks[i] = malloc(i * 99 + 1);
        EXPECT(blocks[i], "a block at the end of the process");
        fill(blocks[i], 0, i * 99 + 1, i);
    }
    for (size_t i = 0; i < 100; i++) {
        EXPECT(holds(blocks[i], i * 99 + 1, i), "its contents");
        free(blocks[i]);
    }
    free(at_the_end);
    at_the_end = malloc(3 * MIB);
    EXPECT(at_the_end, "a big block at the end of the process");
}

__attribute__((destructor)) static void last_of_all(void)
{
    allocate_at_the_end();
}

/* Each runs in a child, of which the end is watched. */
static void in_a_child(void (*body)(void), const char *who)
{
    pid_t child = fork();
    EXPECT(child >= 0, "a child");
    if (child == 0) {
        child_alarm();
        body();
        exit(0);
    }
    must_end_well(child, who);
}

static void register_and_exit(void)
{
    for (int i = 0; i < 100; i++)
        EXPECT(atexit(allocate_at_the_end) == 0, "a handler for the end");
}

static void handlers_at_exit_allocate(void)
{
    in_a_child(register_and_exit, "a process whose handlers allocate");
}

static void *churn_for_ever(void *unused)
{
    for (size_t i = 0; unused == NULL; i++) {
        char *block = malloc(i % 3000);
        block = realloc(block, i % 5000 + 1);
        EXPECT(block, "a block");
        block[0] = 1;
        free(block);
    }
    return NULL;
}

static void exit_among_threads(void)
{
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, churn_for_ever, NULL) == 0, "a thread");
    }
    for (int i = 0; i < 1000; i++)
        free(malloc((size_t)i));
}

static void a_process_ends_while_threads_allocate(void)
{
    for (int i = 0; i < 50; i++)
        in_a_child(exit_among_threads, "a process that ends among threads");
}

static void main_thread_leaves(void)
{
    pthread_t thread;
    void *(*body)(void *) = (void *(*)(void *))(void *)exit;
    /* The last thread ends the process when the main thread is gone already. */
    EXPECT(pthread_create(&thread, NULL, body, NULL) == 0, "a thread");
    free(malloc(100));
    pthread_exit(NULL);
}

static void the_main_thread_may_leave_first(void)
{
    for (int i = 0; i < 50; i++)
        in_a_child(main_thread_leaves, "a process whose main thread left");
}

static void allocate_without_files(void)
{
    for (int file = 0; file < 3; file++)
        close(file);
    for (size_t i = 0; i < 2000; i++) {
        char *block = malloc(i * 40), *zeroed = calloc(1, i);
        if (!block || !zeroed || !is_zero(zeroed, i))
            _exit(3);
        free(block);
        free(zeroed);
    }
    if (open("/dev/null", O_RDWR) != 0)
        _exit(4);
    if (malloc(opaque(PTRDIFF_MAX)))
        _exit(5);
}

static void a_process_without_standard_files_allocates(void)
{
    in_a_child(allocate_without_files, "a process that closed its standard files");
}

/* Runs this program anew as `name`, with its standard files closed or not. */
static void run_anew(const char *name, int closed)
{
    pid_t child = fork();
    EXPECT(child >= 0, "a child");
    if (child == 0) {
        char *arguments[] = { "/proc/self/exe", (char *)(uintptr_t)name, NULL };
        child_alarm();
        for (int file = 0; closed && file < 3; file++)
            close(file);
        execv("/proc/self/exe", arguments);
        _exit(6);
    }
    must_end_well(child, name);
}

static void starts_without_files(void)
{
    /* Whoever has taken the number 2 would be told what is meant for people. */
    if (fcntl(0, F_GETFD) >= 0 || fcntl(1, F_GETFD) >= 0 || fcntl(2, F_GETFD) >= 0)
        _exit(7);
    allocate_without_files();
    _exit(0);
}

static void a_process_starts_without_standard_files(void)
{
    run_anew("--without-files", 1);
}

/* Descriptors past the standard ones that are open in this process. */
static int descriptors(void)
{
    int count = 0;
    for (int file = 3; file < 1024; file++)
        count += fcntl(file, F_GETFD) >= 0;
    return count;
}

static void holds_no_files(void)
{
    int before = descriptors();
    for (size_t i = 0; i < 100000; i++)
        free(malloc(i));
    free(malloc(300 * MIB));
    EXPECT(descriptors() == before, "that allocating opens nothing");
    EXPECT(before == 0, "no descriptor that the program did not open (%d)", before);
    exit(0);
}

static void the_library_holds_no_descriptor(void)
{
    for (int file = 3; file < 1024; file++)
        close(file);
    run_anew("--holds-no-files", 0);
}

static void an_empty_environment_will_do(void)
{
    clearenv();
    for (size_t i = 0; i < 10000; i++)
        free(malloc(i));
    EXPECT(setenv("A", "b", 1) == 0 && strcmp(getenv("A"), "b") == 0, "a variable");
}

int main(int argc, char **argv)
{
    static const struct check_case cases[] = {
        EVERY(what_a_constructor_allocates_is_whole), EVERY(handlers_at_exit_allocate),
        EVERY(a_process_ends_while_threads_allocate), EVERY(the_main_thread_may_leave_first),
        EVERY(a_process_without_standard_files_allocates),
        EVERY(a_process_starts_without_standard_files), EVERY(the_library_holds_no_descriptor),
        EVERY(an_empty_environment_will_do),
    };
    if (argc == 2 && strcmp(argv[1], "--without-files") == 0)
        starts_without_files();
    if (argc == 2 && strcmp(argv[1], "--holds-no-files") == 0)
        holds_no_files();
    return check_main(cases, sizeof cases / sizeof cases[0], argc, argv);
}
