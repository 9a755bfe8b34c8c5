/* Signals that interrupt the allocator, thousands of times. */
#include "check.h"
#include <pthread.h>
#include <signal.h>

enum { INTERRUPTIONS = 5000 };

static volatile sig_atomic_t interruptions;
static volatile sig_atomic_t flag = 7, flag_was_seen;

static void look(int signal)
{
    (void)signal;
    flag_was_seen = flag;
    interruptions++;
}

static void start_timer(timer_t *timer, long nanoseconds)
{
    struct sigaction action = { .sa_handler = look, .sa_flags = SA_RESTART };
    struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1 };
    struct itimerspec often = { { 0, nanoseconds }, { 0, nanoseconds } };
    EXPECT(sigaction(SIGUSR1, &action, NULL) == 0, "a handler");
    EXPECT(timer_create(CLOCK_MONOTONIC, &event, timer) == 0, "a timer");
    EXPECT(timer_settime(*timer, 0, &often, NULL) == 0, "that the timer runs");
}

static void *churn(void *argument)
{
    enum { COUNT = 300 };
    struct { char *block; size_t size; } live[COUNT] = { { NULL, 0 } };
    uint64_t state = (uint64_t)(uintptr_t)argument;
    while (interruptions < INTERRUPTIONS) {
        size_t i = random_from(&state) % COUNT;
        size_t size = random_from(&state) % ((size_t)1 << random_from(&state) % 16) + 1;
        EXPECT(!live[i].block || holds(live[i].block, live[i].size, i), "contents as they were");
        if (live[i].block && state % 4 == 0) {
            live[i].block = realloc(live[i].block, size);
        } else {
            free(live[i].block);
            live[i].block = state % 3 ? malloc(size) : calloc(1, size);
        }
        EXPECT(live[i].block, "a block");
        live[i].size = size;
        fill(live[i].block, 0, size, i);
    }
    for (size_t i = 0; i < COUNT; i++)
        free(live[i].block);
    return NULL;
}

static void signals_interrupt_and_break_nothing(void)
{
    timer_t timer;
    pthread_t threads[2];
    start_timer(&timer, 100 * 1000);
    for (size_t i = 0; i < 2; i++)
        EXPECT(pthread_create(&threads[i], NULL, churn, (void *)(i + 2)) == 0, "a thread");
    churn((void *)1);
    for (int i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    timer_delete(timer);
    EXPECT(flag_was_seen == 7, "the flag");
}

/* Threads are started and end, and processes fork, under the same signals. */
static void *end_soon(void *unused)
{
    free(malloc(3000));
    return unused;
}

static void signals_interrupt_starts_and_forks(void)
{
    timer_t timer;
    start_timer(&timer, 300 * 1000);
    while (interruptions < INTERRUPTIONS / 5) {
        pthread_t thread;
        EXPECT(pthread_create(&thread, NULL, end_soon, NULL) == 0, "a thread");
        pthread_join(thread, NULL);
        pid_t child = fork();
        EXPECT(child >= 0, "a child");
        if (child == 0) {
            child_alarm();
            free(malloc(100000));
            _exit(0);
        }
        must_end_well(child, "a child among signals");
    }
    timer_delete(timer);
}

/* A handler on a stack of its own, of the size that the system calls least. */
static void a_handler_runs_on_its_own_stack(void)
{
    size_t size = (size_t)sysconf(_SC_SIGSTKSZ);
    stack_t stack = { .ss_sp = malloc(size), .ss_size = size };
    EXPECT(sigaltstack(&stack, NULL) == 0, "a stack for signals");
    struct sigaction action = { .sa_handler = look, .sa_flags = SA_ONSTACK };
    EXPECT(sigaction(SIGUSR1, &action, NULL) == 0, "a handler");
    for (int i = 0; i < 1000; i++) {
        free(malloc((size_t)i * 100));
        raise(SIGUSR1);
    }
    EXPECT(interruptions == 1000, "1000 signals (%d)", (int)interruptions);
}

/* The library must not need a signal of its own: all of them may be blocked. */
static void blocked_signals_change_nothing(void)
{
    sigset_t all, now;
    sigfillset(&all);
    EXPECT(sigprocmask(SIG_BLOCK, &all, NULL) == 0, "that signals are blocked");
    for (size_t i = 0; i < 20000; i++)
        free(malloc(i));
    EXPECT(sigpending(&now) == 0 && !sigismember(&now, SIGSEGV), "that no signal waits");
    EXPECT(sigprocmask(SIG_BLOCK, NULL, &now) == 0, "the signals that are blocked");
    for (int signal = 1; signal < 32; signal++)
        EXPECT(signal == SIGKILL || signal == SIGSTOP || sigismember(&now, signal),
               "that signal %d is still blocked", signal);
    for (int signal = 1; signal < 32; signal++) {
        struct sigaction action;
        /* Who started the program may have had a signal ignored. */
        EXPECT(signal == SIGKILL || signal == SIGSTOP
                   || (sigaction(signal, NULL, &action) == 0
                       && (action.sa_handler == SIG_DFL || action.sa_handler == SIG_IGN)),
               "no handler for signal %d that the program did not set", signal);
    }
}

CHECKS(EVERY(signals_interrupt_and_break_nothing), EVERY(signals_interrupt_starts_and_forks),
       EVERY(a_handler_runs_on_its_own_stack), EVERY(blocked_signals_change_nothing))
