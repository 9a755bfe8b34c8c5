/* Children of every kind, of processes in which other threads allocate. */
#include "check.h"
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/syscall.h>

enum { INHERITED = 256, FORKS = 200, CHURNERS = 3 };

extern char **environ;

static char *inherited[INHERITED];
static int is_over;

static size_t size_of(size_t i)
{
    return i % 16 == 0 ? 20 * KIB * (i / 16 + 1) : i * 37 % 4000 + 1;
}

/* Allocates and frees of all sizes, in both cases of which another thread frees. */
static void *churn(void *argument)
{
    static char *exchanged[64];
    uint64_t state = (uint64_t)(uintptr_t)argument;
    while (!__atomic_load_n(&is_over, __ATOMIC_RELAXED)) {
        size_t size = random_from(&state) % ((size_t)1 << random_from(&state) % 20) + 1;
        char *block = state % 2 ? malloc(size) : calloc(1, size);
        EXPECT(block, "a block");
        block[0] = block[size - 1] = 1;
        if (state % 4 == 0)
            block = realloc(block, size * 2);
        free(__atomic_exchange_n(&exchanged[state % 64], block, __ATOMIC_ACQ_REL));
    }
    return NULL;
}

static pthread_t churners[CHURNERS];

static void start_churners(void)
{
    for (size_t i = 0; i < CHURNERS; i++)
        EXPECT(pthread_create(&churners[i], NULL, churn, (void *)(i + 1)) == 0, "a thread");
}

static void stop_churners(void)
{
    __atomic_store_n(&is_over, 1, __ATOMIC_RELAXED);
    for (size_t i = 0; i < CHURNERS; i++)
        pthread_join(churners[i], NULL);
}

static void *make_inherited(void *odd)
{
    for (size_t i = odd != NULL; i < INHERITED; i += 2) {
        inherited[i] = malloc(size_of(i));
        EXPECT(inherited[i], "a block");
        fill(inherited[i], 0, size_of(i), i);
    }
    return NULL;
}

/* Half of the blocks are of a thread that has ended. */
static void make_all_inherited(void)
{
    pthread_t thread;
    make_inherited(NULL);
    EXPECT(pthread_create(&thread, NULL, make_inherited, inherited) == 0, "a thread");
    pthread_join(thread, NULL);
}

static void inherited_are_whole(void)
{
    for (size_t i = 0; i < INHERITED; i++)
        EXPECT(holds(inherited[i], size_of(i), i), "an inherited block of %zu", size_of(i));
}

/* Allocates and frees on its own, in a child. */
static void live_on(void)
{
    char *blocks[200];
    for (size_t i = 0; i < 200; i++) {
        blocks[i] = i % 2 ? malloc(i * 61) : calloc(1, i * 61);
        EXPECT(blocks[i], "a block in a child");
        EXPECT(i % 2 || is_zero(blocks[i], i * 61), "zeros in a child");
        fill(blocks[i], 0, i * 61, i);
    }
    for (size_t i = 0; i < 200; i++) {
        EXPECT(holds(blocks[i], i * 61, i), "the child's own contents");
        free(blocks[i]);
    }
}

static void *live_on_in_a_thread(void *unused)
{
    live_on();
    return unused;
}

static void free_all_inherited(void)
{
    inherited_are_whole();
    for (size_t i = 0; i < INHERITED; i++) {
        if (i % 3 == 0)
            inherited[i] = realloc(inherited[i], size_of(i) * 2);
        memset(inherited[i], 0xcc, size_of(i));
        free(inherited[i]);
    }
}

static void grandchild(void)
{
    pid_t child = fork();
    EXPECT(child >= 0, "a grandchild");
    if (child == 0) {
        child_alarm();
        live_on();
        free_all_inherited();
        _exit(0);
    }
    must_end_well(child, "a grandchild");
}

static void execute(void)
{
    char *arguments[] = { "/proc/self/exe", "--live-on", NULL };
    execv("/proc/self/exe", arguments);
    EXPECT(0, "that the program runs anew");
}

static void child_of_fork(int number)
{
    pthread_t thread;
    child_alarm();
    live_on();
    if (number % 4 == 1)
        grandchild();
    free_all_inherited();
    if (number % 4 == 2) {
        EXPECT(pthread_create(&thread, NULL, live_on_in_a_thread, NULL) == 0, "a child's thread");
        pthread_join(thread, NULL);
    }
    live_on();
    if (number % 8 == 3)
        execute();
    if (number % 2)
        exit(0);
    _exit(0);
}

static void fork_once(int number)
{
    pid_t child = fork();
    EXPECT(child >= 0, "a child (%s)", strerror(errno));
    if (child == 0)
        child_of_fork(number);
    live_on();
    must_end_well(child, "a child of fork");
}

static void a_child_allocates_while_threads_of_its_parent_do(void)
{
    make_all_inherited();
    start_churners();
    for (int i = 0; i < FORKS; i++)
        fork_once(i);
    stop_churners();
    inherited_are_whole();
    free_all_inherited();
}

static void *fork_in_a_thread(void *unused)
{
    for (int i = 0; i < 20; i++)
        fork_once(i);
    return unused;
}

static void threads_fork_at_once(void)
{
    pthread_t threads[4];
    make_all_inherited();
    start_churners();
    for (int i = 0; i < 4; i++)
        EXPECT(pthread_create(&threads[i], NULL, fork_in_a_thread, NULL) == 0, "a thread");
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    stop_churners();
    inherited_are_whole();
}

static void a_line_of_children_goes_deep(void)
{
    make_all_inherited();
    for (int depth = 0; depth < 40; depth++) {
        pid_t child = fork();
        EXPECT(child >= 0, "a child");
        if (child > 0) {
            must_end_well(child, "a child of a child");
            if (depth > 0)
                _exit(0);
            return;
        }
        child_alarm();
        live_on();
        inherited_are_whole();
    }
    free_all_inherited();
    _exit(0);
}

static void vfork_and_spawn_run_programs(void)
{
    char *arguments[] = { "/proc/self/exe", "--live-on", NULL };
    start_churners();
    for (int i = 0; i < 50; i++) {
        pid_t child = vfork();
        EXPECT(child >= 0, "a child of vfork");
        if (child == 0) {
            execv(arguments[0], arguments);
            _exit(9);
        }
        must_end_well(child, "a child of vfork");
        EXPECT(posix_spawn(&child, "/proc/self/exe", NULL, NULL, arguments, environ) == 0,
               "that posix_spawn runs a program");
        must_end_well(child, "a child of posix_spawn");
        FILE *pipe = popen("echo heard", "r");
        char word[16] = "";
        EXPECT(pipe && fgets(word, sizeof word, pipe), "a line of a pipe's");
        EXPECT(strcmp(word, "heard\n") == 0, "the word that was said (%s)", word);
        EXPECT(pclose(pipe) == 0, "that the pipe's process ends well");
    }
    stop_churners();
}

/* The system call itself: no handler of pthread_atfork's runs. */
static void a_raw_clone_allocates(void)
{
    make_all_inherited();
    for (int i = 0; i < 50; i++) {
        long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        EXPECT(child >= 0, "a child of clone");
        if (child == 0) {
            child_alarm();
            live_on();
            free_all_inherited();
            live_on();
            _exit(0);
        }
        live_on();
        must_end_well((pid_t)child, "a child of clone");
    }
    inherited_are_whole();
}

static char *left_by_the_child;

static int allocate_in_shared_memory(void *unused)
{
    (void)unused;
    live_on();
    left_by_the_child = malloc(5000);
    fill(left_by_the_child, 0, 5000, 5);
    return 0;
}

/* It runs on the memory of its parent, which waits meanwhile, as vfork's child does. */
static void a_clone_in_the_same_memory_allocates(void)
{
    size_t size = 256 * KIB;
    char *stack = malloc(size);
    for (int i = 0; i < 50; i++) {
        int flags = CLONE_VM | CLONE_VFORK | SIGCHLD;
        pid_t child = clone(allocate_in_shared_memory, stack + size, flags, NULL);
        EXPECT(child >= 0, "a child of clone");
        must_end_well(child, "a child in the same memory");
        EXPECT(holds(left_by_the_child, 5000, 5), "what the child left");
        free(left_by_the_child);
        live_on();
    }
    free(stack);
}

int main(int argc, char **argv)
{
    static const struct check_case cases[] = {
        EVERY(a_child_allocates_while_threads_of_its_parent_do), EVERY(threads_fork_at_once),
        EVERY(a_line_of_children_goes_deep), EVERY(vfork_and_spawn_run_programs),
        EVERY(a_raw_clone_allocates), EVERY(a_clone_in_the_same_memory_allocates),
    };
    if (argc == 2 && strcmp(argv[1], "--live-on") == 0) {
        child_alarm();
        must_be_loaded();
        live_on();
        return 0;
    }
    return check_main(cases, sizeof cases / sizeof cases[0], argc, argv);
}
