// The workloads, over any heap: the same calls in the same order as
// benches/src/alloc/shared/ours/workloads.rs makes, from the same seeds.
//
// A heap has places, each of which holds one block. `take` puts a block into a place, published as
// far as that heap knows it; `give_back` empties it; `at` is where the block lies here; `name` is a
// word by which another process finds it, and `adopt` puts the block of a name into a place.
#pragma once

#include "board.hpp"
#include "plan.hpp"
#include "random.hpp"

constexpr std::size_t BATCH = 10'000;         // blocks of a batch
constexpr std::size_t SET = 10'000;           // blocks of a working set
constexpr std::size_t OBJECTS = 100'000;      // of threadtest, among all members
constexpr std::size_t SERVED = 5'000;         // objects of a server of larson
constexpr std::size_t TURN = 50'000;          // objects that it replaces before it hands on
constexpr std::size_t SURVIVES = 1'024;       // one survives of so many

template <class Heap, bool timed> class Work {
    using Place = typename Heap::Place;
    const Plan& plan;
    Board& board;
    Heap& heap;
    const unsigned member;
    Random random;
    Place* const places;
    Board::Account& account;

public:
    Work(const Plan& plan, Board& board, Heap& heap, unsigned member)
        : plan(plan), board(board), heap(heap), member(member), random(member),
          places(heap.places()), account(board.accounts[member]) {}

    // How many blocks a member has at a time.
    static std::size_t places_of(const Plan& plan) {
        if (plan.workload == "batch") return BATCH;
        if (plan.workload == "threadtest") return OBJECTS / plan.processes;
        if (plan.workload == "random") return SET;
        if (plan.workload == "larson") return SERVED;
        if (plan.workload == "survivor") return 2 * plan.share();
        return 1;
    }

    void run() {
        const std::string& name = plan.workload;
        if (name == "batch") in_rows(BATCH);
        else if (name == "threadtest") in_rows(OBJECTS / plan.processes);
        else if (name == "lifo") lifo();
        else if (name == "random") replace_at_random();
        else if (name == "larson") larson();
        else if (name == "hand-over") hand_over();
        else if (name == "survivor") survivor();
        else throw std::runtime_error("no workload " + name);
        account.sequence = random.word();
    }

private:
    void take(Place& place, std::size_t bytes) {
        if constexpr (timed) {
            const std::uint64_t start = nanos(CLOCK_MONOTONIC);
            heap.take(place, bytes);
            account.times.add(nanos(CLOCK_MONOTONIC) - start);
        } else {
            heap.take(place, bytes);
        }
        *static_cast<volatile std::uint64_t*>(heap.at(place)) = bytes;
    }

    void give_back(Place& place) {
        if constexpr (timed) {
            const std::uint64_t start = nanos(CLOCK_MONOTONIC);
            heap.give_back(place);
            account.times.add(nanos(CLOCK_MONOTONIC) - start);
        } else {
            heap.give_back(place);
        }
    }

    std::uint64_t bytes_of(const Place& place) {
        return *static_cast<volatile std::uint64_t*>(heap.at(place));
    }

    void meet() { board.meet(plan.processes); }

    template <class Work> void watch(Work work) {
        meet();
        account.start = nanos(CLOCK_MONOTONIC);
        const std::uint64_t cpu = nanos(CLOCK_THREAD_CPUTIME_ID);
        work();
        account.cpu = nanos(CLOCK_THREAD_CPUTIME_ID) - cpu;
        account.end = nanos(CLOCK_MONOTONIC);
        meet();
    }

    // Looks how much memory there is for what is live.
    void look(std::uint64_t live) {
        account.live = live;
        meet();
        heap.note_pages(board);
        meet();
    }

    void in_rows(std::size_t count) {
        const auto fill = [&] {
            for (std::size_t at = 0; at < count; ++at) take(places[at], plan.bytes);
        };
        const auto empty = [&] {
            for (std::size_t at = 0; at < count; ++at) give_back(places[at]);
        };
        fill();
        empty();
        watch([&] {
            for (; account.operations < plan.share(); account.operations += count) {
                fill();
                empty();
            }
        });
        fill();
        look(count * plan.bytes);
        empty();
    }

    void lifo() {
        take(places[0], plan.bytes);
        give_back(places[0]);
        watch([&] {
            for (; account.operations < plan.share(); ++account.operations) {
                take(places[0], plan.bytes);
                give_back(places[0]);
            }
        });
    }

    void fill_at_random(std::size_t count, std::size_t least, std::size_t most) {
        for (std::size_t at = 0; at < count; ++at) take(places[at], random.between(least, most));
    }

    void replace(std::size_t count, std::size_t least, std::size_t most) {
        Place& place = places[random.below(count)];
        const std::size_t bytes = random.between(least, most);
        give_back(place);
        take(place, bytes);
        ++account.operations;
    }

    void look_and_empty(std::size_t count) {
        std::uint64_t live = 0;
        for (std::size_t at = 0; at < count; ++at) live += bytes_of(places[at]);
        look(live);
        for (std::size_t at = 0; at < count; ++at) give_back(places[at]);
    }

    void replace_at_random() {
        fill_at_random(SET, 16, 1024);
        watch([&] {
            while (account.operations < plan.share()) replace(SET, 16, 1024);
        });
        look_and_empty(SET);
    }

    void larson() {
        fill_at_random(SERVED, 8, 512);
        watch([&] {
            while (account.operations < plan.share()) {
                for (std::size_t step = 0; step < TURN; ++step) replace(SERVED, 8, 512);
                swap(SERVED);
            }
        });
        look_and_empty(SERVED);
    }

    // Each member leaves what is in its places to the other.
    void swap(std::size_t count) {
        if constexpr (Heap::SHARES) {
            if (plan.processes == 1) return;
            for (std::size_t at = 0; at < count; ++at)
                board.desk[member][at] = heap.name(places[at]);
            meet();
            for (std::size_t at = 0; at < count; ++at)
                heap.adopt(places[at], board.desk[1 - member][at]);
            meet();
        }
    }

    void hand_over() {
        pass(BATCH);
        watch([&] { pass(plan.operations); });
        account.operations = plan.share();
    }

    void pass(std::uint64_t count) {
        for (std::uint64_t step = 0; step < count; ++step) {
            if (member == 0) send();
            else receive();
        }
    }

    void send() {
        if constexpr (Heap::SHARES) {
            take(places[0], random.between(16, 1024));
            const std::uint64_t name = heap.name(places[0]);
            board.wait([&] { return board.ring.push(name); });
        }
    }

    void receive() {
        if constexpr (Heap::SHARES) {
            std::uint64_t name = 0;
            board.wait([&] { return board.ring.pop(name); });
            heap.adopt(places[0], name);
            if (bytes_of(places[0]) < 16) throw std::runtime_error("a block is not what was sent");
            give_back(places[0]);
        }
    }

    void survivor() {
        const std::size_t count = plan.share();
        std::size_t again = count;
        watch([&] {
            for (std::size_t at = 0; at < count; ++at) take(places[at], plan.bytes);
            swap(count);
            for (std::size_t at = 0; at < count; ++at)
                if (at % SURVIVES != 0) give_back(places[at]);
            meet();
            for (std::size_t at = 0; at < count; ++at)
                if (at % SURVIVES != 0) take(places[again++], plan.bytes);
        });
        account.operations = count;
        look(count * plan.bytes);
        for (std::size_t at = 0; at < count; at += SURVIVES) give_back(places[at]);
        for (std::size_t at = count; at < again; ++at) give_back(places[at]);
    }
};
