// Members that work at the same time: this process and one that it forks before it opens the heap,
// or two threads where a heap is for one process only and is run as a ceiling.
#pragma once

#include <algorithm>
#include <cstdio>
#include <exception>
#include <thread>

#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "workloads.hpp"

constexpr unsigned PATIENCE_SECONDS = 120;

// The first makes the heap, the others open it; then all work.
template <class Heap, bool timed>
void work(const Plan& plan, Board& board, unsigned member) {
    using Working = Work<Heap, timed>;
    try {
        if (member > 0) board.meet(plan.processes);
        Heap heap(member, Working::places_of(plan));
        if (member == 0) board.meet(plan.processes);
        board.meet(plan.processes);
        if (member == 0) heap.hide();
        board.meet(plan.processes);
        Working(plan, board, heap, member).run();
        board.meet(plan.processes);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "member %u: %s\n", member, error.what());
        board.failed.store(true);
        throw;
    }
}

template <class Heap, bool timed> void all_work(const Plan& plan, Board& board) {
    if (plan.processes == 1) return work<Heap, timed>(plan, board, 0);
    if constexpr (Heap::THREADS) {
        std::thread other([&] { work<Heap, timed>(plan, board, 1); });
        work<Heap, timed>(plan, board, 0);
        other.join();
        return;
    }
    const pid_t other = fork();
    if (other < 0) throw std::runtime_error("no second process");
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        alarm(PATIENCE_SECONDS);
        try {
            work<Heap, timed>(plan, board, 1);
        } catch (...) {
            _exit(1);
        }
        _exit(0);
    }
    work<Heap, timed>(plan, board, 0);
    int status = 0;
    if (waitpid(other, &status, 0) != other || status != 0)
        throw std::runtime_error("the second process failed");
}

template <class Heap> int serve(int count, char** words) {
    alarm(PATIENCE_SECONDS);
    try {
        const Plan plan = Plan::of(count, words);
        if (plan.processes > 1 && !Heap::SHARES)
            throw std::runtime_error("this heap is for one process");
        Board& board = Board::make();
        if (plan.timed) all_work<Heap, true>(plan, board);
        else all_work<Heap, false>(plan, board);
        Told told;
        Times times{};
        std::uint64_t start = ~std::uint64_t(0), end = 0;
        for (unsigned member = 0; member < plan.processes; ++member) {
            const Board::Account& account = board.accounts[member];
            start = std::min(start, account.start);
            end = std::max(end, account.end);
            told.cpu_ns += account.cpu;
            told.live_bytes += account.live;
            told.operations += account.operations;
            told.sequence ^= account.sequence;
            times.add(account.times);
        }
        told.wall_ns = end - start;
        told.held_bytes = Heap::held_bytes(board, plan);
        told.tail_ns = times.tail();
        tell(plan, told);
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "%s\n", error.what());
        return 1;
    }
}
